"""What may happen within seconds of a model's deletion, or before anybody hears of it, over both registries.

Deletion, uploads, requests, the end of runs and making the model again meet in every order that the parts allow. The
rule is one: what is not later than the deletion belongs to the model that is gone.
"""

from dataclasses import replace

import pytest
from millrace.entities import Work
from millrace.errors import ConflictError, ModelDeletedError
from millrace.ports import Schedule
from millrace.registry.claims import Claim
from millrace.registry.deletion import delete_model
from millrace.registry.model_schedules import apply_schedules
from millrace.registry.transactions import DeleteModel
from millrace.spec import ModelSpec
from millrace.triggers.requests import finish_run, handle_trigger, request_training
from millrace.triggers.trigger_events import ModelEnded, parse_event

from tests.fakes.memory_events import MemoryEvents
from tests.fakes.memory_monitoring import MemoryMonitoring
from tests.fakes.memory_people import MemoryCallback
from tests.fakes.memory_pipeline import MemoryPipeline
from tests.fakes.memory_schedules import MemorySchedules
from tests.registered_versions import acting
from tests.registry_builders import (
    MODEL,
    later,
    make_cause,
    make_dataset,
    make_entry,
    make_run,
    make_transaction,
    make_version,
)


class World:
    """A model whose first run goes on; minute 60 is when it is deleted."""

    def __init__(self, registry):
        self.registry, self.pipeline, self.bus = registry, MemoryPipeline(), MemoryEvents()
        self.schedules = MemorySchedules()
        self.first = self.ask(make_cause("first.csv"), 0).run_id

    def ask(self, cause, minutes):
        return request_training(cause, registry=self.registry, pipeline=self.pipeline, now=later(minutes))

    def upload(self, name, minutes):
        return self.ask(make_cause(name, at=later(minutes)), minutes)

    def finish(self, run_id, minutes):
        self.pipeline.finish(run_id)
        return finish_run(MODEL, run_id, "it ended", registry=self.registry, pipeline=self.pipeline, now=later(minutes))

    def delete(self, minutes=60, schedules=None):
        return delete_model(
            MODEL,
            acting(minutes, f"nobody needs it at {minutes}"),
            registry=self.registry,
            schedules=schedules or self.schedules,
            callback=MemoryCallback(),
            monitoring=MemoryMonitoring(),
        )

    def make_again(self, minutes=61, spec=None):
        self.registry.put_spec(MODEL, spec or ModelSpec(), make_entry(f"spec-{minutes}", at=later(minutes)))

    def take_in(self, minutes=62):
        """Let the model have data to train on."""
        state = self.registry.get_state(MODEL)
        assert state.first_schema_version == 1, "no schema was deleted, so the next dataset is of the model now there"
        self.registry.put_dataset(make_dataset("d1", at=later(minutes)))

    def hear(self, minutes=90, order=1):
        """Deliver the deletions, as the event bus would: late, and in any order."""
        self.registry.publish_waiting(self.bus)
        results = []
        for event in self.bus.published[::order]:
            if event.detail_type == "ModelDeleted":
                document = {"source": "millrace", "detail-type": event.detail_type, "detail": event.detail}
                trigger = parse_event(document, later(minutes))
                results += handle_trigger(trigger, registry=self.registry, pipeline=self.pipeline, now=later(minutes))
        return results

    def status(self, cause):
        record = self.registry.get_cause(MODEL, cause.cause_id)
        return record.status, record.reason

    @property
    def state(self):
        return self.registry.get_state(MODEL)

    @property
    def stopped(self):
        return [run_id for run_id, _ in self.pipeline.stopped]


@pytest.fixture
def world(registry):
    return World(registry)


def between(world, monkeypatch, method, act, *, before, owner=None):
    """Let ``act`` happen once, before or after the next ``method`` of the registry, or of its store."""
    owner = owner or world.registry
    original = getattr(owner, method)

    def meanwhile(*arguments, **named):
        monkeypatch.setattr(owner, method, original)
        if before:
            act()
            return original(*arguments, **named)
        found = original(*arguments, **named)
        act()
        return found

    monkeypatch.setattr(owner, method, meanwhile)


