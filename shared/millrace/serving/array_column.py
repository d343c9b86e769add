"""Column of predictions of many rows, kept as the array that the model returned.

A request of thousands of rows has thousands of lists and floats less with it: writers of JSON take the arrays. Whoever
needs plain values reads it like a list.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt


class ArrayColumn(Sequence[Any]):
    """Predictions of many rows in the arrays that the model returned; plain values are made where they are read.

    ``array`` holds numbers, a row of numbers for each row, or with ``names`` positions among those. Rows that ``known``
    leaves out are None.
    """

    __slots__ = ("array", "known", "names")

    def __init__(
        self,
        array: npt.NDArray[Any],
        known: npt.NDArray[np.bool_] | None = None,
        names: tuple[Any, ...] | None = None,
    ) -> None:
        self.array, self.known, self.names = array, known, names

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, place: Any) -> Any:
        if isinstance(place, slice):
            return self.take(range(len(self))[place]).tolist()
        return self.take([place]).tolist()[0]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.tolist())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and self.tolist() == list(other)

    __hash__ = None  # type: ignore[assignment]  # like a list

    @property
    def is_whole(self) -> bool:
        """True where no row is None."""
        return self.known is None or bool(self.known.all())

    def take(self, rows: Sequence[int]) -> "ArrayColumn":
        """Return some of the rows."""
        places = np.asarray(rows, dtype=np.intp)
        return ArrayColumn(self.array[places], None if self.known is None else self.known[places], self.names)

    def spread(self, places: npt.NDArray[np.intp], total: int) -> "ArrayColumn":
        """Return a column of ``total`` rows with these at ``places``."""
        array, known = np.zeros((total, *self.array.shape[1:]), self.array.dtype), np.zeros(total, np.bool_)
        array[places], known[places] = self.array, True if self.known is None else self.known
        return ArrayColumn(array, known, self.names)

    def tolist(self) -> list[Any]:
        """Return plain Python values."""
        values = self.array.tolist() if self.names is None else self._named()
        if self.known is None:
            return values
        return [value if known else None for value, known in zip(values, self.known.tolist(), strict=True)]

    def to_json(self) -> Any:
        """Return what a writer of JSON takes for :meth:`tolist`: numbers, as an array with NaN for None, or a list."""
        if self.names is not None or self.array.ndim > 1:
            return self.tolist()
        return self.numbers()

    def flat(self) -> "ArrayColumn":
        """Return rows of numbers as one column of their numbers."""
        known = None if self.known is None else np.repeat(self.known, self.array.shape[1])
        return ArrayColumn(self.array.reshape(-1), known)

    def numbers(self) -> npt.NDArray[np.float64]:
        """Return numbers in float64, as plain values have them; NaN in the rows that are None."""
        numbers = self.array.astype(np.float64)
        if self.known is not None:
            numbers[~self.known] = np.nan
        return numbers

    def _named(self) -> list[Any]:
        objects = np.empty(len(self.names or ()), dtype=object)
        objects[:] = self.names
        values: list[Any] = objects[self.array].tolist()
        return values
