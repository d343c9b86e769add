"""Deleting a model, and making one again under its name."""

import pytest
from millrace.errors import (
    ConflictError,
    ModelDeletedError,
    ModelNotFoundError,
    ServiceUnavailableError,
    UnfitVersionError,
)
from millrace.ports import Schedule
from millrace.registry.approvals import request_approval
from millrace.registry.deletion import delete_model
from millrace.registry.promotion import GateDecision, assign_alias, promote, roll_back
from millrace.registry.registration import register_run
from millrace.registry.transactions import DeleteModel, MoveAlias, RetireVersion
from millrace.spec import ModelSpec
from millrace.triggers.requests import finish_run, handle_trigger, request_training
from millrace.triggers.trigger_events import parse_event

from tests.fakes.memory_events import MemoryEvents
from tests.fakes.memory_monitoring import MemoryMonitoring
from tests.fakes.memory_people import MemoryCallback, MemoryNotifier
from tests.fakes.memory_pipeline import MemoryPipeline
from tests.fakes.memory_schedules import MemorySchedules
from tests.registered_versions import RegisteredVersions, acting
from tests.registry_builders import MODEL, later, make_approval, make_cause, make_dataset, make_entry, make_transaction
from tests.unit.registry.test_approving import BUCKET


class World(RegisteredVersions):
    """Three versions, the second of which serves, a schedule for each purpose, and a run that goes on."""

    def __init__(self):
        super().__init__(3)
        self.point("champion", 1)
        self.point("champion", 2, minutes=1)
        self.point("challenger", 3, minutes=2)
        self.schedules, self.callback, self.looks = MemorySchedules(), MemoryCallback(), MemoryMonitoring()
        self.schedules.put(Schedule(MODEL, "retraining", "rate(7 days)"))
        self.schedules.put(Schedule(MODEL, "monitoring", "rate(1 hour)"))
        self.schedules.put(Schedule("other", "retraining", "rate(7 days)"))
        self.registry.put_spec(MODEL, ModelSpec.parse({"target": "left"}), make_entry("spec"))
        self.pipeline, self.bus = MemoryPipeline(), MemoryEvents()
        self.pipeline.start(MODEL, self.first_run_id)

    def delete(self, minutes=60, **others):
        collaborators = {"schedules": self.schedules, "callback": self.callback, "monitoring": self.looks, **others}
        return delete_model(MODEL, acting(minutes, "nobody needs it"), registry=self.registry, **collaborators)

    def ask(self, cause, minutes=30):
        return request_training(cause, registry=self.registry, pipeline=self.pipeline, now=later(minutes))

    def tell(self, minutes=61):
        """Let listeners hear what was done, as the event bus would."""
        self.registry.publish_waiting(self.bus)
        (event,) = [event for event in self.bus.published if event.detail_type == "ModelDeleted"]
        document = {"source": "millrace", "detail-type": event.detail_type, "detail": event.detail}
        trigger = parse_event(document, later(minutes))
        return handle_trigger(trigger, registry=self.registry, pipeline=self.pipeline, now=later(minutes))

    @property
    def state(self):
        return self.registry.get_state(MODEL)


@pytest.fixture
def world():
    return World()


