"""One run of the monitor: take in what is new, close windows, judge them, keep incidents, write the report.

Everything that a run decides is written by one conditional write of the state, last: of two monitors at once one wins,
and what the other did is as if it had never been. Alerts are in that state until they are delivered
(:mod:`millrace.monitoring.monitor`), so a channel that fails loses nothing.
"""

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from millrace.emf import Unit, write_metrics
from millrace.errors import ArtifactNotFoundError, ServiceUnavailableError
from millrace.layout import monitoring_key
from millrace.monitoring.alerts import follow_up, make_alerts
from millrace.monitoring.baselines import load_watched
from millrace.monitoring.findings import Finding
from millrace.monitoring.incidents import Watchbook, close
from millrace.monitoring.intake import IntakeNotes, Seen, read_batches, read_feedback
from millrace.monitoring.outcome_windows import judge_settled, take_feedback
from millrace.monitoring.report import write_report
from millrace.monitoring.run import Run
from millrace.monitoring.serving_health import find_serving_faults, find_staleness
from millrace.monitoring.state import STATE_NAME, Alert, MonitoringState
from millrace.monitoring.traffic_windows import judge_open_window, take_batch
from millrace.names import CHAMPION
from millrace.ports import Event, EventPublisher, Notifier, ObjectStore, ServingCounts, ServingMetrics
from millrace.registry.store import Registry

Outcome = Literal["judged", "nothing_new", "not_serving", "disabled", "superseded", "deleted"]
#: What is usual is the rate of so long, and of a day at least: a first burst is no habit.
_RATE_OVER = timedelta(days=7)
_FEWEST_HOURS = 24.0


@dataclass(frozen=True, slots=True)
class MonitoringOutcome:
    """What came of a run.

    Parameters
    ----------
    outcome : str
        ``judged``, ``nothing_new``, ``not_serving``, ``disabled``, ``superseded`` (another monitor was faster) or
        ``deleted`` (what was open is closed).
    rows, outcomes : int
        Taken in.
    windows : int
        Judged.
    breaches : int
        Findings past their thresholds.
    alerts : int
        Waiting to be delivered.
    open_incidents : int
        That go on.
    report : str
        Key of the report, where one was written.
    """

    outcome: Outcome
    version: int | None = None
    rows: int = 0
    outcomes: int = 0
    windows: int = 0
    breaches: int = 0
    alerts: int = 0
    open_incidents: int = 0
    report: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return asdict(self)


def monitor_model(
    model: str,
    *,
    registry: Registry,
    data_store: ObjectStore,
    model_store: ObjectStore,
    serving: ServingMetrics | None,
    now: datetime,
    token: str,
) -> MonitoringOutcome:
    """Run the monitor of one model.

    Parameters
    ----------
    serving : ServingMetrics or None
        How requests were served; None when nobody knows.
    token : str
        Of this run and no other; it is in the names of what the run writes.

    Raises
    ------
    ModelNotFoundError
        When there is no such model.
    ServiceUnavailableError
        When a monitor of a model that was deleted was at work at the same time; the pipeline tries again.
    """
    standing = registry.get_state(model)
    if standing.deleted_at is not None:
        return _close(model, registry, data_store, now)
    spec, champion = registry.get_spec(model), standing.aliases.get(CHAMPION)
    if not spec.monitoring.enabled:
        return MonitoringOutcome("disabled")
    if champion is None:
        return MonitoringOutcome("not_serving")
    state, etag = load_state(model, data_store)
    if state.version != champion:
        state.begin_version(champion)
    watched = load_watched(model, champion, spec, model_store)
    run = Run(model, spec, state, watched, data_store, now, token, IntakeNotes())
    last, known = state.checked_at, {version.version for version in registry.list_versions(model)}
    told = state.book
    state.book = follow_up(told, model, registry, now)
    rows, outcomes = _take_in(run, known)
    windows = judge_open_window(run) + judge_settled(run)
    _judge_without_rows(run, registry, serving, last)
    state.checked_at = now
    news = windows or rows or state.outbox or _actions(told) != _actions(state.book)
    report = write_report(run) if news else ""
    if not data_store.put_if_unchanged(monitoring_key(model, STATE_NAME), state.to_bytes(), etag, "application/gzip"):
        return MonitoringOutcome("superseded", champion)
    found = [finding for findings in state.findings.values() for finding in findings]
    return MonitoringOutcome(
        outcome="judged" if windows else "nothing_new",
        version=champion,
        rows=rows,
        outcomes=outcomes,
        windows=windows,
        breaches=sum(finding.status == "breach" for finding in found),
        alerts=len(state.outbox),
        open_incidents=len(state.book.open_incidents()),
        report=report,
    )


def _actions(book: Watchbook) -> list[tuple[str, ...]]:
    return [incident.actions for incident in book.incidents.values()]


def _close(model: str, registry: Registry, data_store: ObjectStore, now: datetime) -> MonitoringOutcome:
    """Close the incidents of a model that was deleted, for that reason; who was told of one is told that it is over."""
    state, etag = load_state(model, data_store)
    if not state.book.open_incidents() and not state.outbox:
        return MonitoringOutcome("deleted")
    last = next(iter(registry.list_alias_moves(model, CHAMPION, limit=1)), None)
    reason = f"the model was deleted by {last.actor}: {last.reason}" if last else "the model was deleted"
    state.book, transitions = close(state.book, reason, now)
    state.outbox += make_alerts(model, transitions, now)
    if not data_store.put_if_unchanged(monitoring_key(model, STATE_NAME), state.to_bytes(), etag, "application/gzip"):
        raise ServiceUnavailableError(f"the monitoring state of {model!r} was changed meanwhile; look again")
    return MonitoringOutcome("deleted", alerts=len(state.outbox))


