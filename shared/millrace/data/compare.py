"""Two datasets side by side: columns, volume and distributions, from what is kept beside each of them.

Distributions are compared by the population stability index, sum over cells of (p - q) ln(p / q), with p and q the
shares of the rows (Siddiqi 2006, *Credit Risk Scorecards*, p. 136; the symmetrised divergence of Kullback and
Leibler 1951). An empty cell counts half a row, so that the index stays finite. It compares the first dataset's own
cells: ten of about equal size for numbers and dates, the commonest values for words.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.data.findings import Finding, warning
from millrace.data.schema_changes import compare_schemas
from millrace.schema import TableSchema


@dataclass(frozen=True, slots=True)
class History:
    """The earlier datasets of a model, and the time.

    Parameters
    ----------
    rows : sequence of int, default=()
        How many rows each of them has.
    profile : mapping, default={}
        The newest one's, as :func:`millrace.data.profile.profile_table` made it.
    now : datetime or None, default=None
        In UTC; without it nothing is said about freshness.
    captured : mapping, default={}
        Profile of the rows that the model was asked about last; empty where it was not looked for, or there are none.
    """

    rows: Sequence[int] = ()
    profile: Mapping[str, Any] = field(default_factory=dict)
    now: datetime | None = None
    captured: Mapping[str, Any] = field(default_factory=dict)


NO_HISTORY = History()


Document = Mapping[str, Any]

#: From here on a change is worth a look, and is large (Siddiqi 2006, as above).
MODERATE_SHIFT = 0.1
LARGE_SHIFT = 0.25

#: Values whose shares changed most that are listed for each column.
_LISTED_VALUES = 5


@dataclass(frozen=True, slots=True)
class ColumnDifference:
    """How one column differs between two datasets.

    Parameters
    ----------
    psi : float or None
        Population stability index; None when there is nothing to compare.
    verdict : {'stable', 'moderate', 'large', 'unknown'}
        What it is commonly taken to mean.
    missing_share : tuple of float
        Before and after.
    mean : tuple of float or None, default=None
        Before and after, of numbers.
    shares : tuple of mapping
        Of words: ``value``, ``before`` and ``after``, the largest changes first; none of a sensitive column.
    """

    name: str
    type: str
    psi: float | None
    verdict: str
    missing_share: tuple[float, float]
    mean: tuple[float | None, float | None] | None = None
    shares: tuple[Mapping[str, Any], ...] = ()


def compare_datasets(before: Document, after: Document) -> dict[str, Any]:
    """Compare two datasets.

    Parameters
    ----------
    before, after : mapping
        Each with ``manifest``, ``profile`` and ``schema``, as they are stored.

    Returns
    -------
    dict
        ``schema`` (``kind`` and ``details``), ``volume``, ``target`` (shares of the classes) and ``columns`` (the
        largest shift first), as plain JSON.
    """
    change = compare_schemas(TableSchema.from_dict(before["schema"]), TableSchema.from_dict(after["schema"]))
    later = {column["name"]: column for column in after["profile"]["columns"]}
    columns = [
        compare_columns(column, later[column["name"]])
        for column in before["profile"]["columns"]
        if column["name"] in later
    ]
    columns.sort(key=lambda column: (-(column.psi if column.psi is not None else -1.0), column.name))
    return {
        "schema": {"kind": change.kind, "details": list(change.details)},
        "volume": _volume(before, after),
        "target": _target(before["profile"], after["profile"]),
        "columns": [asdict(column) for column in columns],
    }


def compare_columns(before: Document, after: Document) -> ColumnDifference:
    """Compare a column of two profiles."""
    psi = None
    shares: Sequence[Mapping[str, Any]] = ()
    if "bins" in before and "histogram" in after:
        psi = _shift_of_numbers(before, after)
    elif "top" in before and "top" in after:
        psi = _shift_of_words(before, after)
        shares = () if before["sensitive"] or after["sensitive"] else _changed_shares(before, after)
    means = (before.get("mean"), after.get("mean"))
    return ColumnDifference(
        name=before["name"],
        type=before["type"] if before["type"] == after["type"] else f"{before['type']}, then {after['type']}",
        psi=psi,
        verdict=verdict(psi),
        missing_share=(before["missing_share"], after["missing_share"]),
        mean=means if means != (None, None) else None,
        shares=tuple(shares),
    )


def verdict(psi: float | None) -> str:
    """Return what a population stability index is commonly taken to mean."""
    if psi is None:
        return "unknown"
    if psi >= LARGE_SHIFT:
        return "large"
    return "moderate" if psi >= MODERATE_SHIFT else "stable"


def population_stability_index(before: Sequence[float], after: Sequence[float]) -> float | None:
    """Return how far one distribution of counts is from another; 0 for the same shares.

    Parameters
    ----------
    before, after : sequence of float
        Rows in each cell, in the same order.

    Returns
    -------
    float or None
        None when one of them holds no rows.
    """
    counts = [np.asarray(side, dtype=np.float64) for side in (before, after)]
    if any(side.sum() <= 0 for side in counts):
        return None
    p, q = (np.maximum(side, 0.5) / np.maximum(side, 0.5).sum() for side in counts)
    return float(np.sum((p - q) * np.log(p / q)))


def cumulative_count(profile: Document, points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return about how many values of a profiled column are less than each point.

    Exact at the profile's own edges, which are the values that many rows have; linear in between.
    """
    histogram, bins = profile["histogram"], profile["bins"]
    total = float(sum(bins["counts"]))
    known: dict[float, float] = {}
    below = float(histogram["below"])
    for edge, count in zip(histogram["edges"], [*histogram["counts"], 0], strict=True):
        known[edge] = below
        below += count
    # The last bar holds its upper edge, and a bin does not: where both know a point, the bin is exact.
    for edge, count in zip(bins["edges"], np.cumsum(bins["counts"])[:-1], strict=True):
        known[edge] = float(count)
    edges = np.array(sorted(known))
    counts = np.maximum.accumulate(np.array([known[edge] for edge in edges.tolist()]))
    return np.asarray(np.interp(points, edges, counts, left=0.0, right=total), dtype=np.float64)


