"""Alerts: events and messages about an incident, when it opens and when it is resolved; follow-up of its requests."""

from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec.structs import replace

from millrace.captures.window import hours
from millrace.causes import CAUSE_OF_EVENT, finding_cause_id
from millrace.documents import to_plain
from millrace.entities import FINISHED_STATUSES, CauseRecord
from millrace.errors import ServiceUnavailableError
from millrace.layout import captures_prefix, monitoring_key
from millrace.monitoring.incidents import Incident, IncidentHistory, Transition
from millrace.monitoring.rules import BUDGET_EVENTS, EVENT_LABELS, VERDICTS
from millrace.monitoring.state import Alert
from millrace.names import make_cause_id
from millrace.ports import Event, EventPublisher, Notifier
from millrace.registry.store import Registry

RESOLVED = "IncidentResolved"
EVENT_VERSION = 1
#: Requests of one incident that are described; earlier ones are counted.
MAX_REQUESTS = 5
#: Findings and prefixes that one message lists.
MAX_LISTED = 10
#: A run that an incident requested may outlast it; after so long its end is not looked up.
_FOLLOWED_FOR = timedelta(days=1)
#: An event that has not become a cause after so long was lost: EventBridge retries it for six hours.
_PROCESSED_WITHIN = timedelta(hours=6)
#: Limit of SNS.
_MAX_SUBJECT = 100


def update_actions(history: IncidentHistory, model: str, registry: Registry, now: datetime) -> IncidentHistory:
    """Return the history with the present actions of incidents that are open or were resolved lately."""
    incidents = {
        event: replace(
            incident, actions=describe_actions(model, event, incident.incident_id, incident.requests, registry)
        )
        for event, incident in history.incidents.items()
        if incident.requests and (incident.resolved_at is None or now - incident.resolved_at < _FOLLOWED_FOR)
    }
    return replace(history, incidents=history.incidents | incidents)


def awaits_runs(history: IncidentHistory, model: str, registry: Registry, now: datetime) -> bool:
    """Return True while the training run that an incident requested first, within the last day, has no result.

    Later requests come once a cooldown for as long as the incident is open: the next run describes the last one's.
    """
    for event, incident in history.incidents.items():
        kind = CAUSE_OF_EVENT.get(event)
        if kind is None or incident.requested_at is None or now - incident.requested_at >= _FOLLOWED_FOR:
            continue
        if incident.requests > 1:
            continue
        record = registry.find_cause(model, finding_cause_id(kind.name, model, incident.incident_id, incident.requests))
        if record is None:
            if now - incident.requested_at < _PROCESSED_WITHIN:
                return True
            continue
        if record.status == "pending":
            return True
        run = registry.find_run(model, record.run_id) if record.run_id else None
        if run is not None and run.status not in FINISHED_STATUSES:
            return True
    return False


def describe_actions(model: str, event: str, incident_id: str, requests: int, registry: Registry) -> tuple[str, ...]:
    """Return the outcome of each of an incident's requests for training, oldest first; empty when it makes none."""
    kind = CAUSE_OF_EVENT.get(event)
    if kind is None:
        return ()
    first = max(1, requests - MAX_REQUESTS + 1)
    earlier = (f"requested a training run {first - 1} time(s) before; see `millrace why {model}`",) if first > 1 else ()
    causes = (finding_cause_id(kind.name, model, incident_id, request) for request in range(first, requests + 1))
    records = (registry.find_cause(model, cause_id) for cause_id in causes)
    return (*earlier, *(f"requested a training run{_describe_cause(record, registry)}" for record in records))


def _describe_cause(record: CauseRecord | None, registry: Registry) -> str:
    if record is None:
        return "; not processed yet"
    if record.status == "pending":
        return ": waits for the active training run"
    run = _describe_run(record.cause.model, record.run_id, registry) if record.run_id else ""
    if record.status == "skipped":
        why = record.refusal or record.reason
        return f": no run was started: {why}{f'; that run {run}' if run else ''}"
    return f": run {record.run_id} {run}"


def _describe_run(model: str, run_id: str, registry: Registry) -> str:
    run = registry.find_run(model, run_id)
    if run is None:
        return "no longer exists"
    if run.status not in FINISHED_STATUSES:
        return f"is {run.stage.replace('_', ' ')}"
    outcome, result = run.summary.get("outcome"), str(run.reasons[0]) if run.reasons else ""
    if outcome and run.version is not None:
        result = f"version {run.version} {outcome}"
    return f"{'was ' if run.status in ('rejected', 'skipped') else ''}{run.status}{f': {result}' if result else ''}"


