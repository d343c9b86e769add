"""Words in any number: how many differ, and which are commonest, with eight bytes a row.

Each word is replaced by a hash of 64 bits (SipHash-2-4, as pandas computes it). That two of 25 million different words
share one has a chance of one in 60,000; they would then count as one.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from millrace.data.row_store import to_values

_OFFSET, _PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)

#: Hashes that are looked through at once.
_SCANNED_AT_ONCE = 1 << 17

UInt64Array = npt.NDArray[np.uint64]

#: Returns a column's parts, from the beginning each time.
Parts = Callable[[], Iterable[pa.Array]]


@dataclass(frozen=True, slots=True)
class WordCounts:
    """What is known of a column of words.

    Parameters
    ----------
    rows : int
        Words, none of them missing.
    distinct, singletons : int
        Different ones, and those that occur once.
    top : tuple of (str, int, int)
        The commonest: the word, how often it occurs, and its hash.
    lengths : tuple of (int, float, int) or None
        Least, mean and greatest number of characters.
    hashes : uint64 array of shape (n_rows,)
        Of every word, in order.
    """

    rows: int
    distinct: int
    singletons: int
    top: tuple[tuple[str, int, int], ...]
    lengths: tuple[int, float, int] | None
    hashes: UInt64Array


def known_words(parts: Iterable[pa.Array]) -> Iterator[pa.Array]:
    """Yield parts without what is missing."""
    for part in parts:
        yield part.filter(pc.fill_null(pc.not_equal(part, ""), False))


def hash_words(words: pa.Array) -> UInt64Array:
    """Hash words, none of them missing."""
    if pa.types.is_dictionary(words.type):
        return np.asarray(hash_words(words.dictionary)[words.indices.to_numpy(zero_copy_only=False)])
    values = words.cast(pa.string()).to_numpy(zero_copy_only=False)
    return np.asarray(pd.util.hash_array(values, categorize=False), dtype=np.uint64)


def hash_values(column: pa.ChunkedArray) -> UInt64Array:
    """Hash a column's values, equal ones alike and missing ones too."""
    if pa.types.is_string(column.type) or pa.types.is_dictionary(column.type):
        hashes = [hash_words(pc.fill_null(chunk.cast(pa.string()), "")) for chunk in column.chunks]
    else:
        hashes = [pd.util.hash_array(to_values(chunk), categorize=False) for chunk in column.chunks]
    return np.concatenate([np.empty(0, dtype=np.uint64), *hashes])


def combine_hashes(columns: Sequence[UInt64Array], rows: int) -> UInt64Array:
    """Return one hash a row (FNV-1a's way of combining, over words of 64 bits)."""
    combined = np.full(rows, _OFFSET, dtype=np.uint64)
    with np.errstate(over="ignore"):
        for hashes in columns:
            combined = (combined ^ hashes) * _PRIME
    return combined


def count_different(parts: Iterable[pa.Array]) -> int:
    """Count different words, a missing one among them."""
    hashes, missing = [np.empty(0, dtype=np.uint64)], False
    for part in parts:
        missing = missing or bool(part.null_count)
        hashes.append(hash_words(part.drop_null()))
    ordered = np.concatenate(hashes)
    hashes.clear()
    ordered.sort()
    return int(np.count_nonzero(ordered[1:] != ordered[:-1])) + bool(len(ordered)) + missing


def count_words(parts: Parts, shown: int) -> WordCounts:
    """Count a column's words.

    Parameters
    ----------
    parts : callable
        Returns the column, as strings; called twice.
    shown : int
        How many of the commonest are named; among too many equals, the first that appear.
    """
    hashes, lengths = [np.empty(0, dtype=np.uint64)], _Lengths()
    for words in known_words(parts()):
        hashes.append(hash_words(words))
        lengths.add(words)
    every = np.concatenate(hashes)
    hashes.clear()
    distinct, repeated, counts = _repeated(every)
    common = _commonest(every, repeated, counts, min(shown, distinct))
    named = _words_at(parts, {position: (count, key) for position, count, key in common})
    return WordCounts(
        rows=len(every),
        distinct=distinct,
        singletons=distinct - len(repeated),
        top=tuple(sorted(named, key=lambda entry: (-entry[1], entry[0]))),
        lengths=lengths.summary(),
        hashes=every,
    )


