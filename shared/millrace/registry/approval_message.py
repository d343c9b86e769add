"""What people are told when a version waits for them."""

from dataclasses import dataclass
from urllib.parse import quote, urlencode

from millrace.layout import version_key
from millrace.registry.entities import Approval, ModelVersion, Run

#: Of a subject, on SNS.
_MAX_SUBJECT = 100
CARD = "card.html"


@dataclass(frozen=True, slots=True)
class Place:
    """Where the model bucket is."""

    bucket: str
    region: str


def approval_subject(version: ModelVersion) -> str:
    """Return one line."""
    return f"Millrace: may {version.model} version {version.version} serve?"[:_MAX_SUBJECT]


def approval_message(version: ModelVersion, run: Run, approval: Approval, place: Place) -> str:
    """Return what is asked, on which grounds, and how to answer.

    The card is linked in S3's console, which asks readers who they are: a presigned link would be cut off with the
    function's own credentials, hours before the approval expires, and would let in whoever has the mail.
    """
    key = version_key(version.model, version.version, CARD)
    metrics = ", ".join(f"{name} {value:.4g}" for name, value in sorted(version.metrics.items()))
    query = urlencode({"prefix": key, "region": place.region}, quote_via=quote)
    name = f"{version.model} version {version.version} ({version.semantic_version}, {version.candidate})"
    lines = [
        f"{name} passed the gate and waits for a person.",
        "",
        *(f"- {reason}" for reason in run.reasons),
        f"On the holdout: {metrics}" if metrics else "",
        "",
        f"Model card: https://{place.region}.console.aws.amazon.com/s3/object/{place.bucket}?{query}",
        f"            s3://{place.bucket}/{key}",
        "",
        "To answer:",
        f'    millrace approve {version.model} {run.run_id} --reason "..."',
        f'    millrace reject {version.model} {run.run_id} --reason "..."',
        "",
        f"Without an answer by {approval.expires_at:%Y-%m-%d %H:%M} UTC it is kept as challenger.",
    ]
    return "\n".join(lines)
