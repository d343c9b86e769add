"""The documents of a replay: its request, its state between two invocations, and its report."""

from datetime import datetime
from typing import Literal

from millrace.documents import Document, Record
from millrace.histograms.tables import TableHistogram
from millrace.releases.replay_evidence import PairedQuality
from millrace.schema import Task

REQUEST_NAME, STATE_NAME = "request.json", "state.json"
REPORT_NAME, PAGE_NAME = "report.json", "report.html"

ReplayStatus = Literal["requested", "running", "succeeded", "void", "refused", "failed"]
FINISHED: frozenset[ReplayStatus] = frozenset({"succeeded", "void", "refused", "failed"})


def is_of_release(replay_id: str) -> bool:
    """Return whether a replay is that of a release, whose id it has."""
    return replay_id.startswith("r-")


class ReplayRequest(Document, frozen=True, kw_only=True):
    """The request of a replay; that of a release follows from the release, and its ``until`` moves on."""

    model: str
    replay_id: str
    baseline: int  # the champion
    candidate: int
    since: datetime
    until: datetime
    requested_at: datetime
    requested_by: str
    metric: str | None = None  # of the paired test, and its margin; None take the defaults
    margin: float | None = None


class RefusedRows(Record, frozen=True, kw_only=True):
    """Captured rows that a version cannot read, and why."""

    version: int  # that cannot read them
    reason: str
    rows: int


class ReplaySelfTest(Record, frozen=True, kw_only=True):
    """The champion's replay beside its predictions at the time, on the rows that it served itself.

    ``equal`` rows are the same float32 numbers. ``rounded`` ones differ by no more than another processor, or another
    number of rows at once, rounds; ``different`` ones by more, which makes the replay void.
    """

    compared: int = 0
    equal: int = 0
    rounded: int = 0
    different: int = 0
    largest: float = 0.0  # deviation
    examples: tuple[str, ...] = ()  # prediction ids of different rows

    def __add__(self, other: "ReplaySelfTest") -> "ReplaySelfTest":
        """Return the test of the rows of both."""
        return ReplaySelfTest(
            compared=self.compared + other.compared,
            equal=self.equal + other.equal,
            rounded=self.rounded + other.rounded,
            different=self.different + other.different,
            largest=max(self.largest, other.largest),
            examples=(*self.examples, *other.examples)[:_MAX_EXAMPLES],
        )


_MAX_EXAMPLES = 5


class ReplayCounts(Record, frozen=True, kw_only=True):
    """Counts of captured rows: those read, and those that could not be replayed."""

    rows: int = 0  # captured lines read
    replayed: int = 0
    by_version: dict[str, int] = {}  # noqa: RUF012  # msgspec copies the default
    omitted: int = 0  # captured without features, as too large
    duplicates: int = 0
    malformed: int = 0
    unreadable_objects: tuple[str, ...] = ()
    refused: tuple[RefusedRows, ...] = ()
    sample_share: float = 1.0  # of the captured rows, the smallest of all hours
    sampling_rate: float = 1.0  # of the captures, the smallest


class ReplayState(Document, frozen=True, kw_only=True):
    """Progress of a replay: captures are scored up to ``until``, and the rows are in ``parts``."""

    until: datetime
    sample_share: float = 1.0
    parts: tuple[str, ...] = ()  # keys
    counts: ReplayCounts = ReplayCounts()
    self_test: ReplaySelfTest = ReplaySelfTest()
    not_finite: int = 0  # rows for which the candidate predicted no number
    #: Features of the replayed rows in the bins of each version's training; None for one without a reference.
    baseline_features: TableHistogram | None = None
    candidate_features: TableHistogram | None = None


class ReplayedDay(Record, frozen=True, kw_only=True):
    """Counts of one day, UTC."""

    day: str
    rows: int
    changed: int  # rows with another decision; of a regression, with another value
    labelled: int


class DecisionChange(Record, frozen=True, kw_only=True):
    """Rows that the versions decide differently, by direction."""

    champion: str
    candidate: str
    rows: int


class ReplayedSlice(Record, frozen=True, kw_only=True):
    """A slice of the rows: how many decisions change in it; of a regression, the mean change of the value."""

    name: str
    declared: bool
    rows: int
    changed: float  # share of the rows; of a regression, the mean absolute change
    difference: float  # mean of the change: of the probability of the last class, or of the value


class Deviations(Record, frozen=True, kw_only=True):
    """Distribution of the absolute change of the output: of the class whose probability changes most, or of the value.

    ``edges`` and ``counts`` are its histogram.
    """

    median: float
    p90: float
    p99: float
    largest: float
    mean_change: float  # signed, of the probability of the last class, or of the value
    edges: tuple[float, ...]
    counts: tuple[int, ...]


class OutputShift(Record, frozen=True, kw_only=True):
    """Population stability index of an output between the versions, on the same rows."""

    output: str  # a class, ``decisions`` or ``value``
    psi: float
    excess: float  # beyond what sampling alone gives


class PairedMetric(Record, frozen=True, kw_only=True):
    """A metric of both versions on the same labelled rows, with the bootstrap interval of the candidate's gain."""

    metric: str
    champion: float
    candidate: float
    gain: float
    low: float | None
    high: float | None


class QualityEstimate(Record, frozen=True, kw_only=True):
    """Estimate of a version's quality without ground truth; None, with a reason, where it says nothing."""

    version: int
    metric: str | None = None
    holdout: float | None = None
    value: float | None = None
    low: float | None = None
    high: float | None = None
    reason: str = ""


class ReplayReport(Document, frozen=True, kw_only=True):
    """The report of a replay."""

    model: str
    replay_id: str
    baseline: int
    candidate: int
    since: datetime
    until: datetime
    requested_at: datetime
    requested_by: str
    updated_at: datetime
    status: ReplayStatus
    reason: str = ""
    progress: float = 0.0  # share of the time span that is scored
    task: Task | None = None
    counts: ReplayCounts = ReplayCounts()
    self_test: ReplaySelfTest = ReplaySelfTest()
    not_finite: int = 0
    agreement: float | None = None
    days: tuple[ReplayedDay, ...] = ()
    changes: tuple[DecisionChange, ...] = ()
    slices: tuple[ReplayedSlice, ...] = ()
    deviations: Deviations | None = None
    shifts: tuple[OutputShift, ...] = ()
    labelled: int = 0
    metrics: tuple[PairedMetric, ...] = ()
    metric_rows: int = 0  # labelled rows that the metrics and their intervals are of
    quality: PairedQuality | None = None
    estimates: tuple[QualityEstimate, ...] = ()
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, request: ReplayRequest, now: datetime) -> "ReplayReport":
        """Return the report of a request that nothing has been done for."""
        return cls(
            model=request.model,
            replay_id=request.replay_id,
            baseline=request.baseline,
            candidate=request.candidate,
            since=request.since,
            until=request.until,
            requested_at=request.requested_at,
            requested_by=request.requested_by,
            updated_at=now,
            status="requested",
        )

    @property
    def is_finished(self) -> bool:
        """True when nothing more will be done."""
        return self.status in FINISHED
