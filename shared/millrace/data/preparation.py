"""Preparing a run's data: the model's datasets combined, split, and written for training."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.data.findings import Finding, error
from millrace.data.observing import observe
from millrace.data.prepared import PreparedSplit, dump_split
from millrace.data.splitting import assign_sides, hash_rows, row_identities
from millrace.data.targets import MIN_CLASS_ROWS
from millrace.data.typed_table import TypedTable
from millrace.layout import SPLITS, SplitName
from millrace.registry.entities import DatasetRecord
from millrace.schema import TableSchema
from millrace.spec import ModelSpec

#: Distinct rows below which no split can be drawn.
MIN_ROWS = 10


@dataclass(frozen=True, slots=True)
class PreparedData:
    """What a run trains on.

    Parameters
    ----------
    schema : TableSchema
        The model's schema with the values that these rows have.
    splits : dict of str to PreparedSplit
        By name.
    dropped_rows : int
        Rows that repeat another dataset's.
    findings : tuple of Finding
        Errors, when nothing can be learnt from the rows together.
    """

    schema: TableSchema
    splits: dict[SplitName, PreparedSplit]
    dropped_rows: int
    findings: tuple[Finding, ...]

    def documents(self, dataset_ids: Sequence[str], seed: int) -> dict[str, bytes]:
        """Return what is stored, by name: the splits, ``schema.json`` and ``manifest.json``."""
        manifest = {
            "dataset_ids": list(dataset_ids),
            "schema_version": self.schema.version,
            "seed": seed,
            "rows": {name: len(split) for name, split in self.splits.items()},
            "repeated_rows_left_out": self.dropped_rows,
            "class_counts": {name: self._class_counts(split) for name, split in self.splits.items()},
        }
        documents = {f"{name}.npz": dump_split(split) for name, split in self.splits.items()}
        documents["schema.json"] = json_bytes(self.schema.to_dict())
        documents["manifest.json"] = json_bytes(manifest)
        return documents

    def _class_counts(self, split: PreparedSplit) -> dict[str, int]:
        return {name: int(np.sum(split.target == index)) for index, name in enumerate(self.schema.classes)}


def json_bytes(document: Any) -> bytes:
    """Write a document as readable JSON; NaN is an error, not a value."""
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False).encode()


def choose_datasets(
    datasets: Sequence[DatasetRecord], spec: ModelSpec, schema_version: int, now: datetime
) -> list[DatasetRecord]:
    """Return the datasets to train on, oldest upload first: of this schema, inside the window, all or the latest."""
    since = now - timedelta(days=spec.window_days) if spec.window_days else None
    chosen = [
        dataset
        for dataset in datasets
        if dataset.schema_version == schema_version and (since is None or dataset.source.uploaded_at >= since)
    ]
    chosen.sort(key=lambda dataset: (dataset.source.uploaded_at, dataset.dataset_id))
    return chosen[-1:] if spec.combine == "latest" else chosen


def prepare(schema: TableSchema, tables: Sequence[TypedTable], seed: int) -> PreparedData:
    """Combine datasets and split the rows.

    Where rows have an identifier, the newest row of each is kept. Where they have none, a row that an older dataset
    holds already is left out; repetitions within one dataset are the data's own and stay.

    Parameters
    ----------
    schema : TableSchema
        The model's.
    tables : sequence of TypedTable
        Oldest upload first.
    seed : int
        Of the split.
    """
    dropped = sum(len(table) for table in tables)
    tables = _without_repetitions(schema, tables)
    dropped -= sum(len(table) for table in tables)
    schema = observe(schema, tables)
    columns = {
        column.name: np.concatenate([table.columns[column.name] for table in tables]) for column in schema.columns
    }
    table = TypedTable(schema, columns, sum(len(part) for part in tables))
    features, target = table.features(), table.target()
    identifiers = table.columns[schema.identifier.name] if schema.identifier else None
    row_ids = row_identities(features, target, identifiers)
    groups = np.zeros(len(table), dtype=np.int64) if schema.task == "regression" else target
    whole = PreparedSplit(features, target, row_ids)
    sides = assign_sides(row_ids, groups, seed)
    splits = {name: whole.take(sides[name]) for name in SPLITS}
    return PreparedData(schema, splits, dropped, tuple(_unlearnable(schema, row_ids, target)))


def _without_repetitions(schema: TableSchema, tables: Sequence[TypedTable]) -> list[TypedTable]:
    if schema.identifier:
        return _newest_of_each(schema.identifier.name, tables)
    seen: npt.NDArray[np.uint64] = np.empty(0, dtype=np.uint64)
    kept = []
    for table in tables:
        hashes = hash_rows(table.features(), table.target())
        kept.append(table.take(~np.isin(hashes, seen)))
        seen = np.union1d(seen, hashes)
    return kept


def _newest_of_each(identifier: str, tables: Sequence[TypedTable]) -> list[TypedTable]:
    seen: set[str] = set()
    kept: list[TypedTable] = []
    for table in reversed(tables):
        mask = np.ones(len(table), dtype=np.bool_)
        values = table.columns[identifier].tolist()
        for row in range(len(values) - 1, -1, -1):
            if values[row] and values[row] in seen:
                mask[row] = False
            seen.add(values[row])
        kept.insert(0, table.take(mask))
    return kept


def _unlearnable(schema: TableSchema, row_ids: npt.NDArray[np.uint64], target: npt.NDArray[Any]) -> list[Finding]:
    distinct = len(np.unique(row_ids))
    if distinct < MIN_ROWS:
        return [error("too_few_rows", f"only {distinct} different rows in all; at least {MIN_ROWS} are needed")]
    findings = []
    for index, name in enumerate(schema.classes):
        rows = len(np.unique(row_ids[target == index]))
        if rows < MIN_CLASS_ROWS:
            message = (
                f"class {name!r} of the target {schema.target.name!r} has {rows} different rows in the data to train "
                f"on; at least {MIN_CLASS_ROWS} are needed"
            )
            findings.append(error("small_class", message, schema.target.name, rows))
    return findings
