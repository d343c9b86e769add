"""Alerts: what people and machines are told of an incident, once when it opens and once when it is over."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from millrace.captures.window import hours
from millrace.causes import CAUSE_OF_EVENT, finding_cause_id
from millrace.entities import FINISHED_STATUSES, CauseRecord, Run
from millrace.errors import CauseNotFoundError, RunNotFoundError
from millrace.layout import captures_prefix, monitoring_key
from millrace.monitoring.incidents import Incident, Transition, Watchbook
from millrace.monitoring.state import Alert
from millrace.names import make_cause_id
from millrace.registry.store import Registry

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
            record = registry.get_cause(model, finding_cause_id(kind.name, model, incident_id, request))
        except CauseNotFoundError:
            yield "asked for a training run; nothing has come of it yet"
        else:
            yield f"asked for a training run: {_outcome(model, record, registry)}"


def _outcome(model: str, record: CauseRecord, registry: Registry) -> str:
    if record.status == "pending":
        return "it waits for the run that is training now"
    how = _how_it_went(model, record.run_id, registry) if record.run_id else ""
    if record.status == "skipped":
        why = f", because {record.refusal}" if record.refusal else f": {record.reason}"
        return f"none was started{why}{f'; that run {how}' if how else ''}"
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


RESOLVED = "IncidentResolved"
EVENT_VERSION = 1
#: Findings and places that one message lists.
MAX_LISTED = 10
#: What SNS takes of a subject.
_MAX_SUBJECT = 100

_NOTHING_DONE = "this event asks for a training run; `millrace why` tells what became of it"
_NO_CURE = "nothing: a model that learnt from faulty data would learn the fault"
_HEADLINES = {
    "DriftDetected": "what {model!r} is asked, or answers, has drifted",
    "QualityDegraded": "{model!r} has become worse",
    "DataQualityDegraded": "{model!r} is sent faulty data",
    "ModelStale": "{model!r} is stale",
    "ServingDegraded": "{model!r} is served badly",
}


def make_alerts(model: str, transitions: Sequence[Transition], now: datetime) -> list[Alert]:
    """Return what has to be told of transitions."""
    return [_make_alert(model, transition, now) for transition in transitions]


def _make_alert(model: str, transition: Transition, now: datetime) -> Alert:
    incident, resolved = transition.incident, transition.step == "resolved"
    alert_id = make_cause_id("alert", incident.incident_id, transition.step, now.isoformat())
    headline = _HEADLINES[incident.event].format(model=model)
    subject = f"Millrace: {'over: ' if resolved else ''}{headline}"
    return Alert(
        alert_id=alert_id,
        detail_type=RESOLVED if resolved else incident.event,
        detail=_detail(model, transition, alert_id) | {"occurred_at": now.isoformat()},
        # People have heard of what persists.
        subject="" if transition.step == "persists" else subject[:_MAX_SUBJECT],
        text=describe(model, incident),
        occurred_at=now,
    )


def _detail(model: str, transition: Transition, alert_id: str) -> dict[str, Any]:
    incident = transition.incident
    findings = [trouble.finding for trouble in incident.troubles.values()]
    return {
        "event_version": EVENT_VERSION,
        "event_id": alert_id,
        "model": model,
        "version": incident.version,
        "incident_id": incident.incident_id,
        "incident": incident.event,
        "request": incident.alerts,
        "reason": _reason(incident),
        "status": "open" if incident.is_open else "resolved",
        "since": incident.since.isoformat(),
        "opened_at": incident.opened_at.isoformat(),
        "resolved_at": incident.resolved_at.isoformat() if incident.resolved_at else None,
        "findings": [
            {
                "verdict": finding.verdict,
                "subject": finding.subject,
                "message": finding.message,
                "measure": finding.measure,
                "value": finding.value,
                "threshold": finding.threshold,
                "rows": finding.rows,
            }
            for finding in findings[:MAX_LISTED]
        ],
        "findings_left_out": max(0, len(findings) - MAX_LISTED),
        "rows": _places(model, incident),
        "actions": list(incident.actions),
        "report": monitoring_key(model, "reports/latest.html"),
    }


def _reason(incident: Incident) -> str:
    """Return why, in one sentence for the ledger."""
    messages = [trouble.finding.message for trouble in incident.troubles.values()]
    more = f"; and {len(messages) - 1} more" if len(messages) > 1 else ""
    return f"{messages[0]}{more}"


def describe(model: str, incident: Incident) -> str:
    """Tell an incident in words: what changed, by how much, since when, which rows to look at, what was done."""
    troubles = list(incident.troubles.values())
    lines = [f"{_HEADLINES[incident.event].format(model=model)} (version {incident.version}).", ""]
    if not incident.is_open and incident.resolved_at:
        lines += [f"It is over since {_moment(incident.resolved_at)}. What it was:", ""]
    lines += [f"- {trouble.finding.verdict}: {trouble.finding.message}" for trouble in troubles[:MAX_LISTED]]
    if len(troubles) > MAX_LISTED:
        lines.append(f"- and {len(troubles) - MAX_LISTED} more, in the report")
    lines += ["", f"Since {_moment(incident.since)}; noticed at {_moment(incident.opened_at)}."]
    lines += ["Rows to look at:", *(f"  {place}" for place in _places(model, incident))]
    done = incident.actions or (nothing_yet(incident.event, [trouble.finding.subject for trouble in troubles]),)
    lines += ["What was done about it:", *(f"  {action}" for action in done)]
    lines += ["", f"Report: millrace monitor {model}    Story: millrace why {model}"]
    return "\n".join(lines)


def nothing_yet(event: str, subjects: Collection[str]) -> str:
    """Return in words what is done about an incident of which nothing more is known; ``subjects`` are out of order."""
    if event not in CAUSE_OF_EVENT:
        return _NO_CURE
    refusal = CAUSE_OF_EVENT[event].refusal(subjects)
    return f"nothing: {refusal}" if refusal else _NOTHING_DONE


def _places(model: str, incident: Incident) -> list[str]:
    """Return where the captured rows of the incident's windows lie: the first hours and the last."""
    found = [captures_prefix(model, hour) for hour in hours(incident.since, incident.resolved_at or incident.opened_at)]
    if len(found) <= MAX_LISTED:
        return found
    return [*found[: MAX_LISTED // 2], *found[-MAX_LISTED // 2 :]]


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
