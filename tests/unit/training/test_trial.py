"""One trial: what it stores, and how it fails."""

import hashlib
import json
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
import skops.io
from millrace.contracts import TrialPointer
from millrace.data.prepared import PreparedSplit, dump_split
from millrace.errors import RunNotFoundError, ServiceUnavailableError
from millrace.features import FeatureMatrix
from millrace.layout import split_key, trial_key
from millrace.metrics.catalogue import METRICS
from millrace.schema import TASKS
from millrace.serving.model import OnnxModel
from millrace.training import fitting
from millrace.training.preprocessing import FeatureTable
from millrace.training.trial_record import ParityReport

from tests.fakes.memory_object_store import MemoryObjectStore
from tests.prepared_data import Dataset, make_dataset, make_schema
from tests.training_run import MODEL, RUN_ID, TrainingRun

TRIAL_ID = "02-logistic_regression"
TRIALS = ("01-baseline", TRIAL_ID, "03-hist_gradient_boosting")


def artifact(world: TrainingRun, trial_id: str, name: str) -> bytes:
    return world.model_store.get(trial_key(MODEL, RUN_ID, trial_id, name))


@pytest.mark.parametrize("task", TASKS)
def test_every_trial_succeeds_and_stores_what_its_record_says(task):
    dataset = make_dataset(task, "missing values")
    world = TrainingRun.prepared(dataset, seed=11)

    outcomes = world.train_all()

    assert [outcome.outcome for outcome in outcomes] == ["succeeded"] * 3
    for outcome in outcomes:
        trial = world.registry.get_trial(MODEL, RUN_ID, outcome.trial_id)
        record = json.loads(artifact(world, outcome.trial_id, "trial.json"))
        assert trial.status == "succeeded"
        assert trial.duration_seconds == record["duration_seconds"] == 2.0
        assert set(trial.metrics) == {metric.name for metric in METRICS[task]}
        assert record["metrics"] == trial.metrics
        assert record["parameters"] == trial.parameters
        assert record["seed"] == 11
        assert record["dataset_ids"] == ["d1"]
        assert record["rows"] == record["of_rows"] == {"train": 200, "validation": 100}
        assert record["sampled"] is False
        assert record["code_version"] == record["libraries"]["millrace"]
        assert record["fold_metrics"] == []
        assert record["validation_metrics"] == record["metrics"]
        assert 50 < record["peak_memory_mb"] == trial.peak_memory_mb
        assert record["parity"]["passed"]
        assert record["libraries"]["sklearn"].count(".") == 2
        assert record["artifacts"] == trial.artifacts
        for name, digest in trial.artifacts.items():
            assert hashlib.sha256(artifact(world, outcome.trial_id, name)).hexdigest() == digest


def test_same_seed_and_data_give_byte_equal_models_and_predictions():
    dataset = make_dataset("binary", "missing values")
    first, second = (TrainingRun.prepared(dataset, seed=3) for _ in range(2))
    for world in (first, second):
        world.train_all()

    for trial_id in TRIALS:
        bodies = [artifact(world, trial_id, "model.onnx") for world in (first, second)]
        rows = dataset.splits["test"].features
        predictions = [OnnxModel.load(body, dataset.schema).run(rows).tobytes() for body in bodies]
        assert predictions[0] == predictions[1]
        assert bodies[0] == bodies[1]


def test_estimator_can_be_had_back_without_pickle():
    dataset = make_dataset("binary")
    world = TrainingRun.prepared(dataset)
    world.train_all()
    rows = dataset.splits["test"].features

    for trial_id in TRIALS:
        body = artifact(world, trial_id, "estimator.skops")
        estimator = skops.io.loads(body, trusted=skops.io.get_untrusted_types(data=body))
        model = OnnxModel.load(artifact(world, trial_id, "model.onnx"), dataset.schema)
        np.testing.assert_allclose(estimator.predict_proba(FeatureTable(rows)), model.run(rows), atol=1e-6)


def test_trial_that_succeeded_is_not_run_again():
    world = TrainingRun.prepared(make_dataset("binary"))
    pointer = world.plan().trials[1]
    outcome, written = world.train(pointer), world.model_store.head(trial_key(MODEL, RUN_ID, TRIAL_ID, "trial.json"))

    assert world.train(pointer) == outcome
    assert world.model_store.head(trial_key(MODEL, RUN_ID, TRIAL_ID, "trial.json")) == written


def test_class_without_a_row_fails_the_trial_with_a_reason():
    dataset = make_dataset("multiclass")
    train = dataset.splits["train"]
    world = TrainingRun.prepared(dataset)
    world.data_store.put(split_key(MODEL, RUN_ID, "train"), dump_split(train.take(train.target != 1)))

    outcomes = world.train_all()

    assert {outcome.outcome for outcome in outcomes} == {"failed"}
    assert {outcome.reason for outcome in outcomes} == {"1 of 3 classes have no row in the training split"}
    trial = world.registry.get_trial(MODEL, RUN_ID, TRIAL_ID)
    assert (trial.status, trial.reason) == ("failed", outcomes[0].reason)
    assert world.model_store.keys() == []


