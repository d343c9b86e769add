"""One trial: what it stores, and how it fails."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
import skops.io
from millrace.contracts import TrialPointer
from millrace.data.prepared import dump_split
from millrace.errors import RunNotFoundError, ServiceUnavailableError
from millrace.layout import split_key, trial_key
from millrace.schema import TASKS
from millrace.serving.onnx_model import OnnxModel
from millrace.training import trial as trial_module
from millrace.training.export import ParityReport
from millrace.training.metric_catalogue import METRICS
from millrace.training.preprocessing import FeatureTable

from tests.fakes.memory_object_store import MemoryObjectStore
from tests.prepared_data import make_dataset
from tests.training_run import MODEL, RUN_ID, TrainingRun

TRIAL_ID = "01-logistic_regression"


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
        assert record["rows"] == {"train": 200, "validation": 100}
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

    for trial_id in (TRIAL_ID, "02-random_forest", "03-hist_gradient_boosting"):
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

    for trial_id in (TRIAL_ID, "02-random_forest", "03-hist_gradient_boosting"):
        body = artifact(world, trial_id, "estimator.skops")
        estimator = skops.io.loads(body, trusted=skops.io.get_untrusted_types(data=body))
        model = OnnxModel.load(artifact(world, trial_id, "model.onnx"), dataset.schema)
        np.testing.assert_allclose(estimator.predict_proba(FeatureTable(rows)), model.run(rows), atol=1e-6)


def test_trial_that_succeeded_is_not_run_again():
    world = TrainingRun.prepared(make_dataset("binary"))
    pointer = world.plan().trials[0]
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

    assert world.train_all()[0].reason == f"the {name} split has no rows"


def test_library_error_becomes_a_reason_without_its_message(monkeypatch):
    def fit(*args):
        raise ValueError("could not convert 'Ada Lovelace' to float")

    monkeypatch.setattr(trial_module, "_fit", fit)
    world = TrainingRun.prepared(make_dataset("binary"))

    outcome = world.train_all()[0]

    assert outcome.outcome == "failed"
    assert outcome.reason == "fitting stopped with ValueError; the function's log has the details"


def test_model_whose_onnx_form_differs_is_not_stored(monkeypatch):
    monkeypatch.setattr(trial_module, "check_parity", lambda *args: ParityReport(0.25, 3, 400, passed=False))
    world = TrainingRun.prepared(make_dataset("binary"))

    outcome = world.train_all()[0]

    assert outcome.outcome == "failed"
    assert "differs from its estimator: by up to 0.25, with another label on 3 of 400 rows" in outcome.reason
    assert world.model_store.keys() == []


def test_failed_trial_succeeds_when_it_is_run_again(monkeypatch):
    world = TrainingRun.prepared(make_dataset("binary"))
    pointer = world.plan().trials[0]
    with monkeypatch.context() as patched:
        patched.setattr(trial_module, "_fit", lambda *args: (_ for _ in ()).throw(MemoryError()))
        assert world.train(pointer).reason == "the function ran out of memory"

    assert world.train(pointer).outcome == "succeeded"
    assert world.registry.get_trial(MODEL, RUN_ID, TRIAL_ID).reason == ""


class ThrottledStore(MemoryObjectStore):
    def put(self, key, body, content_type="application/octet-stream"):
        raise ServiceUnavailableError("slow down")


def test_throttled_bucket_is_left_to_the_state_machine_to_retry():
    world = replace(TrainingRun.prepared(make_dataset("binary")), model_store=ThrottledStore())
    pointer = world.plan().trials[0]

    with pytest.raises(ServiceUnavailableError):
        world.train(pointer)

    assert world.registry.get_trial(MODEL, RUN_ID, TRIAL_ID).status == "running"


def test_trial_that_was_never_planned_is_a_fault():
    world = TrainingRun.prepared(make_dataset("binary"))

    with pytest.raises(RunNotFoundError):
        world.train(TrialPointer(model=MODEL, run_id=RUN_ID, trial_id="09-oracle"))
