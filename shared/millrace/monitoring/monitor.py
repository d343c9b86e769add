"""One run of the monitor: ingest, close windows, evaluate, update incidents, make alerts, write the report.

Each stage takes values and returns values. One conditional write of the state commits everything that a run decided: of
two concurrent monitors one wins, and the other has no effect. Then the winner writes the report. Alerts stay in the
state until they are delivered, so a failing channel loses nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from msgspec.structs import replace

from millrace.captures.records import CapturedRow, FeedbackRecord
from millrace.cost.arithmetic import BillingMonth
from millrace.cost.statement import read_model_month
from millrace.documents import to_plain
from millrace.errors import ServiceUnavailableError
from millrace.layout import monitoring_key
from millrace.monitoring.alerts import awaits_runs, make_alert, publish_alerts, update_actions
from millrace.monitoring.context import MonitorContext, load_context
from millrace.monitoring.incidents import IncidentHistory, Transition, advance, close
from millrace.monitoring.new_captures import (
    IngestCounts,
    NewRecords,
    ReadProgress,
    find_prefixes,
    read_captures,
)
from millrace.monitoring.next_check import next_check
from millrace.monitoring.report import MonitoringReport
from millrace.monitoring.rules import BUDGET_EVENTS
from millrace.monitoring.segments import KnownRows
from millrace.monitoring.serving_health import RecordedServing, find_overspending, find_serving_faults, find_staleness
from millrace.monitoring.state import MonitoringState, Segment, load_state, save_state
from millrace.monitoring.window_findings import WindowEvaluation, WindowFinding
from millrace.monitoring.windows import close_outcome_window, close_traffic_window, ingest_feedback, ingest_traffic
from millrace.names import CHAMPION
from millrace.observability import Unit, write_metrics
from millrace.ports import EventPublisher, Notifier, ObjectStore
from millrace.registry.store import Registry
from millrace.reports import monitoring_report
from millrace.retry import retry
from millrace.settings import CostSettings

_DEFAULT_COSTS = CostSettings()
Outcome = Literal["more", "judged", "nothing_new", "not_serving", "disabled", "superseded", "deleted"]
#: Nothing monitors the model until its champion or its spec changes; the run has to be repeated.
IDLE_OUTCOMES = frozenset({"not_serving", "disabled", "deleted"})
UNFINISHED_OUTCOMES = frozenset({"superseded", "more"})
#: The usual rate of requests is that of so long, and of a day at least: a first burst is no habit.
_RATE_OVER = timedelta(days=7)
_MIN_RATE_HOURS = 24.0
#: Rows that a run reads, and the time that it leaves for a batch and for closing windows; the next run reads the rest.
_MAX_ROWS = 5_000_000
_RESERVED_SECONDS = 180.0
#: Reports of ground truth that are held in memory at once.
_BATCH_FEEDBACK = 50_000
#: Least time between two events of one open incident.
_MIN_REPEAT = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class MonitoringOutcome:
    """Result of a run."""

    #: ``judged``, ``nothing_new``, ``more`` (there is more to read than one run may: run again), ``not_serving``,
    #: ``disabled``, ``superseded`` (a concurrent monitor was faster) or ``deleted`` (open incidents were closed).
    outcome: Outcome
    version: int | None = None
    rows: int = 0  # ingested
    outcomes: int = 0  # ingested
    windows: int = 0  # closed
    breaches: int = 0
    alerts: int = 0  # Waiting to be delivered
    open_incidents: int = 0
    report: str = ""  # Key of the report, where one was written
    #: When time alone may change a verdict; None where nothing is monitored, or the run did not finish.
    next_check_at: datetime | None = None
    own_schedule: bool = False  # the spec has a schedule for this model


def monitor_model(
    model: str,
    *,
    registry: Registry,
    data_store: ObjectStore,
    model_store: ObjectStore,
    serving: RecordedServing | None,
    now: datetime,
    token: str,
    costs: CostSettings = _DEFAULT_COSTS,
    is_active: bool = True,
    remaining_seconds: Callable[[], float] = lambda: float("inf"),
) -> MonitoringOutcome:
    """Run the monitor of one model; ``token`` is unique to the run, and part of the names that it writes.

    ``is_active`` False: no requests or ground truth came since the run before. When time or rows run out, what was read
    is saved with the outcome ``more``, and no window is closed: the run that reads the rest closes them as if it had
    read everything.

    Raises ``ModelNotFoundError``, or ``ServiceUnavailableError`` when the model was deleted while another monitor ran;
    a repetition succeeds.
    """
    current = registry.get_state(model)
    if current.deleted_at is not None:
        last = next(iter(registry.list_alias_moves(model, CHAMPION, limit=1)), None)
        reason = f"the model was deleted by {last.actor}: {last.reason}" if last else "the model was deleted"
        return MonitoringOutcome("deleted", alerts=_close_incidents(model, reason, data_store, now))
    spec, champion = registry.get_spec(model), current.aliases.get(CHAMPION)
    own_schedule = spec.monitoring.schedule is not None
    if not spec.monitoring.enabled:
        alerts = _close_incidents(model, "the spec turned monitoring off", data_store, now)
        return MonitoringOutcome("disabled", alerts=alerts, own_schedule=own_schedule)
    if champion is None:
        return MonitoringOutcome("not_serving", own_schedule=own_schedule)
    before, etag = load_state(model, data_store)
    if before.version != champion:
        before = before.begin_version(champion)
    context = load_context(model, champion, spec, data_store=data_store, model_store=model_store, now=now, token=token)
    ingested, counts = _ingest(context, before, registry, remaining_seconds)
    if ingested.progress is not None:
        return _stop(context, ingested, counts, etag)
    traffic, of_traffic = close_traffic_window(context, ingested.traffic)
    outcomes, of_outcomes = close_outcome_window(context, ingested.outcomes, traffic.inputs)
    closed = replace(ingested, traffic=traffic, outcomes=outcomes)
    evaluations = [one for one in (of_traffic, of_outcomes) if one]
    windows = len(evaluations)
    if context.monitored is None and closed.last_row_at is not None:
        finding = WindowFinding("feature_drift", "every feature", "unknown", context.obstacle)
        evaluations.append(WindowEvaluation("traffic", context.now, (finding,)))
    evaluations.append(_evaluate_service(context, closed, registry, serving, costs))
    followed = update_actions(before.incidents, model, registry, now)
    repeat_after = max(_MIN_REPEAT, timedelta(hours=spec.retraining.cooldown_hours))
    incidents, transitions = _update_incidents(context, followed, evaluations, repeat_after, closed.traffic.begun_at)
    state = replace(
        closed,
        checked_at=now,
        incidents=incidents,
        outbox=(*before.outbox, *(make_alert(model, one, now) for one in transitions)),
        findings=before.findings | {one.source: one.findings for one in evaluations},
    )
    is_new = windows or counts.monitored_rows or state.outbox or followed != before.incidents
    if not save_state(model, data_store, state, etag):
        return MonitoringOutcome("superseded", champion)
    # Only what was decided is reported: a report of the slower of two monitors would show incidents that there are not.
    # Should this fail, the report before stays until the next window, or until the next run while alerts wait.
    report = _write_report(context, state, counts) if is_new else ""
    findings = [finding for found in state.findings.values() for finding in found]
    return MonitoringOutcome(
        outcome="judged" if windows else "nothing_new",
        version=champion,
        rows=counts.monitored_rows,
        outcomes=counts.matched_feedback,
        windows=windows,
        breaches=sum(finding.status == "breach" for finding in findings),
        alerts=len(state.outbox),
        open_incidents=len(incidents.open_incidents()),
        report=report,
        next_check_at=next_check(
            context,
            before,
            state,
            is_active=is_active or counts.objects > 0,
            awaits_runs=awaits_runs(incidents, model, registry, now),
            repeat_after=repeat_after,
        ),
        own_schedule=own_schedule,
    )


def _ingest(
    context: MonitorContext, before: MonitoringState, registry: Registry, remaining_seconds: Callable[[], float]
) -> tuple[MonitoringState, IngestCounts]:
    """Read what was delivered since the last run, or go on where it stopped.

    The state has a progress when there is more to read. Cuts are between batches, whose ends do not depend on them.
    """
    progress, n_lines = before.progress or ReadProgress(began_at=context.now), 0
    prefixes = find_prefixes(context, before.checked_at, progress.began_at, before.seen)
    captures = NewRecords(context.store, CapturedRow, prefixes.captures, before.seen, progress)
    feedback = NewRecords(context.store, FeedbackRecord, prefixes.feedback, before.seen, progress)
    known_rows, state, counts, retried = KnownRows(context.store), before, progress.counts, progress.retried

    def stops_after(reader: NewRecords[Any]) -> bool:
        nonlocal n_lines, state
        n_lines += reader.report.rows
        position = {"partial": reader.partial, "lines": reader.lines}
        seen = before.seen | captures.seen | feedback.seen
        state = replace(state, seen=seen, progress=replace(progress, counts=counts, retried=retried, **position))
        return n_lines >= _MAX_ROWS or remaining_seconds() < _RESERVED_SECONDS

    for number, batch in enumerate(read_captures(context, prefixes.since, captures)):
        state, more = ingest_traffic(context, state, batch, f"{context.token}-{number}", known_rows)
        counts += more
        if stops_after(captures):
            return state, counts
    while not feedback.is_finished:
        records = list(feedback.take(_BATCH_FEEDBACK))
        outcomes, more = ingest_feedback(context, state.outcomes, records, retry=not retried)
        state, retried = replace(state, outcomes=outcomes), True
        counts += more + IngestCounts(malformed_rows=feedback.report.malformed_rows)
        if stops_after(feedback):
            return state, counts
    known, unknown = _split_versions(context.model, counts.other_versions, registry)
    seen = {**prefixes.kept, **captures.seen, **feedback.seen}
    return replace(state, seen=seen, progress=None), replace(counts, other_versions=known, unknown_versions=unknown)


def _stop(context: MonitorContext, state: MonitoringState, counts: IngestCounts, etag: str | None) -> MonitoringOutcome:
    """Save what was read; windows stay open, and incidents and the last run's timestamp as they were."""
    if not save_state(context.model, context.store, state, etag):
        return MonitoringOutcome("superseded", context.version)
    return MonitoringOutcome(
        "more",
        version=context.version,
        rows=counts.monitored_rows,
        outcomes=counts.matched_feedback,
        alerts=len(state.outbox),
        open_incidents=len(state.incidents.open_incidents()),
    )