@pytest.mark.parametrize(("split", "name"), [("train", "training"), ("validation", "validation")])
def test_empty_split_fails_the_trial(split, name):
    dataset = make_dataset("regression")
    world = TrainingRun.prepared(dataset)
    world.data_store.put(split_key(MODEL, RUN_ID, split), dump_split(dataset.splits[split].take(np.array([], int))))

    assert world.train_all()[1].reason == f"the {name} split has no rows"


def test_library_error_becomes_a_reason_without_its_message(monkeypatch):
    def fit(*args):
        raise ValueError("could not convert 'Ada Lovelace' to float")

    monkeypatch.setattr(fitting, "fit_pipeline", fit)
    world = TrainingRun.prepared(make_dataset("binary"))

    outcome = world.train_all()[1]

    assert outcome.outcome == "failed"
    assert outcome.reason == "fitting stopped with ValueError; the function's log has the details"


def test_model_whose_onnx_form_differs_is_not_stored(monkeypatch):
    monkeypatch.setattr(fitting, "check_parity", lambda *args: ParityReport(0.25, 3, 400, passed=False))
    world = TrainingRun.prepared(make_dataset("binary"))

    outcome = world.train_all()[1]

    assert outcome.outcome == "failed"
    assert (
        "differs from its estimator by up to 0.25 in a probability, with another label on 3 of 400 rows"
        in outcome.reason
    )
    assert world.model_store.keys() == []


def test_failed_trial_succeeds_when_it_is_run_again(monkeypatch):
    world = TrainingRun.prepared(make_dataset("binary"))
    pointer = world.plan().trials[1]
    with monkeypatch.context() as patched:
        patched.setattr(fitting, "fit_pipeline", lambda *args: (_ for _ in ()).throw(MemoryError()))
        assert world.train(pointer).reason == "the function ran out of memory"

    assert world.train(pointer).outcome == "succeeded"
    assert world.registry.get_trial(MODEL, RUN_ID, TRIAL_ID).reason == ""


class ThrottledStore(MemoryObjectStore):
    def put(self, key, body, content_type="application/octet-stream"):
        raise ServiceUnavailableError("slow down")


def test_throttled_bucket_is_left_to_the_state_machine_to_retry():
    world = replace(TrainingRun.prepared(make_dataset("binary")), model_store=ThrottledStore())
    pointer = world.plan().trials[1]

    with pytest.raises(ServiceUnavailableError):
        world.train(pointer)

    assert world.registry.get_trial(MODEL, RUN_ID, TRIAL_ID).status == "running"


def test_trial_that_was_never_planned_is_a_fault():
    world = TrainingRun.prepared(make_dataset("binary"))

    with pytest.raises(RunNotFoundError):
        world.train(TrialPointer(model=MODEL, run_id=RUN_ID, trial_id="09-oracle"))


# -------------------------------------------------------------------------------------------------------- budget
def test_no_trial_is_started_when_the_time_is_spent():
    world = TrainingRun.prepared(make_dataset("binary"), training={"max_seconds": 60, "folds": 1, "trials": 3})
    first, second, third = world.plan().trials
    assert world.train(first, after=timedelta(seconds=59)).outcome == "succeeded"

    outcomes = [world.train(pointer, after=timedelta(seconds=60)) for pointer in (second, third)]

    reason = "the search's time budget of 60 s was spent before it began"
    assert [(outcome.outcome, outcome.reason) for outcome in outcomes] == [("skipped", reason)] * 2
    assert [trial.status for trial in world.registry.list_trials(MODEL, RUN_ID)] == ["succeeded", "skipped", "skipped"]


def test_no_trial_is_started_when_the_money_is_spent():
    # Every trial takes two seconds by the tests' clock: 3,008 MB for 2 s are 0.0000979 USD.
    world = TrainingRun.prepared(make_dataset("binary"), training={"max_cost_usd": 1e-4, "folds": 1, "trials": 3})

    outcomes = world.train_all()

    assert [outcome.outcome for outcome in outcomes] == ["succeeded", "succeeded", "skipped"]
    assert outcomes[2].reason == "the search's cost budget of 0.0001 USD was spent before it began"


def test_skipped_trials_stand_on_the_leaderboard_and_the_best_of_the_others_wins():
    world = TrainingRun.prepared(make_dataset("binary"), training={"max_seconds": 60, "folds": 1, "trials": 3})
    first, second, third = world.plan().trials
    outcomes = [world.train(first), world.train(second), world.train(third, after=timedelta(hours=1))]

    verdict = world.evaluate(outcomes)

    assert verdict.trial_id == second.trial_id
    assert world.registry.get_trial(MODEL, RUN_ID, third.trial_id).status == "skipped"


