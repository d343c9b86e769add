"""What was done about an incident: what became of each training run that it asked for, in words."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta

from millrace.errors import CauseNotFoundError, RunNotFoundError
from millrace.monitoring.incidents import Incident, Watchbook
from millrace.ports import Registry
from millrace.registry.entities import FINISHED_STATUSES, CauseRecord, Run
from millrace.registry.finding_causes import CAUSE_OF_EVENT, finding_cause_id

#: Requests of one incident that are told; earlier ones are counted.
MAX_REQUESTS = 5
#: A run that an incident asked for may outlast it; after so long nobody asks how it ended.
_FOLLOWED_FOR = timedelta(days=1)


def follow_up(book: Watchbook, model: str, registry: Registry, now: datetime) -> Watchbook:
    """Return the book with what was done, as it is known now, about each incident that goes on or ended lately."""
    incidents = dict(book.incidents)
    for event, incident in book.incidents.items():
        if _is_followed(incident, now):
            actions = describe_actions(model, event, incident.incident_id, incident.alerts, registry)
            incidents[event] = replace(incident, actions=actions)
    return replace(book, incidents=incidents)


def describe_actions(model: str, event: str, incident_id: str, requests: int, registry: Registry) -> tuple[str, ...]:
    """Return what became of an incident's requests for training, oldest first; nothing for one that asks for none.

    Parameters
    ----------
    requests : int
        How often the bus was told of the incident.
    """
    return tuple(_describe(model, event, incident_id, requests, registry))


def _describe(model: str, event: str, incident_id: str, requests: int, registry: Registry) -> Iterator[str]:
    kind = CAUSE_OF_EVENT.get(event)
    if kind is None:
        return
    first = max(1, requests - MAX_REQUESTS + 1)
    if first > 1:
        yield f"asked for a training run {first - 1} time(s) before; `millrace why` tells what became of that"
    for request in range(first, requests + 1):
        try:
            record = registry.get_cause(model, finding_cause_id(kind, model, incident_id, request))
        except CauseNotFoundError:
            yield "asked for a training run; nothing has come of it yet"
        else:
            yield f"asked for a training run: {_outcome(model, record, registry)}"


def _outcome(model: str, record: CauseRecord, registry: Registry) -> str:
    if record.status == "pending":
        return "it waits for the run that is training now"
    how = _how_it_went(model, record.run_id, registry) if record.run_id else ""
    if record.status == "skipped":
        # The reason repeats in brackets what happened, which the incident itself tells.
        why = record.reason.removeprefix("skipped: ").removesuffix(f" ({record.cause.reason})")
        return f"none was started, because {why}{f'; that run {how}' if how else ''}"
    return f"run {record.run_id} {how}"


def _how_it_went(model: str, run_id: str, registry: Registry) -> str:
    try:
        run = registry.get_run(model, run_id)
    except RunNotFoundError:
        return "is not known any more"
    if run.status not in FINISHED_STATUSES:
        return f"is {run.stage.replace('_', ' ')}"
    told = _ended(run)
    return f"{'was ' if run.status == 'rejected' else ''}{run.status}{f': {told}' if told else ''}"


def _ended(run: Run) -> str:
    """Return a finished run's end in words: what its version became, or why there is none."""
    outcome = run.summary.get("outcome")
    if outcome and run.version is not None:
        return f"version {run.version} {outcome}"
    return str(run.reasons[0]) if run.reasons else ""


def _is_followed(incident: Incident, now: datetime) -> bool:
    if not incident.alerts:
        return False
    return incident.resolved_at is None or now - incident.resolved_at < _FOLLOWED_FOR
