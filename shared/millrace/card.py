"""The document of a model card, ``card.json``, as typed records; :mod:`millrace.reports` renders it."""

import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from millrace.documents import Document, Record
from millrace.evaluation_results import Evaluation
from millrace.schema import TableSchema

CARD = "card.json"


class Artifact(Record, frozen=True, kw_only=True, eq=False):
    """SHA-256 and size of an artifact as it is stored."""

    sha256: str
    size: int = msgspec.field(default=0, name="bytes")

    @classmethod
    def of(cls, body: bytes) -> "Artifact":
        """Describe the bytes of an artifact."""
        return cls(sha256=hashlib.sha256(body).hexdigest(), size=len(body))

    def matches(self, body: bytes) -> bool:
        """Return True for the bytes that this describes."""
        return hashlib.sha256(body).hexdigest() == self.sha256


def describe_artifacts(artifacts: Mapping[str, bytes]) -> dict[str, Artifact]:
    """Describe artifacts, sorted by name."""
    return {name: Artifact.of(body) for name, body in sorted(artifacts.items())}


class CardVersion(Record, frozen=True, kw_only=True, eq=False):
    """The version that a card is about."""

    version: int
    semantic_version: str
    created_at: datetime
    schema_version: int


class CardRun(Record, frozen=True, kw_only=True, eq=False):
    """The run that trained the model; ``kind`` is that of its cause."""

    run_id: str
    kind: str
    requested_at: datetime
    dataset_ids: tuple[str, ...] = ()


class CardDataset(Record, frozen=True, kw_only=True, eq=False, omit_defaults=True):
    """A dataset and the rows that it contributed; ``report`` is the key of its report in the data bucket."""

    dataset_id: str
    report: str
    uploaded_at: datetime | None = None
    schema_revision: int | None = None
    quarantined_rows: int | None = None  # beside ``rows``; not known of cards of the first releases
    rows: int | None = None
    used: int | None = None
    superseded: int = 0
    repeated: int = 0
    left_out_of_sample: int = 0


class CardFinding(Record, frozen=True, kw_only=True, eq=False, omit_defaults=True):
    """A finding about the prepared data; see :class:`millrace.data.findings.Finding`."""

    severity: str
    check: str
    message: str
    column: str | None = None
    count: int = 0
    share: float | None = None
    examples: tuple[str, ...] = ()
    rows: tuple[dict[str, Any], ...] = ()


class Sample(Record, frozen=True, kw_only=True, eq=False):
    """Rows that were taken of all rows."""

    rows: int
    of_rows: int


class TrainingData(Record, frozen=True, kw_only=True, eq=False):
    """The training set: its datasets, and rows and classes by split.

    ``split`` is the description of the method, with the ``fingerprint`` of the division.
    """

    datasets: tuple[CardDataset, ...] = ()
    split: dict[str, Any] = msgspec.field(default_factory=dict)
    rows: dict[str, int] = msgspec.field(default_factory=dict)
    class_counts: dict[str, dict[str, int]] = msgspec.field(default_factory=dict)
    findings: tuple[CardFinding, ...] = ()
    sample: Sample | None = None
    repeated_rows_left_out: int | None = None


class ModelCard(Document, frozen=True, kw_only=True, eq=False):
    """``card.json``: everything about a version for people, gathered from the documents of its run.

    A run that registered nothing has a card as well: without a version, statements, schema and trial.
    """

    card_version: int = 1  # as ``format_version``, for readers of earlier releases
    code_version: str
    model: str
    version: CardVersion | None
    run: CardRun
    stated: dict[str, str] | None = None  # the owner's statements in the spec, by name
    schema: dict[str, Any] | None = None  # without values of sensitive columns
    evaluation: Evaluation
    trial: dict[str, Any] = msgspec.field(default_factory=dict)  # ``trial.json``
    data: TrainingData
    artifacts: dict[str, Artifact] = msgspec.field(default_factory=dict)
    example: dict[str, Any] = msgspec.field(default_factory=dict)  # a row of a request

    @classmethod
    def upgrade(cls, stored: dict[str, Any], version: int) -> dict[str, Any]:  # noqa: ARG003 - only version 0 is earlier
        """Mask values of sensitive columns, which cards of the first releases show."""
        if not stored.get("schema"):
            return stored
        return stored | {"schema": TableSchema.from_dict(stored["schema"]).without_sensitive_values().to_dict()}

    @property
    def table(self) -> TableSchema | None:
        """The schema as an object."""
        return TableSchema.from_dict(self.schema) if self.schema else None
