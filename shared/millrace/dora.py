"""DORA metrics of models: deployment frequency, lead time, change failure rate and time to restore, from the ledger.

The four metrics are those of the DevOps Research and Assessment programme (Forsgren, Humble and Kim, *Accelerate*,
2018; https://dora.dev/guides/dora-metrics-four-keys/), with a model's champion as what is deployed:

- a *deployment* makes another version the champion by a promotion; a rollback is none;
- the *lead time* goes from the upload of the newest dataset that a version learnt from to the time from which on it
  serves at least half of the requests;
- a *change* is a deployment, or a release that was rolled back. It *failed* when the champion was rolled back, when an
  incident of the model's quality or serving opened within seven days of the deployment while the version was the
  champion, or when the release was rolled back;
- the *time to restore* goes from the first window of that incident, else from the time at which the version began to
  serve, to the next champion or the resolution of the incident, whichever is first; of a release to its rollback.

All of it is pure: entries of ledgers and times are arguments.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, Literal

from millrace.causes import CAUSE_OF_EVENT
from millrace.entities import LedgerEntry
from millrace.metrics.confidence_intervals import share_interval
from millrace.names import CHAMPION
from millrace.quantities import format_duration

#: An incident that opens later is not blamed on the deployment.
INCIDENT_TIME = timedelta(days=7)
#: Kinds of incidents that a new version can cause, by event and by cause. Data that drift are no fault of a version.
_EVENTS = frozenset({"QualityDegraded", "ServingDegraded"})
_CAUSES = frozenset(CAUSE_OF_EVENT[event].name for event in _EVENTS)
#: Share of the requests from which on a version serves.
_HALF = 0.5
_CONFIDENCE = 0.95
_SLOW = 0.9
#: Fewer have no 90th percentile worth a number.
_FEW = 10
#: Of fewer changes a rate is said to be uncertain in words.
_MANY = 30
_WEEK = timedelta(days=7)
#: Parts of the lead time, in their order.
PARTS = ("waiting", "training", "approval", "release")

FailureKind = Literal["rolled_back", "incident", "release_rolled_back"]


@dataclass(frozen=True, slots=True)
class LeadTime:
    """Lead time of a version in seconds, and its parts; None where the ledger does not say when one ended.

    ``waiting`` from the upload to the request of the run, ``training`` to the registration, ``approval`` to the
    decision that the version may serve, ``release`` to half of the requests.
    """

    seconds: float
    waiting: float | None = None
    training: float | None = None
    approval: float | None = None
    release: float | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """Failure of a change: since when, and until when; None while it is not restored."""

    kind: FailureKind
    since: datetime
    restored_at: datetime | None
    incident_id: str | None = None
    guard: str | None = None  # of a release

    @property
    def seconds(self) -> float | None:
        """Time to restore; None while it is not restored."""
        return None if self.restored_at is None else max(0.0, (self.restored_at - self.since).total_seconds())


@dataclass(frozen=True, slots=True)
class Change:
    """A deployment, or a release that was rolled back."""

    model: str
    kind: Literal["deployment", "release"]
    version: int
    at: datetime
    actor: str
    reason: str
    release_id: str | None = None
    lead: LeadTime | None = None
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class Durations:
    """Summary of durations in seconds; the 90th percentile is None of fewer than ten."""

    n: int
    median: float | None = None
    p90: float | None = None


@dataclass(frozen=True, slots=True)
class DoraMetrics:
    """The metrics of a window, and each as a sentence by its name."""

    deployments: int
    deployments_a_week: float
    lead_time: Durations
    lead_time_parts: Mapping[str, Durations]
    changes: int
    failed: int
    failure_rate: float | None  # none without a change
    failure_low: float | None  # Wilson's interval of 95 %
    failure_high: float | None
    restore_time: Durations
    not_restored: int
    sentences: Mapping[str, str]


@dataclass(slots=True)
class _Ledger:
    """The entries of one model in the order of time, and what they say by run, version and release."""

    entries: Sequence[LedgerEntry]
    moves: list[LedgerEntry] = field(default_factory=list)  # of the champion, also to no version
    requested: dict[str, LedgerEntry] = field(default_factory=dict)  # by run
    triggers: dict[str, LedgerEntry] = field(default_factory=dict)  # by cause
    registered: dict[int, LedgerEntry] = field(default_factory=dict)  # by version
    decided: dict[int, datetime] = field(default_factory=dict)  # when a version may serve
    started: dict[str, LedgerEntry] = field(default_factory=dict)  # by release
    half_served: dict[str, datetime] = field(default_factory=dict)  # by release
    incidents: dict[str, "_Incident"] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for entry in self.entries:
            self._read(entry)

    def _read(self, entry: LedgerEntry) -> None:
        details, at = entry.details, entry.occurred_at
        if _moves_champion(entry):
            self.moves.append(entry)
        match entry.action:
            case "run_requested" if "run_id" in details:
                self.requested.setdefault(str(details["run_id"]), entry)
            case "model_registered" if "version" in details:
                self.registered.setdefault(int(details["version"]), entry)
            case "release_started" if "release_id" in details:
                self.started.setdefault(str(details["release_id"]), entry)
        if cause := details.get("cause_id"):
            self.triggers.setdefault(str(cause), entry)
        if entry.action in ("model_promoted", "release_started", "release_waiting"):
            version = details.get("candidate") or details.get("to_version")
            if version:
                self.decided.setdefault(int(version), at)
        if (release := details.get("release_id")) and _weight(entry) >= _HALF:
            self.half_served.setdefault(str(release), at)
        for incident in _read_incidents(entry):
            known = self.incidents.get(incident.incident_id)
            self.incidents[incident.incident_id] = incident.merge(known) if known else incident


@dataclass(frozen=True, slots=True)
class _Incident:
    incident_id: str
    since: datetime
    opened_at: datetime
    resolved_at: datetime | None = None
    version: int | None = None

    def merge(self, other: "_Incident") -> "_Incident":
        return _Incident(
            self.incident_id,
            min(self.since, other.since),
            min(self.opened_at, other.opened_at),
            max((one for one in (self.resolved_at, other.resolved_at) if one), default=None),
            self.version or other.version,
        )


def _moves_champion(entry: LedgerEntry) -> bool:
    moved = entry.action in ("model_promoted", "model_rolled_back", "alias_moved")
    alias = entry.details.get("alias", CHAMPION if entry.action != "alias_moved" else None)
    return entry.action == "model_deleted" or (moved and alias == CHAMPION)


def _weight(entry: LedgerEntry) -> float:
    """Return the share that a release's candidate has from an entry on; 0 where the entry says nothing of it."""
    if entry.action == "release_started":
        return float(next(iter(entry.details.get("steps") or ()), 0.0))
    goes_on = entry.action in ("release_advanced", "release_resumed")
    return float(entry.details.get("weight") or 0.0) if goes_on else 0.0


