import json
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from millrace.data.raw import build_strings
from millrace.data.typed_table import parse_column
from millrace.errors import InvalidInputError
from millrace.features import build_features
from millrace.schema import Column, ColumnRules, TableSchema
from millrace.serving.request import ColumnsTable, RecordsTable
from millrace.serving.rows import MAX_LISTED_ERRORS, RowReader, TypedRows

from tests.serving_models import CHURN_RECORD, churn_schema

TARGET = Column("churned", "boolean", "target")
FLOAT32_MAX = float(np.finfo(np.float32).max)


def read(column: Column, *values: Any) -> TypedRows:
    schema = TableSchema((column, TARGET), "binary", ("false", "true"))
    return RowReader(schema).read(ColumnsTable({column.name: values}, len(values)))


def message(column: Column, *values: Any) -> str:
    with pytest.raises(InvalidInputError) as caught:
        read(column, *values)
    (fault,) = caught.value.fields
    return f"{fault.field} {fault.message}"


def as_cell(value: Any) -> str:
    """Write a JSON value as a CSV file would hold it."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)


def trained(column: Column, values: list[Any]) -> np.ndarray:
    cells = build_strings([column.name], [pa.chunked_array([[as_cell(value) for value in values]])])
    parsed = parse_column(column, cells.column(0).combine_chunks())
    assert not parsed.bad.any()
    return parsed.values


# -- names and sensitive columns ---------------------------------------------------------------------------------------
def refusals(columns: dict[str, Any]) -> dict[str, str]:
    with pytest.raises(InvalidInputError) as caught:
        RowReader(churn_schema()).read(ColumnsTable({name: [value] for name, value in columns.items()}, 1))
    return {fault.field: fault.message for fault in caught.value.fields}


@pytest.mark.parametrize("name", ["Active", "active ", "is_active", "acitve", "ACTIVE"])
def test_a_missing_column_that_is_there_under_another_name_is_found(name):
    renamed = {name if key == "active" else key: value for key, value in CHURN_RECORD.items()}
    assert refusals(renamed) == {"active": f"is missing; the model does not know {name!r}: did you mean 'active'?"}


def test_a_missing_column_names_the_unknown_ones():
    others = {key: value for key, value in CHURN_RECORD.items() if key != "plan"}
    assert refusals(others | {"tariff": "x"}) == {"plan": "is missing; the model does not know 'tariff'"}
    assert refusals(others) == {"plan": "is missing"}
    many = refusals(others | {f"made up {n:05}": 1 for n in range(20_000)})
    assert many["plan"].endswith("'made up 00004' and others")
    assert len(refusals(others | {"x" * 100_000: 1})["plan"]) < 200


@pytest.mark.parametrize(
    ("column", "value"),
    [
        (Column("a", "category", sensitive=True, rules=ColumnRules(allowed=("s3cret", "b"))), "c"),
        (Column("a", "boolean", sensitive=True, true_values=("s3cret",), false_values=("b",)), "c"),
        (Column("a", "number", sensitive=True, minimum=1.0, maximum=73_311.0), 80_000),
        (Column("a", "number", sensitive=True, rules=ColumnRules(maximum=73_311.0)), 80_000),
        (Column("a", "datetime", sensitive=True, rules=ColumnRules(minimum=1_700_000_000.0)), "2001-01-01"),
    ],
)
def test_no_message_about_a_sensitive_column_holds_a_value(column, value):
    try:
        said = str(read(column, value).warnings)
        assert "outside the range of training" in said
    except InvalidInputError as error:
        said = f"{error.message} {error.fields}"
        assert "expects" in said
    for hidden in ("s3cret", "73", "2023", "80000"):
        assert hidden not in said


# -- numbers -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", ["integer", "number"])
@pytest.mark.parametrize("n_rows", [1, 3, 40])
def test_numbers_in_quotes_are_read_with_a_notice(kind, n_rows):
    rows = read(Column("age", kind, nullable=True), *["41", " 4e1 ", "NA", "", 7][:n_rows], *[3.0] * (n_rows - 5))
    expected = [41.0, 40.0, np.nan, np.nan, 7.0, *[3.0] * (n_rows - 5)]
    np.testing.assert_array_equal(rows.columns["age"], expected[:n_rows])
    count = "1 number" if n_rows == 1 else "2 numbers"
    assert ("age", f"{count} in quotes: read as written, with a decimal point") in [
        (warning.field, warning.message) for warning in rows.warnings
    ]


@pytest.mark.parametrize("kind", ["integer", "number"])
def test_numbers_are_read_and_null_is_missing(kind):
    rows = read(Column("age", kind, nullable=True), 3, 4.0, None, -0.0)
    assert rows.columns["age"].dtype == np.float64
    np.testing.assert_array_equal(rows.columns["age"], [3.0, 4.0, np.nan, 0.0])
    assert not np.signbit(rows.columns["age"][3])


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("forty-one", "expects a number, got a string"),
        ("1,5", "expects a number, got a string; write numbers without quotes, and as 1234.5"),
        ("1e400", "expects a number that a 32-bit float can hold"),
        (True, "expects a number, got a boolean"),
        ([1], "expects a number, got a list"),
        ({}, "expects a number, got an object"),
        (1e39, "expects a number that a 32-bit float can hold"),
        (10**400, "expects a number that a 32-bit float can hold"),
        (float("inf"), "expects a number that a 32-bit float can hold"),
    ],
)
@pytest.mark.parametrize("kind", ["integer", "number"])
def test_a_value_that_is_no_number_is_named_with_its_row(kind, value, said):
    assert message(Column("age", kind), 1, value) == f"row 1: age {said}"


def test_a_fraction_in_a_column_of_integers_is_scored_and_noted():
    rows = read(Column("age", "integer"), 3.5, 4)
    assert rows.columns["age"].tolist() == [3.5, 4.0]
    (warning,) = rows.warnings
    assert warning.message == "1 value with a fraction; training saw whole numbers"


# -- booleans ----------------------------------------------------------------------------------------------------------
def test_booleans_are_literals_zero_and_one_or_the_words_of_training():
    column = Column("active", "boolean", nullable=True, true_values=("yes",), false_values=("no",))
    rows = read(column, True, False, 1, 0, 1.0, "Yes", " no ", "TRUE", "NA", None)
    np.testing.assert_array_equal(rows.columns["active"], [1, 0, 1, 0, 1, 1, 0, 1, np.nan, np.nan])


@pytest.mark.parametrize("value", ["maybe", 2, 0.5, [], {}])
def test_other_values_are_no_booleans(value):
    column = Column("active", "boolean", true_values=("yes",), false_values=("no",))
    assert message(column, value).startswith("row 0: active expects true or false (or yes or no), got ")


# -- categories --------------------------------------------------------------------------------------------------------
def test_unknown_categories_are_scored_and_counted_and_missing_ones_are_empty():
    rows = read(
        Column("plan", "category", nullable=True, categories=("basic",)), "basic", "gold", " basic ", None, "NA"
    )
    assert rows.columns["plan"].tolist() == ["basic", "gold", "basic", "", ""]
    assert [warning.message for warning in rows.warnings] == ["1 value not seen in training", "2 values missing"]


def test_unknown_categories_are_not_counted_when_the_known_ones_are_not_recorded():
    assert read(Column("plan", "category"), "gold").warnings == ()


def test_a_text_may_have_any_length_and_is_read_so_far():
    long = "word " * 2_000
    rows = read(Column("note", "text", nullable=True), "so late", long, None, " NA ")
    assert rows.columns["note"].tolist() == ["so late", long.strip(), "", ""]
    warnings = [warning.message for warning in rows.warnings]
    assert warnings == ["1 value read up to character 5,000, as in training", "2 values missing"]
    assert read(Column("note", "text"), "so late").warnings == ()


@pytest.mark.parametrize(
    ("value", "said"), [(5, "expects a string, got a number"), ("\ud800", "half a surrogate pair")]
)
def test_a_value_that_is_no_text_is_refused(value, said):
    assert said in message(Column("note", "text"), value)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (5, "expects a string, got a number"),
        (False, "expects a string, got a boolean"),
        ("x" * 1_001, "expects a string of at most 1000 characters"),
        ("\ud800", "expects a string of whole Unicode characters, got half a surrogate pair"),
    ],
)
def test_a_value_that_is_no_category_is_refused(value, said):
    assert message(Column("plan", "category"), value) == f"row 0: plan {said}"


def test_a_category_as_long_as_one_seen_in_training_is_read():
    longest = "x" * 2_000
    assert read(Column("plan", "category", categories=(longest,)), longest).columns["plan"].tolist() == [longest]


# -- dates -------------------------------------------------------------------------------------------------------------
def test_dates_become_utc_by_the_formats_of_training_or_iso():
    column = Column("since", "datetime", nullable=True, formats=("%d.%m.%Y",))
    rows = read(column, "03.02.2024", "2024-02-03T10:00:00+02:00", "2024-02-03", None)
    expected = np.array(["2024-02-03T00:00", "2024-02-03T08:00", "2024-02-03T00:00", "NaT"], dtype="datetime64[us]")
    assert rows.columns["since"].dtype == expected.dtype
    np.testing.assert_array_equal(rows.columns["since"], expected)


def test_a_format_of_training_is_tried_before_iso():
    rows = read(Column("since", "datetime", formats=("%Y%d%m",)), "20240203")
    assert rows.columns["since"][0] == np.datetime64("2024-03-02")


@pytest.mark.parametrize("value", ["yesterday", "2024-13-01", "0001-01-01T00:00:00+10:00"])
def test_text_that_is_no_date_is_refused_with_the_formats_that_are(value):
    column = Column("since", "datetime", formats=("%d.%m.%Y",))
    assert message(column, value) == "row 0: since expects a date in %d.%m.%Y or ISO 8601"


def test_a_number_is_no_date():
    assert (
        message(Column("since", "datetime"), 1_700_000_000) == "row 0: since expects a date as a string, got a number"
    )


# -- columns -----------------------------------------------------------------------------------------------------------
def read_record(record: dict[str, Any]) -> TypedRows:
    return RowReader(churn_schema()).read(RecordsTable([record]))


def test_a_full_record_is_read_without_warnings():
    rows = read_record(CHURN_RECORD)
    assert rows.warnings == ()
    assert set(rows.columns) == {column.name for column in churn_schema().features}


def test_columns_that_are_no_features_may_hold_anything():
    assert read_record({**CHURN_RECORD, "customer_id": 7, "comment": None, "churned": "?"}).warnings == ()


def test_columns_unknown_to_the_model_are_ignored_and_counted():
    (warning,) = read_record({**CHURN_RECORD, "shoe_size": 43, "colour": "red"}).warnings
    assert (warning.field, warning.message) == ("*", "2 columns unknown to the model: ignored")


def test_an_absent_column_is_missing_where_training_saw_missing_values():
    record = {name: value for name, value in CHURN_RECORD.items() if name not in ("balance", "city", "signed_up")}
    rows = read_record(record)
    assert {warning.field for warning in rows.warnings} == {"balance", "city", "signed_up"}
    features = build_features(churn_schema(), rows.columns, rows.n_rows)
    assert np.isnan(features.numbers[0]).sum() == 5
    assert features.strings[0].tolist() == ["family", ""]


def test_every_absent_column_that_is_needed_is_named():
    with pytest.raises(InvalidInputError) as caught:
        read_record({"balance": 1})
    assert [(fault.field, fault.message) for fault in caught.value.fields] == [
        ("age", "is missing"),
        ("active", "is missing"),
        ("plan", "is missing"),
    ]


def test_a_row_that_is_silent_where_others_speak_is_a_bad_field_but_null_is_a_value():
    schema = TableSchema((Column("age", "integer"), TARGET), "binary", ("false", "true"))
    with pytest.raises(InvalidInputError) as caught:
        RowReader(schema).read(RecordsTable([{"age": 1}, {}]))
    assert caught.value.fields[0].field == "row 1: age"
    rows = RowReader(schema).read(RecordsTable([{"age": 1}, {"age": None}]))
    assert [warning.message for warning in rows.warnings] == ["1 value missing, though none was in training"]


def test_all_bad_fields_are_counted_and_the_first_ones_listed():
    with pytest.raises(InvalidInputError, match=r"the rows have 150 bad fields; 50 more are not listed") as caught:
        read(Column("age", "integer"), *["x"] * 150)
    assert len(caught.value.fields) == MAX_LISTED_ERRORS


def test_messages_never_hold_the_values():
    with pytest.raises(InvalidInputError) as caught:
        read_record({**CHURN_RECORD, "age": "secret", "plan": 123456, "active": "secret", "signed_up": "secret"})
    assert len(caught.value.fields) == 4
    assert "secret" not in json.dumps(caught.value.to_dict())
    assert "123456" not in json.dumps(caught.value.to_dict())


# -- the same as training ----------------------------------------------------------------------------------------------
words = st.text(st.characters(exclude_categories=("Cs",)), max_size=20)
padded_dates = st.datetimes().flatmap(
    lambda moment: st.sampled_from(
        [
            moment.isoformat(),
            f" {moment.isoformat(sep=' ')}\t",
            f"{moment.isoformat()}Z",
            moment.date().isoformat(),
            f"{moment:%d.%m.}{moment.year:04}",
            "NA",
        ]
    )
)
numbers = st.one_of(st.none(), st.integers(-(10**38), 10**38), st.floats(-FLOAT32_MAX, FLOAT32_MAX))
booleans = st.sampled_from([True, False, None, "yes", "NO", "True", " no", "null", ""])

SAME_COLUMNS = {
    "number": (Column("x", "number"), numbers),
    "integer": (Column("x", "integer"), numbers),
    "boolean": (Column("x", "boolean", true_values=("yes",), false_values=("no",)), booleans),
    "category": (
        Column("x", "category", categories=("a",)),
        st.one_of(st.none(), words, st.sampled_from(["NA", " a "])),
    ),
    "text": (
        Column("x", "text"),
        st.one_of(
            st.none(), words, st.sampled_from(["NA", " Late, LATE\n", "e\u0301t\u00e9", "💩 \x01", "a b " * 3_000])
        ),
    ),
    "datetime": (Column("x", "datetime", formats=("iso", "%d.%m.%Y")), st.one_of(st.none(), padded_dates)),
}


@pytest.mark.parametrize("kind", SAME_COLUMNS)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_value_becomes_the_same_matrices_as_in_training(kind, data):
    column, strategy = SAME_COLUMNS[kind]
    values = data.draw(st.lists(strategy, min_size=1, max_size=5))
    schema = TableSchema((column, TARGET), "binary", ("false", "true"))
    served = build_features(schema, read(column, *values).columns, len(values))
    in_training = build_features(schema, {"x": trained(column, values)}, len(values))
    np.testing.assert_array_equal(served.numbers, in_training.numbers)
    np.testing.assert_array_equal(np.signbit(served.numbers), np.signbit(in_training.numbers))
    assert served.strings.tolist() == in_training.strings.tolist()


anything = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.sampled_from(["NA", "2024-01-01"])),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.text(), inner, max_size=2)),
    max_leaves=3,
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from([*CHURN_RECORD, "other"]), anything), min_size=1, max_size=3))
@example([{**CHURN_RECORD, "age": 10**5000}])
@example([{**CHURN_RECORD, "plan": "\udfff"}])
def test_whatever_a_record_holds_it_is_read_or_refused(records):
    with suppress(InvalidInputError):
        rows = RowReader(churn_schema()).read(RecordsTable([{**CHURN_RECORD, **record} for record in records]))
        features = build_features(churn_schema(), rows.columns, rows.n_rows)
        assert not np.isinf(features.numbers).any()


# -- few rows and many -------------------------------------------------------------------------------------------------
def test_a_word_ends_before_trailing_nuls_however_many_rows_there_are():
    """As in training, where NumPy's strings are so."""
    records = [CHURN_RECORD | {"plan": "basic\0"}]
    reader = RowReader(churn_schema())
    for rows in (reader.read(RecordsTable(records)), reader.read(RecordsTable(records * 20))):
        assert (rows.features(0, 1).strings[0, 0], rows.n_unknown) == ("basic", 0)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_row_has_the_same_numbers_alone_and_among_many(data):
    """Few rows are read value by value, many as arrays: the two ways have to agree to the last bit."""
    columns = [replace(column, name=name) for name, (column, _) in SAME_COLUMNS.items()]
    schema = TableSchema((*columns, TARGET), "binary", ("false", "true"))
    row = st.fixed_dictionaries({name: strategy for name, (_, strategy) in SAME_COLUMNS.items()})
    records = data.draw(st.lists(row, min_size=1, max_size=3))
    reader = RowReader(schema)
    few = reader.read(RecordsTable(records)).features(0, len(records))
    many = reader.read(RecordsTable(records * 20)).features(0, len(records))
    in_training = build_features(schema, reader.read(RecordsTable(records)).columns, len(records))
    for other in (many, in_training):
        np.testing.assert_array_equal(few.numbers, other.numbers)
        assert few.strings.tolist() == other.strings.tolist()
    assert few.numbers.flags.c_contiguous


