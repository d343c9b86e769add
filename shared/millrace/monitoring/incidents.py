"""Incidents: from findings, window after window, to one alert when something is wrong and one when it is over.

A subject is in alarm when enough of its last windows were breaches (k of n). Everything in alarm that leads to the
same event is one incident: it opens once, goes on while any of its subjects does, and is resolved when all of them
have been quiet. What opens again soon after is the same incident, and nobody is told again until the cooldown is over.
People are told once. The bus is told again while an incident goes on, because a training run that it asked for may have
been refused in its time: too soon after another, or past the day's budget.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Literal, Self, get_args

from millrace.monitoring.findings import VERDICTS, Finding, VerdictName
from millrace.names import make_cause_id
from millrace.spec.monitoring import MonitoringSpec, Watch

_MOMENTS = ("opened_at", "since", "quiet_until", "resolved_at", "asked_at")

EventType = Literal["DriftDetected", "QualityDegraded", "DataQualityDegraded", "ModelStale", "ServingDegraded"]
EVENT_TYPES: tuple[EventType, ...] = get_args(EventType)

EVENT_OF: Mapping[VerdictName, EventType] = {
    "data_quality": "DataQualityDegraded",
    "skew": "DriftDetected",
    "feature_drift": "DriftDetected",
    "feature_change": "DriftDetected",
    "dependence": "DriftDetected",
    "prediction_drift": "DriftDetected",
    "calibration": "QualityDegraded",
    "live_quality": "QualityDegraded",
    "estimated_quality": "QualityDegraded",
    "concept_drift": "QualityDegraded",
    "bias": "QualityDegraded",
    "staleness": "ModelStale",
    "serving_health": "ServingDegraded",
}
Step = Literal["opened", "persists", "resolved"]
#: Of these, findings name what is wrong; what they do not name is in order.
_LISTS_FAULTS_ONLY: frozenset[VerdictName] = frozenset({"data_quality", "dependence", "skew"})


@dataclass(frozen=True, slots=True)
class Trouble:
    """One subject of an incident.

    Parameters
    ----------
    finding : Finding
        The latest breach.
    since : datetime
        Begin of the first window that was one.
    quiet : int, default=0
        Windows in a row that were none, up to now.
    """

    finding: Finding
    since: datetime
    quiet: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {"finding": self.finding.to_dict(), "since": self.since.isoformat(), "quiet": self.quiet}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_dict` wrote."""
        since = datetime.fromisoformat(document["since"])
        return cls(Finding.from_dict(document["finding"]), since, document["quiet"])


