from datetime import timedelta

import pytest
from millrace.errors import RunNotFoundError, ServiceUnavailableError
from millrace.names import make_run_id
from millrace.registry.claims import MAX_FOLLOW_UP_CAUSES
from millrace.triggers.requests import REFUSED_UPLOADS, finish_run, handle_trigger, request_training
from millrace.triggers.trigger_events import Refusal, RefusedUpload, RunEnded, ScheduleTrigger, parse_event

from tests.fakes.memory_pipeline import MemoryPipeline
from tests.fakes.memory_registry import MemoryRegistry
from tests.limits import at_most
from tests.registry_builders import MODEL, NOW, later, make_cause, make_dataset, make_source


class World:
    """A registry, a pipeline and a clock."""

    def __init__(self):
        self.registry = MemoryRegistry()
        self.pipeline = MemoryPipeline()
        self.minutes = 0

    def ask(self, cause):
        self.minutes += 1
        return request_training(
            cause, registry=self.registry, pipeline=self.pipeline, now=later(self.minutes), actor="tester"
        )

    def finish(self, run_id, reason="the pipeline ended as succeeded"):
        self.minutes += 1
        return finish_run(
            MODEL, run_id, reason, registry=self.registry, pipeline=self.pipeline, now=later(self.minutes)
        )

    def fail(self, run_id, fault="Runtime.ExitError"):
        """End a run by a fault, and return the run that follows."""
        self.minutes += 1
        ended = RunEnded(MODEL, run_id, "the pipeline ended as failed", fault)
        (finished,) = handle_trigger(ended, registry=self.registry, pipeline=self.pipeline, now=later(self.minutes))
        self.pipeline.finish(run_id)
        return finished.follow_up_run_id

    def follow_up(self, count):
        """Start a run of that many uploads, and return it with their causes."""
        first = self.ask(make_cause("first.csv")).run_id
        causes = [make_cause(f"{number}.csv") for number in range(count)]
        for cause in causes:
            self.ask(cause)
        return self.registry.get_run(MODEL, self.succeed(first).follow_up_run_id), causes

    def succeed(self, run_id):
        self.registry.update_run(MODEL, run_id, status="succeeded", stage="finished")
        return self.finish(run_id)

    def actions(self):
        return [entry.action for entry in reversed(self.registry.list_ledger(MODEL))]


@pytest.fixture
def world():
    return World()


