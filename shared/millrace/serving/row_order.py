"""Order of rows: those that take like paths through a model's trees are scored one after the other.

A tree is a chain of comparisons whose results the processor guesses ahead. For rows in any order it guesses wrong so
often that this takes nearly half the time of boosting. Sorted by the few columns that decide most, neighbouring rows
take the same branches. Each row is scored by itself, so its numbers are the same in any order.

Which columns decide most is measured on some rows, as permutation importance (Breiman 2001, "Random forests", *Machine
Learning* 45): by how much the output moves when a column's values change places. Whether sorting pays is measured too,
on the first blocks: it does for trees, and not for linear models.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.features import FeatureMatrix
from millrace.serving.model import CHUNK_ROWS, LoadedModel

#: Least rows of a block that is sorted.
MIN_ROWS = 4_096
#: Bits of the key for each of the columns that decide most: equal keys are next to each other.
_BITS = (4, 6, 6)
#: Rows that are scored to find these columns, with all columns together, and of one column; fewer while a caller waits.
_PROBED_ROWS, _LEAST_PROBED, _MOST_PROBED = 16_384, 64, 1_024
_PROBED_ROWS_OF_REQUESTS = 4_096
#: Blocks that are scored in each way before one is chosen.
_TRIED_BLOCKS = 2
#: Share of the time that sorting has to save.
_LEAST_GAIN = 0.05

Run = Callable[[FeatureMatrix], npt.NDArray[Any]]
Keys = Callable[[FeatureMatrix], npt.NDArray[np.uint16]]


@dataclass(slots=True)
class RowOrder:
    """Scores blocks of one version in the order that is faster; it learns from the first ones."""

    run: Run
    clock: Callable[[], float] = time.thread_time  # processor seconds
    probed_rows: int = _PROBED_ROWS
    waits: int = 0  # blocks before the columns are looked for: they may be the only ones
    seconds: dict[bool, list[float]] = field(default_factory=lambda: {False: [], True: []})  # a row, by sorted or not
    _keys: list[Keys] = field(default_factory=list)
    _known: bool = False

    @classmethod
    def of(cls, loaded: LoadedModel) -> "RowOrder":
        """Return that of a version: to be kept with it (:meth:`LoadedModel.built`)."""
        return cls(loaded.onnx.run)

    @classmethod
    def of_requests(cls, loaded: LoadedModel) -> "RowOrder":
        """Return that of a version for the rows of requests, which are scored in chunks."""
        return cls(lambda features: run_chunks(loaded, features), probed_rows=_PROBED_ROWS_OF_REQUESTS, waits=1)

    @property
    def is_as_they_come(self) -> bool:
        """True once it is known that sorting does not pay: then blocks may as well be scored in parts."""
        is_tried = min(map(len, self.seconds.values())) >= _TRIED_BLOCKS
        return self._known and (not self._keys or (is_tried and not self._choose()))

    def score(self, features: FeatureMatrix) -> npt.NDArray[Any]:
        """Return the model's output for a block: of each row what it is in any order."""
        if len(features) < MIN_ROWS:
            return self.run(features)
        if self.waits:
            self.waits -= 1
            return self.run(features)
        if not self._known:
            self._keys, self._known = find_keys(self.run, features, self.probed_rows), True
        is_sorted = self._choose() if self._keys else False
        started = self.clock()
        outputs = self._score_sorted(features) if is_sorted else self.run(features)
        if len(self.seconds[is_sorted]) < _TRIED_BLOCKS:
            self.seconds[is_sorted].append((self.clock() - started) / len(features))
        return outputs

    def _choose(self) -> bool:
        as_is, by_key = self.seconds[False], self.seconds[True]
        if min(len(as_is), len(by_key)) < _TRIED_BLOCKS:
            return len(by_key) < len(as_is)
        return min(by_key) < (1.0 - _LEAST_GAIN) * min(as_is)

    def _score_sorted(self, features: FeatureMatrix) -> npt.NDArray[Any]:
        key = np.zeros(len(features), dtype=np.uint16)
        for make, bits in zip(self._keys, _BITS, strict=False):
            key = (key << np.uint16(bits)) | make(features)
        order = np.argsort(key, kind="stable")  # of sixteen bits: a radix sort
        found = self.run(features.take(order))
        outputs = np.empty_like(found)
        outputs[order] = found
        return outputs


def run_chunks(loaded: LoadedModel, features: FeatureMatrix) -> npt.NDArray[Any]:
    """Return the model's output for rows, :data:`CHUNK_ROWS` of them at once."""
    numbers, strings = features.numbers, features.strings
    chunks = [slice(start, start + CHUNK_ROWS) for start in range(0, len(features), CHUNK_ROWS)]
    return np.concatenate([loaded.onnx.run(FeatureMatrix(numbers[chunk], strings[chunk])) for chunk in chunks])


def find_keys(run: Run, features: FeatureMatrix, probed_rows: int = _PROBED_ROWS) -> list[Keys]:
    """Return what turns a block into keys of the columns that decide most, the first one first."""
    n_numbers, n_strings = features.numbers.shape[1], features.strings.shape[1]
    n_rows = min(_MOST_PROBED, max(_LEAST_PROBED, probed_rows // max(1, n_numbers + n_strings)))
    some = features.take(np.arange(n_rows))
    before = run(some)
    moved = []
    for place in range(n_numbers + n_strings):
        numbers, strings = some.numbers.copy(), some.strings.copy()
        matrix, column = (numbers, place) if place < n_numbers else (strings, place - n_numbers)
        # Half a block on: values of other rows, whatever the order of the file is.
        matrix[:, column] = np.roll(matrix[:, column], n_rows // 2)
        with np.errstate(all="ignore"):  # outputs may be infinite
            change = np.abs(run(FeatureMatrix(numbers, strings)) - before)
        known = change[np.isfinite(change)]
        moved.append(float(known.mean(dtype=np.float64)) if len(known) else 0.0)
    ranked = sorted((place for place, change in enumerate(moved) if change > 0), key=lambda place: -moved[place])
    chosen = zip(ranked, _BITS, strict=False)
    return [
        _number_key(features.numbers[:, place], place, bits)
        if place < n_numbers
        else _string_key(features.strings[:, place - n_numbers], place - n_numbers, bits)
        for place, bits in chosen
    ]


def _number_key(values: npt.NDArray[np.float32], column: int, bits: int) -> Keys:
    """Return a key by quantiles of the first block; missing values have the last one."""
    known = values[np.isfinite(values)]
    shares = np.arange(1, (1 << bits) - 1) / ((1 << bits) - 1)
    edges = np.unique(np.quantile(known, shares, method="nearest")) if len(known) else np.zeros(0, np.float32)

    def make(features: FeatureMatrix) -> npt.NDArray[np.uint16]:
        return np.searchsorted(edges, features.numbers[:, column]).astype(np.uint16)  # NaN is beyond every edge

    return make


class _Places(dict[Any, int]):
    """Places of strings; unknown ones have the first."""

    def __missing__(self, key: Any) -> int:
        return 0


def _string_key(values: npt.NDArray[Any], column: int, bits: int) -> Keys:
    names, most = sorted(set(values.tolist())), 1 << bits
    places = _Places((name, place * most // max(most, len(names))) for place, name in enumerate(names))

    def make(features: FeatureMatrix) -> npt.NDArray[np.uint16]:
        found = map(places.__getitem__, features.strings[:, column].tolist())
        return np.fromiter(found, dtype=np.uint16, count=len(features))

    return make
