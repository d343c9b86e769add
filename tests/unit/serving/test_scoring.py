from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from millrace.features import build_features
from millrace.schema import Task
from millrace.serving.model import CHUNK_ROWS, LoadedModel, OnnxModel, Threshold
from millrace.serving.request import RecordsTable
from millrace.serving.row_order import MIN_ROWS, RowOrder
from millrace.serving.scoring import score

from tests.serving_models import CHURN_RECORD, churn_onnx, churn_schema


def load(task: Task) -> LoadedModel:
    schema = churn_schema(task)
    return LoadedModel("churn", 1, OnnxModel.load(churn_onnx(task), schema), schema)


def records(count: int) -> list[dict[str, Any]]:
    plans = ("basic", "premium", "gold", None)
    return [{**CHURN_RECORD, "age": 18 + row % 60, "plan": plans[row % 4]} for row in range(count)]


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_labels_are_the_likeliest_classes_as_the_target_was_written(task):
    loaded = load(task)
    scores = score(loaded, loaded.reader.read(RecordsTable(records(40))))
    probabilities = np.array(scores.probabilities)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, atol=1e-5)
    labels = [(False, True) if task == "binary" else (1, 2, 3)][0]
    assert scores.labels == [labels[winner] for winner in probabilities.argmax(axis=1)]
    assert len(set(scores.labels)) > 1


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_many_rows_are_scored_as_each_alone(task):
    loaded = load(task)
    rows = loaded.reader.read(RecordsTable(records(CHUNK_ROWS + 7)))
    scores = score(loaded, rows)
    expected = loaded.onnx.run(build_features(loaded.schema, rows.columns, rows.n_rows))
    actual = scores.values if task == "regression" else scores.probabilities
    assert len(actual) == CHUNK_ROWS + 7
    np.testing.assert_allclose(np.array(actual), expected, rtol=1e-6)


@pytest.mark.parametrize("n_rows", [MIN_ROWS + 5, 4 * CHUNK_ROWS + 1])
def test_the_order_in_which_many_rows_are_scored_changes_no_number(n_rows, monkeypatch):
    loaded = load("binary")
    rows = loaded.reader.read(RecordsTable(records(n_rows)))
    expected = score(loaded, rows).probabilities
    sorted_blocks = []
    score_sorted = RowOrder._score_sorted
    monkeypatch.setattr(RowOrder, "_score_sorted", lambda *block: sorted_blocks.append(1) or score_sorted(*block))
    for _ in range(6):
        assert score(loaded, rows).probabilities == expected
    # A last chunk of one row may be computed by other operations.
    assert bool(sorted_blocks) == (n_rows % CHUNK_ROWS != 1)


@pytest.mark.parametrize("positive", ["true", "false"])
def test_a_threshold_decides_for_the_positive_class_from_its_value_on(positive):
    loaded = load("binary")
    rows = loaded.reader.read(RecordsTable(records(30)))
    index = loaded.schema.classes.index(positive)
    chances = [row[index] for row in score(loaded, rows).probabilities]
    least = sorted(chances)[20]
    scores = score(replace(loaded, threshold=Threshold(index, least)), rows)
    assert scores.decisions == [(chance >= least) == (positive == "true") for chance in chances]
    assert len(set(scores.decisions)) == 2
    assert scores.labels != scores.decisions


def test_without_a_threshold_the_decision_is_the_label():
    loaded = load("multiclass")
    scores = score(loaded, loaded.reader.read(RecordsTable(records(30))))
    assert scores.decisions == scores.labels


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_what_is_scored_leaves_gaps_for_bad_rows(task):
    loaded = load(task)
    good = records(CHUNK_ROWS + 3)
    expected = score(loaded, loaded.reader.read(RecordsTable(good)))
    mixed = [row for pair in zip(good, [{"age": "?"}] * len(good), strict=True) for row in pair]
    scores = score(loaded, loaded.reader.read(RecordsTable(mixed), partial=True))
    for name in ("values",) if task == "regression" else ("labels", "probabilities", "decisions"):
        assert getattr(scores, name)[::2] == getattr(expected, name)
        assert getattr(scores, name)[1::2] == [None] * len(good)
    assert list(scores.bad_rows) == list(range(1, len(mixed), 2))


class Constant:
    """Stands for a session that answers one thing."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def run(self, _outputs: Any, _inputs: Any) -> list[Any]:
        return [np.array(self.answer, dtype=np.float32)]


def test_an_answer_that_is_not_finite_is_no_answer():
    schema = churn_schema("binary")
    loaded = LoadedModel("churn", 1, OnnxModel(Constant([[np.nan, 0.5], [0.25, 0.75]]), schema), schema)
    scores = score(loaded, loaded.reader.read(RecordsTable(records(2))))
    assert scores.labels == [None, True]
    assert scores.probabilities == [None, [0.25, 0.75]]
    schema = churn_schema("regression")
    loaded = LoadedModel("churn", 1, OnnxModel(Constant([[np.inf], [1.5]]), schema), schema)
    assert score(loaded, loaded.reader.read(RecordsTable(records(2)))).values == [None, 1.5]
