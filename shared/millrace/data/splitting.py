"""Splitting: which rows are for training, for choosing and for judging.

A row's side follows from what the row *is*, not from where it stands or when it came: its identifier's hash, or
its content's, decides. So a row that was holdout once is holdout for ever, and a challenger trained on more data is
compared with the champion on rows that *neither* has seen in training. A random split drawn anew at each retraining
would leak the champion's test rows into the challenger's training set.

Rows without an identifier that are equal in every column are told apart by their copy number, the first, the second
and so on. If all copies went to one side, a table of few distinct rows would have sides that contradict each other:
where ``(plan=pro, yes)`` is all in the holdout, training sees ``plan=pro`` with ``no`` alone.

Hashes are SplitMix64 (Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators") over the values'
bits and BLAKE2b over strings: the same in every process, on every platform, with every version of the libraries.
"""

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from millrace.features import FeatureMatrix
from millrace.layout import SPLITS, SplitName

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
        From :mod:`millrace.data.row_choice`, or the entities' hashes; equal ids stay together.
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