def _shift_of_numbers(before: Document, after: Document) -> float | None:
    edges = np.array(before["bins"]["edges"], dtype=np.float64)
    total = float(sum(after["bins"]["counts"]))
    counts = np.diff([0.0, *cumulative_count(after, edges).tolist(), total])
    cells_before = [*before["bins"]["counts"], before["missing"]]
    cells_after = [*counts.tolist(), after["missing"]]
    return population_stability_index(*_without_empty(cells_before, cells_after))


def _shift_of_words(before: Document, after: Document) -> float | None:
    counted = [{entry["value"]: entry["count"] for entry in side["top"]} for side in (before, after)]
    if min(before["distinct"], after["distinct"]) > 2 * max(len(before["top"]), 1):
        return None  # nearly every row has another value: the commonest say nothing
    # Only the first dataset's commonest values have cells: what else there is belongs together, as on the other side.
    words = list(counted[0])
    cells_before = [*counted[0].values(), before["other"], before["missing"]]
    cells_after = [*_counts_of(words, counted[0], counted[1], before, after), after["missing"]]
    return population_stability_index(*_without_empty(cells_before, cells_after))


def _counts_of(
    words: Sequence[str], listed: Mapping[str, int], counts: Mapping[str, int], before: Document, after: Document
) -> list[float]:
    """Return the later rows of each word, and of all others.

    A word that is not among the later dataset's commonest may be anywhere in its rest. It counts as often there as
    its share before would have it, as far as the rest allows: so the index is too small rather than made up.
    """
    rest = float(after["other"]) + sum(count for word, count in counts.items() if word not in listed)
    rarest = min(counts.values(), default=0)
    ratio = _rows(after) / max(1, _rows(before))
    found: list[float] = []
    for word in words:
        count = float(counts.get(word, 0))
        if word not in counts and after["other"]:
            count = min(listed[word] * ratio, float(rarest), float(after["other"]), rest)
            rest -= count
        found.append(count)
    return [*found, rest]


def _rows(column: Document) -> int:
    return int(sum(entry["count"] for entry in column["top"]) + column["other"] + column["missing"])


def _changed_shares(before: Document, after: Document) -> list[Mapping[str, Any]]:
    counted = [{entry["value"]: entry["count"] for entry in side["top"]} for side in (before, after)]
    rows = [
        max(1, sum(side.values()) + document["other"]) for side, document in zip(counted, (before, after), strict=True)
    ]
    changes = [
        {"value": word, "before": counted[0].get(word, 0) / rows[0], "after": counted[1].get(word, 0) / rows[1]}
        for word in dict.fromkeys([*counted[0], *counted[1]])
    ]
    changes.sort(key=lambda change: (-abs(change["after"] - change["before"]), change["value"]))
    return [change for change in changes[:_LISTED_VALUES] if change["before"] != change["after"]]


def _without_empty(before: Sequence[float], after: Sequence[float]) -> tuple[list[float], list[float]]:
    """Leave out the cells that neither side has rows in."""
    kept = [(one, other) for one, other in zip(before, after, strict=True) if one or other]
    return [one for one, _ in kept], [other for _, other in kept]


def _volume(before: Document, after: Document) -> dict[str, Any]:
    pairs = {"rows": ("rows",), "columns": ("columns",), "quarantined_rows": ("row_counts", "quarantined")}
    volume: dict[str, Any] = {
        name: [_at(side["manifest"], path) for side in (before, after)] for name, path in pairs.items()
    }
    rows = volume["rows"]
    return volume | {"row_ratio": rows[1] / rows[0] if rows[0] else None}


def _at(document: Any, path: Sequence[str]) -> Any:
    for name in path:
        document = document[name]
    return document


def _target(before: Document, after: Document) -> dict[str, Any]:
    classes = [side["target"].get("classes") or {} for side in (before, after)]
    totals = [max(1, sum(side.values())) for side in classes]
    return {
        "name": after["target"]["name"],
        "shares": [
            {"value": name, "before": classes[0].get(name, 0) / totals[0], "after": classes[1].get(name, 0) / totals[1]}
            for name in dict.fromkeys([*classes[0], *classes[1]])
        ],
    }


