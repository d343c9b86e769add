"""State of a model's monitor between two runs: one document, replaced by one conditional write."""

import gzip
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, Self

import msgspec
from msgspec.structs import replace

from millrace.captures.records import format_timestamp
from millrace.documents import Document, Record
from millrace.errors import ArtifactIntegrityError, ArtifactNotFoundError
from millrace.histograms.outcomes import AnyOutcomes
from millrace.histograms.predictions import AnyPredictions, Traffic, tag_predictions
from millrace.layout import monitoring_key
from millrace.monitoring.chart_data import ChartData
from millrace.monitoring.incidents import IncidentHistory
from millrace.monitoring.measured_windows import MeasuredWindow, PooledWindow
from millrace.monitoring.new_captures import ReadProgress
from millrace.monitoring.seasonality import DailyRange, HourlyImpurity, TimeSpan, TrafficTotal
from millrace.monitoring.window_findings import WindowFinding
from millrace.ports import ObjectStore

STATE_NAME = "state.json.gz"
#: Closed windows that are kept.
MAX_WINDOWS = 24 * 14
#: Totals of traffic that are kept: eight weeks of hours.
MAX_TOTALS = 24 * 56 + 1
#: Segments whose outcomes may still arrive.
MAX_SEGMENTS = 24 * 45
MAX_HISTORY = 200
GZIP = "application/gzip"


class WindowRecord(TimeSpan, frozen=True, kw_only=True):
    """A closed window; ``key`` names its stored :class:`~millrace.histograms.predictions.Traffic`."""

    rows: int
    quiet: bool
    key: str


class WindowSummary(TimeSpan, frozen=True, kw_only=True, omit_defaults=True):
    """A closed window of traffic in the report: its breaches by key, and the distances of what moved most."""

    version: int
    rows: int
    breaches: list[str]
    effects: dict[str, float] | None = None


class Segment(TimeSpan, frozen=True, kw_only=True):
    """Rows that were read together, whose outcomes arrive later."""

    key: str  # Of the object with their ids and predictions
    rows: int
    requests: float
    labelled: int = 0  # Rows with an outcome
    outcomes_key: str = ""  # Of the object with the outcomes; a new one each time that more arrive
    evaluated: bool = msgspec.field(default=False, name="judged")  # True once its outcomes were part of a window


class WindowQuality(MeasuredWindow, frozen=True, kw_only=True):
    """A closed window of outcomes in the report; measured again when more of its outcomes arrive.

    ``metric``, ``value``, ``low`` and ``high`` are those of the first evaluated metric.
    """

    predictions: int = msgspec.field(name="answers")
    metric: str = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None


class QualityRecord(WindowQuality, frozen=True, kw_only=True):
    """A closed window of outcomes, and the keys of its segments."""

    segments: tuple[str, ...]
    counts: AnyOutcomes | None = None  # coarsely, for a day


class Alert(Record, frozen=True, kw_only=True):
    """An event for the bus, and with a subject a message for people, until it is delivered."""

    alert_id: str
    detail_type: str
    detail: dict[str, Any]
    subject: str
    text: str
    occurred_at: datetime


class OpenWindow(TimeSpan, frozen=True, kw_only=True):
    """The window that is being filled."""

    traffic: Traffic
    begin: datetime
    end: datetime
    fresh_since: datetime | None = None  # First row that no total has


class TrafficHistory(Record, frozen=True, kw_only=True):
    """Windows of traffic."""

    open: OpenWindow | None = None
    windows: tuple[WindowRecord, ...] = ()  # Closed ones of this version
    begun_at: datetime | None = None  # Of the first total
    totals: tuple[TrafficTotal, ...] = ()  # Of this version, one a monitoring run
    period_seen: Literal["", "day", "week"] = ""  # The longest whole one of this version
    window_total: str = ""  # Key of the total before the open window; empty before the first window
    #: Of features and predictions within hours, in this version's first two weeks.
    impurities: dict[str, HourlyImpurity] = {}  # noqa: RUF012  # msgspec copies the default
    #: Shares of features' and predictions' impurity between hours, measured in a whole week; kept from version to
    #: version.
    clock_shares: dict[str, float] = {}  # noqa: RUF012  # msgspec copies the default
    skewed: tuple[str, ...] = ()  # Features that have differed from training since the version's first whole day
    #: Variation of features and predictions within an ordinary day; kept from version to version.
    daily_ranges: dict[str, DailyRange] = {}  # noqa: RUF012  # msgspec copies the default
    first_predictions: AnyPredictions | None = None  # Of the first full window
    inputs: tuple[WindowFinding, ...] = ()  # findings on inputs of the latest window
    summaries: tuple[WindowSummary, ...] = ()  # Closed windows of all versions, for the report
    charts: tuple[ChartData, ...] = ()  # Of the latest window