def _read_incidents(entry: LedgerEntry) -> Iterator[_Incident]:
    """Yield the incidents of an entry that a version can cause; entries of earlier releases name none."""
    details, at = entry.details, entry.occurred_at
    ids = [str(incident_id) for incident_id in details.get("incident_ids") or ()]
    if entry.action == "incident_resolved" and details.get("incident") in _EVENTS:
        since, opened, resolved = (_parse(details.get(name)) for name in ("since", "opened_at", "resolved_at"))
        for incident_id in ids:
            yield _Incident(incident_id, since or opened or at, opened or at, resolved or at, details.get("version"))
    elif details.get("kind") in _CAUSES and "cause_id" in details:
        for incident_id in ids:
            yield _Incident(incident_id, at, at)


def _parse(text: Any) -> datetime | None:
    return datetime.fromisoformat(text) if isinstance(text, str) else None


def find_changes(entries: Iterable[LedgerEntry], since: datetime, until: datetime) -> list[Change]:
    """Return the changes of one model in a window, oldest first.

    Parameters
    ----------
    entries : iterable of LedgerEntry
        Of one model, in any order. Those before the window say where its versions came from.
    since, until : datetime
        The window, of which ``until`` is not part.
    """
    ledger = _Ledger(sorted(entries, key=lambda entry: (entry.occurred_at, entry.entry_id)))
    found = [*_find_deployments(ledger), *_find_failed_releases(ledger)]
    return sorted((change for change in found if since <= change.at < until), key=lambda change: change.at)


