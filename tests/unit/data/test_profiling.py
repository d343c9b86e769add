"""A profile holds what a report shows and what later data is compared with, as plain JSON."""

import json
from dataclasses import replace

import numpy as np
import pytest
from millrace.data.compare import ColumnShift, measure_shifts
from millrace.data.dataset_documents import DatasetProfile
from millrace.data.profile import boolean_names, profile_table
from millrace.data.typed_table import TypedTable
from millrace.documents import dump, to_plain
from millrace.schema import Column, TableSchema

N = 120
COLUMNS = (
    Column("id", "integer", "identifier"),
    Column("age", "number", nullable=True),
    Column("visits", "integer"),
    Column("since", "datetime", nullable=True),
    Column("plan", "category", categories=("a", "b"), nullable=True),
    Column("active", "boolean", categories=("No", "Yes"), true_values=("yes",), false_values=("no",)),
    Column("notes", "text", "ignored", reason="free text"),
    Column("empty", "number", "ignored", nullable=True),
    Column("y", "integer", "target"),
)
ROWS = np.arange(N)
ARRAYS = {
    "id": np.array([f"id{i}" for i in ROWS], dtype=object),
    "age": np.where(ROWS % 10 == 0, np.nan, ROWS * 1.5),
    "visits": (ROWS % 7).astype(float),
    "since": np.where(ROWS % 6 == 0, np.datetime64("NaT"), np.datetime64("2024-01-01", "us") + ROWS * 86_400_000_000),
    "plan": np.array(["a", "b", ""], dtype=object)[ROWS % 3],
    "active": (ROWS % 2).astype(float),
    "notes": np.array([f"note {i % 50}" for i in ROWS], dtype=object),
    "empty": np.full(N, np.nan),
    "y": (ROWS >= 60).astype(float),
}


def profile(task="binary", classes=("0", "1"), **arrays):
    return to_plain(profile_table(TypedTable(TableSchema(COLUMNS, task, classes), ARRAYS | arrays, N), {"age"}))


@pytest.fixture(scope="module")
def described():
    return profile()


@pytest.fixture(scope="module")
def columns(described):
    return {column["name"]: column for column in described["columns"]}


def test_it_is_plain_json_without_nan(described):
    assert json.loads(json.dumps(described, allow_nan=False)) == described


def test_rows_and_gaps_are_counted(described, columns):
    assert described["rows"] == N
    assert described["complete_rows"] == 0
    assert described["missing_cells"] == 12 + 20 + 40 + N
    assert (columns["age"]["missing"], columns["age"]["missing_share"]) == (12, 0.1)
    assert columns["empty"]["histogram" if "histogram" in columns["empty"] else "distinct"] == 0


def test_numbers_have_a_histogram_quantiles_and_outliers(columns):
    assert sum(columns["age"]["histogram"]["counts"]) == 108
    assert columns["age"]["outliers"]["count"] == 0
    assert columns["visits"]["histogram"]["edges"][0] == -0.5
    assert columns["visits"]["zeros"] == 18


def test_dates_are_iso_and_their_histogram_counts_seconds(columns):
    since = columns["since"]
    assert since["minimum"] == "2024-01-02T00:00:00"
    assert since["quantiles"]["0.5"].startswith("2024-0")
    assert since["histogram"]["edges"][0] == 1704153600.0
    assert sum(since["histogram"]["counts"]) == 100


def test_booleans_are_described_in_their_words(columns):
    assert {entry["value"]: entry["count"] for entry in columns["active"]["top"]} == {"No": 60, "Yes": 60}
    assert boolean_names(Column("b", "boolean")) == ("false", "true")


def test_each_group_knows_its_share_of_the_second_class(columns):
    assert {entry["value"]: entry["target_mean"] for entry in columns["active"]["top"]} == {"No": 0.5, "Yes": 0.5}
    means = columns["age"]["histogram"]["target_means"]
    assert (means[0], means[-1]) == (0.0, 1.0)
    assert "target_means" not in columns["y"]["histogram"]


def test_features_alone_have_an_association(columns):
    assert columns["age"]["association"] == {"measure": "auc", "value": 1.0, "strength": 1.0}
    assert columns["id"]["association"] is None
    assert columns["y"]["association"] is None
    assert {name for name, column in columns.items() if column["association"]} == {
        "age", "visits", "since", "plan", "active",
    }  # fmt: skip


def test_a_text_to_learn_from_is_described_as_one_that_is_not():
    learnt = tuple(replace(column, role="feature") if column.name == "notes" else column for column in COLUMNS)
    told = to_plain(profile_table(TypedTable(TableSchema(learnt, "binary", ("0", "1")), ARRAYS, N)))
    notes, ignored = (
        next(column for column in one["columns"] if column["name"] == "notes") for one in (told, profile())
    )
    assert notes == ignored | {"role": "feature"}
    assert notes["length"]["maximum"] == 7
    # Whole texts hardly come twice: that each is new says nothing, only that more of them are missing.
    others = {**told, "columns": [notes | {"top": [{"value": "another", "count": N}], "other": 0}]}
    assert measure_shifts(*map(DatasetProfile.read, map(dump, (told, others)))) == {"notes": ColumnShift(0.0, 0.0)}


def test_the_target_is_described_by_its_task(described):
    assert described["target"] == {"name": "y", "task": "binary", "classes": {"0": 60, "1": 60}, "positive": "1"}
    regression = profile("regression", ())
    assert regression["target"] == {"name": "y", "task": "regression", "classes": {}, "positive": None}
    assert regression["columns"][1]["association"]["measure"] == "spearman"
    three = profile("multiclass", ("0", "1", "2"), y=(ROWS % 3).astype(float))
    assert three["target"]["positive"] is None
    assert "target_means" not in three["columns"][1]["histogram"]


def test_sensitive_columns_are_marked(columns):
    assert [name for name, column in columns.items() if column["sensitive"]] == ["age"]


def test_an_empty_table_has_a_profile():
    none = {name: values[:0] for name, values in ARRAYS.items()}
    described = to_plain(profile_table(TypedTable(TableSchema(COLUMNS, "binary", ("0", "1")), none, 0)))
    json.dumps(described, allow_nan=False)
    assert (described["rows"], described["complete_rows"]) == (0, 0)
