"""Assign rows to the training, validation and test splits: at random, by time or by group.

======  ================================================================================================
random  by a hash of the row, or of its identifier
group   by a hash of the entity, so that all its rows are in one split
time    the newest rows are the test split, those before them validation; equal times stay together
======  ================================================================================================

A row's split under ``random`` and ``group`` never changes. Under ``time`` the holdout moves with the data: the test
rows of one month are training rows of the next.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from millrace.data.findings import Finding, error, warning
from millrace.data.typed_table import TypedTable
from millrace.features import missing_mask
from millrace.hashing import UInt64Array, hash_strings, split_mix64
from millrace.layout import SPLITS, SplitName
from millrace.spec.data import SplitSpec

TEST_SHARE = 0.2
VALIDATION_SHARE = 0.2

#: Rounds of moving rows to splits that lack a class.
_MAX_REPAIRS = 10

#: Makes a row's place in a sample independent of its split: "sample" in ASCII.
_SAMPLE = np.uint64(0x73616D706C65)

_ORDERED = ("datetime", "integer", "number")

Int64Array = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Partition:
    """Row positions by split, in order, and the manifest's description of method and borders.

    ``without_time`` counts rows that a split by time leaves out because their time is missing.
    """

    splits: Mapping[SplitName, Int64Array]
    without_time: int = 0
    description: Mapping[str, Any] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()


def partition(table: TypedTable, row_ids: UInt64Array, classes: Int64Array, split: SplitSpec, seed: int) -> Partition:
    """Split a table's rows; classes are all zero for regression."""
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
        by_entity = _by_hash(_hash_entities(values, row_ids), classes, split, seed)
        return replace(by_entity, findings=tuple(_absent_classes(classes, by_entity.splits, split)))
    if column.type not in _ORDERED or values.dtype.kind not in "fM":
        kind = f"an identifier ({column.type})" if column.role == "identifier" else column.type
        message = f"a split by time needs a date or a number, and the column {column.name!r} is {kind}"
        return _impossible(error("split", message, column.name))
    return _by_time(values, classes, split)


def sample_places(row_ids: UInt64Array, seed: int) -> UInt64Array:
    """Return the rank of each row among all possible rows: a sample takes the smallest.

    Independent of the row's split, which :func:`assign_splits` takes from other bits.
    """
    return split_mix64(split_mix64(row_ids ^ _SAMPLE) ^ split_mix64(np.array([seed], dtype=np.uint64)))


def assign_splits(
    row_ids: UInt64Array,
    groups: Int64Array,
    seed: int,
    test_share: float = TEST_SHARE,
    validation_share: float = VALIDATION_SHARE,
) -> dict[SplitName, Int64Array]:
    """Assign rows by hash: with the default shares, below 0.2 of the hash range test, below 0.4 validation.

    A split that would lack a class gets rows from the class's fullest split: the smallest hashes go to test, the next
    to validation, the largest to train, so that with more data such a row returns to its own split. Equal ids stay
    together; groups are the rows' classes, all zero for regression. A class with fewer than three distinct ids may miss
    a split.
    """
    hashes = split_mix64(row_ids ^ split_mix64(np.array([seed], dtype=np.uint64)))
    fractions = hashes.astype(np.float64) / 2.0**64
    test, validation, train = (SPLITS.index(name) for name in ("test", "validation", "train"))
    assigned = np.full(len(row_ids), train, dtype=np.int64)
    assigned[fractions < test_share + validation_share] = validation
    assigned[fractions < test_share] = test
    # The rows moved for one class may belong to another class too, where ids are those of entities.
    for _ in range(_MAX_REPAIRS):
        moved = [
            _repair(assigned, hashes, np.flatnonzero(groups == group), (test, validation, train))
            for group in np.unique(groups)
        ]
        if not any(moved):
            break
    return {name: np.flatnonzero(assigned == index) for index, name in enumerate(SPLITS)}


