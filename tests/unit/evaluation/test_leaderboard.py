"""Trials are compared with the champion on rows that ranked them, and that the champion was not trained on."""

from copy import deepcopy
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from millrace.contracts import TrialOutcome
from millrace.data.prepared import dump_split
from millrace.evaluation.champion import MIN_UNSEEN_ROWS, load_champion
from millrace.evaluation.leaderboard import MAX_COMPARED_ROWS, MAX_COMPARED_TRIALS, compare_trials
from millrace.evaluation_results import LeaderboardEntry
from millrace.layout import split_key, trial_key
from millrace.metrics.catalogue import get_metric
from millrace.schema import Column
from millrace.spec import ModelSpec
from millrace.training.fitting import HeldOutRows
from millrace.training.trial_record import HELD_OUT_NAME

from tests.prepared_data import Dataset, make_dataset
from tests.training_run import MODEL, RUN_ID, TrainingRun
from tests.unit.evaluation.test_evaluate import ONE, document, onnx_of, register_champion, trained

OLD_RUN = "20260101T000000-0f3a9c2b7d1e"


def store_trained_rows(world: TrainingRun, dataset: Dataset, *, known: int) -> None:
    """Store the champion's training rows: ``known`` of the present validation rows, and others."""
    for name, ids in (("train", np.arange(10) + 2**40), ("validation", dataset.splits["validation"].row_ids[:known])):
        rows = dataset.splits["test"].take(np.zeros(len(ids), dtype=np.int64))
        stored = replace(rows, row_ids=ids.astype(np.uint64))
        world.data_store.put(split_key(MODEL, OLD_RUN, name), dump_split(stored))


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return make_dataset("binary", rows=1_600, noise=0.2)


@pytest.fixture(scope="module")
def prepared(dataset) -> tuple[TrainingRun, list[TrialOutcome]]:
    """A run with two trials, to copy."""
    return trained(dataset, candidates=("logistic_regression", "baseline"))


@pytest.fixture(scope="module")
def poor_model(dataset) -> bytes:
    """A model of 25 rows."""
    few = {**dataset.splits, "train": dataset.splits["train"].take(np.arange(25))}
    return onnx_of(Dataset(dataset.schema, few))


def evaluate(run: tuple[TrainingRun, list[TrialOutcome]], champion: bytes, dataset: Dataset, known: int | None) -> dict:
    """Evaluate a copy of the run against a champion that was trained on ``known`` of its validation rows."""
    world, outcomes = deepcopy(run)
    register_champion(world, champion, dataset.schema)
    if known is not None:
        store_trained_rows(world, dataset, known=known)
    world.evaluate(outcomes)
    return document(world)


def test_a_trial_that_is_better_than_the_champion_has_a_gain_with_its_interval(dataset, prepared, poor_model):
    report = evaluate(prepared, poor_model, dataset, known=20)

    validation = len(dataset.splits["validation"])
    assert report["trials_comparison"] == {"version": 1, "rows": validation - 20, "not_compared": None}
    first, last = report["leaderboard"]
    assert 0 < first["gain"]["low"] < first["measured_gain"] < first["gain"]["high"]
    assert last["candidate"] == "baseline"
    assert last["measured_gain"] < 0
    assert last["gain"]["high"] < first["gain"]["low"]


def test_trials_of_folds_are_compared_on_the_rows_of_both_splits(dataset, poor_model):
    training = {"trials": 1, "folds": 3, "refit": "never"}
    report = evaluate(trained(dataset, candidates=ONE, training=training), poor_model, dataset, known=20)

    both = len(dataset.splits["train"]) + len(dataset.splits["validation"])
    assert report["trials_comparison"]["rows"] == both - 20
    assert report["leaderboard"][0]["gain"]["low"] > 0


@pytest.mark.parametrize(
    ("known", "reason"),
    [
        (None, "its training rows are no longer stored, and these rows may be among them"),
        (400, "it was trained on all of the 400 rows that ranked the trials"),
        (401 - MIN_UNSEEN_ROWS, f"it was trained on all but {MIN_UNSEEN_ROWS - 1} of the 400 rows"),
    ],
)
def test_what_the_champion_may_have_learnt_compares_nothing(dataset, prepared, poor_model, known, reason):
    report = evaluate(prepared, poor_model, dataset, known)

    assert len(dataset.splits["validation"]) == 400
    assert report["trials_comparison"]["not_compared"].startswith(reason)
    assert report["leaderboard"][0]["gain"] is None
    assert report["leaderboard"][0]["measured_gain"] is None


def test_a_champion_that_cannot_score_the_rows_is_named_with_its_obstacle(dataset, prepared):
    report = evaluate(prepared, b"never read", replace_features(dataset), known=0)
    obstacle = "its features are not the present ones: gone"
    assert report["trials_comparison"] == {"version": 1, "rows": 0, "not_compared": obstacle}


def replace_features(dataset: Dataset) -> Dataset:
    """Return the dataset under a schema with another column."""
    schema = replace(dataset.schema, columns=(*dataset.schema.columns, Column("gone", "number")))
    return Dataset(schema, dataset.splits)