def models_by_the_stacks_schedule(registry: Registry) -> list[str]:
    """Return the models to look at when the stack's schedule fires: those that have no schedule of their own."""
    specs = {state.model: registry.get_spec(state.model).monitoring for state in registry.list_models()}
    return [model for model, spec in specs.items() if spec.enabled and spec.schedule is None]


def load_state(model: str, store: ObjectStore) -> tuple[MonitoringState, str | None]:
    """Return what is remembered, and the tag that a change of it has to name.

    What cannot be read (of another release) is begun anew rather than in the way for ever.
    """
    try:
        body, etag = store.get_with_etag(monitoring_key(model, STATE_NAME))
    except ArtifactNotFoundError:
        return MonitoringState(), None
    try:
        return MonitoringState.from_bytes(body), etag
    except ValueError:
        return MonitoringState(), etag


def _take_in(run: Run, known_versions: set[int]) -> tuple[int, int]:
    """Read what is new; return how many rows and outcomes there were."""
    state, seen = run.state, Seen(run.state.seen)
    rows = 0
    batches = read_batches(run.store, run.model, checked_at=state.checked_at, now=run.now, seen=seen, notes=run.notes)
    for number, batch in enumerate(batches):
        rows += take_batch(run, batch, f"{run.token}-{number}", known_versions)
    records = read_feedback(run.store, run.model, checked_at=state.checked_at, now=run.now, seen=seen, notes=run.notes)
    outcomes = take_feedback(run, records)
    state.seen = seen.to_dict()
    return rows, outcomes


def _judge_without_rows(run: Run, registry: Registry, serving: ServingMetrics | None, last: datetime | None) -> None:
    """Judge what needs no rows: ages, silence, and how requests were served since the last look."""
    monitoring, state = run.spec.monitoring, run.state
    begin = last or run.now - timedelta(hours=1)
    findings: list[Finding] = []
    if monitoring.staleness.enabled:
        version = registry.get_version(run.model, run.watched.version)
        accepted = {dataset.dataset_id: dataset.accepted_at for dataset in registry.list_datasets(run.model)}
        used = [accepted[name] for name in version.dataset_ids if name in accepted]
        findings += find_staleness(
            monitoring.staleness,
            run.now,
            trained_at=version.created_at,
            newest_data_at=max(used, default=None),
            last_row_at=state.last_row_at,
            requests_per_hour=_requests_per_hour(state),
        )
    if monitoring.serving_health.enabled:
        counts: ServingCounts | None = serving.read(run.model, run.watched.version, begin, run.now) if serving else None
        if counts is not None:
            findings += find_serving_faults(counts, monitoring.serving_health)
    run.advance("service", findings, begin)


def _requests_per_hour(state: MonitoringState) -> float:
    """Return how often the model was asked in the week before it was last asked; over a day at least."""
    if state.last_row_at is None:
        return 0.0
    since = state.last_row_at - _RATE_OVER
    recent = [segment for segment in state.segments if segment.end >= since]
    hours = (state.last_row_at - min((segment.begin for segment in recent), default=since)) / timedelta(hours=1)
    return sum(segment.requests for segment in recent) / max(_FEWEST_HOURS, hours)


_MAX_ATTEMPTS = 5


def deliver_alerts(
    model: str, store: ObjectStore, publisher: EventPublisher, notifier: Notifier, stack: str = ""
) -> int:
    """Deliver what waits; return how many alerts there were.

    ``stack`` goes into each event, so that of two stacks in an account each listens to its own.

    An alert leaves the state after both the bus and the people's topic have taken it. Where one of them fails, the
    alert stays and the next run tries again: it may then arrive twice, under the same ``event_id``.

    Raises
    ------
    ServiceUnavailableError
        When a channel failed; what was delivered before it is not delivered again.
    """
    state, _ = load_state(model, store)
    delivered: list[Alert] = []
    fault: ServiceUnavailableError | None = None
    for alert in state.outbox:
        try:
            publisher.publish([Event(alert.detail_type, {"stack": stack, **alert.detail}, alert.occurred_at)])
            if alert.subject:
                notifier.notify(alert.subject, alert.text)
        except ServiceUnavailableError as error:
            fault = error
            break
        delivered.append(alert)
    _forget(model, store, {alert.alert_id for alert in delivered})
    if fault is not None:
        raise fault
    return len(delivered)


def _forget(model: str, store: ObjectStore, delivered: set[str]) -> None:
    """Take alerts out of the state, whoever else writes it."""
    if not delivered:
        return
    for _ in range(_MAX_ATTEMPTS):
        state, etag = load_state(model, store)
        state.outbox = [alert for alert in state.outbox if alert.alert_id not in delivered]
        if store.put_if_unchanged(monitoring_key(model, STATE_NAME), state.to_bytes(), etag, "application/gzip"):
            return
    raise ServiceUnavailableError(f"the monitoring state of {model!r} keeps being changed by others")


def write_verdict(model: str, outcome: MonitoringOutcome, now: datetime) -> None:
    """Write what came of a run; a run that judged nothing writes nothing, for metrics are billed."""
    if not outcome.windows and not outcome.open_incidents:
        return
    metrics: dict[str, tuple[float, Unit]] = {
        "MonitoredRows": (outcome.rows, "Count"),
        "MonitoringBreaches": (outcome.breaches, "Count"),
        "OpenIncidents": (outcome.open_incidents, "Count"),
    }
    write_metrics(metrics, {"model": model}, now.timestamp(), {"outcome": outcome.outcome, "report": outcome.report})
