"""Rows of a batch, by their positions: what a check that few rows fail has to say takes little room."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Positions = npt.NDArray[np.int64]

NO_POSITIONS: Positions = np.empty(0, dtype=np.int64)


def true_positions(condition: pa.Array) -> Positions:
    """Return where an Arrow condition is true; null counts as false."""
    found: Positions = pc.indices_nonzero(condition).to_numpy().view(np.int64)
    return found


def word_positions(encoded: pa.DictionaryArray, words: Positions) -> Positions:
    """Return where one of some words stands, which are given by their positions in the dictionary."""
    if not len(words):
        return NO_POSITIONS
    # One word more, for the missing ones.
    wanted = np.zeros(len(encoded.dictionary) + 1, dtype=np.bool_)
    wanted[words] = True
    indices = pc.fill_null(encoded.indices, len(encoded.dictionary)) if encoded.null_count else encoded.indices
    return np.flatnonzero(wanted.take(indices.to_numpy()))
