"""Stored documents of datasets: profile, validation result, and the manifests of datasets and prepared data."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from millrace.documents import Document, Record
from millrace.schema import Role, Task, number_classes


class Association(Record, frozen=True, kw_only=True, eq=False):
    """Association of a column with the target; ``strength``, between 0 and 1, ranks columns.

    An area (``auc``) below 0.5 and a negative rank correlation mean a falling target.
    """

    measure: str
    value: float
    strength: float


class ProfileHistogram(Record, frozen=True, kw_only=True, eq=False, omit_defaults=True):
    """Histogram for people: bars of equal width over the bulk of the values.

    The last bar includes its upper edge; ``below`` and ``above`` count rows outside the bars.
    """

    edges: Sequence[float]
    counts: Sequence[int]
    below: int
    above: int
    target_means: Sequence[float | None] | None = None


class QuantileBins(Record, frozen=True, kw_only=True, eq=False):
    """Bins of about equal counts, in which later data is compared: inner edges and one more count."""

    edges: Sequence[float]
    counts: Sequence[int]


class CategoryCount(Record, frozen=True, kw_only=True, eq=False, omit_defaults=True):
    """One of the most frequent values."""

    value: str
    count: int
    target_mean: float | None = None


class ColumnProfile(Record, frozen=True, kw_only=True, eq=False, omit_defaults=True):
    """Distribution of one column.

    Numbers, and datetimes in seconds since 1970, have ``bins``; strings and booleans ``top``, the most frequent values
    first, and ``other``, the rows of all other values.
    """

    name: str
    type: str
    role: Role
    nullable: bool
    reason: str
    sensitive: bool
    missing: int
    missing_share: float
    distinct: int
    association: Association | None
    minimum: float | str | None = None
    maximum: float | str | None = None
    mean: float | None = None
    standard_deviation: float | None = None
    zeros: int | None = None
    quantiles: Mapping[str, float | str] | None = None
    outliers: Mapping[str, int | float] | None = None
    histogram: ProfileHistogram | None = None
    bins: QuantileBins | None = None
    singletons: int | None = None
    top: Sequence[CategoryCount] | None = None
    other: int | None = None
    length: Mapping[str, int | float | None] | None = None

    @property
    def known(self) -> int:
        """Rows with a value."""
        if self.bins is not None:
            return sum(self.bins.counts)
        return sum(entry.count for entry in self.top or ()) + (self.other or 0)


class TargetProfile(Record, frozen=True, kw_only=True, eq=False):
    """Name, task and class counts of the target; ``positive`` is the second class of a binary one."""

    name: str
    task: Task
    classes: Mapping[str, int]
    positive: str | None


class DatasetProfile(Document, frozen=True, kw_only=True, eq=False):
    """``profile.json``: distributions of a dataset's columns; ``association_rows`` were measured."""

    FORMAT_VERSION = 3

    rows: int
    columns: Sequence[ColumnProfile]
    complete_rows: int = 0
    missing_values: int = msgspec.field(default=0, name="missing_cells")
    target: TargetProfile | None = None
    association_rows: int = 0

    @classmethod
    def upgrade(cls, stored: dict[str, Any], version: int) -> dict[str, Any]:  # noqa: ARG003 - one earlier format
        """Fill what columns of format 2 (``profile_version``) may lack."""
        lacking = {"nullable": True, "reason": "", "sensitive": False, "association": None}
        return stored | {"columns": [lacking | column for column in stored["columns"]]}

    def column(self, name: str) -> ColumnProfile | None:
        """Return a column's profile; None when there is none of that name."""
        return next((column for column in self.columns if column.name == name), None)

    @property
    def shown_target(self) -> TargetProfile | None:
        """The target for people: the classes of a sensitive one are numbered."""
        target = self.target
        column = self.column(target.name) if target else None
        if target is None or column is None or not column.sensitive:
            return target
        names = dict(zip(target.classes, number_classes(len(target.classes)), strict=True))
        classes = {names[name]: rows for name, rows in target.classes.items()}
        positive = names[target.positive] if target.positive else None
        return TargetProfile(name=target.name, task=target.task, classes=classes, positive=positive)


class ValidationDocument(Document, frozen=True, kw_only=True, eq=False, omit_defaults=True):
    """``validation.json``: the validation of one upload; without ``dataset_id`` when it was rejected."""

    FORMAT_VERSION = 1

    file: str
    version_id: str
    folder: str | None = None
    files: Sequence[str] = ()
    uploaded_at: datetime
    run_id: str
    dataset_id: str | None
    outcome: str
    reasons: Sequence[str]
    rows: int
    usable_rows: int
    quarantined_rows: int
    format: Mapping[str, str]
    target: str | None
    task: Task | None
    classes: Sequence[str]
    schema: Mapping[str, Any] | None
    columns: Sequence[Mapping[str, str]]
    findings: Sequence[Mapping[str, Any]]


class DatasetSource(Record, frozen=True, kw_only=True, eq=False, omit_defaults=True):
    """The uploaded object, or the files of an uploaded folder."""

    bucket: str
    key: str
    version_id: str
    uploaded_at: datetime
    format: Mapping[str, str]
    files: Sequence[Mapping[str, Any]] = ()


class DatasetManifest(Document, frozen=True, kw_only=True, eq=False):
    """``manifest.json`` of a dataset: contents, origin, checks, and a SHA-256 for each document beside it.

    ``parents`` are the ids of the datasets that it was compared with.
    """

    FORMAT_VERSION = 2

    model: str
    dataset_id: str
    accepted_at: datetime
    run_id: str
    code_version: str
    source: DatasetSource
    schema_version: int
    schema_revision: int
    rows: int
    columns: int
    row_counts: Mapping[str, int]
    checks: Mapping[str, Any]
    parents: Sequence[str]
    sha256: Mapping[str, str]


class PreparedManifest(Document, frozen=True, kw_only=True, eq=False, omit_defaults=True):
    """``manifest.json`` of prepared data: a training set as datasets, with the rows that each contributed.

    ``captured_rows`` counts served rows with ground truth, or names the obstacle to using them; ``rows`` and ``bytes``
    are by split; ``sample`` has the rows of how many, when training reads a sample. ``fingerprint`` is the same where
    rows, spec, schema and release are; empty in manifests of earlier releases.
    """

    FORMAT_VERSION = 2

    model: str
    run_id: str
    prepared_at: datetime
    code_version: str
    combine: str
    window_days: int | None
    max_training_rows: int
    seed: int
    dataset_ids: Sequence[str]
    datasets: Sequence[Mapping[str, Any]]
    datasets_left_out: Sequence[Mapping[str, Any]]
    captured_rows: Mapping[str, Any]
    schema_version: int
    schema_revision: int
    split: Mapping[str, Any]
    rows: Mapping[str, int]
    bytes: Mapping[str, int]
    repeated_rows_left_out: int
    sample: Mapping[str, int] | None
    rows_without_time_left_out: int
    findings: Sequence[Mapping[str, Any]]
    class_counts: Mapping[str, Mapping[str, int]]
    sha256: Mapping[str, str]
    fingerprint: str = ""

    @property
    def rarest_class_rows(self) -> int | None:
        """Training and validation rows of the rarest class; None for regression."""
        train, validation = (self.class_counts.get(name, {}) for name in ("train", "validation"))
        return min((count + validation[name] for name, count in train.items()), default=None)
