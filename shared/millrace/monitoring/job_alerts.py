"""Alerts about batch jobs: events of their own, so that nobody takes them for those about requests."""

from collections.abc import Mapping
from datetime import UTC, datetime

from millrace.documents import to_plain
from millrace.monitoring.alerts import EVENT_VERSION, MAX_LISTED, RESOLVED
from millrace.monitoring.incidents import Incident, Transition
from millrace.monitoring.rules import VERDICTS, EventType
from millrace.monitoring.state import Alert
from millrace.names import make_cause_id

#: By the event of the same verdicts about requests. None of them has a retraining cause.
JOB_EVENTS: Mapping[EventType, str] = {
    "DriftDetected": "BatchDriftDetected",
    "DataQualityDegraded": "BatchDataQualityDegraded",
    "QualityDegraded": "BatchQualityDegraded",
}
_LABELS: Mapping[EventType, str] = {
    "DriftDetected": "rows of batch jobs, or their predictions, have drifted",
    "DataQualityDegraded": "the data quality of batch jobs has degraded",
    "QualityDegraded": "the estimated quality of batch jobs has degraded",
}
NO_ACTION = "none: batch jobs request no training; what a job scores is chosen by whoever starts it"
_LISTED = ("verdict", "subject", "message", "measure", "value", "threshold", "rows")
_MAX_SUBJECT = 100


def describe_event(event: EventType) -> str:
    """Return what an incident of batch jobs is about."""
    return _LABELS[event]


def make_job_alert(model: str, transition: Transition, now: datetime) -> Alert:
    """Return the event about a transition, and the message for people."""
    incident, resolved = transition.incident, transition.step == "resolved"
    alert_id = make_cause_id("alert", incident.incident_id, transition.step, now.isoformat())
    first = next(iter(incident.findings.values()), None)
    problem = VERDICTS[first.finding.verdict].problem if first else _LABELS[incident.event]
    subject = f"[{'resolved' if resolved else 'open'}] {model}: {problem} in batch jobs"
    findings = [active.finding for active in incident.findings.values()]
    more = f"; and {len(findings) - 1} more" if len(findings) > 1 else ""
    detail = {
        "event_version": EVENT_VERSION,
        "event_id": alert_id,
        "model": model,
        "version": incident.version,
        "incident_id": incident.incident_id,
        "incident": JOB_EVENTS[incident.event],
        "reason": f"{findings[0].message}{more}" if findings else _LABELS[incident.event],
        "status": "resolved" if resolved else "open",
        "since": incident.since.isoformat(),
        "opened_at": incident.opened_at.isoformat(),
        "resolved_at": incident.resolved_at.isoformat() if incident.resolved_at else None,
        "findings": [
            {name: value for name, value in to_plain(finding).items() if name in _LISTED}
            for finding in findings[:MAX_LISTED]
        ],
        "findings_left_out": max(0, len(findings) - MAX_LISTED),
        "actions": [NO_ACTION],
        "occurred_at": now.isoformat(),
    }
    return Alert(
        alert_id=alert_id,
        detail_type=RESOLVED if resolved else JOB_EVENTS[incident.event],
        detail=detail,
        # People are notified of an incident that persists only once.
        subject="" if transition.step == "persists" else subject[:_MAX_SUBJECT],
        text=describe_job_incident(model, incident),
        occurred_at=now,
    )


def describe_job_incident(model: str, incident: Incident) -> str:
    """Return the message about an incident: findings, times and actions."""
    findings = [active.finding for active in incident.findings.values()]
    lines = [f"{model} (version {incident.version}): {_LABELS[incident.event]}.", ""]
    if incident.resolved_at:
        lines += [f"Resolved at {_format(incident.resolved_at)}. The findings were:", ""]
    lines += [f"- {VERDICTS[finding.verdict].label}: {finding.message}" for finding in findings[:MAX_LISTED]]
    if len(findings) > MAX_LISTED:
        lines.append(f"- and {len(findings) - MAX_LISTED} more")
    lines += ["", f"Since {_format(incident.since)}; opened at {_format(incident.opened_at)}."]
    lines += ["Requests are monitored apart from batch jobs, and are not part of this incident."]
    lines += ["Actions:", f"  {NO_ACTION}", "", f"Report: millrace monitor {model}    Jobs: millrace batches {model}"]
    return "\n".join(lines)


def _format(timestamp: datetime) -> str:
    return f"{timestamp.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
