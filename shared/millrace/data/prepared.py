"""Read and write prepared splits, as ``.npz`` without pickle.

Training has neither pandas nor pyarrow; it needs the two matrices, the target, and nothing else.
"""

import io
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from millrace.features import FeatureMatrix

#: Rows read at once where only some are kept.
BLOCK_ROWS = 16_384

#: From row ids and targets to the positions of the rows to keep, in ascending order.
RowSelector = Callable[[npt.NDArray[np.uint64], npt.NDArray[Any]], npt.NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class PreparedSplit:
    """One split of the prepared data.

    The target has int64 indices into ``TableSchema.classes``, or float64 values for regression; ``row_ids`` hash each
    row's content or identifier and are the same in every run.
    """

    features: FeatureMatrix
    target: npt.NDArray[Any]
    row_ids: npt.NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.features)

    @property
    def nbytes(self) -> int:
        """Size in memory."""
        arrays = (self.features.numbers, self.features.strings, self.target, self.row_ids)
        return sum(int(array.nbytes) for array in arrays)

    def take(self, rows: npt.NDArray[Any]) -> "PreparedSplit":
        """Return the rows at these positions (or where this mask is true)."""
        return PreparedSplit(self.features.take(rows), self.target[rows], self.row_ids[rows])


def dump_split(split: PreparedSplit) -> bytes:
    """Return a split as a compressed ``.npz``."""
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        # Row by row, so that some of the rows can be read without the others.
        numbers=np.ascontiguousarray(split.features.numbers),
        strings=np.ascontiguousarray(split.features.strings),
        target=split.target,
        row_ids=split.row_ids,
    )
    return buffer.getvalue()


def load_split(body: bytes, choose: RowSelector | None = None) -> PreparedSplit:
    """Read a split; never unpickles. Rows that are not chosen are skipped block by block, never held together."""
    with np.load(io.BytesIO(body), allow_pickle=False) as arrays:
        target, row_ids = arrays["target"], arrays["row_ids"]
        if choose is None:
            return PreparedSplit(FeatureMatrix(arrays["numbers"], arrays["strings"]), target, row_ids)
    rows = choose(row_ids, target)
    with zipfile.ZipFile(io.BytesIO(body)) as archive:
        numbers, strings = (_read_rows(archive, name, rows) for name in ("numbers", "strings"))
    return PreparedSplit(FeatureMatrix(numbers, strings), target[rows], row_ids[rows])


def _read_rows(archive: zipfile.ZipFile, name: str, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """Read some rows of one matrix of an archive."""
    with archive.open(f"{name}.npy") as stream:
        shape, dtype = _read_header(stream)
        kept = np.empty((len(rows), *shape[1:]), dtype)
        row_bytes = dtype.itemsize * int(np.prod(shape[1:]))
        for start in range(0, shape[0], BLOCK_ROWS):
            count = min(BLOCK_ROWS, shape[0] - start)
            block = np.frombuffer(stream.read(count * row_bytes), dtype) if row_bytes else np.empty(0, dtype)
            first, last = np.searchsorted(rows, (start, start + count))
            kept[first:last] = block.reshape(count, *shape[1:])[rows[first:last] - start]
    return kept


def _read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    shape, column_major, dtype = read[np.lib.format.read_magic(stream)](stream)
    if column_major or dtype.hasobject:
        raise ValueError("prepared data is written row by row, and holds no objects")
    return shape, dtype


def dump_columns(columns: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """Return typed columns as a compressed ``.npz``; objects are written as strings."""
    arrays: dict[str, Any] = {
        str(position): values.astype(np.str_) if values.dtype.kind == "O" else values
        for position, values in enumerate(columns.values())
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, names=np.array(list(columns), dtype=np.str_), **arrays)
    return buffer.getvalue()


def load_columns(body: bytes) -> dict[str, npt.NDArray[Any]]:
    """Read typed columns."""
    with np.load(io.BytesIO(body), allow_pickle=False) as arrays:
        return {str(name): arrays[str(position)] for position, name in enumerate(arrays["names"])}


def load_row_ids(body: bytes) -> npt.NDArray[np.uint64]:
    """Read only the row ids of a split, a small part of it; there is one for each row."""
    with np.load(io.BytesIO(body), allow_pickle=False) as arrays:
        return np.asarray(arrays["row_ids"])
