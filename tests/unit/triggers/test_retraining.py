"""Retraining of every model: in rounds, few runs at once, exactly one run a model, whatever fails in between."""

from collections import Counter
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from millrace.contracts import RetrainingProgress
from millrace.errors import ConflictError, ServiceUnavailableError
from millrace.registry.items import ModelKeys, encode
from millrace.registry.store import Registry
from millrace.registry.transactions import DeleteModel, RegistryTransaction
from millrace.settings import CostSettings
from millrace.spec import ModelSpec
from millrace.triggers.requests import finish_run
from millrace.triggers.retraining import places, request_retraining
from millrace.triggers.trigger_events import ScheduleTrigger

from tests.fakes.memory_pipeline import MemoryPipeline
from tests.integration.test_fleet_calls import NAMES, CountingStore, seed
from tests.registry_builders import NOW, make_dataset, make_entry

SLOT = ScheduleTrigger("weekly", "*", NOW)


class CountingWrites(CountingStore):
    """Counts writes too."""

    def write(self, change):
        self.calls["write"] += 1
        return super().write(change)

    def transact(self, changes):
        self.calls["transact"] += 1
        return super().transact(changes)


class Fleet:
    """Models with a dataset each, and a pipeline in which a round takes a minute and a run three."""

    def __init__(self, n_models, at_once=5):
        self.store, self.pipeline, self.at_once = CountingWrites(), MemoryPipeline(), at_once
        self.names = NAMES[:n_models]
        seed(self.store, self.names, versions=0)
        self.registry = Registry(self.store)
        keys = {name: ModelKeys(name).item("DATASET", NOW, "d1") for name in self.names}
        self.store.load({key: encode(make_dataset("d1", name)) for name, key in keys.items()})
        self.progress, self.rounds, self.most_running = RetrainingProgress(), 0, 0
        self.store.calls.clear()

    def round(self, minutes=None):
        """Do a round, as the pipeline does: its output, as JSON, is the input of the next."""
        now = NOW + timedelta(minutes=self.rounds if minutes is None else minutes)
        self.rounds += 1
        event = {"source": "millrace.schedule", "model": "*"} | self.progress.model_dump(mode="json")
        following, results = request_retraining(
            SLOT,
            RetrainingProgress.parse(event),
            at_once=self.at_once,
            registry=self.registry,
            pipeline=self.pipeline,
            now=now,
            costs=CostSettings(),
        )
        self.progress = following
        self.most_running = max(self.most_running, len(self.running()))
        return results

    def running(self):
        return [run for run in self.pipeline.started if self.pipeline.is_running(run[1])]

    def finish(self, count):
        for model, run_id in self.running()[:count]:
            self.pipeline.finish(run_id)
            finish_run(model, run_id, "done", registry=self.registry, pipeline=self.pipeline, now=NOW)

    def to_the_end(self):
        while self.progress.has_more:
            self.round()
            self.finish(self.at_once)


def test_a_round_among_three_thousand_models_takes_few_calls():
    fleet = Fleet(3_000)
    for after in (None, NAMES[1_400], NAMES[2_990]):
        fleet.progress = RetrainingProgress(after=after)
        fleet.store.calls.clear()
        assert len(fleet.round()) == 5
        # Of 15 minutes; each of the five runs takes about twenty, and the list of models three.
        assert sum(fleet.store.calls.values()) <= 5 * 20 + 5
    assert len(fleet.progress.model_dump_json()) < 5_000
    # An execution of Step Functions has 25,000 events, of which a round takes nine.
    assert 3_000 / 5 * 9 < 25_000


def test_every_model_is_retrained_once_and_few_at_once():
    fleet = Fleet(205)
    fleet.to_the_end()
    assert Counter(model for model, _ in fleet.pipeline.started) == dict.fromkeys(fleet.names, 1)
    assert (fleet.most_running, fleet.progress.failed) == (5, ())
    assert fleet.rounds <= 205 / 5 + 2


def test_models_with_nothing_to_train_on_take_few_rounds_and_no_places():
    fleet = Fleet(450)
    for name in fleet.names:
        del fleet.store._items[ModelKeys(name).item("DATASET", NOW, "d1")]
    fleet.to_the_end()
    assert (fleet.rounds, fleet.pipeline.started) == (3, [])
    assert fleet.progress.pause_seconds == 1


