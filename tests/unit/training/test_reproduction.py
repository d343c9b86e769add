"""A record is enough to train the same model again."""

import json
import subprocess
import sys

import numpy as np
import pytest
from millrace.errors import ArtifactIntegrityError
from millrace.layout import split_key, trial_key
from millrace.serving.model import OnnxModel
from millrace.training.search_space import search_spaces_for
from millrace.training.trial import library_versions, reproduce_trial
from millrace.training.trial_record import TrialRecord

from tests.prepared_data import make_dataset
from tests.training_run import MODEL, RUN_ID, TrainingRun


def stored(world: TrainingRun, trial_id: str, name: str) -> bytes:
    return world.model_store.get(trial_key(MODEL, RUN_ID, trial_id, name))


def bodies(world: TrainingRun) -> dict:
    return {name: world.data_store.get(split_key(MODEL, RUN_ID, name)) for name in ("train", "validation")}


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_every_candidate_is_trained_again_byte_for_byte(task):
    dataset = make_dataset(task, "missing values", rows=120)
    candidates = tuple(space.candidate for space in search_spaces_for(task))
    # A sample, in folds, and one drawn trial: everything that a record has to say.
    training = {"trials": len(candidates) + 1, "folds": 2, "max_rows": 50}
    world = TrainingRun.prepared(dataset, candidates=candidates, seed=5, training=training)

    for outcome in world.train_all():
        assert outcome.outcome == "succeeded", outcome
        record = json.loads(stored(world, outcome.trial_id, "trial.json"))
        assert record["rows"]["train"] < record["of_rows"]["train"] == 60
        assert record["sampled"] is True
        assert len(record["fold_metrics"]) == 2
        for name, value in record["metrics"].items():
            assert value == pytest.approx(np.mean([fold[name] for fold in record["fold_metrics"]]))

        again = reproduce_trial(
            TrialRecord.read(record), dataset.schema, bodies(world), stored(world, outcome.trial_id, "model.onnx")
        )

        assert again.byte_equal, outcome.trial_id
        assert again.max_prediction_difference == 0.0
        assert again.other_libraries == {}
        assert again.fitted.metrics == record["metrics"]
        rows = dataset.splits["test"].features
        first, second = (
            OnnxModel.load(body, dataset.schema).run(rows).tobytes()
            for body in (stored(world, outcome.trial_id, "model.onnx"), again.fitted.onnx_bytes)
        )
        assert first == second


EXPORTED = """
import hashlib
from millrace.training.candidates import get_candidate
from millrace.training.export import export_onnx
from millrace.training.preprocessing import FeatureTable
from tests.prepared_data import make_dataset
train = make_dataset("binary", rows=80).splits["train"]
pipeline = get_candidate("logistic_regression", "binary").build("binary", train.features, {}, 0)
pipeline.fit(FeatureTable(train.features), train.target)
print(hashlib.sha256(export_onnx(pipeline, train.features, "binary")).hexdigest())
"""


def test_the_bytes_of_a_model_do_not_depend_on_the_hash_seed_of_the_process():
    # The order of the set of an ONNX file's two operator sets differs between these seeds.
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", EXPORTED],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for seed in ("0", "1")
    ]
    first, second = (process.communicate()[0] for process in processes)
    assert len(first.strip()) == 64
    assert first == second


def test_other_data_than_the_record_names_is_refused():
    world = TrainingRun.prepared(make_dataset("binary"))
    (_, outcome, _) = world.train_all()
    record = json.loads(stored(world, outcome.trial_id, "trial.json"))
    changed = {**bodies(world), "train": bodies(world)["validation"]}

    with pytest.raises(ArtifactIntegrityError, match=r"train\.npz is not the prepared data"):
        reproduce_trial(TrialRecord.read(record), make_dataset("binary").schema, changed)
    with pytest.raises(ArtifactIntegrityError, match=r"the stored model\.onnx is not the one"):
        reproduce_trial(TrialRecord.read(record), make_dataset("binary").schema, bodies(world), b"another model")


def test_another_seed_or_library_is_seen():
    dataset = make_dataset("binary")
    world = TrainingRun.prepared(dataset, candidates=("random_forest",))
    (outcome,) = world.train_all()
    record = json.loads(stored(world, outcome.trial_id, "trial.json"))
    record["seed"] += 1
    record["libraries"]["sklearn"] = "0.24.2"

    again = reproduce_trial(
        TrialRecord.read(record), dataset.schema, bodies(world), stored(world, outcome.trial_id, "model.onnx")
    )

    assert not again.byte_equal
    assert again.max_prediction_difference is not None
    assert again.max_prediction_difference > 0.0
    assert again.other_libraries == {"sklearn": ("0.24.2", library_versions()["sklearn"])}
