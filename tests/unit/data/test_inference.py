"""Types and roles that columns are given, and why."""

import numpy as np
import pyarrow as pa
import pytest
from millrace.data.infer import infer_columns
from millrace.data.raw import RowBatch
from millrace.quantities import PLAIN
from millrace.schema import Column

from tests.tables import infer_column, read_table


def infer(*values: str | None, name: str = "c", repeat: int = 10) -> Column:
    return infer_column(name, pa.array(list(values) * repeat, pa.string())).column


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (("1", "-2", "+3"), "integer"),
        (("0", "1"), "integer"),
        (("1", "2.5", ".5", "1e3", "3."), "number"),
        (("1.0", "2.0"), "number"),
        (("true", "FALSE"), "boolean"),
        (("Yes", "no"), "boolean"),
        (("t", "f"), "boolean"),
        (("Y", "N"), "boolean"),
        (("yes", "no", "maybe"), "category"),
        (("yes", "f"), "category"),
        (("2024-01-31", "2024-02-01T10:00", "2024-02-01 10:00:00.5Z", "2024-02-01T10:00:00+02:00"), "datetime"),
        (("31/01/2024", "01/02/2024"), "datetime"),
        (("01/31/2024", "02/01/2024"), "datetime"),
        (("31.12.2024 10:30", "01.01.2024 11:30"), "datetime"),
        (("3 Jan 2024", "4 Feb 2024"), "datetime"),
        (("2024-13-45", "2024-14-45"), "category"),
        (("01234", "90210", "00501"), "category"),
        (("1,5", "2,5"), "category"),
        (("inf", "1"), "category"),
        (("a", "b", "c"), "category"),
        (("x" * 129, "y"), "text"),
    ],
)
def test_types_follow_from_the_cells(values, expected):
    assert infer(*values).type == expected
    with_gaps = infer(*values, None)
    assert (with_gaps.type, with_gaps.nullable) == (expected, True)


def test_boolean_words_are_remembered_and_true_false_need_none():
    assert infer("Yes", "No") == Column(
        "c", "boolean", categories=("No", "Yes"), true_values=("yes",), false_values=("no",)
    )
    assert infer("True", "False") == Column("c", "boolean")


@pytest.mark.parametrize(("bad", "expected"), [(5, "integer"), (6, "category")])
def test_a_few_words_do_not_make_a_numeric_column_a_category(bad, expected):
    assert infer(*["7", "8"] * 50, *["?"] * 0, repeat=1).type == "integer"
    values = [*(["7"] * (100 - bad)), *(["?"] * bad)]
    assert infer(*values, repeat=1).type == expected


def test_day_and_month_that_could_change_places_are_reported_not_guessed():
    inferred = infer_column("when", pa.array(["01/02/2024", "03/04/2024"] * 20))
    assert (inferred.column.type, inferred.column.role) == ("text", "ignored")
    assert "YYYY-MM-DD" in inferred.column.reason
    assert [finding.check for finding in inferred.findings] == ["ambiguous_dates"]


def test_equal_day_and_month_are_not_ambiguous():
    assert infer("01/01/2024", "02/02/2024").type == "datetime"


def test_a_better_fit_settles_the_order_of_day_and_month():
    assert infer(*["05/06/2024"] * 39, "25/06/2024", repeat=1).formats == ("%d/%m/%Y",)


def test_categories_are_few_short_and_repeated():
    twenty = [f"v{i}" for i in range(10)] * 2
    assert infer(*twenty, repeat=1).type == "category"
    assert infer(*twenty[:-1], "other", repeat=1).type == "text"
    assert infer(*[f"v{i}" for i in range(19)], repeat=1).type == "category"
    thousand = [f"v{i}" for i in range(1_000)] * 2
    assert infer(*thousand, repeat=1).type == "category"
    assert infer(*thousand, *["one more"] * 2, repeat=1).type == "text"


@pytest.mark.parametrize("name", ["id", "ID", "customer_id", "row_uuid", "order-id"])
def test_unique_present_columns_named_so_are_identifiers(name):
    column = infer(*[str(i) for i in range(30)], name=name, repeat=1)
    assert (column.role, column.type) == ("identifier", "integer")


