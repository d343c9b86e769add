"""The monitoring report as JSON, for machines and for the page."""

from typing import Any

from millrace.documents import dump, to_plain
from millrace.layout import monitoring_key
from millrace.monitoring.alerts import default_action
from millrace.monitoring.context import MonitorContext
from millrace.monitoring.incidents import Incident
from millrace.monitoring.new_captures import IngestCounts
from millrace.monitoring.rules import VERDICTS, Verdict, rows_needed
from millrace.monitoring.state import MonitoringState
from millrace.monitoring.window_findings import WindowFinding
from millrace.reports import render_monitoring_report
from millrace.spec.monitoring import MonitoringSpec

REPORT_VERSION = 1


def write_report(context: MonitorContext, state: MonitoringState, counts: IngestCounts) -> str:
    """Write the report as JSON and as a page, by its timestamp and as the latest; return the page's key."""
    document = build_report(context, state, counts)
    body, page = dump(document, indent=True), render_monitoring_report(document).encode()
    stamp = f"{context.now:%Y%m%dT%H%M%S}"
    for name in (stamp, "latest"):
        context.store.put(monitoring_key(context.model, f"reports/{name}.json"), body, "application/json")
        context.store.put(monitoring_key(context.model, f"reports/{name}.html"), page, "text/html; charset=utf-8")
    return monitoring_key(context.model, f"reports/{stamp}.html")


def build_report(context: MonitorContext, state: MonitoringState, counts: IngestCounts) -> dict[str, Any]:
    """Return the report as plain JSON values."""
    findings = [finding for found in state.findings.values() for finding in found]
    monitoring, traffic = context.spec.monitoring, state.traffic
    alarmed = {
        key
        for incident in state.incidents.open_incidents()
        for key, active in incident.findings.items()
        if not active.quiet_windows
    }
    dates = {column.name for column in context.schema.columns if column.type == "datetime"}
    document = {
        "report_version": REPORT_VERSION,
        "model": context.model,
        "version": context.version,
        "obstacle": context.obstacle,
        "made_at": context.now,
        "last_row_at": state.last_row_at,
        "verdicts": [_summarise(one, findings, alarmed, monitoring) for one in VERDICTS.values()],
        "findings": findings,
        "incidents": [_describe(incident) for incident in state.incidents.incidents.values()],
        "open_window_rows": traffic.open.traffic.features.rows if traffic.open else 0,
        "rows_needed": rows_needed(monitoring),
        "windows": traffic.summaries[-50:],
        "pictures": [chart | {"is_moment": chart["subject"] in dates} for chart in traffic.charts],
        "quality": [
            {name: value for name, value in to_plain(record).items() if name != "segments"}
            for record in state.outcomes.quality[-50:]
        ],
        "intake": {
            "objects": counts.read.objects,
            "rows": counts.read.rows,
            "duplicates": counts.read.duplicates,
            "malformed_rows": counts.read.malformed_rows,
            "unreadable_objects": counts.read.unreadable_objects[:20],
            "from_the_future": counts.from_the_future,
            "other_versions": counts.other_versions,
            "unknown_versions": counts.unknown_versions,
            "unanswered": counts.unanswered,
            "unmatched_feedback": counts.unmatched_feedback,
            "unusable_feedback": counts.unusable_feedback,
        },
    }
    plain: dict[str, Any] = to_plain(document)
    return plain


def _describe(incident: Incident) -> dict[str, Any]:
    """Return an incident, with a statement where no action is known yet."""
    subjects = [active.finding.subject for active in incident.findings.values()]
    return {**to_plain(incident), "no_action": None if incident.actions else default_action(incident.event, subjects)}


def _summarise(
    verdict: Verdict, findings: list[WindowFinding], alarmed: set[str], spec: MonitoringSpec
) -> dict[str, Any]:
    """Return the status of one verdict: alarm, breach, ok, unknown or off."""
    own = [finding for finding in findings if finding.verdict == verdict.name]
    statuses = {finding.status for finding in own}
    known = next((status for status in ("breach", "ok") if status in statuses), "unknown")
    status = "alarm" if any(finding.key in alarmed for finding in own) else known
    rule = getattr(spec, verdict.name)
    return {
        "verdict": verdict.name,
        "label": verdict.label,
        "enabled": rule.enabled,
        "status": status if rule.enabled else "off",
        "breaches": sum(finding.status == "breach" for finding in own),
        "judged": sum(finding.status != "unknown" for finding in own),
        "threshold": getattr(rule, "threshold", None),
        "min_rows": getattr(rule, "min_rows", None),
    }