@pytest.mark.parametrize("repeats", [1, 20])
def test_warnings_and_counts_do_not_depend_on_how_many_rows_there_are(repeats):
    strange = CHURN_RECORD | {
        "age": 17.5,
        "balance": None,
        "plan": "gold",
        "city": "",
        "signed_up": None,
        "subscribed": "",
    }
    rows = RowReader(churn_schema()).read(RecordsTable([strange] * repeats))
    noun = "value" if repeats == 1 else "values"
    assert [(warning.field, warning.message) for warning in rows.warnings] == [
        ("age", f"{repeats} {noun} with a fraction; training saw whole numbers"),
        ("age", f"{repeats} {noun} outside the range of training, 18 to 80"),
        ("balance", f"{repeats} {noun} missing"),
        ("subscribed", f"{repeats} {noun} missing"),
        ("plan", f"{repeats} {noun} not seen in training"),
        ("city", f"{repeats} {noun} missing"),
        ("signed_up", f"{repeats} {noun} missing"),
    ]
    assert (rows.n_missing, rows.n_unknown) == (4 * repeats, repeats)


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [(0.0, 2_500_000.0, "0 to 2,500,000"), (18.0, 18.0, "18 only"), (-0.00001, 0.5, "-0.00001 to 0.5")],
)
def test_a_range_is_written_in_plain_numbers(low, high, shown):
    schema = TableSchema((Column("x", "number", minimum=low, maximum=high), TARGET), "binary", ("false", "true"))
    (warning,) = RowReader(schema).read(RecordsTable([{"x": 3e6}])).warnings
    assert warning.message == f"1 value outside the range of training, {shown}"


@pytest.mark.parametrize("bad", ["x", True, 1e39, [1]])
def test_one_bad_value_among_many_is_named_with_its_row(bad):
    assert message(Column("age", "number"), *[1.0] * 30, bad).startswith("row 30: age expects a number")


@pytest.mark.parametrize("kind", ["category", "datetime", "boolean"])
def test_one_bad_value_among_many_words_is_named_with_its_row(kind):
    good = {"category": "a", "datetime": "2024-01-01", "boolean": True}[kind]
    assert message(Column("x", kind), *[good] * 30, 7.5, *[good] * 3).startswith("row 30: x expects")