class OutcomeHistory(Record, frozen=True, kw_only=True):
    """Segments and windows of outcomes, and recent feedback without a captured row, as lines."""

    segments: tuple[Segment, ...] = ()
    quality: tuple[QualityRecord, ...] = ()
    pooled: tuple[PooledWindow, ...] = ()  # Windows before those of ``quality``
    pending_feedback: tuple[str, ...] = ()


class MonitoringState(Document, frozen=True, kw_only=True):
    """State of one model's monitor."""

    version: int | None = None
    checked_at: datetime | None = None  # time of the last run that read everything
    last_row_at: datetime | None = None  # time of the last request
    progress: ReadProgress | None = None  # Of a run that stopped before it had read everything
    #: Hashes of the objects that were read, by prefix.
    seen: dict[str, list[str]] = {}  # noqa: RUF012  # msgspec copies the default
    traffic: TrafficHistory = TrafficHistory()
    outcomes: OutcomeHistory = OutcomeHistory()
    incidents: IncidentHistory = IncidentHistory()
    outbox: tuple[Alert, ...] = ()  # Not yet delivered
    #: The latest of each source, for the report.
    findings: dict[str, tuple[WindowFinding, ...]] = {}  # noqa: RUF012  # msgspec copies the default

    @classmethod
    def upgrade(cls, stored: dict[str, Any], version: int) -> dict[str, Any]:  # noqa: ARG003  # there is one
        """Group the fields of the flat document that was written before version 1."""
        opened = stored["open"] and {
            "traffic": Traffic.upgrade(stored["open"], 0),
            "begin": stored["open_begin"],
            "end": stored["open_end"],
        }
        traffic = {
            "open": opened,
            "windows": stored["windows"],
            "skewed": stored["skewed"],
            "daily_ranges": stored.get("usual", {}),
            "first_predictions": tag_predictions(stored["first_answers"]),
            "inputs": stored["inputs"],
            "summaries": stored["history"],
            "charts": stored.get("pictures", []),
        }
        outcomes = {name: stored[name] for name in ("segments", "quality", "pending_feedback")}
        return stored | {"traffic": traffic, "outcomes": outcomes, "incidents": stored["book"]}

    def begin_version(self, version: int) -> "MonitoringState":
        """Return the state at the begin of another version; incidents go on until its own windows are quiet."""
        before = self.traffic
        traffic = TrafficHistory(
            daily_ranges=before.daily_ranges, clock_shares=before.clock_shares, summaries=before.summaries
        )
        return replace(self, version=version, traffic=traffic, outcomes=OutcomeHistory(), findings={})

    def pack(self) -> bytes:
        """Return the stored document."""
        return gzip.compress(self.write(indent=False), mtime=0)

    @classmethod
    def unpack(cls, body: bytes) -> Self:
        """Read what :meth:`pack` wrote; raises ``ArtifactIntegrityError`` for anything else."""
        try:
            return cls.read(gzip.decompress(body))
        except (OSError, EOFError) as error:
            raise ArtifactIntegrityError(f"the monitoring state cannot be read: {error}") from error


def load_state(model: str, store: ObjectStore) -> tuple[MonitoringState, str | None]:
    """Return the state and its entity tag.

    An unreadable state (of a later release) starts empty, so that it does not block the monitor for ever.
    """
    try:
        body, etag = store.get_with_etag(monitoring_key(model, STATE_NAME))
    except ArtifactNotFoundError:
        return MonitoringState(), None
    try:
        return MonitoringState.unpack(body), etag
    except ArtifactIntegrityError:
        return MonitoringState(), etag


def describe_kept_coverage(model: str, n_hours: int, store: ObjectStore, now: datetime) -> dict[str, Any] | None:
    """Count predictions of the last hours, and those with ground truth, from the counts that monitoring keeps.

    One object is read, however many were captured. Rows that were read together are counted at their last one's time.
    None where monitoring has read no rows in these hours.
    """
    state, start = load_state(model, store)[0], now - timedelta(hours=n_hours)
    segments = [segment for segment in state.outcomes.segments if start < segment.end <= now]
    if not segments:
        return None
    days: dict[str, list[Segment]] = {}
    for segment in sorted(segments, key=lambda one: one.end):
        days.setdefault(f"{segment.end:%Y-%m-%d}", []).append(segment)
    return {
        "model": model,
        "start": format_timestamp(start),
        "end": format_timestamp(now),
        "source": "monitoring",
        **_count_labelled(segments),
        "days": [{"day": day, **_count_labelled(of_day)} for day, of_day in days.items()],
        "versions": [{"version": state.version, **_count_labelled(segments)}],
    }


def _count_labelled(segments: Sequence[Segment]) -> dict[str, Any]:
    rows, labelled = sum(segment.rows for segment in segments), sum(segment.labelled for segment in segments)
    return {"predictions": rows, "labelled": labelled, "coverage": labelled / rows if rows else None}


def save_state(model: str, store: ObjectStore, state: MonitoringState, etag: str | None) -> bool:
    """Write the state if nobody else changed it since; return whether it was written."""
    return store.put_if_unchanged(monitoring_key(model, STATE_NAME), state.pack(), etag, GZIP)