@dataclass(frozen=True, slots=True)
class Incident:
    """Something that is wrong, or was.

    Parameters
    ----------
    incident_id : str
        A function of the model, the event and the window that opened it.
    event : EventType
        What is told when it opens.
    version : int or None
        The version that served.
    opened_at : datetime
        End of the window that opened it.
    since : datetime
        Begin of the first window that was out of the ordinary.
    troubles : mapping of str to Trouble
        By the finding's key; those that were resolved stay until all are.
    told : bool
        Whether an alert was sent for it since it opened (again).
    quiet_until : datetime or None
        Until when nobody is told, because it opened again in its cooldown.
    resolved_at : datetime or None
        None while it is open.
    actions : tuple of str, default=()
        What was done about it, in words.
    alerts : int, default=0
        How often the bus was told that it is open.
    asked_at : datetime or None, default=None
        When it was last told so.
    """

    incident_id: str
    event: EventType
    version: int | None
    opened_at: datetime
    since: datetime
    troubles: Mapping[str, Trouble]
    told: bool = False
    quiet_until: datetime | None = None
    resolved_at: datetime | None = None
    actions: tuple[str, ...] = ()
    alerts: int = 0
    asked_at: datetime | None = None

    @property
    def is_open(self) -> bool:
        """Whether it goes on."""
        return self.resolved_at is None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        document = asdict(self) | {"troubles": {key: one.to_dict() for key, one in self.troubles.items()}}
        for name in _MOMENTS:
            moment = getattr(self, name)
            document[name] = moment.isoformat() if moment else None
        return document

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_dict` wrote."""
        values = dict(document)
        for name in _MOMENTS:
            values[name] = datetime.fromisoformat(values[name]) if values[name] else None
        values["troubles"] = {key: Trouble.from_dict(one) for key, one in values["troubles"].items()}
        return cls(**values | {"actions": tuple(values["actions"])})


@dataclass(frozen=True, slots=True)
class Transition:
    """A step of an incident that somebody is told of."""

    step: Step
    incident: Incident


@dataclass(frozen=True, slots=True)
class Watchbook:
    """What persistence needs to know of the windows before.

    Parameters
    ----------
    recent : mapping of str to tuple of bool
        Whether each of a subject's last windows was a breach, oldest first; subjects without any are left out.
    first_seen : mapping of str to datetime
        Begin of the first breach among them.
    incidents : mapping of str to Incident
        The latest of each event, open or not.
    """

    recent: Mapping[str, tuple[bool, ...]] = field(default_factory=dict)
    first_seen: Mapping[str, datetime] = field(default_factory=dict)
    incidents: Mapping[str, Incident] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {
            "recent": {key: list(flags) for key, flags in self.recent.items()},
            "first_seen": {key: moment.isoformat() for key, moment in self.first_seen.items()},
            "incidents": {event: incident.to_dict() for event, incident in self.incidents.items()},
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_dict` wrote."""
        return cls(
            recent={key: tuple(flags) for key, flags in document["recent"].items()},
            first_seen={key: datetime.fromisoformat(moment) for key, moment in document["first_seen"].items()},
            incidents={event: Incident.from_dict(one) for event, one in document["incidents"].items()},
        )

    def open_incidents(self) -> list[Incident]:
        """Return the incidents that go on."""
        return [incident for incident in self.incidents.values() if incident.is_open]


def advance(
    book: Watchbook,
    findings: Sequence[Finding],
    spec: MonitoringSpec,
    *,
    model: str,
    version: int | None,
    window: tuple[datetime, datetime],
    ask_again_after: timedelta,
) -> tuple[Watchbook, list[Transition]]:
    """Take one window's findings into account.

    Parameters
    ----------
    findings : sequence of Finding
        Of one window, at most one of each key. Those that are unknown count for nothing, either way.
    window : tuple of datetime
        Its begin and end.
    ask_again_after : timedelta
        How long after it was told the bus is told again of what goes on.

    Returns
    -------
    tuple
        The book with this window in it, and what somebody has to be told.
    """
    now = _Window(model, version, window, spec, findings)
    recent, first_seen = _remember(book, now)
    alarms = {
        key: Trouble(now.breaches[key], first_seen[key])
        for key, flags in sorted(recent.items(), key=_by_importance)
        if key in now.breaches and sum(flags) >= now.persistence(key)[0]
    }
    incidents = dict(book.incidents)
    transitions: list[Transition] = []
    for event in EVENT_TYPES:
        before = incidents.get(event)
        own = {key: trouble for key, trouble in alarms.items() if EVENT_OF[_verdict_of(key)] == event}
        incident = _follow(before, own, now) if before and before.is_open else _open(before, own, event, now)
        if incident is None:
            continue
        step = _step(before, incident, now.end, ask_again_after)
        told = replace(incident, told=True, alerts=incident.alerts + 1, asked_at=now.end)
        incidents[event] = told if step in ("opened", "persists") else incident
        transitions += [Transition(step, incidents[event])] if step else []
    return Watchbook(recent, first_seen, incidents), transitions


def close(book: Watchbook, reason: str, now: datetime) -> tuple[Watchbook, list[Transition]]:
    """Close every open incident for a reason that no window shows; return the book and what has to be told."""
    closed = {
        event: replace(incident, resolved_at=now, actions=(*incident.actions, reason))
        for event, incident in book.incidents.items()
        if incident.is_open
    }
    told = [Transition("resolved", incident) for incident in closed.values() if incident.told]
    return Watchbook({}, {}, {**book.incidents, **closed}), told


class _Window:
    """A window as persistence sees it."""

    def __init__(
        self,
        model: str,
        version: int | None,
        span: tuple[datetime, datetime],
        spec: MonitoringSpec,
        findings: Sequence[Finding],
    ) -> None:
        self.model, self.version, self.spec = model, version, spec
        self.begin, self.end = span
        self.breaches = {finding.key: finding for finding in findings if finding.status == "breach"}
        self._unknown = {finding.key for finding in findings if finding.status == "unknown"}
        self._listed = {finding.key for finding in findings if finding.status != "unknown"}
        self._judged = {finding.verdict for finding in findings if finding.status != "unknown"}

    def heard(self, key: str, version: int | None = None) -> bool:
        """Tell whether anything was said about a subject.

        Some verdicts list only what is wrong: there, silence is good news. So it is of another version's subject, which
        this version may not have at all.
        """
        if key in self._unknown:
            return False
        verdict = _verdict_of(key)
        silence_counts = verdict in _LISTS_FAULTS_ONLY or version not in (None, self.version)
        return key in self._listed or (silence_counts and verdict in self._judged)

    def persistence(self, key: str) -> tuple[int, int]:
        """Return how many breaches among how many windows are an alarm."""
        watch = getattr(self.spec, _verdict_of(key))
        # What has grown old will not be young in the next window.
        return (watch.breaches, watch.windows) if isinstance(watch, Watch) else (1, 1)


def _remember(book: Watchbook, now: _Window) -> tuple[dict[str, tuple[bool, ...]], dict[str, datetime]]:
    recent, first_seen = dict(book.recent), dict(book.first_seen)
    for key in sorted({*recent, *now.breaches}):
        if not now.heard(key):
            continue
        first_seen.setdefault(key, now.begin)
        flags = (*recent.get(key, ()), key in now.breaches)[-now.persistence(key)[1] :]
        if any(flags):
            recent[key] = flags
        else:
            del recent[key], first_seen[key]
    return recent, first_seen


def _by_importance(item: tuple[str, Any]) -> tuple[int, str]:
    return VERDICTS.index(_verdict_of(item[0])), item[0]


def _verdict_of(key: str) -> VerdictName:
    return key.partition(":")[0]  # type: ignore[return-value]  # keys are made by Finding.key


def _follow(before: Incident, alarms: Mapping[str, Trouble], now: _Window) -> Incident:
    troubles = {key: _follow_one(key, trouble, now, before.version) for key, trouble in before.troubles.items()}
    troubles |= {key: trouble for key, trouble in alarms.items() if key not in troubles}
    quiet = all(trouble.quiet >= now.spec.windows_to_resolve for trouble in troubles.values())
    return replace(before, troubles=troubles, resolved_at=now.end if quiet else None)


def _follow_one(key: str, trouble: Trouble, now: _Window, version: int | None) -> Trouble:
    if key in now.breaches:
        return replace(trouble, finding=now.breaches[key], quiet=0)
    return replace(trouble, quiet=trouble.quiet + 1) if now.heard(key, version) else trouble


def _open(before: Incident | None, alarms: Mapping[str, Trouble], event: EventType, now: _Window) -> Incident | None:
    if not alarms:
        return before
    cooldown = timedelta(hours=now.spec.cooldown_hours)
    if before is not None and before.resolved_at is not None and now.end < before.resolved_at + cooldown:
        until = before.resolved_at + cooldown if before.quiet_until is None else before.quiet_until
        return replace(before, troubles=alarms, resolved_at=None, told=False, quiet_until=until)
    return Incident(
        incident_id=make_cause_id("incident", now.model, event, now.end.isoformat()),
        event=event,
        version=now.version,
        opened_at=now.end,
        since=min(trouble.since for trouble in alarms.values()),
        troubles=alarms,
    )


def _step(before: Incident | None, incident: Incident, moment: datetime, ask_again_after: timedelta) -> Step | None:
    was_open = before is not None and before.is_open
    may_tell = incident.quiet_until is None or moment >= incident.quiet_until
    if incident.is_open and not incident.told and may_tell:
        return "opened"
    if incident.is_open and incident.asked_at and moment >= incident.asked_at + ask_again_after:
        return "persists" if incident.told else None
    return "resolved" if was_open and not incident.is_open and incident.told else None