def _find_deployments(ledger: _Ledger) -> Iterator[Change]:
    served: set[int] = set()
    for place, move in enumerate(ledger.moves):
        version = move.details.get("to_version")
        if version is None or move.action == "model_deleted":
            continue
        following = ledger.moves[place + 1] if place + 1 < len(ledger.moves) else None
        if move.action != "model_rolled_back" and version != move.details.get("from_version"):
            release = move.details.get("release_id")
            own = str(release) if release and _candidate(ledger, str(release)) == version else None
            yield Change(
                move.model,
                "deployment",
                int(version),
                move.occurred_at,
                move.actor,
                move.reason,
                own,
                None if version in served else _lead_time(ledger, move, own),
                _deployment_failure(ledger, move, following),
            )
        served.add(int(version))


def _candidate(ledger: _Ledger, release_id: str) -> int | None:
    """Return the candidate of a release; a promotion of another version names the release that it ends, too."""
    started = ledger.started.get(release_id)
    return started.details.get("candidate") if started else None


def _lead_time(ledger: _Ledger, move: LedgerEntry, release_id: str | None) -> LeadTime | None:
    """Return the lead time of a version that a move makes the champion for the first time; None where it is unknown."""
    version = int(move.details["to_version"])
    registered = ledger.registered.get(version)
    if registered is None:
        return None
    requested = ledger.requested.get(str(registered.details.get("run_id")))
    uploaded = _uploaded_at(ledger, registered, requested)
    if uploaded is None:
        return None
    half = ledger.half_served.get(release_id, move.occurred_at) if release_id else move.occurred_at
    begun = requested.occurred_at if requested else None
    decided = min(ledger.decided.get(version, half), half)
    times = (uploaded, begun, registered.occurred_at, decided, half)
    spans = [
        max(0.0, (later - earlier).total_seconds()) if earlier and later else None for earlier, later in pairwise(times)
    ]
    return LeadTime(max(0.0, (half - uploaded).total_seconds()), *spans)


def _uploaded_at(ledger: _Ledger, registered: LedgerEntry, requested: LedgerEntry | None) -> datetime | None:
    """Return when the newest dataset of a version was uploaded.

    Entries of earlier releases do not hold it: there, it is the newest trigger by an upload of the version's run.
    """
    if uploaded := _parse(registered.details.get("newest_upload_at")):
        # The same content may have been uploaded again since the run began.
        return min(uploaded, requested.occurred_at) if requested else uploaded
    if requested is None:
        return None
    causes = requested.details.get("cause_ids") or [requested.details.get("cause_id")]
    triggers = [ledger.triggers.get(str(cause)) for cause in causes]
    uploads = [one.occurred_at for one in triggers if one and one.details.get("kind") == "upload"]
    return max(uploads, default=None)


def _deployment_failure(ledger: _Ledger, move: LedgerEntry, following: LedgerEntry | None) -> Failure | None:
    begun, ended = move.occurred_at, following.occurred_at if following else None
    version, limit = move.details.get("to_version"), move.occurred_at + INCIDENT_TIME
    caused = [
        incident
        for incident in ledger.incidents.values()
        if begun <= incident.opened_at < limit
        and (ended is None or incident.opened_at < ended)
        and incident.version in (None, version)
    ]
    first = min(caused, key=lambda incident: incident.opened_at, default=None)
    if following is not None and following.action == "model_rolled_back":
        since = max(begun, first.since) if first else begun
        return Failure("rolled_back", since, _first(ended, first), first.incident_id if first else None)
    if first is None:
        return None
    return Failure("incident", max(begun, first.since), _first(ended, first), first.incident_id)


def _first(ended: datetime | None, incident: _Incident | None) -> datetime | None:
    return min((at for at in (ended, incident.resolved_at if incident else None) if at), default=None)


def _find_failed_releases(ledger: _Ledger) -> Iterator[Change]:
    for entry in ledger.entries:
        if entry.action != "release_rolled_back":
            continue
        release_id = str(entry.details.get("release_id"))
        started = ledger.started.get(release_id)
        since = started.occurred_at if started else entry.occurred_at
        yield Change(
            entry.model,
            "release",
            int(entry.details.get("candidate") or 0),
            entry.occurred_at,
            entry.actor,
            entry.reason,
            release_id,
            failure=Failure("release_rolled_back", since, entry.occurred_at, guard=entry.details.get("guard")),
        )


