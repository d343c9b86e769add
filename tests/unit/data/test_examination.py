"""An upload is held to a schema: what is wrong is all told, and what does not fit is set aside."""

import gzip
import io
import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from millrace.data import read
from millrace.data.dataset import dataset_id, open_parquet
from millrace.data.findings import Finding
from millrace.data.validation import ValidationResult, validate_upload
from millrace.documents import to_plain
from millrace.schema import TableSchema
from millrace.spec import ModelSpec

from tests.tables import documented, dump_parquet

ROWS = [
    {
        "customer_id": 100 + i,
        "age": None if i % 9 == 0 else 20.5 + i,
        "visits": i % 40,
        "plan": ("basic", "plus", "pro")[i % 3],
        "active": ("yes", "no", "no")[i % 3],
        "since": f"2024-0{1 + i % 9}-15",
        "label": i % 2,
    }
    for i in range(60)
]


def as_csv(rows: list[dict[str, Any]]) -> bytes:
    return pd.DataFrame(rows).astype(object).to_csv(index=False).encode()


def changed(**columns: Any) -> list[dict[str, Any]]:
    """The table with other values in some columns: one for all rows, or by row number."""
    return [
        row
        | {name: value.get(i, row.get(name)) if isinstance(value, dict) else value for name, value in columns.items()}
        for i, row in enumerate(ROWS)
    ]


def first(body: bytes, name: str = "t.csv", **metadata: str) -> ValidationResult:
    return validate_upload(body, name, ModelSpec(), metadata, None)


@pytest.fixture(scope="module")
def schema() -> TableSchema:
    examined = first(as_csv(ROWS))
    assert examined.accepted
    assert examined.schema is not None
    return examined.schema


def later(rows: list[dict[str, Any]], schema: TableSchema, **metadata: str) -> ValidationResult:
    return validate_upload(as_csv(rows), "later.csv", ModelSpec(), metadata, schema)


def found(examined: ValidationResult, check: str) -> list[Finding]:
    return [finding for finding in examined.findings if finding.check == check]


def test_a_first_upload_is_understood_without_configuration(schema):
    assert [(column.name, column.type, column.role) for column in schema.columns] == [
        ("customer_id", "integer", "identifier"),
        ("age", "number", "feature"),
        ("visits", "integer", "feature"),
        ("plan", "category", "feature"),
        ("active", "boolean", "feature"),
        ("since", "datetime", "feature"),
        ("label", "integer", "target"),
    ]
    assert (schema.task, schema.classes) == ("binary", ("0", "1"))
    assert schema.column("plan").categories == ("basic", "plus", "pro")
    assert (schema.column("age").minimum, schema.column("age").maximum) == (21.5, 79.5)
    assert schema.column("age").nullable
    assert schema.column("since").minimum == pd.Timestamp("2024-01-15").timestamp()


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (changed(label=1), "every row has the same target"),
        (changed(label={0: 7, 1: 7}), "class '7' of the target 'label' has 2 rows"),
        (changed(label=None), "every value of the target 'label' is missing"),
        (ROWS[:19], "19 rows are usable; at least 20"),
        ([{"a": None, "b": 1, "label": i % 2} for i in range(30)], "'a': every value is missing; 'b': constant"),
        ([{"a": i, "label": f"text {i} " + "x" * 200} for i in range(30)], "free text"),
        (changed(label=dict.fromkeys(range(30))), "30 of 60 rows (50%) are malformed"),
    ],
)
def test_first_uploads_from_which_nothing_can_be_learnt_are_rejected(rows, said):
    examined = first(as_csv(rows))
    assert not examined.accepted
    assert said in " ".join(examined.reasons)


def test_a_column_of_nulls_does_not_reject_the_table():
    examined = first(as_csv(changed(nothing=None)))
    assert examined.accepted
    assert examined.schema.column("nothing").reason == "every value is missing"


def test_bad_cells_and_missing_targets_are_set_aside_with_line_column_and_value():
    examined = first(as_csv(changed(visits={3: "many"}, label={5: None}, age={7: 1e300})))
    assert examined.accepted
    assert [(row.line, row.column, row.value) for row in examined.quarantined] == [
        (5, "visits", "many"),
        (7, "label", None),
        (9, "age", "1e+300"),
    ]
    assert examined.quarantined[0].reason == "'visits' should be an integer, not 'many'"
    assert "customer_id=103" in examined.quarantined[0].text
    assert (examined.rows, len(examined.table)) == (60, 57)


