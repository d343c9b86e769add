"""Words as codes: every value is hashed once, and all that is asked of a column later is asked of its few codes."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class CodedWords:
    """A column of words.

    Parameters
    ----------
    values : tuple
        What there is, each once, in the order of their first rows; None where a number was missing.
    codes : int64 array of shape (rows,)
        Position in ``values`` of each row's.
    """

    values: tuple[Any, ...]
    codes: Indices

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, rows: slice) -> "CodedWords":
        return CodedWords(self.values, self.codes[rows])

    def counts(self) -> Indices:
        """Return how often there is each value."""
        return np.bincount(self.codes, minlength=len(self.values))


class _NextCode(dict[Any, int]):
    def __missing__(self, value: Any) -> int:
        code = self[value] = len(self)
        return code


def code_words(values: Iterable[Any] | npt.NDArray[Any]) -> CodedWords:
    """Code a column; NaN, which equals nothing, is coded as None."""
    if isinstance(values, np.ndarray):
        if values.dtype.kind == "f":
            missing = np.isnan(values)
            values = values.astype(object)
            values[missing] = None
        rows = values.tolist()
    else:
        rows = list(values)
    codes = _NextCode()
    coded = np.fromiter(map(codes.__getitem__, rows), dtype=np.int64, count=len(rows))
    return CodedWords(tuple(codes), coded)