class TestDeletion:
    def test_nothing_serves_and_nothing_is_scheduled_any_more(self, world):
        deletion = world.delete()
        assert (deletion.outcome, deletion.from_version, deletion.retired) == ("deleted", 2, (1, 2, 3))
        assert deletion.schedules == (
            "retraining: rate(7 days) (UTC) -> none",
            "monitoring: rate(1 hour) (UTC) -> none",
        )
        assert list(world.schedules.kept) == [("other", "retraining")]
        assert (world.aliases, world.state.deleted_at) == ({}, deletion.deleted_at)
        assert {version.status for version in world.registry.list_versions(MODEL)} == {"retired"}
        assert world.registry.list_models() == []
        with pytest.raises(ModelDeletedError, match="'churn' was deleted at 2026-05-03 15:15 UTC"):
            promote(MODEL, 3, acting(), registry=world.registry, model_store=world.models)

    def test_the_ledger_and_the_history_of_its_aliases_stay(self, world):
        world.delete()
        entry = next(entry for entry in world.registry.list_ledger(MODEL) if entry.action == "model_deleted")
        assert (entry.actor, entry.reason, entry.details["from_version"]) == ("ann", "nobody needs it", 2)
        assert world.registry.alias_move_at(MODEL, "champion", later(5)).to_version == 2
        last = world.registry.alias_move_at(MODEL, "champion", later(70))
        assert (last.from_version, last.to_version, last.action) == (2, None, "model_deleted")

    def test_many_versions_are_retired_over_several_requests(self, world, monkeypatch):
        monkeypatch.setattr("millrace.registry.deletion._RETIRED_AT_ONCE", 2)
        with pytest.raises(ServiceUnavailableError, match="has more versions to retire: delete it again"):
            world.delete()
        assert (world.aliases, list(world.schedules.kept)) == ({}, [("other", "retraining")])
        again = world.delete(minutes=61)
        assert (again.outcome, again.retired) == ("already", (3,))

    def test_again_is_the_same_as_once(self, world):
        first = world.delete()
        again = world.delete(minutes=90)
        assert (again.outcome, again.deleted_at) == ("already", first.deleted_at)
        assert (again.retired, again.schedules) == ((), ())
        assert world.actions.count("model_deleted") == 1
        # The first look may have ended badly, and nothing else looks at a model that is deleted.
        assert len(set(world.looks.started)) == 2

    @pytest.mark.parametrize("fails", ["retraining", "monitoring"])
    def test_what_a_throttled_scheduler_left_undone_is_finished_by_asking_again(self, world, monkeypatch, fails):
        def throttled(model, purpose):
            if purpose == fails:
                raise ServiceUnavailableError("EventBridge Scheduler is busy")
            world.schedules.kept.pop((model, purpose), None)

        with monkeypatch.context() as patched:
            patched.setattr(world.schedules, "delete", throttled)
            with pytest.raises(ServiceUnavailableError):
                world.delete()
        assert world.aliases == {}
        assert (MODEL, fails) in world.schedules.kept
        again = world.delete(minutes=90)
        assert (again.outcome, list(world.schedules.kept)) == ("already", [("other", "retraining")])
        assert len(world.looks.started) == 1

    def test_a_promotion_at_the_same_moment_does_not_survive(self, world, monkeypatch):
        perform = world.registry.commit

        def promoted_meanwhile(act):
            monkeypatch.setattr(world.registry, "commit", perform)
            world.point("champion", 3, minutes=50)
            perform(act)

        monkeypatch.setattr(world.registry, "commit", promoted_meanwhile)
        assert world.delete().from_version == 3
        assert world.aliases == {}

    def test_a_model_that_never_was_cannot_be_deleted(self, world):
        with pytest.raises(ModelNotFoundError):
            delete_model(
                "other",
                acting(),
                registry=world.registry,
                schedules=world.schedules,
                callback=world.callback,
                monitoring=world.looks,
            )

    def test_a_person_who_is_asked_need_not_answer_any_more(self, world):
        world.registry.put_approval(make_approval(world.first_run_id, 4), make_entry("asked"))
        world.register(4, outcome="awaiting_approval", run_id=world.first_run_id)
        world.callback.waiting.add("t1")
        world.delete()
        assert world.registry.get_approval(MODEL, world.first_run_id).status == "rejected"
        assert world.callback.answers == [("t1", "rejected")]
        run = world.registry.get_run(MODEL, world.first_run_id)
        assert (run.status, run.reasons[0]) == (
            "rejected",
            "rejected by ann: the model was deleted: nobody needs it",
        )