@pytest.mark.parametrize("values", [[*range(29), 28], [*range(29), None]])
def test_repeated_or_missing_values_are_no_identifier(values):
    cells = [None if value is None else str(value) for value in values]
    assert infer(*cells, name="id", repeat=1).role == "feature"


def test_unique_strings_are_ignored_and_unique_numbers_are_features():
    column = infer(*[f"k{i}" for i in range(30)], repeat=1)
    assert (column.role, column.reason) == ("ignored", "every value differs")
    assert infer(*[str(i) for i in range(30)], repeat=1).role == "feature"
    assert infer(*[str(i) for i in range(30)], name="paid", repeat=1).role == "feature"
    assert infer(*["x" * 200 + str(i) for i in range(30)], repeat=1).role == "ignored"


def prose(number: int) -> str:
    return f"customer {number} says that all is {'well' if number % 2 else 'late'}"


def test_prose_is_a_feature_and_codes_and_single_words_are_not():
    reviews = infer(*map(prose, range(30)), repeat=1)
    assert (reviews.type, reviews.role, reviews.reason) == ("text", "feature", "")
    long = infer(*(prose(number) * 5 for number in range(30)), None, repeat=1)
    assert (long.type, long.role, long.nullable) == ("text", "feature", True)
    assert infer(*(f"{number} and" for number in range(30)), repeat=1).role == "ignored"
    assert infer(*map(prose, range(5))).type == "category"
    assert infer(*["the very same words " * 10] * 30, repeat=1).reason.startswith("constant")


@pytest.mark.parametrize(("wordy", "role"), [(14, "ignored"), (15, "feature")])
def test_half_of_the_values_seen_first_settle_whether_a_text_is_prose(wordy, role):
    assert infer(*map(prose, range(wordy)), *map(str, range(1_000_000, 1_000_030 - wordy)), repeat=1).role == role


def test_prose_to_predict_is_refused_with_the_reason():
    inferred = infer_column("c", pa.array([prose(number) for number in range(30)]), is_target=True)
    assert inferred.column.reason.startswith("free text: 30 different values")


def test_empty_and_constant_columns_are_ignored_with_the_reason():
    assert infer(None, None).reason == "every value is missing"
    assert infer("7", "7").reason == "constant: every value is '7'"
    assert infer("7", None).role == "ignored"
    # A mark that is set or not says something.
    assert infer("x", None).role == "feature"


def test_only_one_column_is_the_identifier_and_a_named_one_is_preferred():
    body = "name,user_id,y\n" + "".join(f"n{i},{i},{i % 2}\n" for i in range(30))
    columns, _ = infer_columns(read_table(body.encode(), "t.csv"), "y")
    assert [(column.name, column.role) for column in columns] == [
        ("name", "ignored"),
        ("user_id", "identifier"),
        ("y", "target"),
    ]
    assert columns[0].reason == "every value differs"
    columns, _ = infer_columns(read_table(body.encode(), "t.csv"), "y", "name")
    assert [column.role for column in columns] == ["identifier", "ignored", "target"]
    assert columns[1].reason == "identifies rows, as 'name' does already"


def test_dates_in_two_formats_are_read_and_told():
    inferred = infer_column("when", pa.array(["2024-01-31", "31.01.2024"] * 20))
    assert (inferred.column.type, set(inferred.column.formats)) == ("datetime", {"iso", "%d.%m.%Y"})
    assert [finding.check for finding in inferred.findings] == ["two_date_formats"]
    inferred = infer_column("when", pa.array(["31/01/2024", "01/31/2024", "02/03/2024"] * 20))
    assert (inferred.column.role, [f.check for f in inferred.findings]) == ("ignored", ["ambiguous_dates"])


def test_numbers_that_end_in_words_are_looked_at_again():
    class Batches:
        names, doubtful_numbers, numbers, unnamed = ("c",), (), PLAIN, ()

        def batches(self):
            for values in (["1", "2"] * 50, ["x", "y"] * 50):
                table = pa.table({"c": pa.array(values)})
                yield RowBatch(np.arange(len(values)), lambda table=table: table, (), ["c"])

    columns, _ = infer_columns(Batches(), "y")
    assert (columns[0].type, columns[0].role) == ("category", "feature")