#: Added to every cell, so that an empty one is no infinite shift.
_PSEUDO_COUNT = 0.5
#: With fewer rows on a side the index says little.
MIN_ROWS = 100

Counts = npt.NDArray[np.float64]


def stability_index(reference: Counts, present: Counts) -> float:
    """Return the population stability index of two count vectors over the same cells."""
    p = (reference + _PSEUDO_COUNT) / (reference + _PSEUDO_COUNT).sum()
    q = (present + _PSEUDO_COUNT) / (present + _PSEUDO_COUNT).sum()
    return float(np.sum((q - p) * np.log(q / p)))


def find_shift(reference: Mapping[str, Any], present: Mapping[str, Any], threshold: float) -> Iterator[Finding]:
    """Yield the columns of a dataset that shifted from the dataset before.

    Parameters
    ----------
    reference, present : mapping
        Two profiles; empty where there is none.
    threshold : float
        Index past which a column is said to have shifted.
    """
    for name, index in stability_indices(reference, present).items():
        if index > threshold:
            message = (
                f"the values of {name!r} are distributed otherwise than in the dataset before: population stability "
                f"index {index:.2f}, where {threshold:g} is taken for a shift"
            )
            yield warning("shift", message, name)


def find_skew(training: Mapping[str, Any], captured: Mapping[str, Any], threshold: float) -> Iterator[Finding]:
    """Yield the features that are asked about otherwise than they were learnt from.

    Parameters
    ----------
    training, captured : mapping
        Profile of the training data, and of the rows captured while serving.
    threshold : float
        Index past which a column is said to be skewed.
    """
    features = {column["name"] for column in training.get("columns", []) if column["role"] == "feature"}
    for name, index in stability_indices(training, captured).items():
        if name in features and index > threshold:
            message = (
                f"the model is asked about other values of {name!r} than this dataset has: population stability index "
                f"{index:.2f}, where {threshold:g} is taken for a skew"
            )
            yield warning("skew", message, name)


def stability_indices(reference: Mapping[str, Any], present: Mapping[str, Any]) -> dict[str, float]:
    """Return the index of every column that both profiles describe in the same way; whole texts hardly come twice."""
    if min(reference.get("rows", 0), present.get("rows", 0)) < MIN_ROWS:
        return {}
    later = {column["name"]: column for column in present["columns"]}
    indices = {}
    for column in reference["columns"]:
        other = later.get(column["name"])
        if other is None or column["role"] in ("identifier", "ignored") or other["role"] != column["role"]:
            continue
        if "text" in (column.get("type"), other.get("type")):
            continue
        counts = _paired_counts(column, other)
        if counts is not None:
            indices[column["name"]] = stability_index(*counts)
    return indices


def _paired_counts(one: Mapping[str, Any], other: Mapping[str, Any]) -> tuple[Counts, Counts] | None:
    """Return two columns' counts over the same cells, missing values being one more."""
    if "top" in one and "top" in other:
        names = list(dict.fromkeys(word["value"] for word in (*one["top"], *other["top"])))
        return _word_counts(one, names), _word_counts(other, names)
    if "bins" in one and "histogram" in other:
        edges = np.array(one["bins"]["edges"], dtype=np.float64)
        if not len(edges):
            return None
        expected = [*one["bins"]["counts"], one["missing"]]
        return np.array(expected, dtype=np.float64), np.array([*_rebinned(other, edges), other["missing"]])
    return None


def _word_counts(column: Mapping[str, Any], names: list[str]) -> Counts:
    counts = {word["value"]: word["count"] for word in column["top"]}
    listed = [counts.get(name, 0) for name in names]
    return np.array([*listed, column.get("other", 0), column["missing"]], dtype=np.float64)


def _rebinned(column: Mapping[str, Any], edges: Counts) -> Counts:
    """Estimate how many values lie between other edges, taking those within a bin for evenly spread."""
    own = np.array(column["bins"]["edges"], dtype=np.float64)
    counts = np.array(column["bins"]["counts"], dtype=np.float64)
    lowest, highest = _ends(column, own)
    positions = np.concatenate([[lowest], own, [highest]])
    cumulative = np.concatenate([[0.0], np.cumsum(counts)])
    steps, first = np.unique(positions, return_index=True)
    below = np.interp(edges, steps, cumulative[first], left=0.0, right=float(counts.sum()))
    return np.diff(np.concatenate([[0.0], below, [counts.sum()]]))


def _ends(column: Mapping[str, Any], own: Counts) -> tuple[float, float]:
    """Return the smallest and the largest value; dates have theirs in the histogram, in seconds."""
    low, high = column["minimum"], column["maximum"]
    if isinstance(low, str):
        shown = column["histogram"]["edges"]
        low, high = shown[0], shown[-1]
    ends = np.array([float(low), float(high), *own])  # a column of one value has no edges of its own
    return float(ends.min()), float(ends.max())
