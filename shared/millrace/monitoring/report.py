"""The monitoring report as JSON, for machines and for the page."""

import json
from typing import Any

from millrace.layout import monitoring_key
from millrace.monitoring.alerts import nothing_yet
from millrace.monitoring.findings import VERDICTS, Finding
from millrace.monitoring.incidents import Incident
from millrace.monitoring.run import Run
from millrace.reports import render_monitoring_report

REPORT_VERSION = 1


def write_report(run: Run) -> str:
    """Write the report as JSON and as a page, by its timestamp and as the latest; return the page's key."""
    document = build_report(run)
    body, page = json.dumps(document, indent=1).encode(), render_monitoring_report(document).encode()
    stamp = f"{run.now:%Y%m%dT%H%M%S}"
    for name in (stamp, "latest"):
        run.store.put(monitoring_key(run.model, f"reports/{name}.json"), body, "application/json")
        run.store.put(monitoring_key(run.model, f"reports/{name}.html"), page, "text/html; charset=utf-8")
    return monitoring_key(run.model, f"reports/{stamp}.html")


def build_report(run: Run) -> dict[str, Any]:
    """Return the report as plain JSON."""
    state, notes = run.state, run.notes
    findings = [finding for found in state.findings.values() for finding in found]
    dates = {column.name for column in run.watched.schema.columns if column.type == "datetime"}
    return {
        "report_version": REPORT_VERSION,
        "model": run.model,
        "version": run.watched.version,
        "obstacle": run.watched.obstacle,
        "made_at": run.now.isoformat(),
        "last_row_at": state.last_row_at.isoformat() if state.last_row_at else None,
        "verdicts": [_verdict(name, findings, run) for name in VERDICTS],
        "findings": [finding.to_dict() for finding in findings],
        "incidents": [_incident(incident) for incident in state.book.incidents.values()],
        "open_window_rows": state.open.features.rows if state.open else 0,
        "rows_needed": run.spec.monitoring.rows_needed,
        "windows": state.history[-50:],
        "pictures": [data | {"is_moment": data["subject"] in dates} for data in state.pictures],
        "quality": [
            {
                "begin": record.begin.isoformat(),
                "end": record.end.isoformat(),
                "answers": record.answers,
                "outcomes": record.outcomes,
                "metric": record.metric,
                "value": record.value,
                "low": record.low,
                "high": record.high,
            }
            for record in state.quality[-50:]
        ],
        "intake": {
            "objects": notes.read.objects,
            "rows": notes.read.rows,
            "duplicates": notes.read.duplicates,
            "malformed_rows": notes.read.malformed_rows,
            "unreadable_objects": notes.read.unreadable_objects[:20],
            "from_the_future": notes.from_the_future,
            "other_versions": {str(version): count for version, count in notes.other_versions.items()},
            "unknown_versions": {str(version): count for version, count in notes.unknown_versions.items()},
            "unanswered": notes.unanswered,
            "unmatched_feedback": notes.unmatched_feedback,
            "unusable_feedback": notes.unusable_feedback,
        },
    }


def _incident(incident: Incident) -> dict[str, Any]:
    """Return an incident, with a statement where no action is known yet."""
    subjects = [found.finding.subject for found in incident.troubles.values()]
    return incident.to_dict() | {"no_action": None if incident.actions else nothing_yet(incident.event, subjects)}


def _verdict(name: str, findings: list[Finding], run: Run) -> dict[str, Any]:
    """Return the status of one verdict: alarm, breach, ok, unknown or off."""
    own = [finding for finding in findings if finding.verdict == name]
    alarmed = {
        key
        for incident in run.state.book.open_incidents()
        for key, trouble in incident.troubles.items()
        if not trouble.quiet
    }
    statuses = {finding.status for finding in own}
    if any(finding.key in alarmed for finding in own):
        status = "alarm"
    elif "breach" in statuses:
        status = "breach"
    elif "ok" in statuses:
        status = "ok"
    else:
        status = "unknown"
    watch = getattr(run.spec.monitoring, name)
    return {
        "verdict": name,
        "enabled": watch.enabled,
        "status": status if watch.enabled else "off",
        "breaches": sum(finding.status == "breach" for finding in own),
        "judged": sum(finding.status != "unknown" for finding in own),
        "threshold": getattr(watch, "threshold", None),
        "min_rows": getattr(watch, "min_rows", None),
    }
