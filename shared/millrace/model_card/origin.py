"""Where a model comes from and how it is called: what its owner says, its data, its lineage, requests that work."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from millrace.model_card.subject import CardSubject
from millrace.reporting import wording
from millrace.reporting.blocks import TableColumn, folded, pairs, table
from millrace.reporting.html import Content, Html, element, join

STATED: Mapping[str, str] = {
    "intended_use": "Intended use",
    "out_of_scope": "Out of scope",
    "limitations": "Limitations",
    "ethical_considerations": "Ethical considerations",
    "owner": "Owner",
    "contact": "Contact",
}


def stated_section(subject: CardSubject) -> Html:
    """Return what the model's owner says, and what is not said."""
    stated: Mapping[str, str] = subject.document.get("stated") or {}
    given: list[tuple[str, Content]] = [
        (title, [element("p", part) for part in stated[name].split("\n\n") if part.strip()])
        for name, title in STATED.items()
        if stated.get(name)
    ]
    missing = [title.lower() for name, title in STATED.items() if not stated.get(name)]
    note = f"Not answered: {', '.join(missing)}. The model's spec can say it, under card."
    return element(
        "div",
        pairs(given) if given else None,
        element("p", note, class_="quiet after" if given else "quiet") if missing else None,
        class_="panel",
    )


def data_section(subject: CardSubject) -> Html:
    """Return the datasets it learnt from, how their rows were split, and the features."""
    data: Mapping[str, Any] = subject.document.get("data") or {}
    rows = [
        (
            element("code", str(dataset["dataset_id"])[:12], title=str(dataset["dataset_id"])),
            wording.moment(dataset.get("uploaded_at")),
            wording.count(dataset.get("rows")),
            wording.count(dataset.get("used")),
            element("code", str(dataset["report"])),
        )
        for dataset in data.get("datasets") or ()
    ]
    heads = (
        TableColumn("Dataset"),
        TableColumn("Uploaded"),
        TableColumn("Rows", "number"),
        TableColumn("Used", "number"),
        TableColumn("Datasheet, in the data bucket", "code"),
    )
    return join(
        table(heads, rows, caption="Datasets") if rows else None,
        element("div", pairs([*_split(data), *(("Sample", told) for told in samples(subject))]), class_="panel after"),
        folded(f"The {len(subject.features):,} features", _features(subject)) if subject.features else None,
    )


def samples(subject: CardSubject) -> list[str]:
    """Say which rows were left out because there were too many; nothing where every row was used."""
    told = []
    taken: Mapping[str, int] = (subject.document.get("data") or {}).get("sample") or {}
    if taken:
        told.append(f"{taken['rows']:,} of {taken['of_rows']:,} rows were taken into the three splits")
    search: Mapping[str, Any] = subject.evaluation.get("search") or {}
    if search.get("rows", 0) < search.get("of_rows", 0):
        told.append(
            f"trained on {search['rows']:,} of {search['of_rows']:,} training rows: {search.get('why_sampled', '')}"
        )
    return told


def _split(data: Mapping[str, Any]) -> list[tuple[str, Content]]:
    split: Mapping[str, Any] = data.get("split") or {}
    rows: Mapping[str, int] = data.get("rows") or {}
    counts: Mapping[str, Mapping[str, int]] = data.get("class_counts") or {}
    entries: list[tuple[str, Content]] = [
        (f"{name} rows".capitalize(), wording.count(amount) + _classes(counts.get(name) or {}))
        for name, amount in rows.items()
    ]
    if split:
        column = f" ({split['column']})" if split.get("column") else ""
        entries.append(("Split", f"by {split.get('by')}{column}; the holdout: {split.get('holdout', 'not known')}"))
        if split.get("fingerprint"):
            entries.append(("Fingerprint of the split", element("code", str(split["fingerprint"]))))
    return entries or [("Rows", wording.NOT_KNOWN)]


def _classes(counts: Mapping[str, int]) -> str:
    if not counts or len(counts) > 8:  # noqa: PLR2004  # a line
        return ""
    return f" ({', '.join(f'{name} {wording.count(amount)}' for name, amount in counts.items())})"


