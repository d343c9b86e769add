"""Sketches: they add up, survive JSON, and say of rows what numpy says."""

import json

import numpy as np
import pytest
from millrace.data.reference import describe_reference
from millrace.histograms.outcomes import ErrorSketch, OutcomeSketch
from millrace.histograms.predictions import Answers, AnswerSketch
from millrace.histograms.tables import Reference, TableSketch, merge, sketch_rows
from millrace.schema import Column, TableSchema
from scipy.stats import spearmanr

from tests.unit.monitoring.builders import CITIES, SCHEMA, make_columns, make_reference, sketch


@pytest.fixture(scope="module")
def reference():
    return make_reference()


def assert_same(one, other):
    first, second = (json.loads(json.dumps(each.to_dict())) for each in (one, other))
    _assert_close(first, second)


def _assert_close(first, second):
    if isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            _assert_close(first[key], second[key])
    elif isinstance(first, str):
        assert first == second
    else:
        np.testing.assert_allclose(np.array(first, dtype=float), np.array(second, dtype=float), rtol=1e-5, atol=1e-4)


def test_the_sum_of_hours_is_the_window(reference):
    columns = make_columns(3_000, missing=0.1)
    whole = sketch_rows(columns, 3_000, reference.cells, reference.plan)
    parts = [
        sketch_rows(
            {name: values[start:stop] for name, values in columns.items()},
            stop - start,
            reference.cells,
            reference.plan,
        )
        for start, stop in ((0, 500), (500, 501), (501, 501), (501, 3_000))
    ]
    assert_same(merge(parts, reference.cells, reference.plan), whole)


def test_a_sketch_survives_json(reference):
    whole = sketch(reference, missing=0.2)
    assert_same(TableSketch.from_dict(json.loads(json.dumps(whole.to_dict()))), whole)


def test_a_sketch_counts_what_is_there(reference):
    columns = {
        "age": np.array([20.0, np.nan, 120.0, np.inf]),
        "city": np.array(["Bern", None, "Atlantis", ""], dtype=object),
        "member": np.array([1.0, 0.0, np.nan, 1.0]),
    }
    found = sketch_rows(columns, 4, reference.cells, reference.plan, absent={"age": 1}).columns
    assert (found["age"].known, found["age"].missing, found["age"].absent) == (2, 2, 1)
    assert found["age"].out_of_range == 1
    assert found["age"].mean() == pytest.approx(70.0)
    assert (found["city"].known, found["city"].missing) == (2, 2)
    assert found["city"].strange == {"Atlantis": 1}
    assert found["member"].counts[list(reference.cells["member"].words).index("true")] == 2
    assert (found["income"].missing, found["income"].absent) == (4, 4)


def test_training_compared_with_itself_has_not_moved(reference):
    columns = make_columns(5_000, 99)
    again = sketch_rows(columns, 5_000, reference.cells, reference.plan)
    for name, column in reference.sketch.columns.items():
        np.testing.assert_array_equal(again.columns[name].counts, column.counts)
    np.testing.assert_allclose(again.dependence.correlations(), reference.sketch.dependence.correlations(), atol=1e-6)


def test_a_reference_written_before_it_held_a_sketch_can_be_read():
    columns = make_columns(2_000)
    columns["city"] = columns["city"].astype(np.str_)
    document = describe_reference(SCHEMA, columns, np.zeros(2_000, dtype=np.int64))
    del document["dependence"]
    for column in document["features"]:
        column.pop("cells", None)
    old = Reference.read(document, SCHEMA)
    assert old.sketch.dependence.rows == 0
    assert len(old.cells["age"]) == 10
    assert old.sketch.columns["age"].known == 2_000


def test_a_text_is_watched_by_how_many_words_it_has():
    schema = TableSchema((Column("review", "text"), Column("y", "number", "target")), "regression")
    rng = np.random.default_rng(0)
    reviews = {"review": np.array([" ".join(["word"] * n) for n in rng.integers(1, 30, 500)], dtype=object)}
    reference = Reference.read(describe_reference(schema, reviews, np.zeros(500)), schema)
    assert reference.sketch.columns["review"].counts.sum() == 500
    present = {"review": np.array(["a new word", "", None, "of " * 100], dtype=object)}
    column = sketch_rows(present, 4, reference.cells, reference.plan).columns["review"]
    assert (column.known, column.missing, column.out_of_range) == (2, 2, 1)
    assert (column.low, column.high) == (3.0, 100.0)
    assert not column.strange


def test_sensitive_features_are_in_no_sketch():
    columns = make_columns(500)
    document = describe_reference(SCHEMA, columns, np.zeros(500, dtype=np.int64))
    document["features"][0]["sensitive"] = True
    assert "age" not in Reference.read(document, SCHEMA).cells


def test_correlations_are_those_of_ranks(reference):
    columns = make_columns(20_000, 3)
    found = sketch_rows(columns, 20_000, reference.cells, reference.plan).dependence.correlations()
    exact = spearmanr(columns["age"], columns["income"]).statistic
    names = [score.name for score in reference.plan.scores]
    assert found[names.index("age"), names.index("income")] == pytest.approx(exact, abs=0.01)


def test_a_boolean_written_as_number_word_or_truth_is_one_value(reference):
    cells = reference.cells["member"]
    assert [int(cells.locate([value])[0]) for value in (1.0, "true", True, "1")] == [cells.words.index("true")] * 4


def make_answers(rows=2_000, seed=0, classes=2):
    draw = np.random.default_rng(seed)
    probabilities = draw.dirichlet(np.ones(classes), size=rows)
    outcomes = (draw.random((rows, 1)) > probabilities.cumsum(axis=1)[:, :-1]).sum(axis=1)
    groups = {"sex": draw.choice(["f", "m"], size=rows).tolist()}
    return Answers(probabilities.argmax(axis=1), probabilities, groups), outcomes


@pytest.mark.parametrize("classes", [2, 3, 12])
def test_answers_and_outcomes_add_up_and_survive_json(classes):
    answers, outcomes = make_answers(classes=classes)
    half = np.arange(2_000) < 900
    total = AnswerSketch.of(answers.take(half))
    total.add(AnswerSketch.of(answers.take(~half)))
    assert_same(total, AnswerSketch.of(answers))
    assert_same(AnswerSketch.from_dict(json.loads(json.dumps(total.to_dict()))), total)
    known = OutcomeSketch.of(answers.take(half), outcomes[half])
    known.add(OutcomeSketch.of(answers.take(~half), outcomes[~half]))
    assert_same(known, OutcomeSketch.of(answers, outcomes))
    assert_same(OutcomeSketch.from_dict(json.loads(json.dumps(known.to_dict()))), known)
    empty = OutcomeSketch.empty(classes)
    empty.add(known)
    assert_same(empty, known)


def test_errors_add_up_and_survive_json():
    draw = np.random.default_rng(1)
    truth = 1e6 + draw.normal(size=500)
    guess = truth + draw.normal(size=500)
    whole = ErrorSketch.of(guess, truth, {"town": ["a"] * 500}, origin=1e6)
    parts = ErrorSketch.of(guess[:100], truth[:100], {"town": ["a"] * 100}, origin=1e6)
    parts.add(ErrorSketch.of(guess[100:], truth[100:], {"town": ["a"] * 400}, origin=1e6))
    assert_same(parts, whole)
    assert_same(ErrorSketch.from_dict(json.loads(json.dumps(whole.to_dict()))), whole)


def test_words_that_training_knows_are_not_unknown():
    assert set(make_reference().cells["city"].words) == set(CITIES)