class TestRequests:
    def test_a_cause_starts_its_run(self, world):
        cause = make_cause()
        result = world.ask(cause)
        run_id = make_run_id(cause.cause_id, cause.occurred_at)
        assert (result.outcome, result.run_id) == ("started", run_id)
        assert world.pipeline.started == [(MODEL, run_id)]
        run = world.registry.get_run(MODEL, run_id)
        assert (run.sources, run.cause_ids, run.status) == ((cause.source,), (cause.cause_id,), "queued")
        (entry,) = world.registry.list_ledger(MODEL)
        assert (entry.actor, entry.reason) == ("tester", "a.csv was uploaded")

    def test_five_deliveries_of_one_event_train_once(self, world):
        results = [world.ask(make_cause()) for _ in range(5)]
        assert [result.outcome for result in results] == ["started"] + ["duplicate"] * 4
        assert len({result.run_id for result in results}) == 1
        assert len(world.pipeline.started) == 1

    def test_a_run_whose_maker_died_before_starting_it_is_started_by_the_next_delivery(self, world, monkeypatch):
        def die(model, run_id):
            raise ServiceUnavailableError("Step Functions is busy")

        with monkeypatch.context() as patched:
            patched.setattr(world.pipeline, "start", die)
            with pytest.raises(ServiceUnavailableError):
                world.ask(make_cause())
        assert world.pipeline.started == []
        result = world.ask(make_cause())
        assert (result.outcome, world.pipeline.started) == ("duplicate", [(MODEL, result.run_id)])

    def test_a_run_that_is_under_way_is_not_started_again(self, world, monkeypatch):
        run_id = world.ask(make_cause()).run_id
        world.registry.update_run(MODEL, run_id, status="running")
        monkeypatch.setattr(world.pipeline, "start", lambda *_: pytest.fail("started again"))
        assert world.ask(make_cause()).outcome == "duplicate"

    def test_while_a_run_is_going_others_wait(self, world):
        world.ask(make_cause("1.csv"))
        result = world.ask(make_cause("2.csv"))
        assert (result.outcome, result.run_id) == ("deferred", None)
        assert "waits" in result.reason
        assert len(world.pipeline.started) == 1
        assert world.actions() == ["run_requested", "trigger_deferred"]
        again = world.ask(make_cause("2.csv"))
        assert (again.outcome, again.run_id) == ("duplicate", None)

    @pytest.mark.parametrize("status", ["queued", "running"])
    def test_a_run_whose_execution_died_gives_way_to_the_next_cause(self, world, status):
        dead = world.ask(make_cause("1.csv")).run_id
        world.registry.update_run(MODEL, dead, status=status)
        world.pipeline.finish(dead)
        result = world.ask(make_cause("2.csv"))
        assert result.outcome == "started"
        assert world.pipeline.started[-1] == (MODEL, result.run_id)
        run = world.registry.get_run(MODEL, dead)
        assert (run.status, run.stage) == ("failed", "finished")
        assert "without a report" in run.reasons[0]
        assert world.registry.get_state(MODEL).active_run_id == result.run_id
        assert world.registry.get_run(MODEL, result.run_id).sources == (make_source("2.csv"),)
        assert sorted(world.actions()) == ["run_failed", "run_requested", "run_requested", "trigger_deferred"]
        assert [record.cause for record in world.registry.list_pending_causes(MODEL)] == [make_cause("1.csv")]

    def test_a_waiting_cause_delivered_again_relieves_a_dead_run_too(self, world):
        dead = world.ask(make_cause("1.csv")).run_id
        world.ask(make_cause("2.csv"))
        world.pipeline.finish(dead)
        result = world.ask(make_cause("2.csv"))
        assert (result.outcome, result.run_id) == ("duplicate", world.pipeline.started[-1][1])
        assert result.run_id != dead

    def test_a_queued_run_that_was_never_started_is_started_not_failed(self, world, monkeypatch):
        with monkeypatch.context() as patched:
            patched.setattr(world.pipeline, "start", lambda *_: False)
            first = world.ask(make_cause("1.csv")).run_id
        assert world.ask(make_cause("2.csv")).outcome == "deferred"
        assert world.pipeline.started == [(MODEL, first)]
        assert world.registry.get_run(MODEL, first).status == "queued"

    @pytest.mark.parametrize("kind", ["schedule", "manual"])
    def test_without_a_dataset_there_is_nothing_to_train_on(self, world, kind):
        cause = make_cause("weekly", kind=kind)
        result = world.ask(cause)
        assert result.outcome == "skipped"
        assert "no accepted dataset" in result.reason
        assert world.registry.get_cause(MODEL, cause.cause_id).status == "skipped"
        (entry,) = world.registry.list_ledger(MODEL)
        assert (entry.action, entry.reason) == ("trigger_skipped", result.reason)
        assert world.ask(cause).outcome == "duplicate"
        assert world.pipeline.started == []

    def test_a_schedule_trains_on_the_datasets_there_are(self, world):
        world.registry.put_dataset(make_dataset("d1"))
        result = world.ask(make_cause("weekly", kind="schedule"))
        assert result.outcome == "started"
        run = world.registry.get_run(MODEL, result.run_id)
        assert (run.kind, run.sources) == ("schedule", ())


