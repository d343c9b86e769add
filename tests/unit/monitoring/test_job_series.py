"""Batch jobs are monitored in a series of their own: windows of requests and their incidents stay as they are."""

from datetime import timedelta

import pytest
from millrace.captures.job_windows import JobWindow
from millrace.errors import ServiceUnavailableError
from millrace.histograms.predictions import PredictionHistogram, Traffic
from millrace.histograms.tables import count_in_bins
from millrace.layout import job_window_key, monitoring_key
from millrace.monitoring.job_series import (
    JOB_VERDICTS,
    JobSeries,
    deliver_job_alerts,
    job_spec,
    load_job_report,
    monitor_jobs,
)
from millrace.monitoring.monitor import load_state
from millrace.monitoring.rules import VERDICTS
from millrace.names import CHAMPION
from millrace.registry.transactions import DeleteModel, MoveAlias, RegistryTransaction
from millrace.spec import ModelSpec
from millrace.spec.monitoring import MonitoringSpec

from tests.registry_builders import make_entry
from tests.unit.monitoring.builders import make_columns, make_reference
from tests.unit.monitoring.served import MODEL, START, Served, predict


class Channel:
    def __init__(self):
        self.events, self.messages, self.is_down = [], [], False

    def publish(self, events):
        if self.is_down:
            raise ServiceUnavailableError("the bus is down")
        self.events += events

    def notify(self, subject, text):
        self.messages.append((subject, text))


class Jobs(Served):
    """A champion whose nightly jobs are captured."""

    def __init__(self, spec=None, **options):
        super().__init__(spec, **options)
        self.channel = Channel()

    def job(self, night, *, version=1, rows=20_000, **changes):
        """A job of one night, stored as the last step of a job does."""
        columns = make_columns(rows, 5_000 + night, **changes)
        reference = make_reference(4_000)
        traffic = Traffic(
            features=count_in_bins(columns, rows, reference.bins, reference.plan),
            predictions=PredictionHistogram.count(predict(columns)),
        )
        begin = START + timedelta(days=night, hours=3)
        job_id = f"b-{night:03d}"
        window = JobWindow(
            job_id=job_id, version=version, begin=begin, end=begin + timedelta(minutes=9), traffic=traffic
        )
        window.store(MODEL, self.data)
        return job_id

    def look(self, night):
        outcome = monitor_jobs(
            MODEL,
            registry=self.registry,
            data_store=self.data,
            model_store=self.models,
            now=START + timedelta(days=night, hours=4),
        )
        deliver_job_alerts(MODEL, self.data, self.channel, self.channel)
        return outcome

    def night(self, night, **changes):
        self.job(night, **changes)
        return self.look(night)


def test_jobs_like_training_are_quiet_and_a_run_without_new_ones_writes_nothing():
    jobs = Jobs()
    for night in range(4):
        outcome = jobs.night(night)
        assert (outcome.jobs, outcome.breaches, outcome.alerts) == (1, 0, 0)
    writes = len(list(jobs.data.list_versions(monitoring_key(MODEL, "batch/state.json.gz"))))
    assert jobs.look(5).jobs == 0
    assert len(list(jobs.data.list_versions(monitoring_key(MODEL, "batch/state.json.gz")))) == writes
    report = load_job_report(MODEL, jobs.data)
    assert [job.job_id for job in report.jobs] == ["b-000", "b-001", "b-002", "b-003"]
    assert {finding.verdict for finding in report.findings} <= set(JOB_VERDICTS)
    assert any(finding.verdict == "feature_change" and finding.status == "ok" for finding in report.findings)
    assert not jobs.channel.events


def test_drift_that_lasts_opens_an_incident_of_batch_jobs_once_and_quiet_jobs_resolve_it():
    jobs = Jobs()
    for night in range(3):
        jobs.night(night)
    jobs.night(3, age_shift=1.5)
    assert not jobs.channel.events  # two of three jobs have to show it
    for night in range(4, 7):
        jobs.night(night, age_shift=1.5)
    opened = [event for event in jobs.channel.events if event.detail_type == "BatchDriftDetected"]
    assert opened[0].detail["incident"] == "BatchDriftDetected"
    assert opened[0].detail["actions"][0].startswith("none: batch jobs request no training")
    subjects = [subject for subject, _ in jobs.channel.messages]
    assert subjects == [f"[open] {MODEL}: feature drift in batch jobs"]
    assert "Requests are monitored apart" in jobs.channel.messages[0][1]
    for night in range(7, 12):
        jobs.night(night)
    assert [subject for subject, _ in jobs.channel.messages][1:] == [f"[resolved] {MODEL}: feature drift in batch jobs"]
    resolved = jobs.channel.events[-1]
    assert (resolved.detail_type, resolved.detail["incident"]) == ("IncidentResolved", "BatchDriftDetected")
    [incident] = load_job_report(MODEL, jobs.data).incidents
    assert incident.event == "BatchDriftDetected"
    assert incident.resolved_at is not None


def test_jobs_and_requests_do_not_touch_each_other():
    alone, both = Served(), Jobs()
    for hour in range(6):
        for one in (alone, both):
            one.capture(hour)
        both.job(hour, age_shift=2.0)
        both.look(hour)
        outcomes = [one.monitor(hour + 1.1) for one in (alone, both)]
        assert outcomes[0] == outcomes[1]
    assert load_state(MODEL, alone.data)[0] == load_state(MODEL, both.data)[0]
    kept = [key for key in both.data.keys(monitoring_key(MODEL, "")) if "/batch" not in key]
    assert {key: both.data.get(key) for key in kept} == {
        key: alone.data.get(key) for key in alone.data.keys(monitoring_key(MODEL, ""))
    }
    assert [event.detail_type for event in both.channel.events][:1] == ["BatchDriftDetected"]
    series = JobSeries.load(MODEL, both.data)[0]
    of_jobs = {incident.incident_id for incident in series.incidents.incidents.values()}
    of_requests = {one.incident_id for one in load_state(MODEL, both.data)[0].incidents.incidents.values()}
    assert of_jobs
    assert not of_jobs & of_requests


