"""What evaluation needs of the data beside features: groups and slices that no model sees, and how rows are divided."""

import numpy as np
import pytest
from millrace.data.prepare import prepare, split_fingerprint
from millrace.data.prepared import load_columns
from millrace.data.typed_table import TypedTable
from millrace.schema import Column, TableSchema
from millrace.spec import ModelSpec

ROWS = 200
SCHEMA = TableSchema(
    (
        Column("key", "category", "identifier"),
        Column("sex", "category", "ignored"),
        Column("age", "number"),
        Column("y", "number", "target"),
    ),
    "regression",
)
SEX = np.array(["f", "m", "", "m"], dtype=object)


def table() -> TypedTable:
    """Sex and target follow from the age, so that rows can be told apart after the split."""
    age = np.arange(ROWS, dtype=np.float64)
    columns = {
        "key": np.array([f"k{row}" for row in range(ROWS)], dtype=object),
        "sex": SEX[np.arange(ROWS) % 4],
        "age": age,
        "y": age * 2,
    }
    return TypedTable(SCHEMA, columns, ROWS)


def test_groups_and_slices_of_the_holdout_are_kept_row_by_row_though_no_feature():
    spec = ModelSpec.parse(
        {"sensitive_groups": ["sex"], "evaluation": {"slices": [{"by": ["age"]}, {"where": {"absent": "x"}}]}}
    )
    prepared = prepare(SCHEMA, [table()], spec)

    columns = load_columns(prepared.documents()["holdout_columns.npz"])
    ages = prepared.splits["test"].features.numbers[:, 0].astype(np.int64)
    assert list(columns) == ["sex", "age"]
    assert 20 < len(ages) < 80
    assert columns["sex"].tolist() == SEX[ages % 4].tolist()
    np.testing.assert_array_equal(columns["age"], ages)


def test_nothing_is_kept_that_nobody_asked_for():
    assert load_columns(prepare(SCHEMA, [table()], ModelSpec()).documents()["holdout_columns.npz"]) == {}


def test_the_manifest_says_how_rows_are_divided():
    manifest = prepare(SCHEMA, [table()], ModelSpec()).summary()
    assert manifest["split"]["fingerprint"] == split_fingerprint(SCHEMA, ModelSpec())


WITHOUT_KEY = TableSchema(SCHEMA.columns[1:], "regression")
GROUPED = {"split": {"by": "group", "column": "sex"}}


@pytest.mark.parametrize(
    ("schema", "spec", "same"),
    [
        (SCHEMA, {"primary_metric": "mae"}, True),
        (SCHEMA, {"seed": 1}, False),
        (SCHEMA, {"split": {"test_share": 0.3}}, False),
        (SCHEMA, GROUPED, False),
        (WITHOUT_KEY, {}, False),
    ],
    ids=["another metric", "another seed", "other shares", "by entity", "no identifier"],
)
def test_the_fingerprint_changes_with_what_moves_rows(schema, spec, same):
    assert (split_fingerprint(schema, ModelSpec.parse(spec)) == split_fingerprint(SCHEMA, ModelSpec())) == same


def test_without_an_identifier_another_feature_moves_rows_and_under_entities_it_does_not():
    wider = TableSchema((Column("new", "number"), *WITHOUT_KEY.columns), "regression")
    plain, grouped = ModelSpec(), ModelSpec.parse(GROUPED)
    assert split_fingerprint(wider, plain) != split_fingerprint(WITHOUT_KEY, plain)
    assert split_fingerprint(wider, grouped) == split_fingerprint(WITHOUT_KEY, grouped)