class TestMadeAgainBeforeTheDeletionIsHeard:
    @pytest.mark.parametrize("kind", ["upload", "schedule", "manual", "drift"])
    def test_the_end_of_a_run_takes_over_nothing_that_waited_for_the_deleted_one(self, world, kind):
        world.registry.put_spec(MODEL, ModelSpec.parse({"retraining": {"cooldown_hours": 0}}), make_entry("spec"))
        world.registry.put_dataset(make_dataset("d0"))
        old = make_cause("old", kind=kind, at=later(5))
        assert world.ask(old, 5).outcome == "deferred"
        world.delete()
        run_id = world.upload("new.csv", 61).run_id
        assert world.upload("newer.csv", 62).outcome == "deferred"
        follow_up = world.registry.get_run(MODEL, world.finish(run_id, 63).follow_up_run_id)
        assert follow_up.cause_ids == (make_cause("newer.csv").cause_id,)
        assert world.status(old) == (
            "skipped",
            "skipped: the model was deleted at 2026-05-03 15:15 UTC (old was uploaded)",
        )
        assert world.state.pending_causes == 0
        # The event comes at last, and stops what still runs of the deleted one; nothing else is left to do.
        assert world.hear() == []
        assert world.stopped == [world.first]
        assert world.state.active_run_id == follow_up.run_id

    def test_however_many_waited(self, world):
        for number in range(45):
            world.upload(f"{number}.csv", number)
        world.delete()
        run_id = world.upload("new.csv", 61).run_id
        ended = world.finish(run_id, 63)
        assert (ended.released, ended.follow_up_run_id) == (True, None)
        assert (world.state.active_run_id, world.state.pending_causes) == (None, 0)
        skipped = [entry for entry in world.registry.list_ledger(MODEL) if entry.action == "trigger_skipped"]
        assert len(skipped) == 45

    @pytest.mark.parametrize("is_training", [False, True])
    def test_an_upload_that_came_before_neither_starts_nor_waits(self, world, is_training):
        world.delete()
        world.make_again()
        if is_training:
            world.upload("new.csv", 62)
        late = world.ask(make_cause("late.csv", at=later(60)), 63)
        assert late.outcome == "skipped"
        assert late.reason.startswith("skipped: the model churn was deleted at 2026-05-03 15:15 UTC; upload it again")
        assert world.state.pending_causes == 0
        assert world.ask(make_cause("late.csv", at=later(60)), 64).outcome == "duplicate"

    @pytest.mark.parametrize("kind", ["schedule", "manual", "drift"])
    def test_nor_does_what_was_asked_for_before(self, world, kind):
        world.delete()
        world.make_again()
        world.take_in()
        assert world.ask(make_cause("x", kind=kind, at=later(59)), 63).outcome == "skipped"
        assert len(world.pipeline.started) == 1
        assert world.ask(make_cause("y", kind=kind, at=later(63)), 64).outcome == "started"

    def test_an_upload_that_is_delivered_again_does_not_start_its_run_of_old(self, world):
        world.pipeline.finish(world.first)
        world.pipeline.started.clear()  # whoever claimed it did not live to start it
        world.delete()
        world.make_again()
        again = world.ask(make_cause("first.csv"), 63)
        assert (again.outcome, again.run_id, world.pipeline.started) == ("duplicate", world.first, [])

    def test_runs_of_the_deleted_one_are_none_of_its_budget(self, world):
        world.delete()
        spec = {"retraining": {"runs_per_day": 1, "cooldown_hours": 24}}
        world.make_again(spec=ModelSpec.parse(spec))
        world.take_in()
        assert world.ask(make_cause("x", kind="drift", at=later(63)), 63).outcome == "started"

    @pytest.mark.parametrize("order", [1, -1])
    def test_twice_and_heard_of_in_any_order(self, world, order):
        waited = [
            make_cause("0.csv", at=later(5)),
            make_cause("1.csv", at=later(62)),
            make_cause("2.csv", at=later(72)),
        ]
        world.ask(waited[0], 5)
        world.delete(60)
        second = world.upload("second.csv", 61).run_id
        world.ask(waited[1], 62)
        world.delete(70)
        third = world.upload("third.csv", 71).run_id
        world.ask(waited[2], 72)
        world.hear(order=order)
        assert sorted(world.stopped) == sorted([world.first, second])
        assert [world.status(cause)[0] for cause in waited] == ["skipped", "skipped", "pending"]
        assert (world.state.active_run_id, world.state.pending_causes) == (third, 1)
        assert world.pipeline.is_running(third)

    def test_another_stack_s_deletion_does_not_stop_a_run_of_the_model_that_is_there(self, world):
        """Runs of schedules may bear one name in two stacks of an account."""
        world.delete()
        run_id = world.upload("new.csv", 61).run_id
        other = ModelEnded(MODEL, later(59), run_id, "bob", "not needed")
        assert handle_trigger(other, registry=world.registry, pipeline=world.pipeline, now=later(62)) == []
        assert (world.stopped, world.registry.get_run(MODEL, run_id).status) == ([], "queued")


