"""Monitoring of captured batch jobs: a window a job, a series of windows a model, with incidents of its own.

Each job is compared with the training data of its own version, and with the last job of that version without a breach,
by the rules of requests. It has no hours, so nothing is suppressed as seasonal; and no ground truth. One conditional
write of the state commits what a run decided. Its incidents request no training: the rows of a job are those that
somebody chose to score.
"""

import gzip
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Self

from msgspec.structs import replace

from millrace.captures.job_windows import JobWindow
from millrace.documents import Document, Record
from millrace.errors import ArtifactIntegrityError, ArtifactNotFoundError, MillraceError
from millrace.histograms.predictions import Traffic
from millrace.layout import job_window_key, job_windows_prefix, monitoring_key
from millrace.monitoring.alerts import publish_alerts
from millrace.monitoring.chart_data import effects_of
from millrace.monitoring.context import Baselines, MonitorContext, load_context
from millrace.monitoring.incidents import Incident, IncidentHistory, Transition, advance, close
from millrace.monitoring.job_alerts import JOB_EVENTS, describe_event, make_job_alert
from millrace.monitoring.rules import VERDICTS, evaluate_traffic
from millrace.monitoring.seasonal_notes import note_seasonal
from millrace.monitoring.state import GZIP, MAX_HISTORY, Alert, WindowSummary
from millrace.monitoring.window_findings import WindowFinding
from millrace.names import CHAMPION
from millrace.ports import EventPublisher, Notifier, ObjectStore
from millrace.registry.store import Registry
from millrace.retry import retry
from millrace.spec import ModelSpec
from millrace.spec.monitoring import MonitoringSpec

#: Verdicts on a job; groups and ground truth are not in its histograms.
JOB_VERDICTS = tuple(name for name, verdict in VERDICTS.items() if verdict.of_jobs)
#: Jobs that one run evaluates; the next one goes on.
_MAX_JOBS = 100
_REPORTED_JOBS = 50
_STATE, _REPORT = "batch/state.json.gz", "reports/batch.json"
#: Least time between two events of one open incident.
_REPEAT_AFTER = timedelta(hours=24)


class JobSummary(WindowSummary, frozen=True, kw_only=True, omit_defaults=True):
    """The window of a job in the report."""

    job_id: str


class JobSeries(Document, frozen=True, kw_only=True, eq=False):
    """State of the monitoring of a model's batch jobs; nothing of it concerns requests."""

    evaluated: tuple[str, ...] = ()  # jobs, as long as their windows are stored
    summaries: tuple[JobSummary, ...] = ()
    #: By version, the job whose window was the last without a breach.
    quiet: dict[str, str] = {}  # noqa: RUF012  # msgspec copies the default
    findings: tuple[WindowFinding, ...] = ()  # of the latest job
    incidents: IncidentHistory = IncidentHistory()
    outbox: tuple[Alert, ...] = ()  # not yet delivered

    @classmethod
    def load(cls, model: str, store: ObjectStore) -> tuple[Self, str | None]:
        """Return the state and its entity tag; one that cannot be read starts empty, as that of requests does."""
        try:
            body, etag = store.get_with_etag(monitoring_key(model, _STATE))
        except ArtifactNotFoundError:
            return cls(), None
        try:
            return cls.read(gzip.decompress(body)), etag
        except (OSError, EOFError, ArtifactIntegrityError):
            return cls(), etag

    def save(self, model: str, store: ObjectStore, etag: str | None) -> bool:
        """Write the state if nobody else changed it since; return whether it was written."""
        body = gzip.compress(self.write(indent=False), mtime=0)
        return store.put_if_unchanged(monitoring_key(model, _STATE), body, etag, GZIP)


class JobIncident(Record, frozen=True, kw_only=True):
    """An incident of batch jobs in the report."""

    incident_id: str
    event: str
    label: str
    version: int | None
    opened_at: datetime
    since: datetime
    resolved_at: datetime | None
    subjects: tuple[str, ...]

    @classmethod
    def of(cls, incident: Incident) -> Self:
        """Return the description of an incident."""
        return cls(
            incident_id=incident.incident_id,
            event=JOB_EVENTS[incident.event],
            label=describe_event(incident.event),
            version=incident.version,
            opened_at=incident.opened_at,
            since=incident.since,
            resolved_at=incident.resolved_at,
            subjects=tuple(active.finding.subject for active in incident.findings.values()),
        )


