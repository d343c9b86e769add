"""Prepared splits: what training reads, as ``.npz`` without pickle.

Training has neither pandas nor pyarrow; it needs the two matrices, the target, and nothing else.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.features import FeatureMatrix


@dataclass(frozen=True, slots=True)
class PreparedSplit:
    """One split of the prepared data.

    Parameters
    ----------
    features : FeatureMatrix
        The model's two inputs.
    target : array of shape (n_rows,)
        int64 class indices (into ``TableSchema.classes``), or float64 values for regression.
    row_ids : uint64 array of shape (n_rows,)
        Hash of each row's content (or of its identifier): the same row has the same id in every run.
    """

    features: FeatureMatrix
    target: npt.NDArray[Any]
    row_ids: npt.NDArray[np.uint64]

    def __len__(self) -> int:
        return len(self.features)

    def take(self, rows: npt.NDArray[Any]) -> "PreparedSplit":
        """Return the rows at these positions (or where this mask is true)."""
        return PreparedSplit(self.features.take(rows), self.target[rows], self.row_ids[rows])


def dump_split(split: PreparedSplit) -> bytes:
    """Write a split as a compressed ``.npz``."""
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        numbers=split.features.numbers,
        strings=split.features.strings,
        target=split.target,
        row_ids=split.row_ids,
    )
    return buffer.getvalue()


def load_split(body: bytes) -> PreparedSplit:
    """Read what :func:`dump_split` wrote; never unpickles."""
    with np.load(io.BytesIO(body), allow_pickle=False) as arrays:
        return PreparedSplit(FeatureMatrix(arrays["numbers"], arrays["strings"]), arrays["target"], arrays["row_ids"])


def dump_columns(columns: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """Write typed columns as a compressed ``.npz``; words are written as words, whatever array held them."""
    arrays: dict[str, Any] = {
        str(position): values.astype(np.str_) if values.dtype.kind == "O" else values
        for position, values in enumerate(columns.values())
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, names=np.array(list(columns), dtype=np.str_), **arrays)
    return buffer.getvalue()


def load_columns(body: bytes) -> dict[str, npt.NDArray[Any]]:
    """Read what :func:`dump_columns` wrote."""
    with np.load(io.BytesIO(body), allow_pickle=False) as arrays:
        return {str(name): arrays[str(position)] for position, name in enumerate(arrays["names"])}


def load_row_ids(body: bytes) -> npt.NDArray[np.uint64]:
    """Read only the row ids of a split, which are a small part of it."""
    with np.load(io.BytesIO(body), allow_pickle=False) as arrays:
        return np.asarray(arrays["row_ids"])