class TestAtTheSameMoment:
    def test_a_run_that_starts_while_its_model_is_deleted_is_named_and_stopped(self, world, monkeypatch):
        world.finish(world.first, 10)
        between(world, monkeypatch, "get_state", lambda: world.upload("new.csv", 59), before=False)
        deletion = world.delete()
        assert deletion.stopped_run == make_run(make_cause("new.csv", at=later(59))).run_id
        world.hear()
        assert world.stopped == [deletion.stopped_run]

    def test_so_is_the_follow_up_that_takes_the_turn(self, world, monkeypatch):
        world.upload("waits.csv", 5)
        between(world, monkeypatch, "commit", lambda: world.finish(world.first, 59), before=True)
        deletion = world.delete()
        assert (deletion.stopped_run, deletion.waiting) == (world.pipeline.started[-1][1], 0)
        assert deletion.stopped_run != world.first
        world.hear()
        assert world.stopped == [deletion.stopped_run]

    def test_what_begins_to_wait_meanwhile_is_counted_and_gets_its_verdict(self, world, monkeypatch):
        between(world, monkeypatch, "commit", lambda: world.upload("waits.csv", 59), before=True)
        assert world.delete().waiting == 1
        assert [result.outcome for result in world.hear()] == ["skipped"]

    def test_a_deletion_is_later_than_all_that_it_ends_whatever_the_clocks_say(self, world):
        """Who deletes reads the clock when asked, and a cause may be claimed between that and the deletion."""
        world.finish(world.first, 10)
        run_id = world.upload("new.csv", 61).run_id
        waits = make_cause("waits.csv", at=later(62))
        world.ask(waits, 62)
        world.registry.put_version(replace(make_version(1), created_at=later(62.5)), make_entry("version-1"))
        deletion = world.delete(60)
        assert later(62.5) < deletion.deleted_at < later(63)
        world.make_again(63)
        with pytest.raises(ModelDeletedError):
            world.state.ensure_not_deleted(world.registry.get_run(MODEL, run_id).requested_at)
        world.hear()
        assert (world.stopped, world.status(waits)[0]) == ([run_id], "skipped")

    @pytest.mark.parametrize("begun", ["run", "cause", "version"])
    def test_each_of_them_counts(self, world, begun):
        world.finish(world.first, 10)
        if begun == "version":
            world.registry.put_version(replace(make_version(1), created_at=later(61)), make_entry("version-1"))
        else:
            world.ask(make_cause("1.csv", at=later(61 if begun == "run" else 50)), 50)
            world.ask(make_cause("2.csv", at=later(61 if begun == "cause" else 50)), 51)
        assert later(61) < world.delete(60).deleted_at < later(62)

    def test_a_run_is_never_asked_for_before_its_cause(self, world):
        """Or a run that makes the model again would count as one of the deleted, when a clock is slow."""
        world.delete()
        run_id = world.ask(make_cause("new.csv", at=later(61)), 59).run_id
        world.state.ensure_not_deleted(world.registry.get_run(MODEL, run_id).requested_at)

    @pytest.mark.parametrize("was_deleted_once", [False, True])
    def test_a_claim_that_was_decided_on_before_finds_no_other_model(self, world, monkeypatch, was_deleted_once):
        """Deleted and made again between the two: the state looks alike, and is another model's."""
        world.finish(world.first, 10)
        if was_deleted_once:
            world.delete(20)
            world.make_again(21)

        def other_model():
            world.delete()
            world.make_again()

        between(world, monkeypatch, "transact", other_model, before=True, owner=world.registry.store)
        cause = make_cause("late.csv", at=later(59))
        claim = world.registry.claim_cause(cause, make_run(cause), make_entry("late", at=later(62)))
        assert claim == Claim("deleted", None)
        assert world.state.active_run_id is None

    @pytest.mark.parametrize("made_again", [False, True])
    def test_a_request_that_the_deletion_overtakes_says_when_that_was(self, world, monkeypatch, made_again):
        world.finish(world.first, 10)

        def overtake():
            world.delete()
            if made_again:
                world.make_again()

        between(world, monkeypatch, "claim_cause", overtake, before=True)
        overtaken = world.upload("late.csv", 59)
        assert overtaken.outcome == "skipped"
        assert "was deleted at 2026-05-03 15:15 UTC" in overtaken.reason

    @pytest.mark.parametrize("turn", [("other", 0), (None, 0), ("first", 1)])
    def test_a_deletion_that_was_decided_on_other_work_is_refused(self, world, turn):
        active_run_id = world.first if turn[0] == "first" else turn[0]
        act = make_transaction("deleted", 0, DeleteModel(Work(active_run_id, turn[1])), at=later(60))
        with pytest.raises(ConflictError, match="the active run of 'churn' or the causes that wait have changed"):
            world.registry.commit(act)
        assert world.state.deleted_at is None


class TestSchedules:
    def test_those_of_a_model_made_again_outlive_the_end_of_the_deletion(self, world, monkeypatch):
        """The deletion marks the model and looks for schedules later; a spec may have made new ones by then."""
        spec = ModelSpec.parse({"retraining": {"schedule": "rate(2 days)"}})
        world.schedules.put(Schedule(MODEL, "monitoring", "rate(1 hour)"))

        def make_again():
            world.make_again(spec=spec)
            apply_schedules(MODEL, spec, world.schedules)

        between(world, monkeypatch, "commit", make_again, before=False)
        world.delete()
        assert world.schedules.kept == {
            (MODEL, "retraining"): Schedule(MODEL, "retraining", "rate(2 days)", spec.retraining.time_zone)
        }

    def test_also_when_it_is_made_again_while_they_are_removed(self, world):
        spec = ModelSpec.parse({"retraining": {"schedule": "rate(2 days)"}})

        class Interrupted(MemorySchedules):
            def get(self, model, purpose):
                if world.state.deleted_at is not None:
                    world.make_again(spec=spec)
                    apply_schedules(MODEL, spec, self)
                return super().get(model, purpose)

        schedules = Interrupted()
        world.delete(schedules=schedules)
        assert list(schedules.kept) == [(MODEL, "retraining")]
