"""Typed columns become the two matrices, in the schema's order and with nothing lost."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from millrace.features import FeatureMatrix, build_features, build_few_features, date_parts, token_counts
from millrace.schema import TOKEN_COLUMNS, Column, TableSchema

SCHEMA = TableSchema(
    columns=(
        Column("plan", "category"),
        Column("since", "datetime"),
        Column("key", "category", "identifier"),
        Column("visits", "integer"),
        Column("active", "boolean"),
        Column("town", "category"),
        Column("age", "number"),
        Column("label", "integer", "target"),
    ),
    task="binary",
    classes=("0", "1"),
)
COLUMNS = {
    "plan": np.array(["a", ""], dtype=object),
    "since": np.array(["2000-01-02T06:30", "NaT"], dtype="datetime64[us]"),
    "visits": np.array([3.0, np.nan]),
    "active": np.array([1.0, np.nan]),
    "town": np.array(["Köln", "x" * 128], dtype=object),
    "age": np.array([0.1, np.nan]),
}


def test_columns_stand_in_the_schemas_order():
    features = build_features(SCHEMA, COLUMNS, 2)
    assert SCHEMA.number_names == (
        "since.days",
        "since.month",
        "since.weekday",
        "since.hour",
        "visits",
        "active",
        "age",
    )
    np.testing.assert_array_equal(
        features.numbers,
        np.array([[1 + 6.5 / 24, 1, 6, 6, 3, 1, 0.1], [np.nan] * 7], dtype=np.float32),
    )
    assert features.strings.tolist() == [["a", "Köln"], ["", "x" * 128]]
    assert features.numbers.dtype == np.float32
    assert features.strings.dtype.kind == "U"


def test_a_text_stands_among_the_numbers_with_all_its_words():
    schema = TableSchema(
        (
            Column("age", "number"),
            Column("note", "text", nullable=True),
            Column("plan", "category"),
            Column("visits", "number"),
        ),
        "regression",
    )
    notes = ["so late, so 💩", "", "ok\x07 then"]
    columns = {
        "age": np.array([1.0, 2.0, np.nan]),
        "note": np.array(notes, dtype=object),
        "plan": np.array(["a", "b", ""], dtype=object),
        "visits": np.array([4.0, 5.0, 6.0]),
    }
    features = build_features(schema, columns, 3)
    assert features.numbers.shape == (3, len(schema.number_names)) == (3, 3 + TOKEN_COLUMNS)
    assert schema.number_names[:3] == ("age", "note.words", "note.word.0")
    np.testing.assert_array_equal(features.numbers[:, 1:-1], [token_counts(note, TOKEN_COLUMNS) for note in notes])
    np.testing.assert_array_equal(features.numbers[:, [0, -1]], [[1, 4], [2, 5], [np.nan, 6]])
    assert features.strings.tolist() == [["a"], ["b"], [""]]
    plan = [(column.name, column.type) for column in schema.features]
    cells = {name: values.tolist() for name, values in columns.items()}
    np.testing.assert_array_equal(
        build_few_features(plan, cells, 3, schema.token_columns).numbers, features.numbers, strict=True
    )


def test_a_feature_that_is_not_there_is_an_error():
    with pytest.raises(KeyError, match="age"):
        build_features(SCHEMA, {name: values for name, values in COLUMNS.items() if name != "age"}, 2)


def test_a_table_without_numbers_or_words_still_has_rows():
    schema = TableSchema((Column("a", "number"), Column("y", "integer", "target")), "binary", ("0", "1"))
    features = build_features(schema, {"a": np.array([1.0, 2.0])}, 2)
    assert (features.numbers.shape, features.strings.shape) == ((2, 1), (2, 0))
    schema = TableSchema((Column("a", "category"), Column("y", "integer", "target")), "binary", ("0", "1"))
    features = build_features(schema, {"a": np.array(["u", "v"], dtype=object)}, 2)
    assert (features.numbers.shape, features.strings.shape) == ((2, 0), (2, 1))
    assert len(features) == 2


def test_numbers_beyond_float32_are_infinite_without_a_warning():
    schema = TableSchema((Column("a", "number"), Column("y", "integer", "target")), "binary", ("0", "1"))
    assert np.isinf(build_features(schema, {"a": np.array([1e300])}, 1).numbers[0, 0])


def test_rows_are_taken_by_position_and_by_mask():
    matrix = FeatureMatrix(np.arange(6, dtype=np.float32).reshape(3, 2), np.array([["a"], ["b"], ["c"]]))
    assert matrix.take(np.array([2, 0])).strings.tolist() == [["c"], ["a"]]
    assert matrix.take(np.array([False, True, False])).numbers.tolist() == [[2.0, 3.0]]


@given(st.datetimes(datetime(1800, 1, 1), datetime(2200, 1, 1)))  # noqa: DTZ001  # bounds have no zone
def test_date_parts_are_those_of_the_calendar(moment):
    days, month, weekday, hour = date_parts(np.array([moment], dtype="datetime64[us]"))[0].tolist()
    since = moment.replace(tzinfo=UTC) - datetime(2000, 1, 1, tzinfo=UTC)
    assert days == pytest.approx(since / timedelta(days=1), abs=1 / 24 / 4)
    assert (month, weekday, hour) == (moment.month, moment.weekday(), moment.hour)
