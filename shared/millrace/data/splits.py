"""Which rows are for training, for choosing and for judging: by chance, by time or by entity.

======  ================================================================================================
random  a hash of the row, or of its identifier, decides: see :mod:`millrace.data.splits`
group   a hash of the entity decides, so that no entity's rows stand on two sides
time    the newest rows are the test, those before them validation; rows of one moment stay together
======  ================================================================================================

A row's side under ``random`` and ``group`` is its side for ever. Under ``time`` the holdout moves on with the data:
what was judged on last month is learnt from next month.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from millrace.data.findings import Finding, error, warning
from millrace.data.typed_table import TypedTable, missing_mask
from millrace.features import FeatureMatrix
from millrace.layout import SPLITS, SplitName
from millrace.spec.data import SplitSpec

TEST_SHARE = 0.2
VALIDATION_SHARE = 0.2

#: Rounds of moving rows to sides that lack a class.
_MAX_REPAIRS = 10

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)

#: Makes a row's place in a sample another number than the one that decides its side: "sample" in ASCII.
_SAMPLE = np.uint64(0x73616D706C65)

UInt64Array = npt.NDArray[np.uint64]


def hash_strings(values: npt.NDArray[Any]) -> UInt64Array:
    """Hash strings, each distinct one once; the empty string is hashed like any other."""
    positions, words = pd.factorize(np.asarray(values, dtype=object))
    digests = [hashlib.blake2b(str(word).encode(), digest_size=8).digest() for word in words]
    hashes = np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)
    return hashes[positions]


def hash_rows(features: FeatureMatrix, target: npt.NDArray[Any]) -> UInt64Array:
    """Hash each row's content: its numbers, its strings and its target.

    Returns
    -------
    uint64 array of shape (n_rows,)
        Equal for equal rows; missing numbers are equal to each other, and so are 0.0 and -0.0.
    """
    hashes = np.zeros(len(features), dtype=np.uint64)
    for column in range(features.numbers.shape[1]):
        hashes = _combine(hashes, _number_bits(features.numbers[:, column].astype(np.float64)))
    for column in range(features.strings.shape[1]):
        hashes = _combine(hashes, hash_strings(features.strings[:, column]))
    return _combine(hashes, _number_bits(target.astype(np.float64)))


def hash_copies(hashes: UInt64Array) -> UInt64Array:
    """Tell equal hashes apart: the first of each stays, the k-th after it depends on k alone."""
    ordered = np.sort(hashes)
    repeated = np.isin(hashes, np.unique(ordered[1:][ordered[1:] == ordered[:-1]]))
    told_apart = hashes.copy()
    told_apart[repeated] = _number_copies(hashes[repeated])
    return told_apart


def _number_copies(hashes: UInt64Array) -> UInt64Array:
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    positions = np.arange(len(hashes))
    is_first = np.ones(len(hashes), dtype=bool)
    is_first[1:] = ordered[1:] != ordered[:-1]
    copies = np.empty(len(hashes), dtype=np.uint64)
    copies[order] = positions - np.maximum.accumulate(np.where(is_first, positions, 0))
    return np.where(copies == 0, hashes, _combine(hashes, copies))


def sample_places(row_ids: UInt64Array, seed: int) -> UInt64Array:
    """Return a place for each row among all that could be: a sample takes the smallest.

    Independent of the row's side, which :func:`assign_sides` takes from other bits.
    """
    with np.errstate(over="ignore"):
        return _mix(_mix(row_ids ^ _SAMPLE) ^ _mix(np.array([seed], dtype=np.uint64)))


def assign_sides(
    row_ids: UInt64Array,
    groups: npt.NDArray[np.int64],
    seed: int,
    test_share: float = TEST_SHARE,
    validation_share: float = VALIDATION_SHARE,
) -> dict[SplitName, npt.NDArray[np.int64]]:
    """Put every row on a side: with the default shares, below 0.2 of the hash range test, below 0.4 validation.

    A class that would be missing from a side gets rows there from its fullest side: the smallest hashes go to test,
    the next to validation, the largest to train, so that with more data such a row returns to its own side.

    Parameters
    ----------
    row_ids : uint64 array of shape (n_rows,)
        From :mod:`millrace.data.prepare`, or the entities' hashes; equal ids stay together.
    groups : int64 array of shape (n_rows,)
        The class of each row; all zero for regression.
    seed : int
        Another seed is another split.
    test_share, validation_share : float, default=0.2
        Of the hash range, and so about of the different ids.

    Returns
    -------
    dict of str to int64 array
        Row positions by split, in order. A class with fewer than three distinct ids may miss a side.
    """
    with np.errstate(over="ignore"):
        hashes = _mix(row_ids ^ _mix(np.array([seed], dtype=np.uint64)))
    fractions = hashes.astype(np.float64) / 2.0**64
    test, validation, train = (SPLITS.index(name) for name in ("test", "validation", "train"))
    sides = np.full(len(row_ids), train, dtype=np.int64)
    sides[fractions < test_share + validation_share] = validation
    sides[fractions < test_share] = test
    # What one class's repair moves may belong to another class too, where ids are those of entities.
    for _ in range(_MAX_REPAIRS):
        moved = [
            _repair(sides, hashes, np.flatnonzero(groups == group), (test, validation, train))
            for group in np.unique(groups)
        ]
        if not any(moved):
            break
    return {name: np.flatnonzero(sides == index) for index, name in enumerate(SPLITS)}


def _repair(
    sides: npt.NDArray[np.int64], hashes: UInt64Array, members: npt.NDArray[np.int64], order: tuple[int, ...]
) -> bool:
    """Move all rows of one id at a time until every side has one of ``members``; tell whether any was moved."""
    distinct, first = np.unique(hashes[members], return_index=True)
    side_of = sides[members][first]
    if len(distinct) < len(order):
        return False
    any_moved = False
    for side in order:
        if (side_of == side).any():
            continue
        fullest = max(order, key=lambda other: int((side_of == other).sum()))
        candidates = np.flatnonzero(side_of == fullest)
        moved = candidates[-1] if side == order[-1] else candidates[0]
        side_of[moved] = side
        sides[hashes == distinct[moved]] = side
        any_moved = True
    return any_moved


def _number_bits(values: npt.NDArray[np.float64]) -> UInt64Array:
    canonical = np.where(np.isnan(values), np.nan, values) + 0.0
    return canonical.astype("<f8").view("<u8").astype(np.uint64)


def _combine(hashes: UInt64Array, values: UInt64Array) -> UInt64Array:
    with np.errstate(over="ignore"):
        return _mix(hashes ^ _mix(values))


def _mix(values: UInt64Array) -> UInt64Array:
    """SplitMix64's output function."""
    mixed = values + _GOLDEN
    mixed = (mixed ^ (mixed >> np.uint64(30))) * _FIRST
    mixed = (mixed ^ (mixed >> np.uint64(27))) * _SECOND
    return mixed ^ (mixed >> np.uint64(31))


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
        From :mod:`millrace.data.prepare`.
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
    return np.where(missing_mask(values), row_ids, hashes[codes]).astype(np.uint64)


def _by_time(values: npt.NDArray[Any], classes: npt.NDArray[np.int64], split: SplitSpec) -> Partition:
    missing = missing_mask(values)
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
