"""Planning: one trial for each candidate, said no to before anything is fitted."""

import pytest
from millrace.errors import ArtifactNotFoundError, InvalidInputError
from millrace.layout import prepared_key

from tests.prepared_data import make_dataset
from tests.training_run import MODEL, RUN_ID, TrainingRun


@pytest.mark.parametrize(
    ("task", "first"),
    [("binary", "logistic_regression"), ("multiclass", "logistic_regression"), ("regression", "ridge")],
)
def test_every_candidate_of_the_task_is_planned(task, first):
    world = TrainingRun.prepared(make_dataset(task), seed=7)

    plan = world.plan()

    ids = [f"01-{first}", "02-random_forest", "03-hist_gradient_boosting"]
    assert [pointer.trial_id for pointer in plan.trials] == ids
    trials = world.registry.list_trials(MODEL, RUN_ID)
    assert [trial.trial_id for trial in trials] == ids
    assert {trial.status for trial in trials} == {"planned"}
    assert {trial.seed for trial in trials} == {7}
    assert trials[2].parameters["max_iter"] == 150
    assert world.run.stage == "training"


def test_planning_again_changes_nothing():
    world = TrainingRun.prepared(make_dataset("binary"))
    plan = world.plan()
    world.train(plan.trials[0])
    before = world.registry.list_trials(MODEL, RUN_ID)

    assert world.plan() == plan
    assert world.registry.list_trials(MODEL, RUN_ID) == before


def test_spec_names_the_candidates():
    world = TrainingRun.prepared(make_dataset("binary"), candidates=("random_forest", "random_forest"))

    assert [pointer.trial_id for pointer in world.plan().trials] == ["01-random_forest"]


@pytest.mark.parametrize(
    ("spec", "field", "message"),
    [
        ({"candidates": ("ridge", "oracle")}, "candidates", "names ridge, oracle; known for binary are: logistic_regr"),
        ({"candidates": ()}, "candidates", "names no candidate at all"),
        ({"primary_metric": "rmse"}, "primary_metric", "'rmse' is no metric; known for binary are: roc_auc"),
        ({"gate": {"floors": {"auc": 0.8}}}, "gate.floors.auc", "'auc' is no metric"),
    ],
)
def test_spec_that_cannot_be_met_is_refused_by_field(spec, field, message):
    world = TrainingRun.prepared(make_dataset("binary"), **spec)

    with pytest.raises(InvalidInputError, match=message) as caught:
        world.plan()

    assert [fault.field for fault in caught.value.fields] == [field]
    assert world.registry.list_trials(MODEL, RUN_ID) == []
    assert world.run.stage == "planning"


def test_run_without_prepared_data_is_a_fault():
    world = TrainingRun.prepared(make_dataset("binary"))
    del world.data_store._objects[prepared_key(MODEL, RUN_ID, "schema.json")]

    with pytest.raises(ArtifactNotFoundError):
        world.plan()
