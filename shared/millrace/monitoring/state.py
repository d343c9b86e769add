"""What a monitor remembers of a model between two runs: one document, changed only by who read it last."""

import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

from millrace.histograms.predictions import AnswerSketch, Traffic, ValueSketch
from millrace.histograms.tables import ColumnSketch, TableSketch
from millrace.monitoring.findings import Finding
from millrace.monitoring.incidents import Watchbook
from millrace.monitoring.seasons import Usual

STATE_VERSION = 1
STATE_NAME = "state.json.gz"
#: Quiet windows that are remembered: two weeks of hours.
MAX_WINDOWS = 24 * 14
#: Parts of the traffic whose outcomes are still waited for.
MAX_SEGMENTS = 24 * 45
MAX_HISTORY = 200


@dataclass(frozen=True, slots=True)
class WindowRecord:
    """A window that was judged."""

    begin: datetime
    end: datetime
    rows: int
    quiet: bool
    key: str


@dataclass(frozen=True, slots=True)
class Segment:
    """Rows that were read together, and what is known of their outcomes.

    Parameters
    ----------
    key : str
        Of the object that holds their ids and answers.
    requests : float
        How many requests they came in, about.
    labelled : int, default=0
        Rows whose outcome is known.
    outcomes_key : str, default=""
        Of the object that holds the outcomes; another one each time that more arrive.
    judged : bool, default=False
        Whether its outcomes were part of a window already.
    """

    key: str
    begin: datetime
    end: datetime
    rows: int
    requests: float
    labelled: int = 0
    outcomes_key: str = ""
    judged: bool = False


@dataclass(frozen=True, slots=True)
class QualityRecord:
    """A window of outcomes that was judged; measured anew when more outcomes of it arrive."""

    begin: datetime
    end: datetime
    segments: tuple[str, ...]
    answers: int
    outcomes: int
    metric: str = ""
    value: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Alert:
    """Something that the bus, and with a subject people too, are to be told, until they have been."""

    alert_id: str
    detail_type: str
    detail: Mapping[str, Any]
    subject: str
    text: str
    occurred_at: datetime


