"""What the spec demands of values is demanded of requests, and without demands nothing is refused that was not."""

import pytest
from millrace.errors import InvalidInputError
from millrace.schema import Column, ColumnRules, TableSchema
from millrace.serving.request import ColumnsTable, RecordsTable
from millrace.serving.rows import RowReader, TypedRows

TARGET = Column("y", "boolean", "target")


def reader(kind: str, nullable: bool = True, demanded: bool = False, **rules: object) -> RowReader:
    demands = ColumnRules(nullable=False) if demanded else ColumnRules(**rules)
    column = Column("x", kind, nullable=nullable, formats=("iso",), rules=demands)
    return RowReader(TableSchema((column, TARGET), "binary", ("false", "true")))


def read(row_reader: RowReader, *values: object) -> TypedRows:
    return row_reader.read(ColumnsTable({"x": values}, len(values)))


def faults(row_reader: RowReader, *values: object) -> list[tuple[str, str]]:
    with pytest.raises(InvalidInputError) as caught:
        read(row_reader, *values)
    return [(fault.field, fault.message) for fault in caught.value.fields]


@pytest.mark.parametrize(
    ("kind", "rules", "good", "bad", "told"),
    [
        ("integer", {"minimum": 0.0}, [0, 5, None], -1, "expects at least 0"),
        ("number", {"maximum": 1.5}, [1.5, -9, None], 1.6, "expects at most 1.5"),
        ("number", {"maximum": 2_500_000}, [1.5], 3e6, "expects at most 2,500,000"),
        ("integer", {"allowed": ("1", "2.0", "x")}, [1, 2, None], 3, "expects one of '1', '2.0', 'x'"),
        ("category", {"allowed": ("a", "b")}, ["a", " b ", "NA", None], "c", "expects one of 'a', 'b'"),
        ("text", {"allowed": ("a b", "c")}, ["a b", " c ", None], "a", "expects one of 'a b', 'c'"),
        ("boolean", {"allowed": ("true",)}, [True, 1, None], False, "expects one of 'true'"),
        (
            "datetime",
            {"minimum": 86_400.0},
            ["1970-01-02", None],
            "1970-01-01",
            "expects at least 1970-01-02T00:00:00Z",
        ),
        ("number", {"demanded": True}, [1.0], None, "may not be missing"),
    ],
)
def test_a_value_that_breaks_a_rule_is_a_bad_field(kind, rules, good, bad, told):
    demanding = reader(kind, **rules)
    assert read(demanding, *good).n_rows == len(good)
    assert faults(demanding, *good, bad, bad) == [(f"row {len(good) + i}: x", told) for i in range(2)]


def test_a_rule_that_only_warns_is_noted():
    rows = read(reader("integer", maximum=9.0, severity="warning"), 1, 10, 11)
    assert [(warning.field, warning.message) for warning in rows.warnings] == [("x", "2 values: expects at most 9")]
    assert read(reader("integer", nullable=True, severity="warning"), None).n_rows == 1


@pytest.mark.parametrize("kind", ["integer", "number", "category", "text", "boolean", "datetime"])
def test_without_rules_a_request_is_taken_as_it_was(kind):
    good = {"category": "never seen", "text": "never seen", "boolean": True, "datetime": "1900-01-01"}.get(kind, -1e30)
    assert read(reader(kind), good, None).n_rows == 2


def test_patterns_and_rules_of_tables_are_not_demanded_of_requests():
    lenient = reader("category", pattern="[a-z]+", unique=True, max_null_share=0.0)
    assert read(lenient, "A", "A", None).n_rows == 3


@pytest.mark.parametrize("nullable", [True, False])
def test_a_row_that_is_silent_about_a_demanded_value_is_told_so_once(nullable):
    with pytest.raises(InvalidInputError) as caught:
        reader("number", nullable=nullable, demanded=True).read(RecordsTable([{"x": 1.0}, {"other": 2}]))
    assert [(fault.field, fault.message) for fault in caught.value.fields] == [("row 1: x", "may not be missing")]


def test_long_lists_are_cut():
    ((_, told),) = faults(reader("category", allowed=tuple(f"v{i}" for i in range(15))), "w")
    assert told.endswith("'v9' and 5 more")
