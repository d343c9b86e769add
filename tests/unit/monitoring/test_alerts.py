"""Actions of an incident: the outcomes of its requests for training."""

from dataclasses import replace
from datetime import timedelta

import pytest
from millrace.causes import finding_cause_id
from millrace.entities import Cause
from millrace.monitoring.alerts import MAX_REQUESTS, describe_actions, make_alert, update_actions
from millrace.monitoring.incidents import ActiveFinding, Incident, IncidentHistory, Transition
from millrace.monitoring.window_findings import WindowFinding
from millrace.triggers.requests import request_training
from msgspec import structs

from tests.fakes.memory_pipeline import MemoryPipeline
from tests.fakes.memory_registry import MemoryRegistry
from tests.registry_builders import MODEL, NOW, later, make_dataset, make_entry, make_run

INCIDENT = "0f3a9c2b7d1e"


class World:
    """A model that can be trained, and an incident that asks for it."""

    def __init__(self):
        self.registry, self.pipeline = MemoryRegistry(), MemoryPipeline()
        self.registry.put_dataset(make_dataset("d1"))

    def ask(self, request=1, minutes=0, kind="drift"):
        cause_id = finding_cause_id(kind, MODEL, INCIDENT, request)
        cause = Cause(cause_id, MODEL, kind, later(minutes), reason="age shifted (by a lot)")
        return request_training(cause, registry=self.registry, pipeline=self.pipeline, now=later(minutes))

    def actions(self, requests=1, event="DriftDetected"):
        return describe_actions(MODEL, event, INCIDENT, requests, self.registry)


@pytest.fixture
def world():
    return World()


def test_a_request_that_was_just_published_is_not_processed_yet(world):
    assert world.actions() == ("requested a training run; not processed yet",)


def test_a_run_is_described_with_its_progress_and_result(world):
    run_id = world.ask().run_id
    assert world.actions() == (f"requested a training run: run {run_id} is queued",)
    world.registry.update_run(MODEL, run_id, status="running", stage="awaiting_approval")
    assert world.actions() == (f"requested a training run: run {run_id} is awaiting approval",)
    summary = {"outcome": "promoted: not worse than version 3"}
    world.registry.update_run(MODEL, run_id, status="succeeded", stage="finished", version=4, summary=summary)
    assert world.actions() == (
        f"requested a training run: run {run_id} succeeded: version 4 promoted: not worse than version 3",
    )
    world.registry.update_run(MODEL, run_id, status="rejected", version=None, reasons=("worse than version 3",))
    assert world.actions() == (f"requested a training run: run {run_id} was rejected: worse than version 3",)


def test_a_cooldown_is_described(world):
    run_id = world.ask().run_id
    world.registry.update_run(MODEL, run_id, status="failed", stage="finished", reasons=("no rows",))
    world.registry.release_run(MODEL, run_id, None, None)
    world.ask(request=2, minutes=30)
    _, second = world.actions(requests=2)
    assert second.startswith(f"requested a training run: no run was started: a finding started run {run_id} at ")
    assert "retraining.cooldown_hours last until" in second
    assert "age shifted" not in second


def test_a_request_that_another_run_answers_is_described_with_that_run(world):
    run_id = world.ask(kind="quality").run_id
    # Both findings of a window arrive at once, each before the other's run can be seen.
    cause = Cause(finding_cause_id("drift", MODEL, INCIDENT, 1), MODEL, "drift", NOW, reason="age shifted")
    world.registry.claim_cause(cause, make_run(cause), replace(make_entry("c"), reason=cause.reason), NOW)
    (action,) = world.actions()
    assert action == (
        f"requested a training run: no run was started: run {run_id}, requested shortly before, covers it; "
        "that run is queued"
    )


def test_a_waiting_request_is_described(world):
    cause = Cause("c" * 32, MODEL, "manual", NOW, reason="by hand")
    request_training(cause, registry=world.registry, pipeline=world.pipeline, now=NOW)
    # Past the cooldown, so that the run which is still training does not answer it.
    world.ask(minutes=60 * 24 * 3)
    assert world.actions() == ("requested a training run: waits for the active training run",)


def test_of_many_requests_the_last_are_described_and_the_others_counted(world):
    actions = world.actions(requests=MAX_REQUESTS + 3)
    assert actions[0].startswith("requested a training run 3 time(s) before")
    assert len(actions) == MAX_REQUESTS + 1


def test_faulty_data_requests_no_training(world):
    assert world.actions(event="DataQualityDegraded") == ()


def test_an_incident_that_ended_is_followed_for_a_day(world):
    run_id = world.ask().run_id
    incident = Incident(
        incident_id=INCIDENT,
        event="DriftDetected",
        version=1,
        opened_at=NOW,
        since=NOW,
        findings={},
        notified=True,
        requests=1,
        resolved_at=later(5),
    )
    book = IncidentHistory(incidents={"DriftDetected": incident})
    followed = update_actions(book, MODEL, world.registry, later(10)).incidents["DriftDetected"]
    assert followed.actions == (f"requested a training run: run {run_id} is queued",)
    assert update_actions(book, MODEL, world.registry, later(5) + timedelta(days=2)) == book
    untold = IncidentHistory(incidents={"DriftDetected": structs.replace(incident, requests=0)})
    assert update_actions(untold, MODEL, world.registry, later(10)) == untold


@pytest.mark.parametrize("reason", ["training has 4 months of a year", ""])
def test_an_alert_says_where_it_may_be_the_season(reason):
    found = WindowFinding("feature_drift", "temperature", "breach", "it is colder")
    if reason:
        found = found.with_seasonal_reason(reason)
    incident = Incident(
        incident_id=INCIDENT,
        event="DriftDetected",
        version=1,
        opened_at=NOW,
        since=NOW,
        findings={found.key: ActiveFinding(finding=found, since=NOW)},
    )
    alert = make_alert(MODEL, Transition("opened", incident), NOW)
    message = f"it is colder; it may be the season: {reason}" if reason else "it is colder"
    assert alert.detail["reason"] == message, "the cause of a training run has it too"
    assert alert.detail["season"] == ("possible" if reason else None)
    assert ("Season: possible." in alert.text) == bool(reason)
    first = ActiveFinding(finding=WindowFinding("skew", "other", "breach", "it differs"), since=NOW)
    both = structs.replace(incident, findings={"skew:other": first, **incident.findings})
    detail = make_alert(MODEL, Transition("opened", both), NOW).detail
    assert detail["reason"] == f"it differs; and 1 more{'; season: possible' if reason else ''}"
