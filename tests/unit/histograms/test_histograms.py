"""Histograms: they add up, survive JSON, and agree with numpy."""

import functools
import operator

import numpy as np
import pytest
from millrace.data.reference import describe_reference
from millrace.documents import from_plain, to_plain
from millrace.histograms.outcomes import ErrorSums, OutcomeHistogram
from millrace.histograms.predictions import ClassPredictions, PredictionHistogram
from millrace.histograms.tables import Reference, ReferenceDocument, TableHistogram, count_in_bins
from millrace.schema import Column, TableSchema
from scipy.stats import spearmanr

from tests.unit.monitoring.builders import CITIES, SCHEMA, make_columns, make_histogram, make_reference


@pytest.fixture(scope="module")
def reference():
    return make_reference()


def assert_same(one, other):
    first, second = to_plain(one), to_plain(other)
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
    whole = count_in_bins(columns, 3_000, reference.bins, reference.plan)
    parts = [
        count_in_bins(
            {name: values[start:stop] for name, values in columns.items()},
            stop - start,
            reference.bins,
            reference.plan,
        )
        for start, stop in ((0, 500), (500, 501), (501, 501), (501, 3_000))
    ]
    assert_same(functools.reduce(operator.add, parts), whole)


def test_a_histogram_survives_json(reference):
    whole = make_histogram(reference, missing=0.2)
    assert_same(from_plain(TableHistogram, to_plain(whole)), whole)


def test_a_histogram_counts_what_is_there(reference):
    columns = {
        "age": np.array([20.0, np.nan, 120.0, np.inf]),
        "city": np.array(["Bern", None, "Atlantis", ""], dtype=object),
        "member": np.array([1.0, 0.0, np.nan, 1.0]),
    }
    found = count_in_bins(columns, 4, reference.bins, reference.plan).columns
    assert (found["age"].known, found["age"].missing, found["age"].absent) == (2, 2, 0)
    assert found["age"].out_of_range == 1
    assert found["age"].mean() == pytest.approx(70.0)
    assert (found["city"].known, found["city"].missing) == (2, 2)
    assert found["city"].unseen == {"Atlantis": 1}
    assert found["member"].counts[list(reference.bins["member"].categories).index("true")] == 2
    assert (found["income"].missing, found["income"].absent) == (4, 4)


def test_training_compared_with_itself_has_not_moved(reference):
    columns = make_columns(5_000, 99)
    again = count_in_bins(columns, 5_000, reference.bins, reference.plan)
    for name, column in reference.training.columns.items():
        np.testing.assert_array_equal(again.columns[name].counts, column.counts)
    np.testing.assert_allclose(
        again.correlations.correlations(), reference.training.correlations.correlations(), atol=1e-6
    )


def test_a_reference_written_before_it_held_histograms_can_be_read():
    columns = make_columns(2_000)
    columns["city"] = columns["city"].astype(np.str_)
    document = to_plain(describe_reference(SCHEMA, columns, np.zeros(2_000, dtype=np.int64)))
    del document["dependence"]
    for column in document["features"]:
        column.pop("cells", None)
    old = Reference.build(ReferenceDocument.read(document), SCHEMA)
    assert old.training.correlations.rows == 0
    assert len(old.bins["age"]) == 10
    assert old.training.columns["age"].known == 2_000


def test_a_text_is_watched_by_how_many_words_it_has():
    schema = TableSchema((Column("review", "text"), Column("y", "number", "target")), "regression")
    rng = np.random.default_rng(0)
    reviews = {"review": np.array([" ".join(["word"] * n) for n in rng.integers(1, 30, 500)], dtype=object)}
    reference = Reference.build(describe_reference(schema, reviews, np.zeros(500)), schema)
    assert reference.training.columns["review"].counts.sum() == 500
    present = {"review": np.array(["a new word", "", None, "of " * 100], dtype=object)}
    column = count_in_bins(present, 4, reference.bins, reference.plan).columns["review"]
    assert (column.known, column.missing, column.out_of_range) == (2, 2, 1)
    assert (column.low, column.high) == (3.0, 100.0)
    assert not column.unseen


def test_sensitive_features_are_in_no_histogram():
    columns = make_columns(500)
    document = to_plain(describe_reference(SCHEMA, columns, np.zeros(500, dtype=np.int64)))
    document["features"][0]["sensitive"] = True
    assert "age" not in Reference.build(ReferenceDocument.read(document), SCHEMA).bins


def test_correlations_are_those_of_ranks(reference):
    columns = make_columns(20_000, 3)
    found = count_in_bins(columns, 20_000, reference.bins, reference.plan).correlations.correlations()
    exact = spearmanr(columns["age"], columns["income"]).statistic
    names = [score.name for score in reference.plan.scores]
    assert found[names.index("age"), names.index("income")] == pytest.approx(exact, abs=0.01)


def test_a_boolean_written_as_number_word_or_truth_is_one_value(reference):
    bins = reference.bins["member"]
    assert bins.positions([1.0, "true", True, "1"]).tolist() == [bins.categories.index("true")] * 4


def make_predictions(rows=2_000, seed=0, classes=2):
    draw = np.random.default_rng(seed)
    probabilities = draw.dirichlet(np.ones(classes), size=rows)
    outcomes = (draw.random((rows, 1)) > probabilities.cumsum(axis=1)[:, :-1]).sum(axis=1)
    groups = {"sex": draw.choice(["f", "m"], size=rows).tolist()}
    return ClassPredictions(probabilities.argmax(axis=1), probabilities, groups), outcomes


@pytest.mark.parametrize("classes", [2, 3, 12])
def test_answers_and_outcomes_add_up_and_survive_json(classes):
    answers, outcomes = make_predictions(classes=classes)
    half = np.arange(2_000) < 900
    total = PredictionHistogram.count(answers.take(half)) + PredictionHistogram.count(answers.take(~half))
    assert_same(total, PredictionHistogram.count(answers))
    assert_same(from_plain(PredictionHistogram, to_plain(total)), total)
    known = OutcomeHistogram.count(answers.take(half), outcomes[half])
    known += OutcomeHistogram.count(answers.take(~half), outcomes[~half])
    assert_same(known, OutcomeHistogram.count(answers, outcomes))
    assert_same(from_plain(OutcomeHistogram, to_plain(known)), known)
    assert_same(OutcomeHistogram.empty(classes) + known, known)


def test_errors_add_up_and_survive_json():
    draw = np.random.default_rng(1)
    truth = 1e6 + draw.normal(size=500)
    guess = truth + draw.normal(size=500)
    whole = ErrorSums.measure(guess, truth, {"town": ["a"] * 500}, origin=1e6)
    parts = ErrorSums.measure(guess[:100], truth[:100], {"town": ["a"] * 100}, origin=1e6)
    parts += ErrorSums.measure(guess[100:], truth[100:], {"town": ["a"] * 400}, origin=1e6)
    assert_same(parts, whole)
    assert_same(from_plain(ErrorSums, to_plain(whole)), whole)


def test_words_that_training_knows_are_not_unknown():
    assert set(make_reference().bins["city"].categories) == set(CITIES)
