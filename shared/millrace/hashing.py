"""Hashes of 64 bits: of strings, of rows, and of numbers spread evenly by SplitMix64.

Splits, samples and the ids of entities are stored or compared between runs: what these functions return never changes.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.features import FeatureMatrix

UInt64Array = npt.NDArray[np.uint64]

_GOLDEN = 0x9E3779B97F4A7C15
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_OFFSET, _PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)


def split_mix64(values: UInt64Array, seed: int = 0) -> UInt64Array:
    """Return evenly spread hashes of integers: SplitMix64's output function (Steele et al., OOPSLA 2014).

    ``seed`` is the number of steps that the generator is ahead of each value.
    """
    with np.errstate(over="ignore"):
        mixed = values + np.uint64((seed + 1) * _GOLDEN % 2**64)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * _FIRST
        mixed = (mixed ^ (mixed >> np.uint64(27))) * _SECOND
    return np.asarray(mixed ^ (mixed >> np.uint64(31)))


def combine_hashes(hashes: UInt64Array, values: UInt64Array) -> UInt64Array:
    """Return hashes of pairs."""
    return split_mix64(hashes ^ split_mix64(values))


def hash_strings(values: npt.NDArray[Any]) -> UInt64Array:
    """Hash strings by BLAKE2b, each distinct one once; the empty string is hashed like any other."""
    strings = np.asarray(values, dtype=object).tolist()
    positions = {string: position for position, string in enumerate(dict.fromkeys(strings))}
    digests = [hashlib.blake2b(str(string).encode(), digest_size=8).digest() for string in positions]
    codes = np.fromiter(map(positions.__getitem__, strings), dtype=np.int64, count=len(strings))
    return np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64)[codes]


def hash_rows(features: FeatureMatrix, target: npt.NDArray[Any]) -> UInt64Array:
    """Hash the contents of rows, numbers, strings and target, to a uint64 array of shape (n_rows,).

    Missing numbers are equal to each other, and so are 0.0 and -0.0.
    """
    hashes = np.zeros(len(features), dtype=np.uint64)
    for column in range(features.numbers.shape[1]):
        hashes = combine_hashes(hashes, _number_bits(features.numbers[:, column]))
    for column in range(features.strings.shape[1]):
        hashes = combine_hashes(hashes, hash_strings(features.strings[:, column]))
    return combine_hashes(hashes, _number_bits(target))


def hash_copies(hashes: UInt64Array) -> UInt64Array:
    """Make equal hashes differ: the first of each stays, the k-th after it depends on k alone."""
    ordered = np.sort(hashes)
    repeated = np.isin(hashes, np.unique(ordered[1:][ordered[1:] == ordered[:-1]]))
    numbered = hashes.copy()
    numbered[repeated] = _number_copies(hashes[repeated])
    return numbered


def fold_columns(columns: Sequence[UInt64Array], rows: int) -> UInt64Array:
    """Combine hashes of columns into one of each row, by FNV-1a over 64 bits.

    For comparisons within one table: quicker than :func:`combine_hashes`, and spread less evenly.
    """
    folded = np.full(rows, _OFFSET, dtype=np.uint64)
    with np.errstate(over="ignore"):
        for hashes in columns:
            folded = (folded ^ hashes) * _PRIME
    return folded


def _number_copies(hashes: UInt64Array) -> UInt64Array:
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    positions = np.arange(len(hashes))
    is_first = np.ones(len(hashes), dtype=bool)
    is_first[1:] = ordered[1:] != ordered[:-1]
    copies = np.empty(len(hashes), dtype=np.uint64)
    copies[order] = positions - np.maximum.accumulate(np.where(is_first, positions, 0))
    return np.where(copies == 0, hashes, combine_hashes(hashes, copies))


def _number_bits(values: npt.NDArray[Any]) -> UInt64Array:
    numbers = values.astype(np.float64)
    canonical = np.where(np.isnan(numbers), np.nan, numbers) + 0.0
    return canonical.astype("<f8").view("<u8").astype(np.uint64)