class TestFinishing:
    def test_a_run_that_recorded_its_end_keeps_it(self, world):
        run_id = world.ask(make_cause()).run_id
        finished = world.succeed(run_id)
        assert (finished.released, finished.follow_up_run_id) == (True, None)
        assert world.registry.get_run(MODEL, run_id).status == "succeeded"
        assert world.registry.get_state(MODEL).active_run_id is None
        assert world.actions() == ["run_requested"]

    def test_a_run_that_did_not_is_failed_with_the_reason(self, world):
        run_id = world.ask(make_cause()).run_id
        world.finish(run_id, "the pipeline's execution ended as TIMED_OUT")
        run = world.registry.get_run(MODEL, run_id)
        assert (run.status, run.stage, run.finished_at) == ("failed", "finished", later(2))
        assert run.reasons == ("the pipeline's execution ended as TIMED_OUT",)
        assert world.actions() == ["run_requested", "run_failed"]

    def test_ending_twice_is_ending_once(self, world):
        run_id = world.ask(make_cause()).run_id
        world.finish(run_id, "first word")
        second = world.finish(run_id, "second word")
        assert not second.released
        assert world.registry.get_run(MODEL, run_id).reasons == ("first word",)
        assert world.actions().count("run_failed") == 1

    def test_what_waited_is_answered_by_one_run(self, world):
        first = world.ask(make_cause("1.csv")).run_id
        waiting = [make_cause("2.csv"), make_cause("3.csv")]
        for cause in waiting:
            world.ask(cause)
        finished = world.succeed(first)
        follow_up = world.registry.get_run(MODEL, finished.follow_up_run_id)
        assert follow_up.cause_ids == tuple(cause.cause_id for cause in waiting)
        assert follow_up.sources == tuple(cause.source for cause in waiting)
        assert world.pipeline.started == [(MODEL, first), (MODEL, follow_up.run_id)]
        newest = world.registry.list_ledger(MODEL)[0]
        assert (newest.action, newest.details["run_id"]) == ("run_requested", follow_up.run_id)
        assert world.registry.get_state(MODEL).pending_causes == 0

    def test_uploads_among_what_waited_make_it_an_upload_run(self, world):
        world.registry.put_dataset(make_dataset("d1"))
        first = world.ask(make_cause("1.csv")).run_id
        world.ask(make_cause("weekly", kind="schedule"))
        world.ask(make_cause("2.csv"))
        follow_up = world.registry.get_run(MODEL, world.succeed(first).follow_up_run_id)
        assert (follow_up.kind, len(follow_up.cause_ids), len(follow_up.sources)) == ("upload", 2, 1)

    def test_more_than_one_run_can_answer_goes_on_waiting_and_nothing_is_lost(self, world):
        run_id = world.ask(make_cause("first.csv")).run_id
        causes = [make_cause(f"{number}.csv") for number in range(MAX_FOLLOW_UP_CAUSES + 3)]
        for cause in causes:
            world.ask(cause)
        answered = []
        for _ in at_most(5):
            run_id = world.succeed(run_id).follow_up_run_id
            if run_id is None:
                break
            answered.append(world.registry.get_run(MODEL, run_id).cause_ids)
        assert [len(ids) for ids in answered] == [MAX_FOLLOW_UP_CAUSES, 3]
        assert [cause_id for ids in answered for cause_id in ids] == [cause.cause_id for cause in causes]

    def test_a_cause_that_comes_in_between_is_taken_too(self, world, monkeypatch):
        run_id = world.ask(make_cause("1.csv")).run_id
        world.registry.update_run(MODEL, run_id, status="succeeded")
        release = world.registry.release_run

        def release_after_another_cause(*arguments):
            monkeypatch.setattr(world.registry, "release_run", release)
            world.ask(make_cause("late.csv"))
            return release(*arguments)

        monkeypatch.setattr(world.registry, "release_run", release_after_another_cause)
        finished = world.finish(run_id)
        assert world.registry.get_run(MODEL, finished.follow_up_run_id).sources == (make_source("late.csv"),)

    def test_a_follow_up_whose_maker_died_is_started_by_the_next_word_of_the_end(self, world, monkeypatch):
        first = world.ask(make_cause("1.csv")).run_id
        world.ask(make_cause("2.csv"))
        start = world.pipeline.start

        def die(model, run_id):
            raise ServiceUnavailableError("Step Functions is busy")

        monkeypatch.setattr(world.pipeline, "start", die)
        with pytest.raises(ServiceUnavailableError):
            world.succeed(first)
        monkeypatch.setattr(world.pipeline, "start", start)
        assert not world.finish(first).released
        assert world.pipeline.started[-1] == (MODEL, world.registry.get_state(MODEL).active_run_id)

    def test_when_causes_keep_coming_it_asks_to_be_called_again(self, world, monkeypatch):
        run_id = world.ask(make_cause()).run_id
        monkeypatch.setattr(world.registry, "release_run", lambda *_: False)
        with pytest.raises(ServiceUnavailableError) as caught:
            world.finish(run_id)
        assert caught.value.retryable

    def test_an_execution_that_is_no_run_changes_nothing(self, world):
        world.ask(make_cause())
        finished = world.finish("by-hand")
        assert (finished.released, finished.follow_up_run_id) == (False, None)
        assert world.actions() == ["run_requested"]


