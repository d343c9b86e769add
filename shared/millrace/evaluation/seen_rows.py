"""Whether the champion may have learnt from rows that are in the holdout now, and what that means.

While the spec's split stays as it is, a row's side is a function of the row, and no champion has seen a holdout row.
A changed split (shares, seed, column, identifier) moves rows, and a split by time moves them with every run. Then the
champion's own prepared rows are looked up, for as long as they are kept, and what it has seen is left out of the
comparison. Where they are gone, or too few rows remain, all rows are compared, to the champion's advantage: a
challenger that is not worse even so may replace it, and one that looks worse is kept for somebody to look at.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.data.prepared import load_row_ids
from millrace.errors import ArtifactNotFoundError
from millrace.layout import SplitName, split_key
from millrace.ports import ObjectStore

#: Unseen rows with which a comparison may be made; with fewer, all rows are compared.
MIN_UNSEEN_ROWS = 100

_LEARNT: tuple[SplitName, ...] = ("train", "validation")


@dataclass(frozen=True, slots=True)
class Overlap:
    """Which holdout rows a champion is compared on.

    Parameters
    ----------
    unseen : bool array of shape (n_rows,) or None
        The rows to compare on; None for all of them.
    note : str
        Why, and what it means; empty when the split has not changed.
    biased : bool
        Whether the champion may have learnt from rows it is compared on.
    """

    unseen: npt.NDArray[np.bool_] | None = None
    note: str = ""
    biased: bool = False


def find_overlap(
    split: Mapping[str, Any],
    holdout_ids: npt.NDArray[np.uint64],
    *,
    model: str,
    champion_fingerprint: str | None,
    champion_run: str | None,
    data_store: ObjectStore,
) -> Overlap:
    """Find the holdout rows that the champion may be compared on.

    Parameters
    ----------
    split : mapping
        How this run's rows were divided, with its ``fingerprint``, from the prepared data's manifest.
    holdout_ids : uint64 array of shape (n_rows,)
        Of this run's holdout.
    champion_fingerprint : str or None
        Of the champion's run; None when its version does not say.
    champion_run : str or None
        Whose prepared rows to look up.
    """
    same = bool(split.get("fingerprint")) and split.get("fingerprint") == champion_fingerprint
    if same and split.get("by") != "time":
        return Overlap()
    why = "the holdout moves with time" if same else "rows are not split as they were for the champion"
    learnt = _learnt_rows(model, champion_run, data_store)
    if learnt is None:
        note = (
            f"{why}, and what the champion learnt from is no longer kept: it may have seen rows of this holdout, "
            "which is to its advantage"
        )
        return Overlap(note=note, biased=True)
    unseen = ~np.isin(holdout_ids, learnt)
    seen = int(np.sum(~unseen))
    if not seen:
        return Overlap(note=f"{why}; the champion has seen none of these rows")
    if int(unseen.sum()) < MIN_UNSEEN_ROWS:
        note = (
            f"{why}: the champion learnt from {seen:,} of the {len(unseen):,} rows, and the others are too few to "
            "compare on, so all are compared, to its advantage"
        )
        return Overlap(note=note, biased=True)
    note = f"{why}: the {seen:,} rows that the champion learnt from are left out of the comparison"
    return Overlap(unseen, note)


def _learnt_rows(model: str, run_id: str | None, data_store: ObjectStore) -> npt.NDArray[np.uint64] | None:
    if not run_id:
        return None
    try:
        return np.concatenate([load_row_ids(data_store.get(split_key(model, run_id, name))) for name in _LEARNT])
    except ArtifactNotFoundError:
        return None