def measure_changes(changes: Sequence[Change], since: datetime, until: datetime) -> DoraMetrics:
    """Return the metrics of the changes of a window, of one model or of several together."""
    deployments = [change for change in changes if change.kind == "deployment"]
    leads = [change.lead for change in deployments if change.lead]
    failures = [change.failure for change in changes if change.failure]
    interval = share_interval(len(failures), len(changes), _CONFIDENCE) if changes else None
    parts = {
        part: summarize([seconds for lead in leads if (seconds := getattr(lead, part)) is not None]) for part in PARTS
    }
    metrics = DoraMetrics(
        deployments=len(deployments),
        deployments_a_week=len(deployments) / max((until - since) / _WEEK, 1e-9),
        lead_time=summarize([lead.seconds for lead in leads]),
        lead_time_parts=parts,
        changes=len(changes),
        failed=len(failures),
        failure_rate=len(failures) / len(changes) if changes else None,
        failure_low=interval.low if interval else None,
        failure_high=interval.high if interval else None,
        restore_time=summarize([seconds for one in failures if (seconds := one.seconds) is not None]),
        not_restored=sum(one.restored_at is None for one in failures),
        sentences={},
    )
    return replace(metrics, sentences=_write_sentences(metrics, (until - since) / timedelta(days=1)))


def summarize(seconds: Iterable[float]) -> Durations:
    """Return the median and, of ten or more, the 90th percentile of durations (the nearest rank)."""
    ordered = sorted(seconds)
    if not ordered:
        return Durations(0)
    middle = len(ordered) // 2
    median = ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
    p90 = ordered[math.ceil(_SLOW * len(ordered)) - 1] if len(ordered) >= _FEW else None
    return Durations(len(ordered), median, p90)


def _write_sentences(metrics: DoraMetrics, days: float) -> dict[str, str]:
    """Return each metric as a sentence, which says when it rests on little."""
    n, window = metrics.deployments, f"{days:.4g} days"
    frequency = f"{_count(n, 'deployment')} in {window}: {metrics.deployments_a_week:.2g} a week"
    return {
        "deployment_frequency": frequency if n else f"no deployment in {window}",
        "lead_time": _write_lead_time(metrics),
        "change_failure_rate": _write_rate(metrics),
        "time_to_restore": _write_restore_time(metrics),
    }


def _write_lead_time(metrics: DoraMetrics) -> str:
    known, unknown = metrics.lead_time.n, metrics.deployments - metrics.lead_time.n
    rest = f"; the ledger does not say when the data of {_count(unknown, 'deployment')} came" if unknown else ""
    if not known:
        return f"not known{rest}" if unknown else "no deployment, so no lead time"
    parts = [
        f"{part} {format_duration(durations.median)}"
        for part, durations in metrics.lead_time_parts.items()
        if durations.median is not None
    ]
    return f"{_write_durations(metrics.lead_time)} (median of each part: {', '.join(parts)}){rest}"


def _write_rate(metrics: DoraMetrics) -> str:
    rate, low, high = metrics.failure_rate, metrics.failure_low, metrics.failure_high
    if rate is None or low is None or high is None:
        return "no change, so no rate"
    said = f"{metrics.failed} of {_count(metrics.changes, 'change')} failed: {rate:.0%}"
    few = "so few that the rate may be anything" if metrics.changes < _MANY else "95 % interval"
    return f"{said}, {few} from {low:.0%} to {high:.0%}".replace("%", " %").replace("  %", " %")


def _write_restore_time(metrics: DoraMetrics) -> str:
    lasting = f"{_count(metrics.not_restored, 'failure')} not restored yet" if metrics.not_restored else ""
    if not metrics.restore_time.n:
        return lasting or "no failure to restore from"
    return "; ".join(part for part in (_write_durations(metrics.restore_time), lasting) if part)


def _write_durations(durations: Durations) -> str:
    if durations.median is None:
        return "not known"
    slow = "" if durations.p90 is None else f", 90th percentile {format_duration(durations.p90)}"
    return f"median {format_duration(durations.median)}{slow}, of {durations.n}"


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"