class JobReport(Document, frozen=True, kw_only=True, eq=False):
    """The stored report on a model's batch jobs."""

    made_at: datetime
    jobs: tuple[JobSummary, ...]  # the newest last
    findings: tuple[WindowFinding, ...]  # of the newest
    incidents: tuple[JobIncident, ...]


def load_job_report(model: str, store: ObjectStore) -> JobReport | None:
    """Return the latest report on batch jobs; None before the first."""
    try:
        return JobReport.read(store.get(monitoring_key(model, _REPORT)))
    except ArtifactNotFoundError:
        return None


@dataclass(frozen=True, slots=True)
class JobsOutcome:
    """Result of a run: jobs that were evaluated, and alerts that wait to be delivered."""

    jobs: int = 0
    breaches: int = 0
    alerts: int = 0


def monitor_jobs(
    model: str, *, registry: Registry, data_store: ObjectStore, model_store: ObjectStore, now: datetime
) -> JobsOutcome:
    """Evaluate the captured jobs that no run has evaluated yet, in the order of their ends.

    Raises ``ServiceUnavailableError`` when other monitors keep changing the state; a repetition succeeds.
    """
    state, spec = registry.get_state(model), registry.get_spec(model)
    obstacle = "the spec turned monitoring off" if not spec.monitoring.enabled else ""
    if state.deleted_at is not None:
        last = next(iter(registry.list_alias_moves(model, CHAMPION, limit=1)), None)
        obstacle = f"the model was deleted by {last.actor}: {last.reason}" if last else "the model was deleted"
    run = _JobsRun(model, spec, data_store, model_store, now)

    def attempt() -> JobsOutcome | None:
        before, etag = JobSeries.load(model, data_store)
        series, outcome = run.close(before, obstacle) if obstacle else run.evaluate(before)
        if series is before:
            return outcome
        if not series.save(model, data_store, etag):
            return None
        report = JobReport(
            made_at=now,
            jobs=series.summaries[-_REPORTED_JOBS:],
            findings=series.findings,
            incidents=tuple(JobIncident.of(one) for one in series.incidents.incidents.values()),
        )
        data_store.put(monitoring_key(model, _REPORT), report.write(), "application/json")
        return outcome

    return retry(attempt, f"other monitors keep changing the state of the batch jobs of {model!r}")


def deliver_job_alerts(model: str, store: ObjectStore, publisher: EventPublisher, notifier: Notifier) -> int:
    """Deliver the waiting alerts about batch jobs; return their number, as ``deliver_alerts`` does for requests.

    Raises ``ServiceUnavailableError`` when a channel failed; what is left waits for the next run.
    """
    delivered, fault = publish_alerts(JobSeries.load(model, store)[0].outbox, publisher, notifier)

    def remove() -> bool | None:
        series, etag = JobSeries.load(model, store)
        outbox = tuple(alert for alert in series.outbox if alert.alert_id not in delivered)
        return replace(series, outbox=outbox).save(model, store, etag) or None

    if delivered:
        retry(remove, f"other monitors keep changing the state of the batch jobs of {model!r}")
    if fault is not None:
        raise fault
    return len(delivered)