def _split_versions(model: str, rows: dict[str, int], registry: Registry) -> tuple[dict[str, int], dict[str, int]]:
    """Return rows by version, of versions in the registry and of others."""
    numbers = {str(found.version) for found in registry.find_versions(model, [int(version) for version in rows])}
    known = {version: n for version, n in rows.items() if version in numbers}
    return known, {version: n for version, n in rows.items() if version not in numbers}


def _evaluate_service(
    context: MonitorContext,
    state: MonitoringState,
    registry: Registry,
    serving: RecordedServing | None,
    costs: CostSettings,
) -> WindowEvaluation:
    """Evaluate what needs no rows: ages, silence, the requests since the last run, and the month's cost."""
    monitoring, now = context.spec.monitoring, context.now
    begin = state.checked_at or now - timedelta(hours=1)
    findings: list[WindowFinding] = []
    if monitoring.staleness.enabled:
        version = registry.get_version(context.model, context.version)
        accepted = {dataset.dataset_id: dataset.accepted_at for dataset in registry.list_datasets(context.model)}
        findings += find_staleness(
            monitoring.staleness,
            now,
            trained_at=version.created_at,
            newest_data_at=max((accepted[name] for name in version.dataset_ids if name in accepted), default=None),
            last_row_at=state.last_row_at,
            requests_per_hour=_requests_per_hour(state.last_row_at, state.outcomes.segments),
        )
    if monitoring.serving_health.enabled and serving is not None:
        counts = serving.read(context.model, context.version, begin, now)
        findings += find_serving_faults(counts, monitoring.serving_health) if counts is not None else []
    if context.spec.budget is not None:
        month = read_model_month(context.model, BillingMonth.at(now), registry=registry, settings=costs)
        findings += find_overspending(month, context.spec)
    elif any(incident.event in BUDGET_EVENTS for incident in state.incidents.open_incidents()):
        findings += find_overspending(None, context.spec)
    return WindowEvaluation("service", begin, tuple(findings))


