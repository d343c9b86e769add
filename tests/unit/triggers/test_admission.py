from dataclasses import replace
from datetime import timedelta

import pytest
from millrace.captures.traffic import TrafficCounts, TrafficHour, record_traffic
from millrace.entities import CauseRecord, LoggedModel
from millrace.spec import ModelSpec
from millrace.triggers.requests import finish_run, refuse, request_training

from tests.fakes.memory_pipeline import MemoryPipeline
from tests.fakes.memory_registry import MemoryRegistry
from tests.registry_builders import MODEL, NOW, later, make_cause, make_dataset, make_entry, make_run

FINDINGS = ["drift", "quality", "staleness"]


def retraining(**said):
    return ModelSpec.parse({"retraining": said}).retraining


def runs(*ages_in_hours, kind="upload"):
    return [make_run(make_cause(str(age), kind=kind), at=NOW - timedelta(hours=age)) for age in ages_in_hours]


class TestRules:
    @pytest.mark.parametrize("kind", ["upload", "manual"])
    def test_uploads_and_people_are_always_followed(self, kind):
        spec = retraining(causes=[], runs_per_day=0)
        assert refuse(make_cause(kind=kind), spec, runs(0.1, 0.2), NOW) is None

    @pytest.mark.parametrize("kind", ["schedule", *FINDINGS])
    def test_what_the_spec_leaves_out_starts_nothing(self, kind):
        assert refuse(make_cause(kind=kind), retraining(), [], NOW) is None
        assert f"leave out {kind}" in refuse(make_cause(kind=kind), retraining(causes=[]), [], NOW)

    def test_slow_answers_start_nothing_unless_the_spec_says_so(self):
        assert "leave out latency" in refuse(make_cause(kind="latency"), retraining(), [], NOW)
        assert refuse(make_cause(kind="latency"), retraining(causes=["latency"]), [], NOW) is None

    @pytest.mark.parametrize("kind", FINDINGS)
    @pytest.mark.parametrize("before", FINDINGS)
    def test_findings_rest_after_a_run_of_a_finding_and_say_until_when(self, kind, before):
        spec = retraining(cooldown_hours=6)
        earlier = runs(5.9, 30, kind=before)
        refusal = refuse(make_cause(kind=kind), spec, [*runs(1), *earlier], NOW)
        assert earlier[0].run_id in refusal
        assert "until 2026-05-03 14:21" in refusal
        assert refuse(make_cause(kind=kind), spec, runs(6, kind=before), NOW) is None

    @pytest.mark.parametrize("kind", FINDINGS)
    @pytest.mark.parametrize("before", ["upload", "manual", "schedule"])
    def test_a_run_that_no_finding_started_does_not_delay_a_finding(self, kind, before):
        assert refuse(make_cause(kind=kind), retraining(), runs(0.1, 5, kind=before), NOW) is None

    def test_a_schedule_knows_no_cooldown(self):
        assert refuse(make_cause(kind="schedule"), retraining(), runs(1), NOW) is None

    @pytest.mark.parametrize("kind", ["schedule", "drift"])
    def test_a_day_has_a_budget(self, kind):
        spec = retraining(runs_per_day=2, cooldown_hours=0)
        assert refuse(make_cause(kind=kind), spec, runs(1, 24), NOW) is None
        assert "runs_per_day is 2" in refuse(make_cause(kind=kind), spec, runs(1, 23.9), NOW)

    def test_runs_of_proposed_models_take_nothing_from_the_day(self):
        spec = retraining(runs_per_day=1)
        logged = LoggedModel("models:/m-1", "mlflow/m-1/", 1, "ann")
        proposals = [replace(run, logged_model=logged) for run in runs(1, 2, 3, kind="logged_model")]
        assert refuse(make_cause(kind="drift"), spec, proposals, NOW) is None
        assert refuse(make_cause(kind="drift"), spec, [*proposals, *runs(4)], NOW)


class World:
    def __init__(self, **said):
        self.registry, self.pipeline = MemoryRegistry(), MemoryPipeline()
        self.registry.put_dataset(make_dataset("d" * 64))
        self.registry.put_spec(MODEL, ModelSpec.parse({"retraining": said}))

    def ask(self, name, kind, minutes=0.0):
        cause = make_cause(name, kind=kind)
        return request_training(cause, registry=self.registry, pipeline=self.pipeline, now=later(minutes))

    def last_entry(self):
        return self.registry.list_ledger(MODEL)[0]


