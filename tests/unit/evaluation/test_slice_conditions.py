"""Conditions mean what they say, on words, numbers, dates and booleans alike."""

import numpy as np
import pytest
from millrace.evaluation.slices import SliceCondition, as_strings, conditions_of, feature_columns
from millrace.features import build_features
from millrace.schema import Column, TableSchema

MOMENTS = np.array(["2024-01-01", "NaT", "2025-06-30T12:00"], dtype="datetime64[us]")
SCHEMA = TableSchema(
    (
        Column("plan", "category"),
        Column("since", "datetime"),
        Column("age", "number"),
        Column("y", "number", "target"),
    ),
    "regression",
)


def test_features_are_taken_apart_into_what_they_were_put_together_from():
    given = {"plan": np.array(["a", "", "b"]), "since": MOMENTS, "age": np.array([1.5, np.nan, 3.0])}
    columns = feature_columns(SCHEMA, build_features(SCHEMA, given, 3))

    assert list(columns) == ["plan", "since", "age"]
    assert columns["plan"].tolist() == ["a", "", "b"]
    np.testing.assert_array_equal(columns["age"], [1.5, np.nan, 3.0])
    apart = np.abs(columns["since"] - MOMENTS)
    assert np.isnat(columns["since"]).tolist() == [False, True, False]
    assert (apart[[0, 2]] < np.timedelta64(10, "m")).all()  # float32 days


@pytest.mark.parametrize(
    ("condition", "expected", "words"),
    [
        (SliceCondition("plan", values=("a",)), [True, False, False], "plan is a"),
        (SliceCondition("plan", values=("a", "b")), [True, False, True], "plan is a or b"),
        (SliceCondition("plan", missing=True), [False, True, False], "plan is missing"),
        (SliceCondition("age", low=3.0), [False, False, True], "age at least 3"),
        (SliceCondition("age", high=3.0), [True, False, True], "age at most 3"),
        (SliceCondition("age", low=1.5, high=3.0, closed=False), [True, False, False], "age from 1.5 to below 3"),
        (SliceCondition("since", high=1735689600.0, is_date=True), [True, False, False], "since at most 2025-01-01"),
        (SliceCondition("age", low=1_250_000.0), [False, False, False], "age at least 1,250,000"),
        (SliceCondition("absent", values=("a",)), [False, False, False], "absent is a"),
    ],
)
def test_condition_holds_where_it_should_and_says_so(condition, expected, words):
    columns = {"plan": np.array(["a", "", "b"]), "since": MOMENTS, "age": np.array([1.5, np.nan, 3.0])}

    assert condition.mask(columns).tolist() == expected
    assert condition.describe() == words


@pytest.mark.parametrize(
    ("column", "values"),
    [
        (Column("x", "number"), np.r_[np.arange(100.0), np.nan]),
        (Column("x", "integer"), np.array([1.0, 12.0, 24.0, np.nan] * 5)),
        (Column("x", "boolean", true_values=("yes",), false_values=("no",)), np.array([0.0, 1.0, np.nan])),
        (Column("x", "category"), np.array(["a", "b", "", "a"])),
        (Column("x", "datetime"), MOMENTS),
        (Column("x", "number"), np.array([7.25, 7.25])),
    ],
    ids=["numbers", "few whole numbers", "booleans", "words", "dates", "constant"],
)
def test_conditions_divide_a_column(column, values):
    masks = np.stack([condition.mask({"x": values}) for condition in conditions_of(column, values)] or [[]])

    if len(np.unique(values[~np.isnan(values)] if values.dtype.kind == "f" else values)) > 1:
        np.testing.assert_array_equal(masks.sum(axis=0), 1)


def test_booleans_are_called_by_the_words_of_the_data():
    column = Column("autopay", "boolean", true_values=("yes",), false_values=("no",))
    told = [condition.describe() for condition in conditions_of(column, np.array([0.0, 1.0]))]
    assert told == ["autopay is no", "autopay is yes"]


def test_a_column_never_known_is_only_missing():
    (only,) = conditions_of(Column("x", "number"), np.full(3, np.nan))
    assert only.missing


def test_whole_numbers_are_written_without_a_fraction():
    assert as_strings(np.array([1.0, np.nan, 2.0])).tolist() == ["1", "", "2"]
    assert as_strings(np.array([1.5, 2.0])).tolist() == ["1.5", "2.0"]
