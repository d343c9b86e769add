"""Reference statistics: what a model's training data looked like, for monitoring to compare traffic with.

Plain numbers that any function can compare with, without reading a table: of every feature and the target, how many
values are missing, and shares of the rows in cells. The cells of a number are cut at the training data's own deciles,
so that an index such as the population stability index (Siddiqi 2006, *Credit Risk Scorecards*, p. 136) has no cell
that is empty by nature.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.features import MISSING_STRING, missing_mask
from millrace.histograms.bins import FINE_BINS, CodedWords, code_words, quantile_bins
from millrace.histograms.tables import Reference, Values, sketch_rows
from millrace.schema import Column, TableSchema
from millrace.text import count_tokens

REFERENCE_VERSION = 2
QUANTILES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
#: Cells that a number's range is cut into.
BINS = 10
#: Values of a category that have a share of their own.
MAX_REFERENCE_CATEGORIES = 100


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
        above it. Their ``bins`` are cut finer, and have the ``sums`` of the values in them too. ``dependence`` has the
        sums of the features' scores and of their products (:mod:`millrace.histograms.dependence`), sensitive features
        left out.
    """
    classes = bool(schema.classes)
    # Words are hashed once, for their shares and for how they go together with other features.
    known = {column.name: _countable(column, columns[column.name]) for column in schema.features}
    document = {
        "reference_version": REFERENCE_VERSION,
        "split": "train",
        "rows": len(target),
        "task": schema.task,
        "schema_version": schema.version,
        "features": [describe_column(column, known[column.name]) for column in schema.features],
        "target": _describe_classes(schema, target) if classes else describe_column(schema.target, target),
    }
    reference = Reference.read(document, schema)
    sketch = sketch_rows(known, len(target), reference.cells, reference.plan)
    return document | {"dependence": sketch.dependence.to_dict()}


def describe_column(column: Column, values: Values) -> dict[str, Any]:
    """Describe one column's typed values."""
    if isinstance(values, CodedWords) or values.dtype.kind not in "fM":
        words = values if isinstance(values, CodedWords) else code_words(values)
        counts = dict(zip(map(str, words.values), words.counts().tolist(), strict=True))
        missing = counts.pop(MISSING_STRING, 0)
        return _head(column, missing, len(words)) | _shares(counts, len(words))
    absent = missing_mask(values)
    missing = int(np.count_nonzero(absent))
    head = _head(column, missing, len(values))
    known = values[~absent] if missing else values
    if column.type == "boolean" and values.dtype.kind == "f":
        true = int(np.count_nonzero(known == 1.0))
        counts = {"true": true, "false": len(known) - true}
        return head | _shares({word: count for word, count in counts.items() if count}, len(values))
    if values.dtype.kind == "M":
        known = known.astype("datetime64[us]").astype(np.int64) / 1e6
    return head | _distribution(known.astype(np.float64, copy=False))


def _countable(column: Column, values: npt.NDArray[Any]) -> Values:
    """Return words with a number each, of texts how many words they have, and other values as they are."""
    if column.type == "text":
        return count_tokens(values)
    return code_words(values) if values.dtype.kind not in "fM" else values


def _head(column: Column, missing: int, rows: int) -> dict[str, Any]:
    return {
        "name": column.name,
        "type": column.type,
        "sensitive": column.sensitive,
        "missing_share": missing / rows if rows else 0.0,
    }


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


def _shares(counts: Mapping[str, int], rows: int) -> dict[str, Any]:
    commonest = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    rest = sum(count for _, count in commonest[MAX_REFERENCE_CATEGORIES:])
    return {
        "shares": {word: count / rows for word, count in commonest[:MAX_REFERENCE_CATEGORIES]},
        "other_share": rest / rows if rows else 0.0,
        "distinct": len(commonest),
    }


def _distribution(known: npt.NDArray[np.float64]) -> dict[str, Any]:
    if not len(known):
        nothing = dict.fromkeys(("minimum", "maximum", "mean", "standard_deviation"))
        empty = {"edges": [], "counts": [0]}
        return nothing | {"quantiles": {}, "histogram": empty, "cells": empty | {"sums": [0.0]}}
    ordered = np.sort(known)
    edges, counts = quantile_bins(ordered, BINS)
    fine_edges, fine_counts = quantile_bins(ordered, FINE_BINS)
    fine_borders = np.cumsum(fine_counts) - fine_counts
    # Edges are values of the column, so no cell but the first can be empty.
    fine_sums = np.where(fine_counts > 0, np.add.reduceat(ordered, fine_borders), 0.0)
    return {
        "minimum": float(ordered[0]),
        "maximum": float(ordered[-1]),
        "mean": float(known.mean()),
        "standard_deviation": float(known.std()),
        "quantiles": _quantiles(ordered),
        "histogram": {"edges": edges.tolist(), "counts": counts.tolist()},
        "cells": {
            "edges": fine_edges.tolist(),
            "counts": fine_counts.tolist(),
            "sums": fine_sums.tolist(),
        },
    }


def _quantiles(ordered: npt.NDArray[np.float64]) -> dict[str, float]:
    """Return the quantiles of sorted values, interpolated as :func:`numpy.quantile` does, which would sort again."""
    places = np.array(QUANTILES) * (len(ordered) - 1)
    below = np.floor(places).astype(np.int64)
    low, high = ordered[below], ordered[np.ceil(places).astype(np.int64)]
    values = low + (high - low) * (places - below)
    return {str(level): float(value) for level, value in zip(QUANTILES, values, strict=True)}


def cell_counts(known: npt.NDArray[np.float64], edges: list[float]) -> list[int]:
    """Count new values in a reference's cells: what monitoring compares with ``histogram.counts``."""
    bins = np.searchsorted(np.array(edges, dtype=np.float64), known, "right")
    counts: list[int] = np.bincount(bins, minlength=len(edges) + 1).tolist()
    return counts