class TestDispatch:
    def handle(self, world, trigger):
        return handle_trigger(trigger, registry=world.registry, pipeline=world.pipeline, now=later(30))

    def test_a_refused_upload_is_kept_with_what_to_do_and_blocks_nobody(self, world):
        source = make_source("my file.csv")
        refused = RefusedUpload("id", source, Refusal("spaces", "rename it"), "ann")
        assert self.handle(world, refused) == []
        self.handle(world, refused)
        (entry,) = world.registry.list_ledger(REFUSED_UPLOADS)
        assert (entry.action, entry.reason, entry.actor) == ("upload_refused", "spaces", "ann")
        assert (entry.details["key"], entry.details["remedy"]) == (source.key, "rename it")
        assert world.registry.list_models() == []
        assert world.ask(make_cause()).outcome == "started"

    def test_a_schedule_slot_asks_once(self, world):
        world.ask(make_cause())
        world.registry.put_dataset(make_dataset("d1"))
        slot = ScheduleTrigger("weekly", MODEL, NOW + timedelta(hours=1))
        assert [result.outcome for result in self.handle(world, slot) + self.handle(world, slot)] == [
            "deferred",
            "duplicate",
        ]

    def test_the_end_of_a_run_ends_it(self, world):
        run_id = world.ask(make_cause()).run_id
        (finished,) = self.handle(world, RunEnded(MODEL, run_id, "stopped"))
        assert finished.released
        with pytest.raises(RunNotFoundError):
            world.registry.get_run("iris", run_id)