@dataclass(slots=True)
class MonitoringState:
    """Everything a monitor remembers of one model.

    Parameters
    ----------
    version : int or None
        That is watched, and has been since everything below was begun anew.
    checked_at : datetime or None
        When the last run looked.
    seen : dict of str to list of str
        Hashes of the objects that were read, by hour or day, as far back as late ones are looked for.
    open : Traffic or None
        The window that is being filled.
    open_begin, open_end : datetime or None
        Of the rows in it.
    windows : list of WindowRecord
        Judged ones.
    skewed : list of str
        Features that were out of the ordinary from the version's first window on.
    usual : dict of str to Usual
        By how much features and answers vary within an ordinary day; kept from version to version.
    first_answers : AnswerSketch, ColumnSketch or None
        Of the first window.
    segments, quality : lists
        What waits for outcomes, and what was judged of them.
    pending_feedback : list of str
        Feedback of the last hours that met no row yet, as lines.
    inputs : list of Finding
        Of the latest window of traffic.
    last_row_at : datetime or None
        When the model was last asked.
    book : Watchbook
        Persistence and incidents.
    outbox : list of Alert
        Not yet delivered.
    findings : dict of str to list of Finding
        The latest of each verdict, for reports.
    history : list of mapping
        Of past windows, for the report's tables.
    pictures : list of mapping
        Of the latest window, for the report's figures.
    """

    version: int | None = None
    checked_at: datetime | None = None
    seen: dict[str, list[str]] = field(default_factory=dict)
    open: Traffic | None = None
    open_begin: datetime | None = None
    open_end: datetime | None = None
    windows: list[WindowRecord] = field(default_factory=list)
    skewed: list[str] = field(default_factory=list)
    usual: dict[str, Usual] = field(default_factory=dict)
    first_answers: AnswerSketch | ColumnSketch | None = None
    segments: list[Segment] = field(default_factory=list)
    quality: list[QualityRecord] = field(default_factory=list)
    pending_feedback: list[str] = field(default_factory=list)
    inputs: list[Finding] = field(default_factory=list)
    last_row_at: datetime | None = None
    book: Watchbook = field(default_factory=Watchbook)
    outbox: list[Alert] = field(default_factory=list)
    findings: dict[str, list[Finding]] = field(default_factory=dict)
    history: list[Mapping[str, Any]] = field(default_factory=list)
    pictures: list[dict[str, Any]] = field(default_factory=list)

    def begin_version(self, version: int) -> None:
        """Begin anew for another version; incidents go on until its own windows are quiet."""
        self.version = version
        self.open = self.open_begin = self.open_end = self.first_answers = None
        self.windows, self.skewed, self.segments, self.quality, self.inputs = [], [], [], [], []
        self.pending_feedback = []
        self.findings, self.pictures = {}, []

    def to_bytes(self) -> bytes:
        """Return the document as it is stored."""
        document = {
            "state_version": STATE_VERSION,
            "version": self.version,
            "checked_at": _written(self.checked_at),
            "seen": self.seen,
            "open": traffic_to_dict(self.open) if self.open else None,
            "open_begin": _written(self.open_begin),
            "open_end": _written(self.open_end),
            "windows": [_record_to_dict(record) for record in self.windows[-MAX_WINDOWS:]],
            "skewed": self.skewed,
            "usual": {key: one.to_dict() for key, one in self.usual.items()},
            "first_answers": self.first_answers.to_dict() if self.first_answers else None,
            "segments": [_record_to_dict(record) for record in self.segments[-MAX_SEGMENTS:]],
            "quality": [_record_to_dict(record) for record in self.quality[-MAX_HISTORY:]],
            "pending_feedback": self.pending_feedback,
            "inputs": [finding.to_dict() for finding in self.inputs],
            "last_row_at": _written(self.last_row_at),
            "book": self.book.to_dict(),
            "outbox": [_record_to_dict(alert) for alert in self.outbox],
            "findings": {name: [one.to_dict() for one in found] for name, found in self.findings.items()},
            "history": self.history[-MAX_HISTORY:],
            "pictures": self.pictures,
        }
        return gzip.compress(json.dumps(document, separators=(",", ":")).encode(), mtime=0)

    @classmethod
    def from_bytes(cls, body: bytes) -> Self:
        """Read what :meth:`to_bytes` wrote.

        Raises
        ------
        ValueError
            When it is nothing that this release wrote.
        """
        try:
            return cls._from_dict(json.loads(gzip.decompress(body)))
        except (OSError, EOFError, KeyError, TypeError) as error:
            raise ValueError(f"the monitoring state cannot be read: {error}") from error

    @classmethod
    def _from_dict(cls, document: Mapping[str, Any]) -> Self:
        if document["state_version"] != STATE_VERSION:
            raise ValueError(f"the monitoring state has the form {document['state_version']}, not {STATE_VERSION}")
        opened = document["open"]
        return cls(
            version=document["version"],
            checked_at=_read(document["checked_at"]),
            seen=document["seen"],
            open=traffic_from_dict(opened) if opened else None,
            open_begin=_read(document["open_begin"]),
            open_end=_read(document["open_end"]),
            windows=[WindowRecord(**_with_moments(record)) for record in document["windows"]],
            skewed=document["skewed"],
            usual={key: Usual.from_dict(one) for key, one in document.get("usual", {}).items()},
            first_answers=_answers(document["first_answers"]),
            segments=[Segment(**_with_moments(record)) for record in document["segments"]],
            quality=[
                QualityRecord(**_with_moments(record) | {"segments": tuple(record["segments"])})
                for record in document["quality"]
            ],
            pending_feedback=document["pending_feedback"],
            inputs=[Finding.from_dict(finding) for finding in document["inputs"]],
            last_row_at=_read(document["last_row_at"]),
            book=Watchbook.from_dict(document["book"]),
            outbox=[Alert(**_with_moments(alert)) for alert in document["outbox"]],
            findings={name: [Finding.from_dict(one) for one in found] for name, found in document["findings"].items()},
            history=document["history"],
            pictures=document.get("pictures", []),
        )


def traffic_to_dict(traffic: Traffic) -> dict[str, Any]:
    """Return a window's sketches as plain JSON."""
    answers = traffic.answers.to_dict() if traffic.answers is not None else None
    return {"features": traffic.features.to_dict(), "answers": answers}


def traffic_from_dict(document: Mapping[str, Any]) -> Traffic:
    """Read what :func:`traffic_to_dict` wrote."""
    return Traffic(TableSketch.from_dict(document["features"]), _answers(document["answers"]))


def _answers(document: Mapping[str, Any] | None) -> AnswerSketch | ColumnSketch | None:
    if document is None:
        return None
    return AnswerSketch.from_dict(document) if "decided" in document else ValueSketch.from_dict(document)


def _written(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None


def _read(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _record_to_dict(record: WindowRecord | Segment | QualityRecord | Alert) -> dict[str, Any]:
    names = record.__dataclass_fields__
    values = {name: getattr(record, name) for name in names}
    return {name: value.isoformat() if isinstance(value, datetime) else value for name, value in values.items()}


def _with_moments(document: Mapping[str, Any]) -> dict[str, Any]:
    moments = {
        name: datetime.fromisoformat(document[name]) for name in ("begin", "end", "occurred_at") if name in document
    }
    return dict(document) | moments