@pytest.mark.parametrize("name", ["table.csv", "table.parquet"])
def test_infinite_numbers_and_targets_that_are_none_are_set_aside(name):
    table = pd.DataFrame(ROWS)
    table["age"] = pd.to_numeric(table["age"])
    table.loc[7, "age"], table.loc[8, "age"] = np.inf, -np.inf
    table["label"] = table["label"].astype(float)
    table.loc[9, "label"] = np.nan
    buffer = io.BytesIO()
    table.to_csv(buffer, index=False) if name.endswith("csv") else table.to_parquet(buffer)
    examined = first(buffer.getvalue(), name)
    assert examined.accepted
    assert sorted((row.column, row.value) for row in examined.quarantined) == [
        ("age", "-inf"),
        ("age", "inf"),
        ("label", None),
    ]
    assert np.isfinite(examined.table.columns["age"][~np.isnan(examined.table.columns["age"])]).all()


def test_the_same_table_is_accepted_later(schema):
    examined = later(ROWS, schema)
    assert examined.findings == ()
    assert examined.accepted


def test_every_difference_is_told_not_only_the_first(schema):
    rows = [{key: value for key, value in row.items() if key not in ("age", "label")} for row in changed(extra=1)]
    rows = [row | {"visits": "often"} for row in rows]
    examined = later(rows, schema)
    assert not examined.accepted
    assert [(finding.check, finding.column) for finding in examined.findings] == [
        ("missing_column", "age"),
        ("missing_column", "label"),
        ("new_column", "extra"),
        ("retyped_column", "visits"),
    ]
    assert found(examined, "retyped_column")[0].examples == ("often",)


def test_a_column_in_another_case_is_suggested(schema):
    rows = [{("Age" if key == "age" else key): value for key, value in row.items()} for row in ROWS]
    assert "rename 'Age'" in found(later(rows, schema), "missing_column")[0].message


def test_a_retyped_column_shows_at_most_five_examples(schema):
    examined = later(changed(visits={i: f"w{i}" for i in range(60)}), schema)
    (finding,) = found(examined, "retyped_column")
    assert (finding.count, len(finding.examples)) == (60, 5)
    assert not examined.accepted


@pytest.mark.parametrize(("bad", "accepted"), [(12, True), (13, False)])
def test_a_share_of_bad_cells_is_set_aside_more_is_a_retyped_column(schema, bad, accepted):
    examined = later(changed(visits=dict.fromkeys(range(bad), "many")), schema)
    assert examined.accepted is accepted
    assert len(examined.quarantined) == (bad if accepted else 0)


def test_bad_rows_of_several_columns_add_up(schema):
    rows = changed(visits=dict.fromkeys(range(8), "many"), active=dict.fromkeys(range(8, 16), "perhaps"))
    checks = [finding.check for finding in later(rows, schema).findings]
    assert checks == ["bad_values", "bad_values", "too_many_malformed_rows"]


def test_new_categories_are_allowed_and_counted(schema):
    examined = later(changed(plan={1: "gold", 2: "gold", 3: "iron"}), schema)
    assert examined.accepted
    (finding,) = found(examined, "unknown_category")
    assert (finding.severity, finding.count, finding.examples) == ("warning", 3, ("gold", "iron"))


@pytest.mark.parametrize(("bad", "accepted"), [(2, True), (40, False)])
def test_unknown_classes_are_set_aside_or_reject(schema, bad, accepted):
    examined = later(changed(label=dict.fromkeys(range(bad), 2)), schema)
    assert examined.accepted is accepted
    (finding,) = found(examined, "unknown_class")
    assert finding.count == bad
    assert len(examined.quarantined) == (bad if accepted else 0)


def test_fractions_among_integers_and_repeated_identifiers_are_told(schema):
    examined = later(changed(visits={3: 1.5}, customer_id={1: 100}), schema)
    assert examined.accepted
    assert found(examined, "fractions")[0].examples == ("1.5",)
    assert found(examined, "repeated_identifier")[0].count == 1


def test_a_handful_of_rows_is_enough_later(schema):
    assert later(ROWS[:2], schema).accepted
    assert not later(changed(label=None)[:2], schema).accepted


def test_metadata_that_contradict_the_schema_are_told(schema):
    assert found(later(ROWS, schema, target="age"), "target")[0].severity == "error"
    assert found(later(ROWS, schema, task="regression"), "task")[0].severity == "warning"
    assert later(ROWS, schema, target="Label", task="binary").findings == ()


