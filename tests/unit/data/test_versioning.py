"""The same content is the same dataset, however it is held in memory; other content is another one."""

import io

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from millrace.data.dataset import dataset_id, open_parquet
from millrace.data.typed_table import StoredColumns, TypedTable
from millrace.schema import Column, TableSchema

from tests.tables import dump_parquet

SCHEMA = TableSchema(
    (
        Column("id", "integer", "identifier"),
        Column("age", "number", nullable=True),
        Column("plan", "category", nullable=True),
        Column("active", "boolean", nullable=True),
        Column("since", "datetime", nullable=True),
        Column("label", "integer", "target"),
    ),
    "binary",
    ("0", "1"),
)


def make_table(**changes: np.ndarray) -> TypedTable:
    columns = {
        "id": np.array(["1", "02", "é"], dtype=object),
        "age": np.array([1.5, np.nan, -0.0]),
        "plan": np.array(["", "basic", "großartig"], dtype=object),
        "active": np.array([1.0, np.nan, 0.0]),
        "since": np.array(["2026-01-01", "NaT", "1969-12-31T23:59:59.000001"], dtype="datetime64[us]"),
        "label": np.array([0.0, 1.0, 1.0]),
    }
    return TypedTable(SCHEMA, columns | changes, 3)


def test_an_id_is_what_it_was():
    # A changed id would make every dataset new, and every training set of the same files another one.
    assert dataset_id(make_table()) == "af8181c7166e951b12fcc8d2df08137a736c921d39874426fc4b897c64e04d9a"


def test_how_a_table_is_held_does_not_matter():
    record = open_parquet(io.BytesIO(dump_parquet(make_table())), SCHEMA)
    assert dataset_id(record) == dataset_id(make_table())
    loaded = record.take(np.array([0, 1, 2]))
    assert dataset_id(loaded) == dataset_id(make_table())
    chunked = pa.concat_tables([loaded.columns.stored.slice(start, 1) for start in range(3)])
    assert dataset_id(TypedTable(SCHEMA, StoredColumns(chunked), 3)) == dataset_id(make_table())
    assert dataset_id(TypedTable(SCHEMA, StoredColumns(loaded.columns.stored.slice(1)), 2)) == dataset_id(
        make_table().take(np.array([1, 2]))
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"age": np.array([1.5, np.nan, 1e-9])},
        {"age": np.array([1.5, 0.0, 0.0])},
        {"plan": np.array(["b", "asic", "großartig"], dtype=object)},
        {"id": np.array(["1", "2", "é"], dtype=object)},
        {"active": np.array([1.0, 0.0, np.nan])},
        {"since": np.array(["2026-01-01", "NaT", "NaT"], dtype="datetime64[us]")},
    ],
)
def test_other_values_are_another_dataset(changes):
    assert dataset_id(make_table(**changes)) != dataset_id(make_table())


def test_another_version_of_the_schema_is_another_dataset_and_another_revision_is_not():
    table = make_table()
    under = {number: TypedTable(SCHEMA.with_version(*number), table.columns, 3) for number in ((1, 0), (1, 4), (2, 0))}
    assert dataset_id(under[1, 0]) == dataset_id(under[1, 4]) != dataset_id(under[2, 0])


@settings(deadline=None)  # the machine may be busy
@given(st.lists(st.text(max_size=3), min_size=2, max_size=8), st.data())
def test_words_do_not_run_into_each_other(words, data):
    schema = TableSchema((Column("w", "category"), Column("label", "integer", "target")), "regression")
    other = data.draw(st.permutations(words))

    def identity(values: list[str]) -> str:
        columns = {"w": np.array(values, dtype=object), "label": np.zeros(len(values))}
        return dataset_id(TypedTable(schema, columns, len(values)))

    assert (identity(words) == identity(other)) == (words == list(other))