def test_a_round_waits_while_every_place_is_taken():
    fleet = Fleet(7, at_once=3)
    assert [result.outcome for result in fleet.round()] == ["started"] * 3
    assert [fleet.round(), fleet.round()] == [[], []]
    assert (fleet.progress.pause_seconds, fleet.progress.rounds) == (60, 3)
    fleet.finish(1)
    assert [result.model for result in fleet.round()] == [NAMES[3]]
    fleet.registry.update_run(NAMES[3], fleet.running()[-1][1], stage="awaiting_approval")
    assert [result.model for result in fleet.round()] == [NAMES[4]]
    # Runs that have lost their executions hold no place for ever.
    assert [result.model for result in fleet.round(minutes=7 * 60)] == [*NAMES[5:7]]
    fleet.round()
    assert not fleet.progress.has_more


def test_pauses_grow_so_that_the_execution_has_events_left():
    fleet = Fleet(3, at_once=1)
    fleet.round()
    fleet.progress = fleet.progress.model_copy(update={"rounds": 1_000})
    fleet.round()
    assert fleet.progress.pause_seconds == 300


def test_models_with_schedules_of_their_own_and_deleted_ones_are_left_alone():
    fleet = Fleet(4)
    fleet.registry.put_spec(NAMES[1], ModelSpec.parse({"retraining": {"schedule": "rate(1 day)"}}))
    state = fleet.registry.get_state(NAMES[2])
    fleet.registry.commit(RegistryTransaction(make_entry("deleted", NAMES[2]), state.revision, (DeleteModel(),)))
    fleet.to_the_end()
    assert [model for model, _ in fleet.pipeline.started] == [NAMES[0], NAMES[3]]


@settings(max_examples=25, deadline=None)
@given(
    faults=st.lists(st.sampled_from(["", "", "before", "after", "lost"]), max_size=40),
    at_once=st.integers(1, 4),
)
def test_a_crash_anywhere_loses_no_model_and_trains_none_twice(faults, at_once):
    fleet, waiting = Fleet(9, at_once), iter(faults)
    start = fleet.pipeline.start

    def crash(model, run_id):
        fault = next(waiting, "")
        if fault == "before":
            raise KeyboardInterrupt
        started = start(model, run_id)
        if fault == "after":
            raise KeyboardInterrupt
        return started

    fleet.pipeline.start = crash
    while fleet.progress.has_more:
        before = fleet.progress
        try:
            fleet.round()
        except KeyboardInterrupt:
            continue  # the pipeline repeats the round with the same input
        if next(waiting, "") == "lost":
            fleet.progress = before  # the answer did not arrive
        fleet.finish(1)
    assert Counter(model for model, _ in fleet.pipeline.started) == dict.fromkeys(fleet.names, 1)
    assert fleet.most_running <= at_once + 1


def break_models(fleet, *names, times=99):
    left, get_state = Counter(dict.fromkeys(names, times)), fleet.registry.get_state

    def broken(model):
        if left[model] > 0:
            left[model] -= 1
            raise ConflictError("no luck")
        return get_state(model)

    fleet.registry.get_state = broken


def test_a_model_that_fails_delays_no_other_and_is_tried_once_more():
    fleet = Fleet(6)
    break_models(fleet, NAMES[1], times=1)
    fleet.to_the_end()
    assert [model for model, _ in fleet.pipeline.started] == [NAMES[0], *NAMES[2:6], NAMES[1]]
    assert fleet.progress.failed == ()


def test_a_model_that_fails_twice_is_named():
    fleet = Fleet(6)
    break_models(fleet, NAMES[1])
    fleet.to_the_end()
    assert len(fleet.pipeline.started) == 5
    assert fleet.progress.failed == (NAMES[1],)


def test_an_outage_repeats_the_round(monkeypatch):
    fleet = Fleet(110)

    def away(_):
        raise ServiceUnavailableError("DynamoDB is away")

    monkeypatch.setattr(fleet.registry, "get_state", away)
    with pytest.raises(ServiceUnavailableError):
        fleet.round()
    monkeypatch.undo()
    fleet.to_the_end()
    assert len(fleet.pipeline.started) == 110


@pytest.mark.parametrize(("most", "unreserved", "expected"), [(5, 1_000, 5), (5, 10, 2), (5, 3, 1), (100, 400, 80)])
def test_places_leave_executions_to_predictions(most, unreserved, expected):
    assert places(most, unreserved) == expected