class TestRequests:
    def test_a_finding_trains_once_however_often_it_is_delivered(self):
        world = World()
        first = world.ask("incident-1", "drift")
        again = world.ask("incident-1", "drift", minutes=1)
        assert (first.outcome, again.outcome) == ("started", "duplicate")
        assert again.run_id == first.run_id
        assert world.pipeline.started == [(MODEL, first.run_id)]

    def test_another_finding_of_the_same_trouble_starts_nothing_and_the_ledger_says_why(self):
        world = World()
        first = world.ask("incident-1", "drift")
        second = world.ask("incident-2", "quality", minutes=90)
        assert second.outcome == "skipped"
        entry = world.last_entry()
        assert entry.action == "trigger_skipped"
        assert first.run_id in entry.reason
        assert "cooldown_hours" in entry.reason
        assert world.registry.get_cause(MODEL, second.cause_id).status == "skipped"
        assert len(world.pipeline.started) == 1

    def test_a_finding_that_comes_back_after_the_rest_trains(self):
        world = World(cooldown_hours=1)
        run = world.ask("incident-1", "drift").run_id
        world.registry.update_run(MODEL, run, status="succeeded", stage="finished")
        world.registry.release_run(MODEL, run, None, None)
        assert world.ask("incident-1/2", "drift", minutes=61).outcome == "started"

    def finish(self, world, run):
        world.registry.update_run(MODEL, run, status="succeeded", stage="finished")
        finish_run(MODEL, run, "", registry=world.registry, pipeline=world.pipeline, now=later(5))
        return world.registry.get_state(MODEL).active_run_id

    def test_drift_on_the_first_day_trains_though_the_upload_was_an_hour_ago(self):
        world = World()
        self.finish(world, world.ask("a.csv", "upload").run_id)
        assert world.ask("incident-1", "drift", minutes=60).outcome == "started"

    def test_a_run_that_follows_an_upload_and_a_finding_counts_as_the_findings(self):
        world = World()
        first = world.ask("a.csv", "upload").run_id
        world.ask("b.csv", "upload", minutes=1)
        cause = make_cause("incident-1", kind="drift")
        run = make_run(cause, at=later(-3_000))
        world.registry.claim_cause(cause, run, make_entry("drift"))  # nothing covers it: it waits
        follow_up = self.finish(world, first)
        assert world.registry.get_run(MODEL, follow_up).kind == "upload"
        self.finish(world, follow_up)
        assert follow_up in world.ask("incident-2", "quality", minutes=90).reason

    def test_two_findings_at_once_are_one_run(self, monkeypatch):
        # Both looked before either had claimed anything: only the claim itself can tell.
        world = World()
        monkeypatch.setattr(world.registry, "list_runs", lambda model, limit=50: [])
        first, second = world.ask("incident-1", "drift"), world.ask("incident-2", "quality", minutes=0.01)
        assert (first.outcome, second.outcome) == ("started", "skipped")
        assert second.run_id == first.run_id
        record = world.registry.get_cause(MODEL, second.cause_id)
        assert isinstance(record, CauseRecord)
        assert (record.status, record.run_id) == ("skipped", first.run_id)
        assert world.registry.get_state(MODEL).pending_causes == 0
        assert world.last_entry().details["answered_by"] == first.run_id

    def propose(self, world, number=1):
        logged = LoggedModel("models:/m-1", "mlflow/m-1/", number, "ann")
        proposal = replace(make_cause(f"{number}", kind="logged_model", at=later(number)), logged_model=logged)
        return request_training(proposal, registry=world.registry, pipeline=world.pipeline, now=later(number)).run_id

    def test_many_runs_of_proposed_models_hide_no_run_of_a_finding(self, monkeypatch):
        monkeypatch.setattr("millrace.triggers.requests._RUNS_OF_A_COOLDOWN", 2)
        world = World(runs_per_day=2)
        first = world.ask("incident-1", "drift").run_id
        self.finish(world, first)
        for number in range(10, 13):
            self.finish(world, self.propose(world, number))
        assert first in world.ask("incident-2", "quality", minutes=90).reason

    def test_a_finding_waits_for_the_run_of_a_proposed_model_which_trains_nothing(self):
        world = World()
        run = self.propose(world)
        assert world.ask("incident-1", "drift", minutes=1).outcome == "deferred"
        follow_up = world.registry.get_run(MODEL, self.finish(world, run))
        assert (follow_up.kind, follow_up.logged_model) == ("drift", None)

    def test_an_upload_still_waits_for_the_run_that_a_finding_started(self):
        world = World(runs_per_day=1)
        world.ask("incident-1", "drift")
        assert world.ask("b.csv", "upload", minutes=1).outcome == "deferred"
        assert world.registry.get_state(MODEL).pending_causes == 1


class TestBudget:
    """A spent budget holds back what nobody requested by hand, if the spec says so."""

    @pytest.fixture
    def registry(self):
        registry = MemoryRegistry()
        registry.put_dataset(make_dataset("d1"))
        counts = TrafficCounts(requests=1_000_000, rows=1_000_000)
        record_traffic(registry.store, TrafficHour(model=MODEL, hour=NOW - timedelta(hours=2), versions={1: counts}))
        return registry

    @pytest.mark.parametrize("kind", ["schedule", *FINDINGS])
    def test_holds_back_schedules_and_findings_with_the_reason(self, registry, kind):
        registry.put_spec(MODEL, ModelSpec.parse({"budget": {"usd_a_month": 1, "hold_retraining": True}}))
        pipeline = MemoryPipeline()
        result = request_training(make_cause(kind=kind), registry=registry, pipeline=pipeline, now=NOW)
        assert (result.outcome, pipeline.started) == ("skipped", [])
        [entry] = registry.list_ledger(MODEL, limit=1)
        assert entry.action == "trigger_skipped"
        assert "budget.hold_retraining holds back automatic runs until 2026-06-01" in entry.details["refusal"]

    @pytest.mark.parametrize("kind", ["upload", "manual"])
    def test_never_holds_back_uploads_and_people(self, registry, kind):
        registry.put_spec(MODEL, ModelSpec.parse({"budget": {"usd_a_month": 1, "hold_retraining": True}}))
        result = request_training(make_cause(kind=kind), registry=registry, pipeline=MemoryPipeline(), now=NOW)
        assert result.outcome == "started"

    @pytest.mark.parametrize("budget", [None, {"usd_a_month": 1}, {"usd_a_month": 100, "hold_retraining": True}])
    def test_holds_back_nothing_otherwise(self, registry, budget):
        registry.put_spec(MODEL, ModelSpec.parse({"budget": budget}))
        cause = make_cause(kind="schedule")
        assert request_training(cause, registry=registry, pipeline=MemoryPipeline(), now=NOW).outcome == "started"