def test_without_a_champion_there_is_no_comparison(prepared):
    world, outcomes = deepcopy(prepared)
    world.evaluate(outcomes)
    assert document(world)["trials_comparison"] is None


@pytest.mark.parametrize("damage", ["missing", "changed"])
def test_a_trial_without_its_predictions_is_not_compared_and_fails_nothing(dataset, prepared, poor_model, damage):
    world, outcomes = deepcopy(prepared)
    register_champion(world, poor_model, dataset.schema)
    store_trained_rows(world, dataset, known=0)
    loser = next(one.trial_id for one in outcomes if "baseline" in one.trial_id)
    key = trial_key(MODEL, RUN_ID, loser, HELD_OUT_NAME)
    if damage == "missing":
        world.model_store.delete([key])
    else:
        world.model_store.put(key, b"other bytes")

    verdict = world.evaluate(outcomes)

    gains = {entry["candidate"]: entry["gain"] for entry in document(world)["leaderboard"]}
    assert verdict.decision == "promote"
    assert gains["baseline"] is None
    assert gains["logistic_regression"]["low"] > 0


def compare_repeated(run, dataset, poor_model, trials: dict[str, np.ndarray], repeats: int):
    """Compare trials, by their predictions of the validation rows, on these rows ``repeats`` times."""
    world, _ = deepcopy(run)
    register_champion(world, poor_model, dataset.schema)
    store_trained_rows(world, dataset, known=0)
    validation = dataset.splits["validation"]
    many = validation.take(np.tile(np.arange(len(validation)), repeats))
    many = replace(many, row_ids=np.arange(len(many), dtype=np.uint64) + np.uint64(2**41))
    entries = tuple(
        LeaderboardEntry(name, "ridge", "succeeded", {}, 1.0, "", rank) for rank, name in enumerate(trials, start=1)
    )
    schema = dataset.schema
    return compare_trials(
        entries,
        load_champion(MODEL, schema, registry=world.registry, model_store=world.model_store),
        lambda name: HeldOutRows(
            many.target, np.tile(trials[name], (repeats, 1)), np.zeros(len(many), np.int64)
        ).dump(),
        schema=schema,
        train=dataset.splits["train"],
        validation=many,
        metric=get_metric(schema.task, None),
        spec=ModelSpec(),
        data_store=world.data_store,
    )


def probabilities(target: np.ndarray, reach: float) -> np.ndarray:
    drawn = np.random.default_rng(0).normal(reach * target, 1.0)
    positive = 1 / (1 + np.exp(-drawn))
    return np.column_stack([1 - positive, positive])


def test_of_many_rows_a_sample_is_compared_and_of_many_trials_the_best(dataset, prepared, poor_model):
    target = dataset.splits["validation"].target
    trials = {f"{number:02}-ridge": probabilities(target, 2.0) for number in range(MAX_COMPARED_TRIALS + 2)}
    repeats = MAX_COMPARED_ROWS // len(target) + 1

    entries, comparison = compare_repeated(prepared, dataset, poor_model, trials, repeats)

    assert comparison.rows == MAX_COMPARED_ROWS
    assert [entry.gain is None for entry in entries] == [False] * MAX_COMPARED_TRIALS + [True] * 2


def test_a_trial_with_a_prediction_that_is_no_number_has_no_gain(dataset, prepared, poor_model):
    target = dataset.splits["validation"].target
    broken = probabilities(target, 2.0)
    broken[3] = np.nan

    entries, comparison = compare_repeated(
        prepared, dataset, poor_model, {"sound": probabilities(target, 2.0), "broken": broken}, 1
    )

    assert comparison.not_compared is None
    assert [entry.measured_gain is None for entry in entries] == [False, True]


def test_rows_of_one_class_compare_nothing_where_the_metric_needs_both(dataset, prepared, poor_model):
    one_class = {
        name: replace(split, target=np.zeros_like(split.target)) if name == "validation" else split
        for name, split in dataset.splits.items()
    }
    trials = {"sound": probabilities(one_class["validation"].target, 2.0)}

    _, comparison = compare_repeated(prepared, Dataset(dataset.schema, one_class), poor_model, trials, 1)

    assert comparison.not_compared == "roc_auc is not defined on the 400 rows that are new to it"


def test_a_champion_with_a_prediction_that_is_no_number_compares_nothing(dataset, prepared, poor_model, monkeypatch):
    target = dataset.splits["validation"].target
    monkeypatch.setattr("millrace.evaluation.leaderboard.predict_rows", lambda *_: np.full((len(target), 2), np.nan))

    _, comparison = compare_repeated(prepared, dataset, poor_model, {"sound": probabilities(target, 2.0)}, 1)

    assert comparison.not_compared == "one of its predictions is not a number"


def test_the_document_of_an_earlier_release_has_no_comparison():
    before = {"trial_id": "a", "candidate": "b", "status": "failed", "metrics": {}, "duration_seconds": None}
    entry = msgspec.convert({**before, "reason": "", "rank": None}, LeaderboardEntry)
    assert (entry.gain, entry.measured_gain) == (None, None)