def test_the_same_content_is_the_same_dataset_whatever_the_file(schema):
    frame = pd.DataFrame(ROWS)
    buffer = io.BytesIO()
    frame.assign(since=pd.to_datetime(frame["since"], format="ISO8601"), active=frame["active"] == "yes").to_parquet(
        buffer
    )
    lines = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    bodies = {
        "t.csv": as_csv(ROWS),
        "t.tsv": frame.to_csv(index=False, sep="\t").encode("utf-16"),
        "t.csv.gz": gzip.compress(as_csv(ROWS)),
        "t.jsonl": lines,
        "t.parquet": buffer.getvalue(),
    }
    tables = [validate_upload(body, name, ModelSpec(), {}, schema).table for name, body in bodies.items()]
    assert len({dataset_id(table) for table in tables}) == 1


@pytest.mark.parametrize(
    "rows", [ROWS[::-1], ROWS[:-1], changed(visits={0: 99}), changed(plan={0: "pro"}), changed(age={1: None})]
)
def test_other_content_is_another_dataset(schema, rows):
    assert dataset_id(later(rows, schema).table) != dataset_id(later(ROWS, schema).table)


def test_under_another_schema_it_is_another_dataset(schema):
    table = later(ROWS, schema).table
    other = later(ROWS, schema.with_version(2)).table
    assert dataset_id(table) != dataset_id(other)


def test_a_dataset_comes_back_from_parquet_as_it_was(schema):
    table = later(changed(visits={0: 1.5}, plan={1: None}, active={2: None}, since={3: None}), schema).table
    again = open_parquet(io.BytesIO(dump_parquet(table)), table.schema)
    assert dataset_id(again) == dataset_id(table)
    assert {name: values.dtype for name, values in again.columns.items()} == {
        name: values.dtype for name, values in table.columns.items()
    }


def test_the_profile_is_plain_json(schema):
    described = to_plain(first(as_csv(changed(nothing=None))).profile)
    json.dumps(described, allow_nan=False)
    columns = {column["name"]: column for column in described["columns"]}
    assert columns["age"]["missing"] == 7
    assert columns["age"]["quantiles"]["0.5"] == pytest.approx(51.5, abs=2)
    assert columns["plan"]["top"][0] == {"value": "basic", "count": 20, "target_mean": 0.5}
    assert columns["since"]["minimum"] == "2024-01-15T00:00:00"
    assert described["target"]["classes"] == {"0": 30, "1": 30}


def test_a_verdict_is_plain_json_and_names_what_was_done(schema):
    verdict = json.loads(documented(later(changed(visits={3: "many"}), schema)).write())
    assert (verdict["outcome"], verdict["rows"], verdict["quarantined_rows"]) == ("accepted", 60, 1)


def test_whatever_a_parser_raises_is_a_verdict(monkeypatch):
    def explode(*_: object) -> None:
        raise RecursionError("maximum recursion depth exceeded")

    monkeypatch.setattr(read, "open_table", explode)
    examined = first(b"a,label\n1,2\n")
    assert not examined.accepted
    assert "could not be parsed (RecursionError" in examined.reasons[0]


fragments = st.lists(st.sampled_from(["a", "label", "1", "2.5", ",", ";", "\n", '"', "NA", "yes", "2024-01-01", "é"]))


@settings(deadline=None)  # the machine may be busy
@given(fragments.map("".join), st.sampled_from(["t.csv", "t.jsonl"]))
def test_any_text_gets_a_verdict_from_which_no_row_is_missing(text, name):
    examined = first(text.encode(), name)
    assert examined.accepted or examined.reasons
    assert not any("could not be parsed" in reason for reason in examined.reasons)
    if examined.table is not None:
        assert len(examined.table) + len(examined.quarantined) == examined.rows


def test_values_that_only_run_together_alike_are_other_content(schema):
    one, other = changed(plan={0: "ab", 1: "c"}), changed(plan={0: "a", 1: "bc"})
    assert dataset_id(later(one, schema).table) != dataset_id(later(other, schema).table)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_rows_that_end_with_a_separator_are_the_one_reason_with_a_remedy(separator):
    lines = ["x,a,label", *(f"{i}.5,{i},{i % 2}," for i in range(60))]
    examined = first("\n".join(lines).replace(",", separator).encode())
    (reason,) = examined.reasons
    assert "4 fields where the header has 3" in reason
    assert "remove the last one of each row" in reason


def test_a_table_whose_rows_are_read_has_all_its_reasons():
    examined = first(b"x,label\n" + b"1,\n" * 30)
    assert {finding.check for finding in examined.findings} >= {"empty_target", "too_few_rows"}