@dataclass(frozen=True, slots=True)
class _JobsRun:
    """One run over the jobs of a model."""

    model: str
    spec: ModelSpec
    store: ObjectStore
    model_store: ObjectStore
    now: datetime

    def close(self, series: JobSeries, reason: str) -> tuple[JobSeries, JobsOutcome]:
        """Close every open incident, and leave out what was captured until now."""
        known = tuple(self._stored())
        if not series.incidents.open_incidents() and set(known) <= set(series.evaluated):
            return series, JobsOutcome(alerts=len(series.outbox))
        incidents, transitions = close(series.incidents, reason, self.now)
        outbox = (*series.outbox, *self._alerts(transitions))
        return replace(series, evaluated=known, incidents=incidents, outbox=outbox), JobsOutcome(alerts=len(outbox))

    def evaluate(self, series: JobSeries) -> tuple[JobSeries, JobsOutcome]:
        """Evaluate what is new, and return the state after it."""
        stored = list(self._stored())
        new = sorted(set(stored) - set(series.evaluated))
        if not new:
            return series, JobsOutcome(alerts=len(series.outbox))
        windows = sorted(self._read(new[:_MAX_JOBS]), key=lambda one: (one.end, one.job_id))
        # Names are kept only as long as their windows: the state does not grow with the jobs of years.
        read = {*series.evaluated, *new[:_MAX_JOBS]}
        series = replace(series, evaluated=tuple(name for name in stored if name in read))
        contexts: dict[int, MonitorContext | None] = {}
        for window in windows:
            if window.version not in contexts:
                contexts[window.version] = self._context(window.version)
            series = self._add(series, window, contexts[window.version])
        breaches = sum(finding.status == "breach" for finding in series.findings)
        return series, JobsOutcome(len(windows), breaches, len(series.outbox))

    def _stored(self) -> Iterator[str]:
        prefix = job_windows_prefix(self.model)
        for found in self.store.list(prefix):
            yield found.key.removeprefix(prefix).partition(".")[0]

    def _read(self, names: Sequence[str]) -> Iterator[JobWindow]:
        """Yield windows; one that cannot be read, or was deleted meanwhile, must not block the others for ever."""
        for name in names:
            try:
                yield JobWindow.unpack(self.store.get(job_window_key(self.model, name)))
            except (ArtifactIntegrityError, ArtifactNotFoundError):
                continue

    def _context(self, version: int) -> MonitorContext | None:
        stores = {"data_store": self.store, "model_store": self.model_store}
        try:
            return load_context(self.model, version, self.spec, **stores, now=self.now, token="")
        except ArtifactNotFoundError:
            return None

    def _add(self, series: JobSeries, window: JobWindow, context: MonitorContext | None) -> JobSeries:
        spec, version = job_spec(self.spec.monitoring), str(window.version)
        previous = self._quiet_window(series.quiet.get(version))
        findings = evaluate_job(window, context, self.spec.monitoring, previous)
        breaches = sorted({finding.key for finding in findings if finding.status == "breach"})
        incidents, transitions = advance(
            series.incidents,
            findings,
            spec,
            # The name is part of the incident's id alone: it is not that of an incident of requests.
            model=f"{self.model}/batch",
            version=window.version,
            window=(window.begin, window.end),
            repeat_after=_REPEAT_AFTER,
            # Jobs have neither hours nor weekdays to wait for: so many quiet jobs end an incident.
            begun_at=window.end,
        )
        summary = JobSummary(
            job_id=window.job_id,
            begin=window.begin,
            end=window.end,
            version=window.version,
            rows=window.traffic.features.rows,
            breaches=breaches,
            effects=effects_of(findings),
        )
        is_quiet = not breaches and any(finding.status == "ok" for finding in findings)
        return replace(
            series,
            summaries=(*series.summaries, summary)[-MAX_HISTORY:],
            quiet=series.quiet | {version: window.job_id} if is_quiet else series.quiet,
            findings=tuple(findings),
            incidents=incidents,
            outbox=(*series.outbox, *self._alerts(transitions)),
        )

    def _quiet_window(self, job_id: str | None) -> Traffic | None:
        found = () if job_id is None else self._read([job_id])
        return next((window.traffic for window in found), None)

    def _alerts(self, transitions: Sequence[Transition]) -> Iterator[Alert]:
        return (make_job_alert(self.model, transition, self.now) for transition in transitions)


def job_spec(spec: MonitoringSpec) -> MonitoringSpec:
    """Return the rules for jobs: those of requests, without seasons and without verdicts that a job does not have."""
    off = {
        name: rule.model_copy(update={"enabled": False})
        for name in type(spec).model_fields
        if name not in JOB_VERDICTS and hasattr(rule := getattr(spec, name), "enabled")
    }
    return spec.model_copy(update={"seasonality": "off", **off})


def evaluate_job(
    window: JobWindow, context: MonitorContext | None, spec: MonitoringSpec, previous: Traffic | None
) -> list[WindowFinding]:
    """Evaluate a job's rows; ``previous`` are those of the version's last job without a breach."""
    monitored = None if context is None else context.monitored
    if monitored is None:
        obstacle = context.obstacle if context else f"the signature of version {window.version} is gone"
        return [WindowFinding("feature_drift", "every feature", "unknown", obstacle)]
    try:
        findings = evaluate_traffic(window.traffic, monitored, job_spec(spec), Baselines(previous=previous))
    except (ValueError, KeyError, MillraceError):
        message = f"the job was counted in other bins than those of version {window.version}"
        return [WindowFinding("feature_drift", "every feature", "unknown", message)]
    return note_seasonal(findings, monitored, spec, window.end, window.traffic.features)