def test_missing_values_are_a_fault_of_the_data_of_jobs():
    jobs = Jobs()
    for night in range(3):
        jobs.night(night, missing=0.3)
    assert "BatchDataQualityDegraded" in {event.detail_type for event in jobs.channel.events}


def test_jobs_of_other_versions_are_compared_with_their_own_training():
    jobs = Jobs()
    jobs.publish_version(2)
    assert jobs.night(0, version=1).breaches == 0
    assert jobs.night(1, version=2).breaches == 0
    series = JobSeries.load(MODEL, jobs.data)[0]
    assert series.quiet == {"1": "b-000", "2": "b-001"}


def test_a_job_of_few_rows_or_without_a_reference_says_that_nothing_is_known():
    jobs = Jobs()
    jobs.night(0, rows=50)
    assert all(finding.status == "unknown" for finding in load_job_report(MODEL, jobs.data).findings)
    bare = Jobs(reference=False)
    bare.night(0)
    [finding] = load_job_report(MODEL, bare.data).findings
    assert (finding.status, finding.message) == ("unknown", "version 1 has no reference.json to compare with")
    gone = Jobs()
    gone.night(0, version=7)
    [finding] = load_job_report(MODEL, gone.data).findings
    assert finding.message == "the signature of version 7 is gone"


def test_a_window_that_cannot_be_read_or_is_gone_blocks_nothing():
    jobs = Jobs()
    jobs.data.put(job_window_key(MODEL, "b-000"), b"torn")
    assert jobs.night(1).jobs == 1
    assert jobs.look(2).jobs == 0
    jobs.data.delete([job_window_key(MODEL, "b-001")])  # as retention does; also the last quiet job
    assert jobs.night(3).breaches == 0
    assert set(JobSeries.load(MODEL, jobs.data)[0].evaluated) == {"b-000", "b-003"}


def test_jobs_are_evaluated_in_the_order_of_their_ends_and_those_of_one_run_are_bounded(monkeypatch):
    monkeypatch.setattr("millrace.monitoring.job_series._MAX_JOBS", 2)
    jobs = Jobs()
    for night in range(3):
        jobs.job(night)
    assert [jobs.look(4).jobs, jobs.look(5).jobs, jobs.look(6).jobs] == [2, 1, 0]
    assert [one.job_id for one in JobSeries.load(MODEL, jobs.data)[0].summaries] == ["b-000", "b-001", "b-002"]


def test_alerts_wait_for_a_channel_that_fails():
    jobs = Jobs()
    jobs.channel.is_down = True
    jobs.night(0, age_shift=2.0)
    jobs.job(1, age_shift=2.0)
    with pytest.raises(ServiceUnavailableError):
        jobs.look(1)
    assert not jobs.channel.messages
    jobs.channel.is_down = False
    jobs.look(2)
    assert len(jobs.channel.messages) == len({subject for subject, _ in jobs.channel.messages}) > 0
    assert JobSeries.load(MODEL, jobs.data)[0].outbox == ()


@pytest.mark.parametrize("how", ["deleted", "disabled"])
def test_a_model_that_is_not_monitored_any_more_ends_its_incidents_and_later_jobs_count_for_nothing(how):
    jobs = Jobs()
    for night in range(2):
        jobs.night(night, age_shift=2.0)
    assert JobSeries.load(MODEL, jobs.data)[0].incidents.open_incidents()
    if how == "deleted":
        entry = make_entry("deleted", MODEL, START + timedelta(days=2))
        revision = jobs.registry.get_state(MODEL).revision
        jobs.registry.commit(RegistryTransaction(entry, revision, (MoveAlias(CHAMPION, 1, None), DeleteModel())))
    else:
        jobs.registry.put_spec(MODEL, ModelSpec.parse({"monitoring": {"enabled": False}}))
    jobs.night(3, age_shift=2.0)
    assert not JobSeries.load(MODEL, jobs.data)[0].incidents.open_incidents()
    assert jobs.channel.messages[-1][0].startswith("[resolved]")
    sent = len(jobs.channel.messages)
    assert jobs.look(4).jobs == 0
    assert len(jobs.channel.messages) == sent


def test_another_monitor_that_was_faster_is_not_undone(monkeypatch):
    jobs, faster = Jobs(), []
    jobs.job(0)
    put = jobs.data.put_if_unchanged

    def overtaken(key, body, etag, content_type):
        if not faster and key.endswith("batch/state.json.gz"):
            faster.append(key)
            jobs.look(0)
        return put(key, body, etag, content_type)

    monkeypatch.setattr(jobs.data, "put_if_unchanged", overtaken)
    jobs.look(0)
    assert len(JobSeries.load(MODEL, jobs.data)[0].summaries) == 1


def test_the_verdicts_on_jobs_exist_and_the_others_are_off():
    spec = job_spec(MonitoringSpec())
    assert set(JOB_VERDICTS) <= VERDICTS.keys()
    assert {name for name in VERDICTS if getattr(spec, name).enabled} == set(JOB_VERDICTS)
    assert spec.seasonality == "off"


def test_an_unreadable_state_starts_empty():
    jobs = Jobs()
    jobs.data.put(monitoring_key(MODEL, "batch/state.json.gz"), b"later release")
    assert jobs.night(0).jobs == 1