def _repair(assigned: Int64Array, hashes: UInt64Array, members: Int64Array, order: tuple[int, ...]) -> bool:
    """Move the rows of one id at a time until every split has one of ``members``; return whether any was moved."""
    distinct, first = np.unique(hashes[members], return_index=True)
    split_of = assigned[members][first]
    if len(distinct) < len(order):
        return False
    any_moved = False
    for split in order:
        if (split_of == split).any():
            continue
        fullest = max(order, key=lambda other: int((split_of == other).sum()))
        candidates = np.flatnonzero(split_of == fullest)
        moved = candidates[-1] if split == order[-1] else candidates[0]
        split_of[moved] = split
        assigned[hashes == distinct[moved]] = split
        any_moved = True
    return any_moved


def _by_hash(ids: UInt64Array, classes: Int64Array, split: SplitSpec, seed: int) -> Partition:
    splits = assign_splits(ids, classes, seed, split.test_share, split.validation_share)
    return Partition(splits, description=_describe(split) | {"holdout": "the same rows in every run"})


def _hash_entities(values: npt.NDArray[Any], row_ids: UInt64Array) -> UInt64Array:
    """Return the hash of each row's entity, or of the row itself where its entity is missing."""
    codes, distinct = pd.factorize(values, use_na_sentinel=False)
    hashes = hash_strings(distinct if distinct.dtype.kind == "O" else distinct.astype(np.str_))
    return np.where(missing_mask(values), row_ids, hashes[codes]).astype(np.uint64)


def _by_time(values: npt.NDArray[Any], classes: Int64Array, split: SplitSpec) -> Partition:
    missing = missing_mask(values)
    dated = np.flatnonzero(~missing)
    times, counts = np.unique(values[dated], return_counts=True)
    if len(times) < len(SPLITS):
        message = (
            f"the column {split.column!r} has {len(times)} distinct times; a split by time needs at least "
            f"{len(SPLITS)}, because rows of equal times are never divided"
        )
        return _impossible(error("split", message, split.column, len(times)))
    newer = np.cumsum(counts[::-1])[::-1]  # rows of this time or newer
    total = len(dated)
    test_from = _border(newer, 2, len(times), split.test_share * total)
    validation_from = _border(newer - newer[test_from], 1, test_from, split.validation_share * total)
    positions = np.searchsorted(times, values[dated])
    splits: dict[SplitName, Int64Array] = {
        "train": dated[positions < validation_from],
        "validation": dated[(positions >= validation_from) & (positions < test_from)],
        "test": dated[positions >= test_from],
    }
    description = _describe(split) | {
        "holdout": "moves with time: the newest rows of each run",
        "validation_from": _format_time(times[validation_from]),
        "test_from": _format_time(times[test_from]),
    }
    left_out = int(missing.sum())
    findings = _absent_classes(classes, splits, split)
    if left_out:
        message = f"{left_out:,} rows without a value of {split.column!r} are left out of the split by time"
        findings.append(warning("split", message, split.column, left_out))
    return Partition(splits, left_out, description, tuple(findings))


def _border(newer: Int64Array, first: int, end: int, wanted: float) -> int:
    """Return the time in ``first .. end - 1`` from which on the number of rows is nearest to ``wanted``."""
    return first + int(np.argmin(np.abs(newer[first:end] - wanted)))


def _absent_classes(classes: Int64Array, splits: Mapping[SplitName, Int64Array], split: SplitSpec) -> list[Finding]:
    expected = set(np.unique(np.concatenate([classes[rows] for rows in splits.values()])).tolist())
    lacking = [name for name, rows in splits.items() if set(np.unique(classes[rows]).tolist()) != expected]
    if not lacking:
        return []
    message = (
        f"split by {split.column!r}, {' and '.join(lacking)} would lack rows, or a class of the target: take larger "
        "shares, or split otherwise"
    )
    return [error("split", message, split.column)]


def _describe(split: SplitSpec) -> dict[str, Any]:
    return {
        "by": split.by,
        "column": split.column,
        "test_share": split.test_share,
        "validation_share": split.validation_share,
    }


def _format_time(time: Any) -> str | float:
    return f"{np.datetime_as_string(time, unit='s')}Z" if isinstance(time, np.datetime64) else float(time)


def _impossible(finding: Finding) -> Partition:
    nowhere = np.empty(0, dtype=np.int64)
    return Partition(dict.fromkeys(SPLITS, nowhere), findings=(finding,))
