"""The next check of a model: the earliest timestamp at which time alone may change what monitoring says about it.

New rows and ground truth make a model due by themselves (:mod:`millrace.captures.activity`).
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from millrace.monitoring.context import MonitorContext
from millrace.monitoring.incidents import Incident, IncidentHistory
from millrace.monitoring.state import MonitoringState
from millrace.monitoring.windows import closing_times

#: Longest pause: what a run lists reaches back so far, so that no lost mark loses a row.
MAX_PAUSE = timedelta(days=7)
_UNITS = {"days": timedelta(days=1), "hours": timedelta(hours=1)}
#: A limit is exceeded just after it is reached.
_JUST_AFTER = timedelta(seconds=1)


def next_check(
    context: MonitorContext,
    before: MonitoringState,
    state: MonitoringState,
    *,
    is_active: bool,
    awaits_runs: bool,
    repeat_after: timedelta,
) -> datetime:
    """Return the timestamp of the next check that a finished run needs; its own is the next hourly one.

    Its alerts are delivered: a run that cannot deliver them does not finish.

    Parameters
    ----------
    before, state : MonitoringState
        The states that the run began with, and ends with.
    is_active : bool
        Requests or ground truth came since the run before, whether or not this one could read them.
    awaits_runs : bool
        A training run that an incident requested has no result yet.
    repeat_after : timedelta
        Time after which the event of an open incident is published again.
    """
    now = context.now
    times = [now + MAX_PAUSE, *closing_times(context, state), *_ages(state, now)]
    for incident in state.incidents.open_incidents():
        times += _incident_times(incident, before.incidents, now, repeat_after)
    if awaits_runs:
        times.append(now)
    if is_active or context.spec.budget is not None:
        # Objects that were delivered too late for the runs of a day are read by the first one of the next; training
        # costs without requests, and a month ends with a day.
        times.append(now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1))
    return max(now, min(times))


def _ages(state: MonitoringState, now: datetime) -> Iterator[datetime]:
    """Yield when ages, and the silence since the last request, exceed their limits."""
    for finding in state.findings.get("service", ()):
        is_age = finding.verdict == "staleness" and finding.status == "ok"
        if is_age and finding.value is not None and finding.threshold is not None:
            yield now + (finding.threshold - finding.value) * _UNITS[finding.measure] + _JUST_AFTER


def _incident_times(
    incident: Incident, before: IncidentHistory, now: datetime, repeat_after: timedelta
) -> Iterator[datetime]:
    if not incident.notified:
        yield incident.muted_until or now
    elif incident.requested_at is not None and not incident.is_quiet:
        yield incident.requested_at + repeat_after
    # Ages and silence are evaluated by each run, everything else with new rows alone: they resolve by the next runs.
    earlier = before.incidents.get("ModelStale")
    known = earlier.findings if earlier else {}
    quiet = {key: known[key].quiet_windows if key in known else 0 for key in incident.findings}
    if incident.event == "ModelStale" and all(one.quiet_windows > quiet[key] for key, one in incident.findings.items()):
        yield now
