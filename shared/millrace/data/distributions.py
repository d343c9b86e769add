"""Distributions: histograms, quantiles and outliers of numbers, counts of words; what profiles are made of."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from millrace.data.findings import shorten
from millrace.data.words import Parts, count_words

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
TOP_VALUES = 20
MAX_VALUE_LENGTH = 200

#: Bars of a histogram.
MAX_BARS = 24
MIN_BARS = 5
#: An integer column that spans so many values has a bar for each.
MAX_INTEGER_BARS = 32
#: Below this, a number and a half is exact.
_EXACT_HALVES = 2.0**51
#: Cells of the bins that later data is compared with, each with about the same number of rows.
COMPARISON_BINS = 10
#: Tukey's fences for outliers, and for what is so far out that a histogram of the rest shows more.
FENCE = 1.5
FAR_FENCE = 3.0

Floats = npt.NDArray[np.float64]


def distribution_of_numbers(known: Floats, averaged: Floats | None, *, whole: bool) -> dict[str, Any]:
    """Describe numbers, none of them missing.

    Parameters
    ----------
    known : float64 array of shape (n_rows,)
        At least one.
    averaged : float64 array of shape (n_rows,) or None
        What each bar's average is taken of (see :class:`TargetValues`), NaN where it is missing.
    whole : bool
        Whether they are integers, which bars should not cut.

    Returns
    -------
    dict
        ``distinct``, ``minimum``, ``maximum``, ``mean``, ``standard_deviation``, ``zeros``, ``quantiles``,
        ``outliers``, ``histogram`` (``edges``, one ``counts`` fewer, rows ``below`` and ``above`` them,
        ``target_means``) and ``bins`` (inner ``edges``, one ``counts`` more; a value on an edge is above it).
    """
    ordered = np.sort(known)
    quantiles = _quantiles(ordered)
    lower, upper = _fences(quantiles["0.25"], quantiles["0.75"], FENCE)
    below, above = int(np.searchsorted(ordered, lower)), len(ordered) - int(np.searchsorted(ordered, upper, "right"))
    return {
        "distinct": 1 + int(np.count_nonzero(ordered[1:] != ordered[:-1])),
        "minimum": float(ordered[0]),
        "maximum": float(ordered[-1]),
        "mean": float(known.mean()),
        "standard_deviation": float(known.std()),
        "zeros": int(np.count_nonzero(known == 0)),
        "quantiles": quantiles,
        "outliers": {"lower": lower, "upper": upper, "below": below, "above": above, "count": below + above},
        "histogram": _histogram(known, _bar_edges(ordered, quantiles, whole=whole), averaged),
        "bins": _comparison_bins(ordered),
    }


def distribution_of_words(known: npt.NDArray[Any], averaged: Floats | None) -> dict[str, Any]:
    """Describe words, none of them missing.

    Returns
    -------
    dict
        ``distinct``, ``singletons`` (values that occur once), ``top`` (``value``, ``count``, ``target_mean``) with the
        commonest first, ``other`` (rows of all other values), and ``length`` in characters.
    """
    codes, distinct = pd.factorize(known)
    counts = np.bincount(codes, minlength=len(distinct))
    means = _means(codes, len(distinct), averaged)
    shown = _commonest(distinct, counts)
    top: list[dict[str, Any]] = [
        {"value": shorten(str(distinct[i]), MAX_VALUE_LENGTH), "count": int(counts[i])}
        | ({} if means is None else {"target_mean": means[i]})
        for i in shown
    ]
    lengths = np.array([len(value) for value in distinct.tolist()], dtype=np.int64)
    return {
        "distinct": len(distinct),
        "singletons": int(np.count_nonzero(counts == 1)),
        "top": top,
        "other": len(known) - int(counts[shown].sum()),
        "length": {
            "minimum": int(lengths.min()) if len(lengths) else None,
            "mean": float(np.average(lengths, weights=counts)) if len(lengths) else None,
            "maximum": int(lengths.max()) if len(lengths) else None,
        },
    }


def distribution_of_text(parts: Parts, averaged: Floats | None) -> dict[str, Any]:
    """Describe words of which there may be too many to hold, as :func:`distribution_of_words` does.

    Parameters
    ----------
    parts : callable
        Returns the column, as strings, some rows at a time; missing ones are left out.
    averaged : float64 array of shape (n_rows,) or None
        As for :func:`distribution_of_words`: of the rows that have a word.
    """
    found = count_words(parts, TOP_VALUES)
    top: list[dict[str, Any]] = []
    for word, count, key in found.top:
        entry: dict[str, Any] = {"value": shorten(word, MAX_VALUE_LENGTH), "count": count}
        if averaged is not None:
            values = averaged[found.hashes == key]
            known = values[~np.isnan(values)]
            entry["target_mean"] = float(known.mean()) if len(known) else None
        top.append(entry)
    least, mean, greatest = found.lengths or (None, None, None)
    return {
        "distinct": found.distinct,
        "singletons": found.singletons,
        "top": top,
        "other": found.rows - sum(count for _, count, _ in found.top),
        "length": {"minimum": least, "mean": mean, "maximum": greatest},
    }


def _commonest(distinct: npt.NDArray[Any], counts: npt.NDArray[np.int64]) -> list[int]:
    """Return the commonest values by count and then alphabet; among too many equals, the first that appeared."""
    chosen = np.argsort(-counts, kind="stable")[:TOP_VALUES].tolist()
    return sorted(chosen, key=lambda i: (-int(counts[i]), str(distinct[i])))


def _quantiles(ordered: Floats) -> dict[str, float]:
    # Linear interpolation, as numpy's default, but on values that are sorted already.
    positions = np.array(QUANTILES) * (len(ordered) - 1)
    left = np.floor(positions).astype(np.int64)
    right = np.minimum(left + 1, len(ordered) - 1)
    values = ordered[left] + (ordered[right] - ordered[left]) * (positions - left)
    return {str(level): float(value) for level, value in zip(QUANTILES, values, strict=True)}


def _fences(first: float, third: float, factor: float) -> tuple[float, float]:
    """Return the limits beyond which a value is an outlier (Tukey, "Exploratory Data Analysis", 1977)."""
    spread = third - first
    return first - factor * spread, third + factor * spread


def _bar_edges(ordered: Floats, quantiles: dict[str, float], *, whole: bool) -> Floats:
    low, high = _shown_range(ordered, quantiles)
    # Rice's rule: twice the cube root of the number of values.
    bars = int(np.clip(np.ceil(2 * np.cbrt(len(ordered))), MIN_BARS, MAX_BARS))
    if whole and max(abs(low), abs(high)) < _EXACT_HALVES:
        low, high = np.floor(low), np.ceil(high)
        span = int(high - low) + 1
        width = 1 if span <= MAX_INTEGER_BARS else -(-span // bars)
        return np.asarray(low - 0.5 + width * np.arange(-(-span // width) + 1), dtype=np.float64)
    edges = np.linspace(low, high, bars + 1)
    if bool(np.all(edges[1:] > edges[:-1])):
        return edges
    # One value, or values too close to be told apart by so many edges: one bar around them.
    margin = max(0.5, abs(low) * 1e-6)
    return np.array([low - margin, high + margin])


def _shown_range(ordered: Floats, quantiles: dict[str, float]) -> tuple[float, float]:
    """Leave out what is so far out that all the rest would be one bar."""
    minimum, maximum = float(ordered[0]), float(ordered[-1])
    low, high = _fences(quantiles["0.25"], quantiles["0.75"], FAR_FENCE)
    if low == high:
        low, high = quantiles["0.01"], quantiles["0.99"]
    low, high = max(low, minimum), min(high, maximum)
    return (low, high) if low < high else (minimum, maximum)


def _histogram(known: Floats, edges: Floats, averaged: Floats | None) -> dict[str, Any]:
    bars = len(edges) - 1
    # The last bar holds its upper edge too, as in numpy.histogram.
    cells = np.searchsorted(edges, known, "right")
    cells[known == edges[-1]] = bars
    counts = np.bincount(cells, minlength=bars + 2)
    described = {
        "edges": edges.tolist(),
        "counts": counts[1:-1].tolist(),
        "below": int(counts[0]),
        "above": int(counts[-1]),
    }
    means = _means(cells, bars + 2, averaged)
    return described if means is None else described | {"target_means": means[1:-1]}


def _means(cells: npt.NDArray[np.int64], size: int, averaged: Floats | None) -> list[float | None] | None:
    if averaged is None:
        return None
    known = ~np.isnan(averaged)
    counts = np.bincount(cells[known], minlength=size)
    sums = np.bincount(cells[known], weights=averaged[known], minlength=size)
    return [float(total / count) if count else None for total, count in zip(sums, counts, strict=True)]


def _comparison_bins(ordered: Floats) -> dict[str, Any]:
    """Cut numbers at their deciles; a value that so many rows have that it is one has a cell of its own."""
    levels = np.linspace(0.0, 1.0, COMPARISON_BINS + 1)[1:-1]
    deciles = np.unique(ordered[np.round(levels * (len(ordered) - 1)).astype(np.int64)])
    after = np.searchsorted(ordered, deciles, "right")
    heavy = (after - np.searchsorted(ordered, deciles)) * COMPARISON_BINS >= len(ordered)
    following = ordered[after[heavy & (after < len(ordered))]]
    edges = np.unique([*deciles, *following])
    edges = edges[edges > ordered[0]]
    positions = [0, *np.searchsorted(ordered, edges).tolist(), len(ordered)]
    return {"edges": edges.tolist(), "counts": np.diff(positions).tolist()}
