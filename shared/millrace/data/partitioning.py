"""Which rows are for training, for choosing and for judging: by chance, by time or by entity.

======  ================================================================================================
random  a hash of the row, or of its identifier, decides: see :mod:`millrace.data.splitting`
group   a hash of the entity decides, so that no entity's rows stand on two sides
time    the newest rows are the test, those before them validation; rows of one moment stay together
======  ================================================================================================

A row's side under ``random`` and ``group`` is its side for ever. Under ``time`` the holdout moves on with the data:
what was judged on last month is learnt from next month.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from millrace.data.findings import Finding, error, warning
from millrace.data.splitting import UInt64Array, assign_sides, hash_strings
from millrace.data.typed_table import TypedTable, missing_cells
from millrace.layout import SPLITS, SplitName
from millrace.spec.data import SplitSpec

_ORDERED = ("datetime", "integer", "number")


@dataclass(frozen=True, slots=True)
class Partition:
    """Which row is on which side.

    Parameters
    ----------
    sides : dict of str to int64 array
        Row positions by split, in order; a row that is nowhere was left out.
    without_time : int
        Rows that a split by time leaves out, because it is not known how new they are.
    description : mapping
        For the manifest: how it was done, and where the borders are.
    findings : tuple of Finding
        Errors, when it cannot be done.
    """

    sides: Mapping[SplitName, npt.NDArray[np.int64]]
    without_time: int = 0
    description: Mapping[str, Any] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()


def partition(
    table: TypedTable, row_ids: UInt64Array, classes: npt.NDArray[np.int64], split: SplitSpec, seed: int
) -> Partition:
    """Divide a table's rows.

    Parameters
    ----------
    table : TypedTable
        All rows to train on.
    row_ids : uint64 array of shape (n_rows,)
        From :mod:`millrace.data.row_choice`.
    classes : int64 array of shape (n_rows,)
        The class of each row; all zero for regression.
    split : SplitSpec
        How.
    seed : int
        Of what is left to chance.
    """
    if split.by == "random":
        return _by_hash(row_ids, classes, split, seed)
    known = {column.name: column for column in table.schema.columns}
    if split.column not in known:
        message = (
            f"the split needs the column {split.column!r}, which is not in the model's schema: name another one in the "
            f"spec's split, or add it (columns: {{{split.column}: {{role: ignored}}}}) and upload data that has it"
        )
        return _impossible(error("split", message, split.column))
    column = known[split.column]
    values = table.columns[column.name]
    if split.by == "group":
        by_entity = _by_hash(_entities(values, row_ids), classes, split, seed)
        return replace(by_entity, findings=tuple(_absent_classes(classes, by_entity.sides, split)))
    if column.type not in _ORDERED or values.dtype.kind not in "fM":
        now = f"an identifier ({column.type})" if column.role == "identifier" else column.type
        message = f"a split by time needs a date or a number, and the column {column.name!r} is {now}"
        return _impossible(error("split", message, column.name))
    return _by_time(values, classes, split)


def _by_hash(ids: UInt64Array, classes: npt.NDArray[np.int64], split: SplitSpec, seed: int) -> Partition:
    sides = assign_sides(ids, classes, seed, split.test_share, split.validation_share)
    return Partition(sides, description=_described(split) | {"holdout": "the same rows in every run"})


def _entities(values: npt.NDArray[Any], row_ids: UInt64Array) -> UInt64Array:
    """Return what stays together: the entity's hash, or the row itself where its entity is not known."""
    codes, different = pd.factorize(values, use_na_sentinel=False)
    hashes = hash_strings(different if different.dtype.kind == "O" else different.astype(np.str_))
    return np.where(missing_cells(values), row_ids, hashes[codes]).astype(np.uint64)


def _by_time(values: npt.NDArray[Any], classes: npt.NDArray[np.int64], split: SplitSpec) -> Partition:
    missing = missing_cells(values)
    dated = np.flatnonzero(~missing)
    moments, counts = np.unique(values[dated], return_counts=True)
    if len(moments) < len(SPLITS):
        message = (
            f"the column {split.column!r} has {len(moments)} different moments; a split by time needs at least "
            f"{len(SPLITS)}, because rows of one moment are never divided"
        )
        return _impossible(error("split", message, split.column, len(moments)))
    newer = np.cumsum(counts[::-1])[::-1]  # rows of this moment or newer
    total = len(dated)
    test_from = _border(newer, 2, len(moments), split.test_share * total)
    validation_from = _border(newer - newer[test_from], 1, test_from, split.validation_share * total)
    positions = np.searchsorted(moments, values[dated])
    sides: dict[SplitName, npt.NDArray[np.int64]] = {
        "train": dated[positions < validation_from],
        "validation": dated[(positions >= validation_from) & (positions < test_from)],
        "test": dated[positions >= test_from],
    }
    description = _described(split) | {
        "holdout": "moves with time: the newest rows of each run",
        "validation_from": _written(moments[validation_from]),
        "test_from": _written(moments[test_from]),
    }
    left_out = int(missing.sum())
    findings = _absent_classes(classes, sides, split)
    if left_out:
        message = f"{left_out:,} rows without a value of {split.column!r} are left out of the split by time"
        findings.append(warning("split", message, split.column, left_out))
    return Partition(sides, left_out, description, tuple(findings))


def _border(newer: npt.NDArray[np.int64], first: int, end: int, wanted: float) -> int:
    """Return the moment in ``first .. end - 1`` from which on the number of rows is nearest to ``wanted``."""
    return first + int(np.argmin(np.abs(newer[first:end] - wanted)))


def _absent_classes(
    classes: npt.NDArray[np.int64], sides: Mapping[SplitName, npt.NDArray[np.int64]], split: SplitSpec
) -> list[Finding]:
    expected = set(np.unique(np.concatenate([classes[rows] for rows in sides.values()])).tolist())
    lacking = [name for name, rows in sides.items() if set(np.unique(classes[rows]).tolist()) != expected]
    if not lacking:
        return []
    message = (
        f"split by {split.column!r}, {' and '.join(lacking)} would lack rows, or a class of the target: take larger "
        "shares, or split otherwise"
    )
    return [error("split", message, split.column)]


def _described(split: SplitSpec) -> dict[str, Any]:
    return {
        "by": split.by,
        "column": split.column,
        "test_share": split.test_share,
        "validation_share": split.validation_share,
    }


def _written(moment: Any) -> str | float:
    return f"{np.datetime_as_string(moment, unit='s')}Z" if isinstance(moment, np.datetime64) else float(moment)


def _impossible(finding: Finding) -> Partition:
    nowhere = np.empty(0, dtype=np.int64)
    return Partition(dict.fromkeys(SPLITS, nowhere), findings=(finding,))
