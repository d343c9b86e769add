"""Successive halving: the best go on with more rows, and what is interrupted ends alike."""

import json

import pytest
from millrace.contracts import TrialOutcome
from millrace.layout import trial_key

from tests.prepared_data import make_dataset
from tests.training_run import MODEL, RUN_ID, TrainingRun

SEARCH = {"trials": 8, "rounds": 2, "folds": 1}


@pytest.fixture
def world() -> TrainingRun:
    return TrainingRun.prepared(
        make_dataset("binary", rows=600), candidates=("baseline", "logistic_regression"), training=SEARCH
    )


def trials(world: TrainingRun):
    return {trial.trial_id: trial for trial in world.registry.list_trials(MODEL, RUN_ID)}


def first_round(world: TrainingRun) -> list[TrialOutcome]:
    plan = world.plan()
    assert (plan.round, plan.last_round) == (1, False)
    return [world.train(pointer) for pointer in plan.trials]


def test_the_best_third_goes_on_with_every_row(world):
    outcomes = first_round(world)
    before = trials(world)
    assert {trial.rows for trial in before.values()} == {100}

    plan = world.plan(finished_round=1, trials=outcomes)

    assert (plan.round, plan.last_round) == (2, False)  # the refit follows
    after = trials(world)
    chosen = {pointer.trial_id for pointer in plan.trials}
    assert len(chosen) == 3 + 1  # of eight, and the baseline
    assert "01-baseline" in chosen
    best = sorted(before, key=lambda trial_id: -before[trial_id].metrics["roc_auc"])[:3]
    assert set(best) <= chosen
    for trial_id, trial in after.items():
        if trial_id in chosen:
            assert (trial.status, trial.round, trial.rows) == ("planned", 2, None)
            assert trial.earlier_rounds[0]["rows"] == 100
            assert trial.earlier_rounds[0]["metrics"] == before[trial_id].metrics
        else:
            assert (trial.status, trial.round) == ("eliminated", 1)
            assert trial.reason.endswith("of 8 after round 1, on 100 rows")


def test_the_last_round_is_recorded_and_only_it_is_ranked(world):
    outcomes = first_round(world)
    plan = world.plan(finished_round=1, trials=outcomes)

    verdict = world.evaluate([world.train(pointer) for pointer in plan.trials])

    assert verdict.trial_id in {pointer.trial_id for pointer in plan.trials}
    record = json.loads(world.model_store.get(trial_key(MODEL, RUN_ID, verdict.trial_id, "trial.json")))
    assert (record["round"], record["rounds"], record["rows"]["train"], record["sampled"]) == (2, 2, 300, False)
    statuses = [trial.status for trial in trials(world).values()]
    assert sorted(set(statuses)) == ["eliminated", "succeeded"]


def test_planning_a_round_again_changes_nothing(world):
    outcomes = first_round(world)
    plan = world.plan(finished_round=1, trials=outcomes)
    before = trials(world)

    assert world.plan(finished_round=1, trials=outcomes) == plan
    assert trials(world) == before


def test_a_planning_that_was_interrupted_ends_as_it_would_have(world):
    outcomes = first_round(world)
    complete = TrainingRun.prepared(
        make_dataset("binary", rows=600), candidates=("baseline", "logistic_regression"), training=SEARCH
    )
    first_round(complete)
    expected = complete.plan(finished_round=1, trials=outcomes)
    # The first of them was promoted already, as the function died.
    first = expected.trials[1].trial_id
    result = {"round": 1, "rows": 100, "metrics": trials(world)[first].metrics, "duration_seconds": 2.0}
    changes = {"status": "planned", "round": 2, "rows": None, "earlier_rounds": (result,), "duration_seconds": None}
    world.registry.update_trial(MODEL, RUN_ID, first, **changes)

    assert world.plan(finished_round=1, trials=outcomes) == expected


def test_a_worker_that_died_in_a_round_does_not_go_on(world):
    plan = world.plan()
    outcomes = [world.train(pointer) for pointer in plan.trials[1:]]
    died = TrialOutcome(trial_id="01-baseline", outcome="failed", reason="the worker did not finish: Lambda.Unknown")

    following = world.plan(finished_round=1, trials=[died, *outcomes])

    assert "01-baseline" not in {pointer.trial_id for pointer in following.trials}
    assert trials(world)["01-baseline"].reason == died.reason


def test_a_round_in_which_all_failed_leaves_nothing_to_train(world):
    plan = world.plan()
    died = [TrialOutcome(trial_id=pointer.trial_id, outcome="failed", reason="dead") for pointer in plan.trials]

    following = world.plan(finished_round=1, trials=died)

    assert following.lanes == []
    assert world.evaluate([]).decision == "reject"


def test_a_worker_of_an_earlier_round_that_comes_late_changes_nothing(world):
    outcomes = first_round(world)
    pointers = world.plan(finished_round=1, trials=outcomes).trials
    before = trials(world)

    assert world.train(pointers[0].model_copy(update={"round": 1})).outcome == "succeeded"
    assert trials(world) == before