# ----------------------------------------------------------------------------------------------------- bad input
def broken(dataset, split="train", **changes):
    splits = {**dataset.splits, split: replace(dataset.splits[split], **changes)}
    return TrainingRun.prepared(replace(dataset, splits=splits))


def test_target_that_is_no_number_fails_the_trial():
    dataset = make_dataset("regression")
    target = dataset.splits["train"].target.copy()
    target[:3] = [np.nan, np.inf, -np.inf]

    outcomes = broken(dataset, target=target).train_all()

    assert {outcome.reason for outcome in outcomes} == {
        "the target of 3 rows of the training split is not a finite number"
    }


@pytest.mark.parametrize(("split", "name"), [("train", "training"), ("validation", "validation")])
def test_infinite_numbers_fail_the_trial(split, name):
    dataset = make_dataset("binary")
    numbers = dataset.splits[split].features.numbers.copy()
    numbers[5, 0] = np.inf
    features = replace(dataset.splits[split].features, numbers=numbers)

    outcomes = broken(dataset, split, features=features).train_all()

    assert {outcome.reason for outcome in outcomes} == {f"the {name} split holds infinite numbers"}


def test_one_class_in_the_validation_split_leaves_curves_undefined_and_the_rest_goes_on():
    dataset = make_dataset("binary")
    validation = dataset.splits["validation"]
    world = TrainingRun.prepared(
        replace(dataset, splits={**dataset.splits, "validation": validation.take(validation.target == 0)})
    )

    outcomes = world.train_all()

    assert {outcome.outcome for outcome in outcomes} == {"succeeded"}
    trial = world.registry.get_trial(MODEL, RUN_ID, TRIAL_ID)
    assert "roc_auc" not in trial.metrics
    assert trial.metrics["log_loss"] > 0


def test_twenty_rows_train_every_candidate():
    world = TrainingRun.prepared(make_dataset("binary", rows=20), training={"trials": 7, "folds": 2})

    outcomes = world.train_all()

    assert {outcome.outcome for outcome in outcomes} == {"succeeded"}


def test_features_that_never_change_train_no_worse_than_the_baseline():
    dataset = make_dataset("regression", "numbers only")
    splits = {
        name: replace(split, features=replace(split.features, numbers=np.ones_like(split.features.numbers)))
        for name, split in dataset.splits.items()
    }
    world = TrainingRun.prepared(replace(dataset, splits=splits), training={"trials": 7, "folds": 1})

    outcomes = world.train_all()

    assert {outcome.outcome for outcome in outcomes} == {"succeeded"}
    errors = [trial.metrics["rmse"] for trial in world.registry.list_trials(MODEL, RUN_ID)]
    assert errors == pytest.approx([errors[0]] * 7, rel=0.05)


@pytest.mark.parametrize(
    ("columns", "candidates"),
    [(1_000, ("logistic_regression", "nearest_neighbours")), (200, ("hist_gradient_boosting", "random_forest"))],
)
def test_a_wide_table_trains(columns, candidates):
    """Converting a thousand ordinal codes takes ten seconds; what it does is the same with a hundred."""
    world = TrainingRun.prepared(wide_dataset(columns), candidates=candidates)

    outcomes = world.train_all()

    assert {outcome.outcome for outcome in outcomes} == {"succeeded"}


def wide_dataset(columns: int) -> Dataset:
    """Half numbers, half strings; few rows."""
    rng = np.random.default_rng(0)
    splits = {}
    for name, rows in (("train", 60), ("validation", 20), ("test", 20)):
        numbers = rng.normal(size=(rows, columns // 2)).astype(np.float32)
        strings = rng.choice(["a", "b", "c"], (rows, columns // 2))
        target = (np.arange(rows) % 2).astype(np.int64)
        numbers[:, 0] += target
        splits[name] = PreparedSplit(FeatureMatrix(numbers, strings), target, np.arange(rows, dtype=np.uint64))
    return Dataset(make_schema("binary", columns // 2, columns // 2), splits)


def test_a_hundred_classes_keep_a_model_small():
    """More than a hundred classes are refused as data."""
    rng = np.random.default_rng(0)
    classes = tuple(f"class {number:03d}" for number in range(100))
    schema = replace(make_schema("multiclass", 2, 0), classes=classes)
    splits = {}
    for name in ("train", "validation", "test"):
        target = np.tile(np.arange(100), 4)
        numbers = (target[:, None] + rng.normal(size=(400, 2))).astype(np.float32)
        features = FeatureMatrix(numbers, np.empty((400, 0), dtype=np.str_))
        splits[name] = PreparedSplit(features, target, np.arange(400, dtype=np.uint64))
    world = TrainingRun.prepared(
        Dataset(schema, splits), candidates=("random_forest",), training={"trials": 1, "folds": 1}
    )

    (outcome,) = world.train_all()

    assert outcome.outcome == "succeeded"
    assert len(artifact(world, "01-random_forest", "model.onnx")) < 10_000_000
