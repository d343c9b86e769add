"""Shift: how far the distribution of each column moved from one summary to another.

The population stability index of two distributions over the same cells is the sum of ``(p - q) ln(p / q)`` (Siddiqi
2006, *Credit Risk Scorecards*, p. 136). Both sides are profiles as :mod:`millrace.data.profiling` makes them: of two
datasets, or of the training data and of what was captured while serving.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.data.findings import Finding, warning

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