class TestFaults:
    def test_every_cause_of_the_run_is_tried_again_in_a_run_of_its_own(self, world):
        run, causes = world.follow_up(5)
        following = world.fail(run.run_id)
        assert world.registry.get_state(MODEL).pending_causes == 4
        tried = []
        for _ in at_most(8):
            if following is None:
                break
            alone = world.registry.get_run(MODEL, following)
            tried.append(alone.cause_ids)
            assert alone.run_id != run.run_id
            following = world.succeed(following).follow_up_run_id
        assert sorted(tried) == sorted((cause.cause_id,) for cause in causes)
        assert {world.registry.get_cause(MODEL, cause.cause_id).status for cause in causes} == {"started"}
        state = world.registry.get_state(MODEL)
        assert (state.pending_causes, state.active_run_id) == (0, None)

    def test_a_file_that_always_fails_is_given_up_and_takes_no_other_with_it(self, world):
        run, causes = world.follow_up(3)
        world.registry.update_run(MODEL, run.run_id, stage="validating", validating=causes[1].source.key)
        following, runs = world.fail(run.run_id), []
        for _ in at_most(8):
            if following is None:
                break
            alone = world.registry.get_run(MODEL, following)
            runs.append(alone)
            if alone.cause_ids == (causes[1].cause_id,):
                world.registry.update_run(MODEL, following, stage="validating", validating=causes[1].source.key)
                following = world.fail(following)
            else:
                following = world.succeed(following).follow_up_run_id
        assert len(runs) == 3
        ends = {run.cause_ids: world.registry.get_run(MODEL, run.run_id) for run in runs}
        assert [ends[cause.cause_id,].status for cause in causes] == ["succeeded", "failed", "succeeded"]
        assert ends[causes[1].cause_id,].reasons[0] == (
            "validation of 1.csv ended without a result (Runtime.ExitError: out of memory or time, or a crash); "
            "upload it again, in smaller files or with a larger TrainingMemorySize, or see the log of that stage's "
            "function"
        )
        assert world.registry.get_run(MODEL, run.run_id).reasons[0] == (
            "validation of 1.csv ended without a result (Runtime.ExitError: out of memory or time, or a crash); "
            "its 3 causes are, one by one, tried once more"
        )

    def test_what_came_meanwhile_goes_first_and_together(self, world):
        run, _ = world.follow_up(2)
        late = [make_cause(f"late-{number}.csv") for number in range(2)]
        for cause in late:
            world.ask(cause)
        following = world.registry.get_run(MODEL, world.fail(run.run_id))
        assert following.cause_ids == tuple(cause.cause_id for cause in late)
        assert world.registry.get_state(MODEL).pending_causes == 2

    def test_ending_twice_gives_each_cause_back_once(self, world):
        run, causes = world.follow_up(2)
        following = world.fail(run.run_id)
        assert world.fail(run.run_id) is None
        assert world.registry.get_state(MODEL).pending_causes == 1
        assert [world.registry.get_cause(MODEL, cause.cause_id).faults for cause in causes] == [1, 1]
        assert world.actions().count("run_failed") == 1
        assert world.registry.get_state(MODEL).active_run_id == following

    def test_a_death_between_the_two_steps_is_finished_by_the_repetition(self, world, monkeypatch):
        run, causes = world.follow_up(2)
        with monkeypatch.context() as patched:
            patched.setattr(world.registry, "release_run", dying)
            with pytest.raises(ServiceUnavailableError):
                world.fail(run.run_id)
        assert world.registry.get_run(MODEL, run.run_id).status == "failed"
        following = world.registry.get_run(MODEL, world.fail(run.run_id))
        assert following.cause_ids in [(cause.cause_id,) for cause in causes]

    @pytest.mark.parametrize("status", ["ABORTED", "FAILED", "TIMED_OUT"])
    def test_only_a_run_that_somebody_stopped_is_not_tried_again(self, world, status):
        run_id = world.ask(make_cause()).run_id
        detail = {"name": run_id, "status": status, "input": f'{{"model": "{MODEL}"}}'}
        event = {"source": "aws.states", "detail-type": "Step Functions Execution Status Change", "detail": detail}
        (finished,) = handle_trigger(
            parse_event(event, NOW), registry=world.registry, pipeline=world.pipeline, now=later(9)
        )
        assert (finished.follow_up_run_id is None) == (status == "ABORTED")

    def test_a_version_that_waits_for_approval_is_not_trained_again(self, world):
        run_id = world.ask(make_cause()).run_id
        world.registry.update_run(MODEL, run_id, stage="awaiting_approval", version=1)
        assert world.fail(run_id, "States.Timeout") is None
        assert world.registry.get_run(MODEL, run_id).reasons[0].startswith("the request for approval of a.csv ended")

    def test_a_request_without_a_file_says_so(self, world):
        world.registry.put_dataset(make_dataset("d1"))
        run_id = world.ask(make_cause("weekly", kind="schedule")).run_id
        world.registry.update_run(MODEL, run_id, stage="training")
        again = world.fail(run_id, "States.Timeout")
        assert world.registry.get_run(MODEL, run_id).reasons[0] == (
            "training ended without a result (States.Timeout: out of time); it is tried once more"
        )
        world.registry.update_run(MODEL, again, stage="training")
        assert world.fail(again, "InvalidInputError") is None
        assert world.registry.get_run(MODEL, again).reasons[0] == (
            "training ended without a result (InvalidInputError); request a run again, or see the log of that stage's "
            "function"
        )

    def test_as_many_causes_as_a_run_takes_fit_into_the_transaction(self, world):
        run, _ = world.follow_up(MAX_FOLLOW_UP_CAUSES)
        world.fail(run.run_id)
        assert world.registry.get_state(MODEL).pending_causes == MAX_FOLLOW_UP_CAUSES - 1


def dying(*_):
    raise ServiceUnavailableError("DynamoDB is busy")
