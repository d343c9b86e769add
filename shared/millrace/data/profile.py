"""Distributions: histograms, quantiles and outliers of numbers, counts of words; what profiles are made of."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.compute as pc

from millrace.data.association import TargetValues, associate, sample_rows
from millrace.data.findings import shorten
from millrace.data.typed_table import TypedTable, class_texts, is_text, missing_mask, stored_parts
from millrace.data.words import Parts, count_words
from millrace.features import MISSING_STRING
from millrace.schema import Column, TableSchema

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


PROFILE_VERSION = 2


def profile_table(table: TypedTable, sensitive: Collection[str] = ()) -> dict[str, Any]:
    """Describe a dataset's columns and its target.

    Parameters
    ----------
    table : TypedTable
        The accepted rows.
    sensitive : collection of str, default=()
        Columns whose values no report may show; the profile holds them, as the data beside it does, and says so.

    Returns
    -------
    dict
        ``profile_version``, ``rows``, ``complete_rows`` (without a missing value), ``missing_mask``, ``columns`` (see
        below), ``target`` (``name``, ``task``, ``classes`` with their counts, ``positive`` class of a binary one) and
        ``association_rows``. What is not known is null, never NaN.

    Notes
    -----
    Each column has ``name``, ``type``, ``role``, ``nullable``, ``reason``, ``sensitive``, ``missing``,
    ``missing_share``, ``distinct``, and ``association`` with the target (null when there is none). Numbers have what
    :func:`distribution_of_numbers` returns, words and booleans what :func:`distribution_of_words` returns, and dates
    ``minimum``, ``maximum`` and ``quantiles`` as ISO 8601, with ``histogram`` and ``bins`` in seconds since 1970.
    """
    schema = table.schema
    target = TargetValues.of(table)
    rows = sample_rows(len(table))
    sampled = target.take(rows)
    complete = np.ones(len(table), dtype=np.bool_)
    columns = []
    for column in schema.columns:
        described, missing = _describe_text(column, table, target) if _is_long(column) else (None, None)
        measured = None
        if described is None or missing is None:
            values = table.columns[column.name]
            missing = missing_mask(values)
            described = _describe(column, values, missing, target.averaged)
            measured = associate(column, values[rows], sampled) if column.role == "feature" else None
        complete &= ~missing
        described["sensitive"] = column.sensitive or column.name in sensitive
        described["association"] = measured.to_dict() if measured else None
        columns.append(described)
    return {
        "profile_version": PROFILE_VERSION,
        "rows": len(table),
        "complete_rows": int(complete.sum()),
        "missing_cells": sum(column["missing"] for column in columns),
        "columns": columns,
        "target": _describe_target(table),
        "association_rows": len(rows),
    }


def profile_features(schema: TableSchema, columns: Mapping[str, npt.NDArray[Any]], rows: int) -> dict[str, Any]:
    """Describe features alone, without a target, as :func:`profile_table` does.

    Parameters
    ----------
    schema : TableSchema
        The model's.
    columns : mapping of str to array of shape (n_rows,)
        Typed as in :mod:`millrace.features`; features that are not among them are left out.
    rows : int
        How many there are.
    """
    described = [
        _describe(column, columns[column.name], missing_mask(columns[column.name]), None)
        for column in schema.features
        if column.name in columns
    ]
    return {"profile_version": PROFILE_VERSION, "rows": rows, "columns": described}


def _describe_target(table: TypedTable) -> dict[str, Any]:
    schema = table.schema
    classes: dict[str, int] = {}
    if schema.task != "regression":
        names = class_texts(schema.target, schema.classes, table.columns[schema.target.name])
        classes = {name: int(np.sum(names == name)) for name in schema.classes}
    positive = schema.classes[1] if schema.task == "binary" and len(schema.classes) > 1 else None
    return {"name": schema.target.name, "task": schema.task, "classes": classes, "positive": positive}


def _describe(
    column: Column,
    values: npt.NDArray[Any],
    missing: npt.NDArray[np.bool_],
    averaged: npt.NDArray[np.float64] | None,
) -> dict[str, Any]:
    known = values[~missing]
    averaged = None if column.role == "target" or averaged is None else averaged[~missing]
    described = _describe_gaps(column, missing)
    if is_text(column):
        return described | distribution_of_words(known, averaged)
    if column.type == "boolean":
        words = class_texts(column, boolean_words(column), known)
        return described | distribution_of_words(words, averaged)
    if not len(known):
        return described | {"distinct": 0, "minimum": None, "maximum": None, "mean": None, "quantiles": {}}
    if column.type == "datetime":
        seconds = known.astype("datetime64[us]").astype(np.int64) / 1e6
        return described | _moments(distribution_of_numbers(seconds, averaged, whole=False))
    return described | distribution_of_numbers(known, averaged, whole=column.type == "integer")


def _is_long(column: Column) -> bool:
    """Tell whether a column's words may differ in every row."""
    return column.role == "identifier" or (column.type == "text" and column.role != "target")


def _describe_text(
    column: Column, table: TypedTable, target: TargetValues
) -> tuple[dict[str, Any], npt.NDArray[np.bool_]]:
    """Describe words without holding them; also tell which are missing."""
    gaps = [pc.fill_null(pc.equal(part, MISSING_STRING), True) for part in stored_parts(table, column)]
    missing = np.concatenate([np.empty(0, dtype=np.bool_), *(gap.to_numpy(zero_copy_only=False) for gap in gaps)])
    averaged = target.averaged
    if averaged is not None:
        averaged = averaged[~missing]
    text = distribution_of_text(lambda: stored_parts(table, column), averaged)
    return _describe_gaps(column, missing) | text, missing


def _describe_gaps(column: Column, missing: npt.NDArray[np.bool_]) -> dict[str, Any]:
    return {
        "name": column.name,
        "type": column.type,
        "role": column.role,
        "nullable": column.nullable,
        "reason": column.reason,
        "missing": int(missing.sum()),
        "missing_share": float(missing.mean()) if len(missing) else 0.0,
    }


def boolean_words(column: Column) -> tuple[str, ...]:
    """Return a boolean column's words, the false one first, as they are written in the data."""
    written = {word.lower(): word for word in column.categories}
    if not column.true_values or not column.false_values:
        return "false", "true"
    return tuple(written.get(words[0], words[0]) for words in (column.false_values, column.true_values))


def _moments(numbers: dict[str, Any]) -> dict[str, Any]:
    """Keep what says something about dates, and write moments as ISO 8601."""
    return {
        "distinct": numbers["distinct"],
        "minimum": _moment(numbers["minimum"]),
        "maximum": _moment(numbers["maximum"]),
        "quantiles": {level: _moment(value) for level, value in numbers["quantiles"].items()},
        "histogram": numbers["histogram"],
        "bins": numbers["bins"],
    }


def _moment(seconds: float) -> str:
    return str(np.datetime64(round(seconds), "s"))
