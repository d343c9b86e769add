"""Reference statistics: what a model's training data looked like, for monitoring to compare traffic with.

Plain numbers that any function can compare with, without reading a table: of every feature and the target, how many
values are missing, and shares of the rows in cells. The cells of a number are cut at the training data's own deciles,
so that an index such as the population stability index (Siddiqi 2006, *Credit Risk Scorecards*, p. 136) has no cell
that is empty by nature.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.features import missing_cells
from millrace.schema import Column, TableSchema
from millrace.sketches.reference import Reference
from millrace.sketches.tables import sketch_rows
from millrace.text import word_counts

REFERENCE_VERSION = 2
QUANTILES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
#: Cells that a number's range is cut into.
CELLS = 10
#: Cells of the finer cut, which distances between whole distributions are measured on.
FINE_CELLS = 100
#: Values of a category that have a share of their own.
MAX_CATEGORIES = 100


def describe_reference(
    schema: TableSchema, columns: Mapping[str, npt.NDArray[Any]], target: npt.NDArray[Any]
) -> dict[str, Any]:
    """Describe a training split.

    Parameters
    ----------
    schema : TableSchema
        Of the model.
    columns : mapping of str to array of shape (n_rows,)
        Typed as in :mod:`millrace.features`, at least every feature.
    target : array of shape (n_rows,)
        int64 class indices, or float64 values for regression.

    Returns
    -------
    dict
        ``reference_version``, ``split``, ``rows``, ``task``, ``features`` and ``target``, as plain JSON. Every column
        has ``name``, ``type``, ``sensitive`` and ``missing_share``. Words and booleans have ``shares`` (of the rows,
        by value, the commonest first), ``other_share`` and ``distinct``. Numbers, dates in seconds since 1970, and
        texts by how many words they have, have ``minimum``, ``maximum``, ``mean``, ``standard_deviation``,
        ``quantiles`` and ``histogram``: inner ``edges`` and one more ``counts``; a value on an edge is in the cell
        above it. Their ``cells`` are cut finer, and have the ``sums`` of the values in them too. ``dependence`` has the
        sums of the features' scores and of their products (:mod:`millrace.sketches.dependence`), sensitive features
        left out.
    """
    classes = bool(schema.classes)
    document = {
        "reference_version": REFERENCE_VERSION,
        "split": "train",
        "rows": len(target),
        "task": schema.task,
        "schema_version": schema.version,
        "features": [describe_column(column, columns[column.name]) for column in schema.features],
        "target": _describe_classes(schema, target) if classes else describe_column(schema.target, target),
    }
    reference = Reference.read(document, schema)
    sketch = sketch_rows(columns, len(target), reference.cells, reference.plan)
    return document | {"dependence": sketch.dependence.to_dict()}


def describe_column(column: Column, values: npt.NDArray[Any]) -> dict[str, Any]:
    """Describe one column's typed values."""
    missing = missing_cells(values)
    known = values[~missing]
    described: dict[str, Any] = {
        "name": column.name,
        "type": column.type,
        "sensitive": column.sensitive,
        "missing_share": float(missing.mean()) if len(values) else 0.0,
    }
    if column.type == "text":
        counts = word_counts(values)
        return described | _distribution(counts[~np.isnan(counts)])
    if column.type == "boolean" and values.dtype.kind == "f":
        return described | _shares(np.where(known == 1.0, "true", "false"), len(values))
    if values.dtype.kind not in "fM":
        return described | _shares(known, len(values))
    if values.dtype.kind == "M":
        known = known.astype("datetime64[us]").astype(np.int64) / 1e6
    return described | _distribution(known.astype(np.float64))


def _describe_classes(schema: TableSchema, target: npt.NDArray[np.int64]) -> dict[str, Any]:
    counts = np.bincount(target[target >= 0], minlength=len(schema.classes))
    rows = max(1, len(target))
    return {
        "name": schema.target.name,
        "type": schema.target.type,
        "sensitive": schema.target.sensitive,
        "missing_share": 0.0,
        "shares": {name: float(count / rows) for name, count in zip(schema.classes, counts, strict=True)},
        "other_share": 0.0,
        "distinct": int(np.count_nonzero(counts)),
    }


def _shares(words: npt.NDArray[Any], rows: int) -> dict[str, Any]:
    counted = Counter(words.tolist())
    commonest = sorted(((str(word), count) for word, count in counted.items()), key=lambda item: (-item[1], item[0]))
    shown = commonest[:MAX_CATEGORIES]
    return {
        "shares": {word: count / rows for word, count in shown},
        "other_share": (len(words) - sum(count for _, count in shown)) / rows if rows else 0.0,
        "distinct": len(counted),
    }


def _distribution(known: npt.NDArray[np.float64]) -> dict[str, Any]:
    if not len(known):
        nothing = dict.fromkeys(("minimum", "maximum", "mean", "standard_deviation"))
        empty = {"edges": [], "counts": [0]}
        return nothing | {"quantiles": {}, "histogram": empty, "cells": empty | {"sums": [0.0]}}
    ordered = np.sort(known)
    edges, borders = _cut(ordered, CELLS)
    fine_edges, fine_borders = _cut(ordered, FINE_CELLS)
    fine_cells = np.repeat(np.arange(len(fine_borders) - 1), np.diff(fine_borders))
    return {
        "minimum": float(ordered[0]),
        "maximum": float(ordered[-1]),
        "mean": float(known.mean()),
        "standard_deviation": float(known.std()),
        "quantiles": {
            str(level): float(value) for level, value in zip(QUANTILES, np.quantile(ordered, QUANTILES), strict=True)
        },
        "histogram": {"edges": edges.tolist(), "counts": np.diff(borders).tolist()},
        "cells": {
            "edges": fine_edges.tolist(),
            "counts": np.diff(fine_borders).tolist(),
            "sums": np.bincount(fine_cells, weights=ordered, minlength=len(fine_borders) - 1).tolist(),
        },
    }


def _cut(ordered: npt.NDArray[np.float64], cells: int) -> tuple[npt.NDArray[np.float64], list[int]]:
    """Cut sorted values at their quantiles: inner edges, and the positions where cells begin and end."""
    positions = np.round(np.linspace(0.0, 1.0, cells + 1)[1:-1] * (len(ordered) - 1)).astype(np.int64)
    edges = np.unique(ordered[positions])
    return edges, [0, *np.searchsorted(ordered, edges, "left").tolist(), len(ordered)]


def cell_counts(known: npt.NDArray[np.float64], edges: list[float]) -> list[int]:
    """Count new values in a reference's cells: what monitoring compares with ``histogram.counts``."""
    cells = np.searchsorted(np.array(edges, dtype=np.float64), known, "right")
    counts: list[int] = np.bincount(cells, minlength=len(edges) + 1).tolist()
    return counts
