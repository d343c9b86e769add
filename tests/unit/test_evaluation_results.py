"""Evaluation documents and trial records are read as they were written, also those of the release before."""

import json
from pathlib import Path

import pytest
from millrace.documents import to_plain
from millrace.errors import ArtifactIntegrityError
from millrace.evaluation_results import Evaluation
from millrace.layout import evaluation_key, trial_key
from millrace.schema import TASKS
from millrace.training.trial_record import TrialRecord

from tests.prepared_data import make_dataset
from tests.training_run import MODEL, RUN_ID, TrainingRun

#: Parts of an analysis that this release added.
LATER_PARTS = ("prediction_intervals", "probability_calibration", "best_version", "holdout_use", "trials_comparison")
SAMPLES = Path(__file__).resolve().parents[1] / "samples" / "f0571cb"


@pytest.mark.parametrize("task", TASKS)
def test_an_evaluation_of_the_release_before_is_read_whole(task):
    stored = json.loads((SAMPLES / f"evaluation-{task}.json").read_bytes())

    evaluation = Evaluation.read(stored)

    assert evaluation.holdout.metrics[evaluation.primary_metric].value > 0
    assert evaluation.fairness[0].groups[0].measures
    assert evaluation.fit.splits["train"].rows == 120
    assert evaluation.learning_curve.points[0].rows == 60
    assert {check.name for check in evaluation.gate} >= {"answers", "baseline", "parity"}
    assert (evaluation.threshold is not None) == (task == "binary")
    of_entry = {"parameters": {}, "gain": None, "measured_gain": None}  # fields of this release
    later = {"leaderboard": [entry | of_entry for entry in stored["leaderboard"]]}
    assert to_plain(evaluation) == stored | later | dict.fromkeys(LATER_PARTS)


def test_a_record_of_the_release_before_is_read_whole():
    stored = json.loads((SAMPLES / "trial-binary.json").read_bytes())

    record = TrialRecord.read(stored)

    assert record.parity.passed
    assert record.trial.candidate == "logistic_regression"
    of_this_release = {"calibrate": False, "scaling": None, "refit_of": [], "iterations": None, "ensemble": None}
    assert to_plain(record) == stored | of_this_release | {"repeats": 1}


def test_documents_come_back_as_they_were_written():
    world = TrainingRun.prepared(make_dataset("binary"), candidates=("logistic_regression",))
    outcomes = world.train_all()
    world.evaluate(outcomes)
    for document, key in (
        (Evaluation, evaluation_key(MODEL, RUN_ID)),
        (TrialRecord, trial_key(MODEL, RUN_ID, outcomes[0].trial_id, "trial.json")),
    ):
        body = world.model_store.get(key)
        assert document.read(body).write() == body


def test_a_damaged_evaluation_names_the_field():
    stored = json.loads((SAMPLES / "evaluation-binary.json").read_bytes())
    with pytest.raises(ArtifactIntegrityError, match=r"holdout\.rows"):
        Evaluation.read(stored | {"holdout": {"rows": "many", "metrics": {}}})