class TestRunsOfADeletedModel:
    def test_the_one_that_goes_on_is_stopped_and_says_why(self, world):
        assert world.delete().stopped_run == world.first_run_id
        assert world.tell() == []
        ((stopped, reason),) = world.pipeline.stopped
        assert stopped == world.first_run_id
        assert reason == "the model was deleted at 2026-05-03 15:15 UTC by ann: nobody needs it"
        run = world.registry.get_run(MODEL, world.first_run_id)
        assert (run.status, run.reasons[0]) == ("failed", f"stopped: {reason}")
        # The pipeline's own word comes later, and finds nothing left to do.
        ended = finish_run(
            MODEL, run.run_id, "ABORTED", registry=world.registry, pipeline=world.pipeline, now=later(62)
        )
        assert (ended.released, ended.follow_up_run_id) == (False, None)

    def test_every_upload_that_waited_gets_its_verdict_once(self, world):
        waiting = [make_cause(f"{number}.csv", at=later(number)) for number in range(45)]
        assert {world.ask(cause).outcome for cause in waiting} == {"deferred"}
        assert world.delete().waiting == 45
        results = world.tell()
        assert [result.outcome for result in results] == ["skipped"] * 45
        record = world.registry.get_cause(MODEL, waiting[7].cause_id)
        assert record.status == "skipped"
        assert record.reason.startswith("skipped: the model was deleted at 2026-05-03 15:15 UTC by ann")
        assert world.state.pending_causes == 0
        assert world.tell() == []
        assert len(world.pipeline.started) == 1

    def test_another_stack_s_model_of_the_same_name_is_left_alone(self, world):
        world.delete()
        world.registry.publish_waiting(world.bus)
        other = World()
        other.ask(make_cause("2.csv"))
        other.bus = world.bus
        assert other.tell() == []
        assert other.pipeline.stopped == []
        assert other.state.pending_causes == 1

    @pytest.mark.parametrize("kind", ["schedule", "manual", "drift"])
    def test_none_is_started(self, world, kind):
        world.registry.put_dataset(make_dataset("d1"))
        world.delete()
        result = world.ask(make_cause("x", kind=kind, at=later(80)), minutes=80)
        assert result.outcome == "skipped"
        assert result.reason.startswith("skipped: the model churn was deleted at 2026-05-03 15:15 UTC (")
        assert len(world.pipeline.started) == 1

    def test_an_upload_that_came_before_is_told_to_come_again(self, world):
        world.delete()
        result = world.ask(make_cause("late.csv", at=later(59)), minutes=80)
        assert result.outcome == "skipped"
        assert "was deleted at 2026-05-03 15:15 UTC; upload it again, for a new model of that name" in result.reason
        assert world.ask(make_cause("late.csv", at=later(59)), minutes=81).outcome == "duplicate"

    def test_a_cause_that_is_claimed_while_the_model_is_deleted_starts_nothing(self, world, monkeypatch):
        monkeypatch.setattr("millrace.triggers.requests.find_refusal", lambda *_: None)
        world.delete()
        result = world.ask(make_cause("late.csv", at=later(59)), minutes=80)
        assert (result.outcome, len(world.pipeline.started)) == ("skipped", 1)

    def test_one_that_nobody_could_stop_registers_nothing(self, world):
        world.delete()
        run = world.registry.get_run(MODEL, world.first_run_id)
        with pytest.raises(ModelDeletedError):
            register_run(run, registry=world.registry, model_store=world.models, data_store=world.models, now=later(61))
        with pytest.raises(ModelDeletedError):
            world.register(4)
        with pytest.raises(ModelDeletedError):
            request_approval(
                MODEL,
                run.run_id,
                "t",
                60,
                registry=_with_version(world, run.run_id, 3),
                callback=world.callback,
                notifier=MemoryNotifier(),
                bucket=BUCKET,
                now=later(61),
            )

    def test_a_version_that_was_registered_just_before_does_not_come_to_serve(self, world):
        version = world.registry.get_version(MODEL, 3)
        world.delete()
        with pytest.raises(ModelDeletedError):
            assign_alias(GateDecision(True, 2, "better", world.first_run_id), version, world.registry, later(61))
        assert world.aliases == {}


def _with_version(world, run_id, version):
    world.registry.update_run(MODEL, run_id, version=version)
    return world.registry


