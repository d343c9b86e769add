"""Rows that went to disk are the rows that went in, and everything computed from them is the same."""

import io
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow as pa
import pytest
from millrace.data import blocks, quarantine, typed_table
from millrace.data.dataset import dataset_id, open_parquet
from millrace.data.typed_table import ParquetRows, RowStore, StoredColumns
from millrace.data.validation import ValidationResult, validate_upload
from millrace.schema import Column
from millrace.spec import ModelSpec

from tests.tables import documented, dump_parquet

SPEC = ModelSpec.parse(
    {
        "target": "churned",
        "columns": {"age": {"minimum": 0}, "email": {"unique": True}},
        "checks": {"max_duplicate_share": 0.5},
        "max_quarantined_share": 0.5,
    }
)


def table(rows: int = 3_000) -> bytes:
    generator = np.random.default_rng(5)
    plans = generator.choice(["basic", "plus", "pro", ""], rows)
    ages = generator.integers(-3, 90, rows)
    lines = [
        f"c{row},{ages[row]},{plans[row]},2026-0{1 + row % 9}-11,user{row % 2_500}@example.com,"
        f"{'yes' if row % 3 else 'no'}"
        for row in range(rows)
    ]
    return "\n".join(["customer_id,age,plan,since,email,churned", *lines]).encode()


def examined(folder: Path | None, spill_bytes: int = 20_000, aside_bytes: int = 5_000) -> ValidationResult:
    with (
        mock.patch.object(typed_table, "SPILL_BYTES", spill_bytes),
        mock.patch.object(quarantine, "SPILL_BYTES", aside_bytes),
        mock.patch.object(typed_table, "VALUES_AT_ONCE", 4_200),
        mock.patch.object(blocks, "BLOCK_BYTES", 20_000),
    ):
        return validate_upload(table(), "t.csv", SPEC, {}, None, folder=folder)


def test_an_upload_that_goes_to_disk_has_the_same_verdict_profile_and_id(tmp_path):
    memory, disk = examined(None), examined(tmp_path)
    assert isinstance(memory.table.columns.stored, pa.Table)
    assert isinstance(disk.table.columns.stored, ParquetRows)
    assert disk.accepted
    assert documented(disk) == documented(memory)
    assert disk.profile == memory.profile
    assert dataset_id(disk.table) == dataset_id(memory.table)
    assert dump_parquet(disk.table) == dump_parquet(memory.table)
    assert any(finding.check == "unique" for finding in disk.findings)


def test_rows_set_aside_go_to_disk_in_order(tmp_path):
    memory, disk = examined(None), examined(tmp_path)
    assert {path.name for path in tmp_path.glob("*.arrows")} == {"quarantine-0.arrows", "quarantine-1.arrows"}
    assert len(memory.quarantined) > 50
    assert list(disk.quarantined) == list(memory.quarantined)
    assert len(disk.quarantined) == len(memory.quarantined)
    assert disk.quarantined[:7] == tuple(memory.quarantined[:7])
    assert (disk.quarantined[3], disk.quarantined[-1]) == (memory.quarantined[3], memory.quarantined[-1])


def test_more_rows_at_fault_than_are_kept_reject_the_upload(tmp_path):
    with mock.patch.object(quarantine, "MAX_QUARANTINED", 40):
        found = examined(tmp_path)
    assert "more than 40 rows are invalid: fix the file, or upload it in parts" in found.reasons
    assert len(found.quarantined) == 40


def test_columns_that_begin_alike_are_told_apart(tmp_path):
    store = RowStore({"a": pa.float64(), "a.b": pa.string()}, tmp_path)
    with mock.patch.object(typed_table, "SPILL_BYTES", 0):
        store.append({"a": pa.array([1.0, None]), "a.b": pa.array(["x", "y"])})
        rows = store.finish()
    assert rows.column("a").to_pylist() == [1.0, None]
    assert rows.column("a.b").to_pylist() == ["x", "y"]
    assert [part.to_pylist() for part in rows.parts("a.b")] == [["x", "y"]]


@pytest.mark.parametrize("positions", [[], [0], [0, 5, 6, 13], list(range(14))])
def test_rows_are_taken_by_their_positions(tmp_path, positions):
    store = RowStore({"n": pa.float64(), "w": pa.dictionary(pa.int32(), pa.string())}, tmp_path)
    with mock.patch.object(typed_table, "SPILL_BYTES", 0), mock.patch.object(typed_table, "VALUES_AT_ONCE", 8):
        for start in (0, 7):
            numbers = pa.array([float(start + row) for row in range(7)])
            store.append({"n": numbers, "w": pa.array([f"w{row % 3}" for row in range(7)]).dictionary_encode()})
        rows = store.finish()
        taken = StoredColumns(rows.take(pa.array(positions, type=pa.int64())))
    assert taken["n"].tolist() == [float(position) for position in positions]
    assert taken["w"].tolist() == [f"w{position % 7 % 3}" for position in positions]


def test_a_column_that_was_added_since_is_missing_in_the_record():
    memory = examined(None)
    added = replace(
        memory.schema, columns=(*memory.schema.columns, Column("tier", "category"), Column("fee", "number"))
    )
    columns = open_parquet(io.BytesIO(dump_parquet(memory.table)), added).columns
    assert set(columns["tier"].tolist()) == {""}
    assert np.isnan(columns["fee"]).all()
    assert columns["age"].tolist() == memory.table.columns["age"].tolist()