def _requests_per_hour(last: datetime | None, segments: Sequence[Segment]) -> float:
    """Return the rate of requests in the week before the last one; over a day at least."""
    if last is None:
        return 0.0
    since = last - _RATE_OVER
    recent = [segment for segment in segments if segment.end >= since]
    hours = (last - min((segment.begin for segment in recent), default=since)) / timedelta(hours=1)
    return sum(segment.requests for segment in recent) / max(_MIN_RATE_HOURS, hours)


def _update_incidents(
    context: MonitorContext,
    incidents: IncidentHistory,
    evaluations: Sequence[WindowEvaluation],
    repeat_after: timedelta,
    begun_at: datetime | None,
) -> tuple[IncidentHistory, list[Transition]]:
    transitions: list[Transition] = []
    for evaluation in evaluations:
        incidents, steps = advance(
            incidents,
            evaluation.findings,
            context.spec.monitoring,
            model=context.model,
            version=context.version,
            window=(evaluation.begin, context.now),
            repeat_after=repeat_after,
            begun_at=begun_at,
        )
        transitions += steps
    return incidents, transitions


def _write_report(context: MonitorContext, state: MonitoringState, counts: IngestCounts) -> str:
    """Write the report as JSON and as a page, by its timestamp and as the latest; return the page's key."""
    report = MonitoringReport.build(context, state, counts)
    body, page = report.write(), monitoring_report.render_monitoring_report(to_plain(report)).encode()
    stamp = f"{context.now:%Y%m%dT%H%M%S}"
    for name in (stamp, "latest"):
        context.store.put(monitoring_key(context.model, f"reports/{name}.json"), body, "application/json")
        context.store.put(monitoring_key(context.model, f"reports/{name}.html"), page, "text/html; charset=utf-8")
    return monitoring_key(context.model, f"reports/{stamp}.html")


