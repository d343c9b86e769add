"""Choosing rows by their own hash: samples and folds that are the same in every trial, and can be made again."""

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]

#: Rows of a class that a sample keeps, where there are as many.
MIN_CLASS_ROWS = 3


def mix(row_ids: npt.NDArray[np.uint64], seed: int) -> npt.NDArray[np.uint64]:
    """Return evenly spread hashes of row ids: SplitMix64's output function (Steele et al., OOPSLA 2014)."""
    with np.errstate(over="ignore"):
        value = row_ids + np.uint64((seed * 0x9E3779B97F4A7C15 + 0x9E3779B97F4A7C15) % 2**64)
        value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(value ^ (value >> np.uint64(31)))


def sample_rows(row_ids: npt.NDArray[np.uint64], classes: npt.NDArray[np.int64], rows: int, seed: int) -> Rows:
    """Return the positions of about ``rows`` rows, ascending.

    Each class keeps its share, and at least :data:`MIN_CLASS_ROWS` rows. A smaller sample lies inside a larger one.

    Parameters
    ----------
    classes : int64 array of shape (n_rows,)
        All alike for regression.
    """
    if rows >= len(row_ids):
        return np.arange(len(row_ids))
    order = np.argsort(mix(row_ids, seed), kind="stable")
    chosen = []
    for name in np.unique(classes):
        members = order[classes[order] == name]
        quota = max(MIN_CLASS_ROWS, round(rows * len(members) / len(row_ids)))
        chosen.append(members[:quota])
    return np.sort(np.concatenate(chosen))


def assign_folds(
    row_ids: npt.NDArray[np.uint64], classes: npt.NDArray[np.int64], folds: int, seed: int
) -> npt.NDArray[np.int64]:
    """Return the fold of each row, from 0; each class is dealt out evenly, and rows with one id share a fold."""
    ids, first, inverse = np.unique(row_ids, return_index=True, return_inverse=True)
    order = np.argsort(mix(ids, seed), kind="stable")
    of_id = np.empty(len(ids), dtype=np.int64)
    dealt = 0
    for name in np.unique(classes):
        members = order[classes[first][order] == name]
        of_id[members] = (dealt + np.arange(len(members))) % folds
        dealt += len(members)
    return of_id[inverse]
