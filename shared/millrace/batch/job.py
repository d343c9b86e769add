"""Records of a batch job: what is scored, its parts, and the receipts that decide whether it is complete.

    jobs/<job>/job.json         the job, with the version and the objects as they were when it was requested
    jobs/<job>/plan.json        how the job was cut; written once, before anything is scored
    jobs/<job>/parts.jsonl      a part on each line
    jobs/<job>/lanes.json       the lanes of the Distributed Map: pointers to lines of ``parts.jsonl``
    jobs/<job>/receipts/        a receipt of each part, written after its data

A receipt stands for a part's data: a part without one was not scored, whatever else says so.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal

from millrace.documents import Document, Record
from millrace.errors import InvalidInputError
from millrace.histograms.predictions import Traffic
from millrace.layout import job_key
from millrace.ports import ObjectStore
from millrace.schema import FileFormat

OutputFormat = Literal["parquet", "csv"]
JobOutcome = Literal["complete", "incomplete", "failed"]

#: Parts of a lane: a lane is one child of the Distributed Map, and its history may hold 25,000 events.
MAX_LANE_PARTS = 2_000
#: Share of refused rows above which a job fails.
MAX_REFUSED_SHARE = 0.1


class SourceObject(Record, frozen=True, kw_only=True, eq=False):
    """An object to score, by the bytes that it had when the job was requested."""

    key: str  # in the data bucket
    size: int  # bytes
    etag: str = ""  # requests name it, so that an object that was replaced meanwhile is an error
    version_id: str | None = None


class BatchJob(Document, frozen=True, kw_only=True, eq=False):
    """A request to score objects with one version of a model."""

    job_id: str
    model: str
    version: int  # pinned: an alias that moves meanwhile changes nothing
    alias: str | None = None  # the alias that was requested
    sources: tuple[SourceObject, ...] = ()
    folder: str | None = None  # prefix whose objects are the sources; the planner lists it
    destination: str  # prefix of the results, with ``/`` at its end
    format: OutputFormat = "parquet"
    join: bool = False  # the inputs' columns are in the results too
    interval: float | None = None  # level of intervals or prediction sets
    explain: bool = False  # by how much each feature moves a prediction
    capture: Literal["none", "batch"] = "none"  # ``batch``: monitoring compares the rows with training
    max_refused_share: float = MAX_REFUSED_SHARE
    created_at: datetime
    created_by: str = ""
    cause_id: str = ""


class Piece(Record, frozen=True, kw_only=True, eq=False):
    """Some bytes of an object: all of them, a range of whole records, or row groups of Parquet."""

    source: SourceObject
    format: FileFormat
    start: int = 0  # bytes
    end: int | None = None  # bytes, not included; None for the whole object
    first_row: int = 1  # the number, in the object, of its first row
    rows: int | None = None  # known of what was cut
    groups: tuple[int, int] | None = None  # row groups of Parquet, the last not included
    #: How delimited text is read, where it was cut: detected once, at the beginning of the object.
    delimited: Mapping[str, Any] | None = None


class Part(Record, frozen=True, kw_only=True, eq=False):
    """Pieces of objects, in order, that one call scores."""

    number: int
    pieces: tuple[Piece, ...]

    @property
    def rows(self) -> int | None:
        """Number of rows, where all pieces have theirs."""
        counts = [piece.rows for piece in self.pieces]
        return None if None in counts else sum(count for count in counts if count is not None)


class PartPointer(Record, frozen=True, kw_only=True, eq=False):
    """Pointer to a part: its line of ``parts.jsonl``, in bytes."""

    part: int
    start: int
    end: int


class Plan(Document, frozen=True, kw_only=True, eq=False):
    """The parts of a job, without their pieces; what all of them share."""

    job_id: str
    parts: int
    lanes: int
    objects: int
    size: int  # bytes of the objects
    rows: int | None = None  # where every part knows its own
    reading: Mapping[str, Any]  # the spec's ``read``
    several: bool = False  # results name the file of each row
    warnings: tuple[str, ...] = ()


class RowError(Record, frozen=True, kw_only=True, eq=False):
    """The reason why a row, or one value of it, was refused."""

    row: int
    reason: str
    column: str | None = None
    file: str | None = None


class PredictionSummary(Record, frozen=True, kw_only=True, eq=False):
    """Distribution of predictions; sums, so that those of parts add up."""

    rows: int = 0  # with a prediction
    labels: Mapping[str, int] = {}
    decisions: Mapping[str, int] = {}
    total: float = 0.0  # of the values of a regression, or the probabilities of the last class
    least: float | None = None
    greatest: float | None = None


class Receipt(Document, frozen=True, kw_only=True, eq=False):
    """Result of scoring a part; with a ``fault``, the reason why it cannot be scored, there is no data."""

    part: int
    rows: int = 0  # of the results, refused ones too
    refused: int = 0
    key: str = ""  # of the results
    sha256: str = ""
    size: int = 0  # bytes of the results
    seconds: float = 0.0
    predictions: PredictionSummary = PredictionSummary()
    refused_by_reason: Mapping[str, int] = {}
    errors: tuple[RowError, ...] = ()  # the first ones
    missing: Mapping[str, int] = {}  # missing values by feature
    captured: Traffic | None = None  # histograms of the rows with a prediction, of a job with ``capture``
    fault: str = ""


class OutputFile(Record, frozen=True, kw_only=True, eq=False):
    """A file of results."""

    name: str
    rows: int
    size: int
    sha256: str


class JobManifest(Document, frozen=True, kw_only=True, eq=False):
    """The results of a job, as its ``manifest.json`` says."""

    job_id: str
    model: str
    version: int
    alias: str | None = None
    outcome: JobOutcome
    reasons: tuple[str, ...] = ()  # why it is not complete
    missing_parts: tuple[int, ...] = ()  # without a receipt; the first ones
    parts: int
    rows: int
    refused: int
    refused_by_reason: Mapping[str, int] = {}
    predictions: PredictionSummary = PredictionSummary()
    missing: Mapping[str, int] = {}
    captured: int = 0  # rows that monitoring compares with training
    sources: int
    source_bytes: int
    files: tuple[OutputFile, ...] = ()
    warnings: tuple[str, ...] = ()
    seconds: float = 0.0  # of all parts together
    cost: Mapping[str, Any] = {}
    created_at: datetime
    finished_at: datetime
    code_version: str = ""


def check_destination(job: BatchJob) -> None:
    """Raise ``InvalidInputError`` when the results would lie among the sources: the job would score its own."""
    inside = [source.key for source in job.sources if source.key.startswith(job.destination)]
    if inside or (job.folder is not None and _overlap(job.folder, job.destination)):
        raise InvalidInputError(
            f"the results would be written to {job.destination!r}, among the files that are scored: choose another "
            "destination"
        )


def _overlap(folder: str, destination: str) -> bool:
    return folder.startswith(destination) or destination.startswith(folder)


def load_plan(job_id: str, store: ObjectStore) -> Plan:
    """Return a job's plan; raises ``ArtifactNotFoundError`` before it was planned."""
    return Plan.read(store.get(job_key(job_id, "plan.json")))


def add_summaries(summaries: Sequence[PredictionSummary]) -> PredictionSummary:
    """Return the distribution of all predictions, from those of parts."""
    least = [one.least for one in summaries if one.least is not None]
    greatest = [one.greatest for one in summaries if one.greatest is not None]
    return PredictionSummary(
        rows=sum(one.rows for one in summaries),
        labels=sum_counts([one.labels for one in summaries]),
        decisions=sum_counts([one.decisions for one in summaries]),
        total=sum(one.total for one in summaries),
        least=min(least, default=None),
        greatest=max(greatest, default=None),
    )


def sum_counts(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """Return the sums of counts by name, the largest first."""
    found: dict[str, int] = {}
    for one in counts:
        for name, count in one.items():
            found[name] = found.get(name, 0) + count
    return dict(sorted(found.items(), key=lambda pair: (-pair[1], pair[0])))