def _close_incidents(model: str, reason: str, data_store: ObjectStore, now: datetime) -> int:
    """Close the incidents of a model that is not monitored any more; return the number of waiting alerts.

    Whoever was notified of one is notified of its end.
    """
    state, etag = load_state(model, data_store)
    if not state.incidents.open_incidents():
        return len(state.outbox)
    incidents, transitions = close(state.incidents, reason, now)
    outbox = (*state.outbox, *(make_alert(model, one, now) for one in transitions))
    if not save_state(model, data_store, replace(state, incidents=incidents, outbox=outbox), etag):
        raise ServiceUnavailableError(f"another process changed the monitoring state of {model!r}; try again")
    return len(outbox)


def deliver_alerts(model: str, store: ObjectStore, publisher: EventPublisher, notifier: Notifier) -> int:
    """Deliver the waiting alerts; return their number.

    An alert leaves the state after both the bus and the notifier have taken it. When one of them fails, the alert stays
    and the next run tries again: it may then arrive twice, under the same ``event_id``.

    Raises ``ServiceUnavailableError`` when a channel failed; alerts delivered before it are not delivered again.
    """
    delivered, fault = publish_alerts(load_state(model, store)[0].outbox, publisher, notifier)
    if delivered:
        _remove_alerts(model, store, delivered)
    if fault is not None:
        raise fault
    return len(delivered)


def _remove_alerts(model: str, store: ObjectStore, delivered: set[str]) -> None:
    def attempt() -> bool | None:
        state, etag = load_state(model, store)
        outbox = tuple(alert for alert in state.outbox if alert.alert_id not in delivered)
        return save_state(model, store, replace(state, outbox=outbox), etag) or None

    retry(attempt, f"other processes keep changing the monitoring state of {model!r}")


def write_outcome_metrics(model: str, outcome: MonitoringOutcome, now: datetime) -> None:
    """Write the metrics by model of a run, 0.90 USD a month; one without windows or incidents writes none.

    The rows of a run that stopped are among those of the run that ends it.
    """
    if outcome.outcome == "more" or (not outcome.windows and not outcome.open_incidents):
        return
    metrics: dict[str, tuple[float, Unit]] = {
        "MonitoredRows": (outcome.rows, "Count"),
        "MonitoringBreaches": (outcome.breaches, "Count"),
        "OpenIncidents": (outcome.open_incidents, "Count"),
    }
    write_metrics(metrics, {"model": model}, now.timestamp(), {"outcome": outcome.outcome, "report": outcome.report})