def make_alert(model: str, transition: Transition, now: datetime) -> Alert:
    """Return the event about a transition, and the message for people."""
    incident, resolved = transition.incident, transition.step == "resolved"
    alert_id = make_cause_id("alert", incident.incident_id, transition.step, now.isoformat())
    # The first finding stays the same until the incident is resolved.
    first = next(iter(incident.findings.values()), None)
    problem = VERDICTS[first.finding.verdict].problem if first else EVENT_LABELS[incident.event]
    subject = f"[{'resolved' if resolved else 'open'}] {model}: {problem}"
    return Alert(
        alert_id=alert_id,
        detail_type=RESOLVED if resolved else incident.event,
        detail=_make_detail(model, incident, alert_id) | {"occurred_at": now.isoformat()},
        # People are notified of an incident that persists only once.
        subject="" if transition.step == "persists" else subject[:_MAX_SUBJECT],
        text=describe_incident(model, incident),
        occurred_at=now,
    )


def _make_detail(model: str, incident: Incident, alert_id: str) -> dict[str, Any]:
    findings = [active.finding for active in incident.findings.values()]
    listed = ("verdict", "subject", "message", "measure", "value", "threshold", "rows")
    more = f"; and {len(findings) - 1} more" if len(findings) > 1 else ""
    may_be_seasonal = any(finding.may_be_seasonal for finding in findings)
    if may_be_seasonal and not findings[0].may_be_seasonal:
        more += "; season: possible"
    return {
        "event_version": EVENT_VERSION,
        "event_id": alert_id,
        "model": model,
        "version": incident.version,
        "incident_id": incident.incident_id,
        "incident": incident.event,
        "request": incident.requests,
        "reason": f"{findings[0].message}{more}" if findings else EVENT_LABELS[incident.event],
        "status": "open" if incident.is_open else "resolved",
        "since": incident.since.isoformat(),
        "opened_at": incident.opened_at.isoformat(),
        "resolved_at": incident.resolved_at.isoformat() if incident.resolved_at else None,
        "findings": [
            {name: value for name, value in to_plain(finding).items() if name in listed}
            for finding in findings[:MAX_LISTED]
        ],
        "findings_left_out": max(0, len(findings) - MAX_LISTED),
        "season": "possible" if may_be_seasonal else None,
        "rows": _captured_prefixes(model, incident),
        "actions": list(incident.actions),
        "report": monitoring_key(model, "reports/latest.html"),
    }


def describe_incident(model: str, incident: Incident) -> str:
    """Return the message about an incident: findings, times, captured rows and actions."""
    findings = [active.finding for active in incident.findings.values()]
    lines = [f"{model} (version {incident.version}): {EVENT_LABELS[incident.event]}.", ""]
    if incident.resolved_at:
        lines += [f"Resolved at {_format(incident.resolved_at)}. The findings were:", ""]
    lines += [f"- {VERDICTS[finding.verdict].label}: {finding.message}" for finding in findings[:MAX_LISTED]]
    if len(findings) > MAX_LISTED:
        lines.append(f"- and {len(findings) - MAX_LISTED} more in the report")
    if any(finding.may_be_seasonal for finding in findings):
        lines += ["", "Season: possible. The training data cannot separate it from drift."]
    lines += ["", f"Since {_format(incident.since)}; opened at {_format(incident.opened_at)}."]
    prefixes = _captured_prefixes(model, incident)
    lines += ["Captured rows:", *(f"  {prefix}" for prefix in prefixes)] if prefixes else []
    actions = incident.actions or (default_action(model, incident.event, [finding.subject for finding in findings]),)
    lines += ["Actions:", *(f"  {action}" for action in actions)]
    lines += ["", f"Report: millrace monitor {model}    History: millrace why {model}"]
    return "\n".join(lines)


def default_action(model: str, event: str, subjects: Collection[str]) -> str:
    """Return the action of a model's incident, by the subjects of its findings, before any request was published."""
    if event in BUDGET_EVENTS:
        return "none: `millrace cost` shows what was used; a higher budget or smaller use ends the incident"
    if event not in CAUSE_OF_EVENT:
        return "none: retraining on faulty data would not fix it"
    refusal = CAUSE_OF_EVENT[event].refusal(subjects)
    return f"none: {refusal}" if refusal else f"requests a training run; see `millrace why {model}`"


def _captured_prefixes(model: str, incident: Incident) -> list[str]:
    """Return the prefixes of the captured rows of the incident's windows: the first hours and the last."""
    if incident.event in BUDGET_EVENTS:
        return []
    end = incident.resolved_at or incident.opened_at
    found = [captures_prefix(model, hour) for hour in hours(incident.since, end)]
    if len(found) <= MAX_LISTED:
        return found
    return [*found[: MAX_LISTED // 2], *found[-MAX_LISTED // 2 :]]


def _format(timestamp: datetime) -> str:
    return f"{timestamp.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def publish_alerts(
    outbox: Sequence[Alert], publisher: EventPublisher, notifier: Notifier
) -> tuple[set[str], ServiceUnavailableError | None]:
    """Deliver alerts until a channel fails; return the ids of those that were delivered, and the fault."""
    delivered: set[str] = set()
    for alert in outbox:
        try:
            publisher.publish([Event(alert.detail_type, alert.detail, alert.occurred_at)])
            if alert.subject:
                notifier.notify(alert.subject, alert.text)
        except ServiceUnavailableError as error:
            return delivered, error
        delivered.add(alert.alert_id)
    return delivered, None