class TestMadeAgain:
    def test_an_upload_begins_anew_with_the_next_numbers(self, world):
        for version in (1, 2):
            world.registry.set_schema_version(MODEL, version)
        for _ in range(3):
            world.registry.next_version(MODEL)
        world.delete()
        result = world.ask(make_cause("new.csv", at=later(80)), minutes=80)
        assert result.outcome == "started"
        state = world.state
        assert (state.deleted_at, state.created_at, state.active_run_id) == (None, later(80), result.run_id)
        assert (state.current_schema_version, state.first_schema_version) == (0, 3)
        assert world.registry.next_version(MODEL) == 4
        assert world.registry.get_spec(MODEL) == ModelSpec()
        assert [state.model for state in world.registry.list_models()] == [MODEL]

    def test_data_of_the_deleted_one_is_none_to_train_on(self, world):
        world.registry.set_schema_version(MODEL, 1)
        world.registry.put_dataset(make_dataset("d1"))
        world.delete()
        world.registry.put_spec(MODEL, ModelSpec(), make_entry("again", at=later(70)))
        assert world.state.deleted_at is None
        result = world.ask(make_cause("x", kind="manual", at=later(80)), minutes=80)
        assert "no accepted dataset to train on" in result.reason

    def test_a_run_of_the_deleted_one_cannot_register_with_it(self, world):
        world.delete()
        world.ask(make_cause("new.csv", at=later(80)), minutes=80)
        old = world.registry.get_run(MODEL, world.first_run_id)
        with pytest.raises(ModelDeletedError, match="15:15"):
            register_run(old, registry=world.registry, model_store=world.models, data_store=world.models, now=later(90))

    def test_nor_does_a_version_come_to_serve_in_it_that_a_deletion_left_half_done_did_not_retire(self, world):
        moves = [MoveAlias(alias, version, None) for alias, version in world.aliases.items()]
        world.registry.commit(make_transaction("deleted", world.state.revision, *moves, DeleteModel(), at=later(60)))
        world.registry.put_spec(MODEL, ModelSpec(), make_entry("again", at=later(70)))
        version = world.registry.get_version(MODEL, 3)
        assert version.status == "registered"
        with pytest.raises(ModelDeletedError):
            assign_alias(GateDecision(True, None, "better", world.first_run_id), version, world.registry, later(80))
        assert world.aliases == {}

    def test_nor_does_anybody_promote_it_or_go_back_to_it(self, world):
        moves = [MoveAlias(alias, version, None) for alias, version in world.aliases.items()]
        world.registry.commit(make_transaction("deleted", world.state.revision, *moves, DeleteModel(), at=later(60)))
        world.registry.put_spec(MODEL, ModelSpec(), make_entry("again", at=later(70)))
        stores = {"registry": world.registry, "model_store": world.models}
        with pytest.raises(UnfitVersionError, match="version 3 is of the 'churn' that was deleted at 2026-05-03 15:15"):
            promote(MODEL, 3, acting(80), **stores)
        with pytest.raises(UnfitVersionError):
            roll_back(MODEL, acting(80), to_version=1, **stores)
        world.register(4, created_at=later(75))
        promote(MODEL, 4, acting(80), **stores)
        with pytest.raises(ConflictError, match="no earlier champion to go back to: version 2 is of the 'churn' that"):
            roll_back(MODEL, acting(90), **stores)

    def test_the_run_of_the_deleted_one_is_stopped_even_then(self, world):
        world.ask(make_cause("waits.csv"))
        world.delete()
        new = world.ask(make_cause("new.csv", at=later(80)), minutes=80)
        assert [result.outcome for result in world.tell(minutes=81)] == ["skipped"]
        assert [run_id for run_id, _ in world.pipeline.stopped] == [world.first_run_id]
        assert world.pipeline.is_running(new.run_id)

    def test_it_can_be_deleted_again(self, world):
        world.delete()
        world.ask(make_cause("new.csv", at=later(80)), minutes=80)
        assert world.delete(minutes=90).outcome == "deleted"
        assert world.actions.count("model_deleted") == 2

    def test_an_act_that_was_decided_on_before_is_refused(self, world):
        revision = world.state.revision
        world.delete()
        world.ask(make_cause("new.csv", at=later(80)), minutes=80)
        with pytest.raises(ConflictError):
            world.registry.commit(make_transaction("late", revision, RetireVersion(1)))
