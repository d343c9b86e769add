"""The monitoring report: a document for machines, of which the page is made."""

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Self

import msgspec

from millrace.documents import Document, Record
from millrace.monitoring.alerts import default_action
from millrace.monitoring.chart_data import ChartData
from millrace.monitoring.context import MonitorContext
from millrace.monitoring.incidents import Incident
from millrace.monitoring.new_captures import IngestCounts
from millrace.monitoring.rules import VERDICTS, rows_needed
from millrace.monitoring.state import MonitoringState, WindowQuality, WindowSummary
from millrace.monitoring.window_findings import WindowFinding
from millrace.spec.monitoring import MAX_WINDOW_HOURS, MonitoringSpec

#: Latest windows that a report lists.
_MAX_WINDOWS = 50
_PAIR = 2
#: The rate of rows is that of so long.
_RATE_OVER = timedelta(days=7)


class VerdictSummary(Record, frozen=True, kw_only=True):
    """Status of one verdict in the latest windows."""

    verdict: str
    label: str = ""  # Empty in a report of an early release
    enabled: bool
    status: str  # ``alarm``, ``breach``, ``ok``, ``unknown`` or ``off``
    breaches: int
    evaluated: int = msgspec.field(name="judged")
    threshold: float | None
    min_rows: int | None


class ReportedIncident(Incident, frozen=True, kw_only=True):
    """An incident, with a statement where no action is known yet."""

    no_action: str | None = None


class MonitoringReport(Document, frozen=True, kw_only=True):
    """The stored report of a monitoring run."""

    report_version: int = 1  # Of the fields' names, for readers of the API
    headline: str = ""  # State of the whole, in a few words; empty in a report of an early release
    model: str
    version: int
    obstacle: str
    made_at: datetime
    last_row_at: datetime | None
    verdicts: tuple[VerdictSummary, ...]
    findings: tuple[WindowFinding, ...]
    incidents: tuple[ReportedIncident, ...]
    open_window_rows: int
    rows_needed: int
    #: Statement that inputs are not evaluated at the present rate of rows, and what would change that; empty where they
    #: are, and in a report of an early release.
    too_few_rows: str = ""
    windows: tuple[WindowSummary, ...]
    charts: tuple[ChartData, ...] = msgspec.field(default=(), name="pictures")
    quality: tuple[WindowQuality, ...]
    ingested: IngestCounts = msgspec.field(name="intake")

    @classmethod
    def build(cls, context: MonitorContext, state: MonitoringState, counts: IngestCounts) -> Self:
        """Return the report of a run."""
        findings = tuple(finding for found in state.findings.values() for finding in found)
        monitoring, traffic = context.spec.monitoring, state.traffic
        alarmed = {
            key
            for incident in state.incidents.open_incidents()
            for key, active in incident.findings.items()
            if not active.quiet_windows
        }
        has_budget = context.spec.budget is not None
        names = [name for name, verdict in VERDICTS.items() if has_budget or not verdict.needs_budget]
        verdicts = tuple(_summarise(name, findings, alarmed, monitoring) for name in names)
        rows, needed = traffic.open.traffic.features.rows if traffic.open else 0, rows_needed(monitoring)
        progress = f"{rows:,} of {needed:,} rows in the open window"
        return cls(
            headline=_headline(state.incidents.open_incidents(), verdicts, monitoring, progress),
            model=context.model,
            version=context.version,
            obstacle=context.obstacle,
            made_at=context.now,
            last_row_at=state.last_row_at,
            verdicts=verdicts,
            findings=findings,
            incidents=tuple(_describe(context.model, incident) for incident in state.incidents.incidents.values()),
            open_window_rows=rows,
            rows_needed=needed,
            too_few_rows=_describe_low_rate(state, needed, monitoring.max_window_hours),
            windows=traffic.summaries[-_MAX_WINDOWS:],
            charts=traffic.charts,
            quality=msgspec.convert(
                state.outcomes.quality[-_MAX_WINDOWS:], tuple[WindowQuality, ...], from_attributes=True
            ),
            ingested=counts,
        )


def _headline(
    incidents: Sequence[Incident], verdicts: tuple[VerdictSummary, ...], spec: MonitoringSpec, progress: str
) -> str:
    """Return the state of the whole; ``progress`` is that of the open window."""
    breaching = [one.verdict for one in verdicts if one.status == "breach"]
    needed = max((getattr(getattr(spec, name), "breaches", 1) for name in breaching), default=0)
    windows = "a second window" if needed <= _PAIR else f"{needed} windows"
    waiting = f"{len(breaching)} past threshold, waiting for {windows}" if breaching else ""
    if incidents:
        opened = f"{len(incidents)} open incident{'s' if len(incidents) > 1 else ''}"
        quiet = sum(incident.is_quiet for incident in incidents)
        if quiet:
            opened += f", {quiet} of them quiet" if len(incidents) > 1 else ", quiet"
        return f"{opened}; {waiting}" if waiting else opened
    if waiting or any(one.status == "ok" and one.min_rows for one in verdicts):
        return waiting or "no open incident"
    return f"nothing evaluated yet: {progress}"


def _describe_low_rate(state: MonitoringState, needed: int, max_window_hours: int) -> str:
    """Return the statement that windows close with too few rows at the last week's rate; empty where they do not."""
    last, segments = state.last_row_at, state.outcomes.segments
    recent = [segment for segment in segments if last is not None and segment.end >= last - _RATE_OVER]
    if last is None or not recent:
        return ""
    hours = (last - min(segment.begin for segment in recent)) / timedelta(hours=1)
    a_day = 24.0 * sum(segment.rows for segment in recent) / max(hours, max_window_hours)
    in_window = a_day * max_window_hours / 24.0
    # Before a whole window has passed nobody knows the rate.
    if hours < max_window_hours or in_window >= needed:
        return ""
    days = needed / a_day
    statement = (
        f"inputs are not evaluated: {a_day:,.3g} rows a day make {in_window:,.3g} of the {needed:,} rows that a window "
        f"of at most {max_window_hours} hours needs; at this rate {needed:,} rows take {days:,.3g} days"
    )
    hours_needed = math.ceil(24.0 * days)
    if hours_needed <= MAX_WINDOW_HOURS:
        return f"{statement}. monitoring.max_window_hours: {hours_needed} would evaluate them"
    return f"{statement}, and no window may be so long. A lower min_rows of the verdicts would evaluate fewer"


def _describe(model: str, incident: Incident) -> ReportedIncident:
    subjects = [active.finding.subject for active in incident.findings.values()]
    no_action = None if incident.actions else default_action(model, incident.event, subjects)
    fields: dict[str, Any] = msgspec.structs.asdict(incident)
    return ReportedIncident(**fields, no_action=no_action)


def _summarise(
    name: str, findings: tuple[WindowFinding, ...], alarmed: set[str], spec: MonitoringSpec
) -> VerdictSummary:
    own = [finding for finding in findings if finding.verdict == name]
    statuses = {finding.status for finding in own}
    rule, status = getattr(spec, name), next((one for one in ("breach", "ok") if one in statuses), "unknown")
    if not rule.enabled:
        status = "off"
    elif any(finding.key in alarmed for finding in own):
        status = "alarm"
    return VerdictSummary(
        verdict=name,
        label=VERDICTS[name].label,
        enabled=rule.enabled,
        status=status,
        breaches=sum(finding.status == "breach" for finding in own),
        evaluated=sum(finding.status != "unknown" for finding in own),
        threshold=getattr(rule, "threshold", None),
        min_rows=getattr(rule, "min_rows", None),
    )
