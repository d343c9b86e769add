"""Incidents: from findings, window after window, to one alert when an incident opens and one when it is resolved.

A subject is in alarm when enough of its last windows were breaches (k of n). All subjects in alarm of one event are one
incident: it opens once, goes on while any of its subjects does, and is resolved when all of them have been quiet. An
incident that reopens soon after is the same one, and nobody is notified again until the cooldown is over, which begins
with the last resolution that was notified: an incident that comes and goes is notified once a cooldown, by a window in
breach. People are notified once. The event is published again while an incident goes on, because its request for a
training run may have been refused: too soon after another run, or past the day's budget.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from millrace.documents import Record
from millrace.monitoring.rules import EVENT_LABELS, SEASONAL_EVENTS, VERDICT_NAMES, VERDICTS, EventType
from millrace.monitoring.window_findings import HOURS, WindowFinding
from millrace.names import make_cause_id
from millrace.spec.monitoring import MonitoringSpec, MonitorRule

Step = Literal["opened", "persists", "resolved"]


#: A seasonal incident that lasted for some hours is known to be over once every hour of a week, and the weekday on
#: which it was seen last, were without a breach.
_LASTING, _QUIET = timedelta(hours=6), timedelta(days=8)
#: What lasted longer comes and goes with longer waves, such as the weather's: it has to be quiet for as long as it
#: lasted, up to so long.
_LONGEST_QUIET = timedelta(days=28)
#: An incident of this event is the effect of one of drift that it overlaps: the change lasts as long as it does.
_EFFECT: Mapping[EventType, EventType] = {"DriftDetected": "QualityDegraded"}
#: Until then, what a version has in breach may be the hours and weekdays that it has not seen yet.
_FIRST_DAYS = timedelta(days=8)


class ActiveFinding(Record, frozen=True, kw_only=True):
    """The latest breach of a subject, the begin of its first window, and the windows without a breach since."""

    finding: WindowFinding
    since: datetime
    until: datetime | None = None  # End of the latest window in breach; None in a state of an earlier release
    quiet_windows: int = msgspec.field(default=0, name="quiet")


class Incident(Record, frozen=True, kw_only=True):
    """An open or resolved incident."""

    incident_id: str  # Derived from the model, the event and the window that opened it
    event: EventType
    version: int | None
    opened_at: datetime  # End of the window that opened it
    since: datetime  # Begin of the first window with a breach
    #: By the finding's key; those that are quiet stay until all are.
    findings: dict[str, ActiveFinding] = msgspec.field(name="troubles")
    #: Keys of a quiet incident in whose place it opened: what comes back of that is part of this one.
    earlier: tuple[str, ...] = ()
    notified: bool = msgspec.field(default=False, name="told")  # True when an alert was sent since it opened (again)
    #: Without alerts until then, because it reopened within its cooldown.
    muted_until: datetime | None = msgspec.field(default=None, name="quiet_until")
    resolved_at: datetime | None = None
    actions: tuple[str, ...] = ()
    #: Number of events published for it; ``requested_at`` is the time of the last.
    requests: int = msgspec.field(default=0, name="alerts")
    requested_at: datetime | None = msgspec.field(default=None, name="asked_at")

    @property
    def is_open(self) -> bool:
        """True until it is resolved."""
        return self.resolved_at is None

    @property
    def is_quiet(self) -> bool:
        """True while none of its subjects is in breach: then it requests nothing."""
        return all(active.quiet_windows for active in self.findings.values())

    def last_breach(self, keys: Collection[str] | None = None) -> datetime | None:
        """Return the end of the latest window in breach, of some subjects; None where an earlier release kept none."""
        findings = (active for key, active in self.findings.items() if keys is None or key in keys)
        return max((active.until for active in findings if active.until), default=None)

    def duration(self, keys: Collection[str] | None = None) -> timedelta | None:
        """Return the time from the first breach to the latest of some subjects, with the hours that it is about.

        A breach of the last day is one of a day, however few windows show it.
        """
        last = self.last_breach(keys)
        hours = (
            active.finding.details.get(HOURS, 0.0)
            for key, active in self.findings.items()
            if keys is None or key in keys
        )
        return last - self.since + timedelta(hours=max(hours, default=0.0)) if last else None


@dataclass(frozen=True, slots=True)
class Transition:
    """A step of an incident that is notified."""

    step: Step
    incident: Incident


class IncidentHistory(Record, frozen=True, kw_only=True):
    """Recent breaches and incidents."""

    #: Breach flags of each subject's last windows, oldest first; subjects without any breach are left out.
    recent: dict[str, tuple[bool, ...]] = {}  # noqa: RUF012  # msgspec copies the default
    #: Begin of the first breach among them.
    first_seen: dict[str, datetime] = {}  # noqa: RUF012  # msgspec copies the default
    #: The latest of each event.
    incidents: dict[str, Incident] = {}  # noqa: RUF012  # msgspec copies the default

    def open_incidents(self) -> list[Incident]:
        """Return the open incidents."""
        return [incident for incident in self.incidents.values() if incident.is_open]


def advance(
    history: IncidentHistory,
    findings: Sequence[WindowFinding],
    spec: MonitoringSpec,
    *,
    model: str,
    version: int | None,
    window: tuple[datetime, datetime],
    repeat_after: timedelta,
    begun_at: datetime | None = None,
) -> tuple[IncidentHistory, list[Transition]]:
    """Add one window's findings to the history; return the new history, and the transitions to notify.

    Parameters
    ----------
    findings : sequence of WindowFinding
        At most one of each key. Unknown ones count for nothing, either way.
    repeat_after : timedelta
        Time after which the event of an open incident is published again.
    begun_at : datetime, optional
        First row of the version: what was in breach in its first week alone may have been its hours and weekdays.
    """
    now = _Window(model, version, window, spec, findings, begun_at=begun_at)
    recent, first_seen = _count_breaches(history, now)
    alarms = {
        key: ActiveFinding(finding=now.breaches[key], since=first_seen[key], until=now.end)
        for key, flags in sorted(recent.items(), key=_by_importance)
        if key in now.breaches and sum(flags) >= now.persistence(key)[0]
    }
    incidents = dict(history.incidents)
    transitions: list[Transition] = []
    for event in EVENT_LABELS:
        before = incidents.get(event)
        own = {key: active for key, active in alarms.items() if VERDICTS[_verdict_of(key)].event == event}
        lasts = _has_lasting_effect(event, history, now)
        if before is not None and before.is_open and not lasts and _is_another(before, own, now):
            before = replace(before, resolved_at=now.end)
            transitions += [Transition("resolved", before)] if before.notified else []
            earlier = tuple(dict.fromkeys([*before.earlier, *before.findings]))
            incident = replace(_open(None, own, event, now), earlier=earlier)
        elif before is not None and before.is_open:
            incident = _continue(before, own, now, lasts=lasts)
        elif own:
            incident = _open(before, own, event, now)
        else:
            continue
        step = _step(before, incident, now.end, repeat_after)
        if step in ("opened", "persists"):
            incident = replace(incident, notified=True, requests=incident.requests + 1, requested_at=now.end)
        incidents[event] = incident
        transitions += [Transition(step, incident)] if step else []
    return IncidentHistory(recent=recent, first_seen=first_seen, incidents=incidents), transitions


def close(history: IncidentHistory, reason: str, now: datetime) -> tuple[IncidentHistory, list[Transition]]:
    """Close every open incident for a reason that no window shows; return the transitions to notify as well."""
    closed = {
        event: replace(incident, resolved_at=now, actions=(*incident.actions, reason))
        for event, incident in history.incidents.items()
        if incident.is_open
    }
    transitions = [Transition("resolved", incident) for incident in closed.values() if incident.notified]
    return IncidentHistory(incidents=history.incidents | closed), transitions


class _Window:
    """Findings of one window, by key and status."""

    def __init__(
        self,
        model: str,
        version: int | None,
        window: tuple[datetime, datetime],
        spec: MonitoringSpec,
        findings: Sequence[WindowFinding],
        *,
        begun_at: datetime | None,
    ) -> None:
        self.model, self.version, self.spec, self.begun_at = model, version, spec, begun_at
        self.begin, self.end = window
        self.breaches = {finding.key: finding for finding in findings if finding.status == "breach"}
        self._statuses = {finding.key: finding.status for finding in findings}
        self._withdrawn = {finding.key for finding in findings if finding.details.get("withdrawn")}
        self._evaluated = {finding.verdict for finding in findings if finding.status != "unknown"}

    def evaluated(self, key: str, version: int | None = None) -> bool:
        """Return True when the window says something about a subject.

        Some verdicts list only breaches: there, silence means ok. So it does for a subject of another version, which
        this version may not have.
        """
        if key in self._statuses:
            return self._statuses[key] != "unknown"
        verdict = _verdict_of(key)
        silence_counts = VERDICTS[verdict].silence_is_ok or version not in (None, self.version)
        return silence_counts and verdict in self._evaluated

    def persistence(self, key: str) -> tuple[int, int]:
        """Return the number of breaches among the number of windows that raise an alarm."""
        rule = getattr(self.spec, _verdict_of(key))
        # Age does not shrink: one breach is enough.
        return (rule.breaches, rule.windows) if isinstance(rule, MonitorRule) else (1, 1)

    def is_enabled(self, key: str) -> bool:
        """Return False for a subject that no window can judge any more, so that its part of an incident ends.

        The spec has turned its rule off, or this release does not judge it.
        """
        return key not in self._withdrawn and bool(getattr(self.spec, _verdict_of(key)).enabled)

    def windows_to_resolve(self, key: str) -> int:
        """Return the windows without a breach that end an incident; a sum is exact, so that one is enough."""
        return 1 if VERDICTS[_verdict_of(key)].needs_budget else self.spec.windows_to_resolve


def _count_breaches(history: IncidentHistory, now: _Window) -> tuple[dict[str, tuple[bool, ...]], dict[str, datetime]]:
    recent, first_seen = dict(history.recent), dict(history.first_seen)
    for key in sorted({*recent, *now.breaches}):
        if not now.is_enabled(key):
            recent.pop(key, None)
            first_seen.pop(key, None)
        if not now.is_enabled(key) or not now.evaluated(key):
            continue
        first_seen.setdefault(key, now.begin)
        flags = (*recent.get(key, ()), key in now.breaches)[-now.persistence(key)[1] :]
        if any(flags):
            recent[key] = flags
        else:
            del recent[key], first_seen[key]
    return recent, first_seen


def _by_importance(item: tuple[str, Any]) -> tuple[int, str]:
    return VERDICT_NAMES.index(_verdict_of(item[0])), item[0]


def _verdict_of(key: str) -> str:
    return key.partition(":")[0]


def _subject_of(key: str) -> str:
    """Return what an alarm is about: all metrics of live quality are about the same predictions."""
    return _verdict_of(key) if _verdict_of(key) == "live_quality" else key


def _has_lasting_effect(event: EventType, history: IncidentHistory, now: _Window) -> bool:
    """Return True while the effect of a change lasts: quality was in breach within a week and a day."""
    effect = history.incidents.get(_EFFECT.get(event, ""))
    if effect is None or not effect.is_open or effect.version != now.version:
        return False
    last, lasted = effect.last_breach(), effect.duration()
    return last is not None and lasted is not None and now.end - last < _QUIET and lasted >= _LASTING


def _continue(before: Incident, alarms: Mapping[str, ActiveFinding], now: _Window, *, lasts: bool = False) -> Incident:
    findings = {key: _update(key, active, now, before.version) for key, active in before.findings.items()}
    findings |= {key: active for key, active in alarms.items() if key not in findings}
    enabled = {key: active for key, active in findings.items() if now.is_enabled(key)}
    quiet = all(active.quiet_windows >= now.windows_to_resolve(key) for key, active in enabled.items())
    is_over = quiet and not (lasts and enabled) and _is_long_quiet(before, enabled, now)
    return replace(before, findings=findings, resolved_at=now.end if is_over else None)


def _is_another(incident: Incident, alarms: Mapping[str, ActiveFinding], now: _Window) -> bool:
    """Return True for alarms of new subjects after a cooldown in which the open incident was quiet."""
    last = incident.last_breach()
    is_old = last is not None and now.end - last >= timedelta(hours=now.spec.cooldown_hours)
    known = {_subject_of(key) for key in (*incident.earlier, *incident.findings)}
    return is_old and incident.is_quiet and not {_subject_of(key) for key in alarms} <= known


def _is_long_quiet(incident: Incident, enabled: Mapping[str, ActiveFinding], now: _Window) -> bool:
    """Return True when an incident has been quiet for long enough.

    What lasted comes back within days, or within weeks if it lasted for weeks: it would be notified of again and again.
    Another version, and a verdict that is turned off, end it at once. Time alone does not: a window has to show that it
    is over.
    """
    last, lasted = incident.last_breach(enabled), incident.duration(enabled)
    if last is None or lasted is None or incident.event not in SEASONAL_EVENTS or incident.version != now.version:
        return True
    if lasted < _LASTING or (now.begun_at and last < now.begun_at + _FIRST_DAYS):
        return True
    is_shown = any(now.evaluated(key, incident.version) for key in enabled)
    return is_shown and now.end - last >= min(max(_QUIET, lasted), _LONGEST_QUIET)


def _update(key: str, active: ActiveFinding, now: _Window, version: int | None) -> ActiveFinding:
    if key in now.breaches:
        return replace(active, finding=now.breaches[key], quiet_windows=0, until=now.end)
    return replace(active, quiet_windows=active.quiet_windows + 1) if now.evaluated(key, version) else active


def _open(before: Incident | None, alarms: dict[str, ActiveFinding], event: EventType, now: _Window) -> Incident:
    cooldown = timedelta(hours=now.spec.cooldown_hours)
    if before is not None and before.resolved_at is not None and now.end < before.resolved_at + cooldown:
        # A resolution that nobody was notified of does not begin another cooldown: an incident that comes and goes
        # faster than that would never be notified again.
        until = before.resolved_at + cooldown if before.notified else before.muted_until
        return replace(before, findings=alarms, resolved_at=None, notified=False, muted_until=until)
    return Incident(
        incident_id=make_cause_id("incident", now.model, event, now.end.isoformat()),
        event=event,
        version=now.version,
        opened_at=now.end,
        since=min(active.since for active in alarms.values()),
        findings=alarms,
    )


def _step(before: Incident | None, incident: Incident, now: datetime, repeat_after: timedelta) -> Step | None:
    was_open = before is not None and before.is_open
    muted = incident.muted_until is not None and now < incident.muted_until
    if incident.is_open and not incident.notified and not muted and not incident.is_quiet:
        return "opened"
    if incident.is_open and incident.requested_at and now >= incident.requested_at + repeat_after:
        return "persists" if incident.notified and not incident.is_quiet else None
    return "resolved" if was_open and not incident.is_open and incident.notified else None