def _features(subject: CardSubject) -> Html:
    rows = [
        (str(column["name"]), str(column["type"]), "may be missing" if column.get("nullable") else "required")
        for column in subject.features
    ]
    return table((TableColumn("Feature"), TableColumn("Type"), TableColumn("")), rows, caption="Features")


def lineage_section(subject: CardSubject) -> Html:
    """Return what the model was made from and by: run, recipe, code, libraries, artifacts."""
    document, evaluation = subject.document, subject.evaluation
    trial, run = document.get("trial") or {}, document.get("run") or {}
    parameters: Mapping[str, Any] = evaluation.get("parameters") or {}
    libraries: Mapping[str, str] = trial.get("libraries") or {}
    entries: list[tuple[str, Content]] = [
        ("Run", element("code", str(run.get("run_id") or evaluation.get("run_id")))),
        ("Caused by", str(run.get("kind") or wording.NOT_KNOWN)),
        ("Requested", wording.moment(run.get("requested_at"))),
        ("Trial", element("code", str(evaluation.get("trial_id") or wording.NOT_KNOWN))),
        ("Recipe", f"{evaluation.get('candidate')}: {', '.join(f'{k} = {v}' for k, v in parameters.items())}"),
        ("Seed", str(trial.get("seed", evaluation.get("seed")))),
        ("Schema version", str((document.get("schema") or {}).get("version"))),
        ("Code version", str(document.get("code_version"))),
        ("Libraries", ", ".join(f"{name} {version}" for name, version in libraries.items()) or wording.NOT_KNOWN),
    ]
    artifacts: Mapping[str, Mapping[str, Any]] = document.get("artifacts") or {}
    rows = [
        (name, wording.count(about.get("bytes")), element("code", str(about.get("sha256"))))
        for name, about in artifacts.items()
    ]
    heads = (TableColumn("Artifact"), TableColumn("Bytes", "number"), TableColumn("SHA-256", "code"))
    return join(
        element("div", pairs(entries), class_="panel"),
        folded("Artifacts", table(heads, rows, caption="Artifacts")) if rows else None,
    )


def usage_section(subject: CardSubject) -> Html:
    """Return requests that work as they stand, once the stack's address and credentials are in the environment."""
    return join(
        *(
            element("div", element("h3", title), element("pre", element("code", text), tabindex=0), class_="panel")
            for title, text in usage(subject)
        ),
        element(
            "p",
            "API_URL is the stack's output ApiUrl. Requests are signed: the first example uses the command line's own "
            "credentials, the second those in the environment, the third those that boto3 finds.",
            class_="quiet after",
        ),
    )


def usage(subject: CardSubject) -> Sequence[tuple[str, str]]:
    """Return titles and texts of requests for this very version, from a shell and from Python."""
    body = json.dumps({"dataframe_records": [subject.document.get("example") or {}]}, ensure_ascii=False)
    number = subject.version.get("version")
    path = f"models/{subject.model}/versions/{number}/invocations"
    quoted = body.replace("'", "'\\''")
    curl = (
        'curl --silent --aws-sigv4 "aws:amz:$AWS_REGION:execute-api" '
        '--user "$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY" \\\n'
        '  --header "x-amz-security-token: $AWS_SESSION_TOKEN" --header "content-type: application/json" \\\n'
        f"  --data '{quoted}' \"$API_URL/{path}\""
    )
    python = "\n".join(
        [
            "import os",
            "",
            "import boto3",
            "from botocore.auth import SigV4Auth",
            "from botocore.awsrequest import AWSRequest",
            "from botocore.httpsession import URLLib3Session",
            "",
            "session = boto3.Session()",
            "request = AWSRequest(",
            '    "POST",',
            f'    os.environ["API_URL"] + "/{path}",',
            f"    data={body!r}.encode(),",
            '    headers={"content-type": "application/json"},',
            ")",
            'SigV4Auth(session.get_credentials(), "execute-api", session.region_name).add_auth(request)',
            "print(URLLib3Session().send(request.prepare()).text)",
        ]
    )
    row = json.dumps(subject.document.get("example") or {}, ensure_ascii=False).replace("'", "'\\''")
    command = f"millrace predict {subject.model} '{row}'"
    return (("The champion, from the command line", command), ("This version, by curl", curl), ("In Python", python))