def _repeated(hashes: UInt64Array) -> tuple[int, UInt64Array, npt.NDArray[np.int64]]:
    """Return how many hashes differ; and of those that repeat, in order, which they are and how often each occurs.

    Of a column whose words all differ nothing is copied but its hashes, once.
    """
    ordered = np.sort(hashes)
    again = ordered[1:] == ordered[:-1]
    repeated, counts = np.unique(ordered[1:][again], return_counts=True)
    return len(hashes) - int(np.count_nonzero(again)), repeated, counts + 1


def _commonest(
    hashes: UInt64Array, repeated: UInt64Array, counts: npt.NDArray[np.int64], shown: int
) -> list[tuple[int, int, int]]:
    """Return where each of the commonest words appears first, how often it occurs, and its hash."""
    least = int(np.partition(counts, -shown)[-shown]) if 0 < shown <= len(counts) else 1
    found = {int(key): (int(np.argmax(hashes == key)), int(count)) for key, count in _above(repeated, counts, least)}
    equals = repeated[counts == least]
    for start in range(0, len(hashes), _SCANNED_AT_ONCE):
        if len(found) >= shown:
            break
        part = hashes[start : start + _SCANNED_AT_ONCE]
        # Those that are as common as the last one shown; where that is a word that occurs once, all that do not repeat.
        wanted = _is_among(part, equals) if least > 1 else ~_is_among(part, repeated)
        for offset in np.flatnonzero(wanted).tolist():
            found.setdefault(int(part[offset]), (start + offset, least))
            if len(found) >= shown:
                break
    return [(position, count, key) for key, (position, count) in found.items()]


def _above(repeated: UInt64Array, counts: npt.NDArray[np.int64], least: int) -> Iterator[tuple[np.uint64, np.int64]]:
    yield from zip(repeated[counts > least], counts[counts > least], strict=True)


def _is_among(hashes: UInt64Array, ordered: UInt64Array) -> npt.NDArray[np.bool_]:
    """Tell which hashes are among others, which are in order and differ."""
    if not len(ordered):
        return np.zeros(len(hashes), dtype=np.bool_)
    positions = np.minimum(np.searchsorted(ordered, hashes), len(ordered) - 1)
    return np.asarray(ordered[positions] == hashes)


def _words_at(parts: Parts, wanted: dict[int, tuple[int, int]]) -> list[tuple[str, int, int]]:
    """Return the words at some positions, with what is known of each."""
    named: list[tuple[str, int, int]] = []
    first = 0
    for words in known_words(parts()):
        here = [position for position in wanted if first <= position < first + len(words)]
        named.extend((str(words[position - first].as_py()), *wanted[position]) for position in here)
        first += len(words)
        if len(named) == len(wanted):
            break
    return named


@dataclass(slots=True)
class _Lengths:
    """Characters of the words so far."""

    least: int | None = None
    greatest: int | None = None
    total: int = 0
    rows: int = 0

    def add(self, words: pa.Array) -> None:
        if not len(words):
            return
        lengths = pc.utf8_length(words.cast(pa.string()))
        bounds: dict[str, Any] = pc.min_max(lengths).as_py()
        self.least = bounds["min"] if self.least is None else min(self.least, bounds["min"])
        self.greatest = bounds["max"] if self.greatest is None else max(self.greatest, bounds["max"])
        self.total += pc.sum(lengths).as_py()
        self.rows += len(words)

    def summary(self) -> tuple[int, float, int] | None:
        if self.least is None or self.greatest is None:
            return None
        return self.least, self.total / self.rows, self.greatest
