"""Reference statistics: distributions of a model's training data, which monitoring compares with traffic.

The bins of a number are cut at the training data's own deciles, so that no bin is empty by nature and an index such as
the population stability index (Siddiqi 2006, *Credit Risk Scorecards*, p. 136) is defined.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from millrace.features import MISSING_STRING, count_tokens, missing_mask
from millrace.histograms.bins import FINE_BINS, FactorizedColumn, NumberBins, factorize, quantile_bins
from millrace.histograms.tables import (
    PARTS_OF_YEAR,
    BinCounts,
    ColumnReference,
    Reference,
    ReferenceDocument,
    TimesOfYear,
    Values,
    comparable_counts,
    count_in_bins,
    find_parts_of_year,
)
from millrace.schema import Column, TableSchema

QUANTILES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
#: Number of bins of a number's range.
BINS = 10
#: Values of a category that have a share of their own.
MAX_REFERENCE_CATEGORIES = 100


def describe_reference(
    schema: TableSchema, columns: Mapping[str, npt.NDArray[Any]], target: npt.NDArray[Any]
) -> ReferenceDocument:
    """Describe a training split from its typed columns, at least every feature.

    The target has int64 class indices, or float64 values for regression.
    """
    # Strings are hashed once, for their shares and for their correlations with other features.
    known = {column.name: _countable(column, columns[column.name]) for column in schema.features}
    document = ReferenceDocument(
        rows=len(target),
        task=schema.task,
        schema_version=schema.version,
        features=[describe_column(column, known[column.name]) for column in schema.features],
        target=_describe_classes(schema, target) if schema.classes else describe_column(schema.target, target),
    )
    reference = Reference.build(document, schema)
    training = count_in_bins(known, len(target), reference.bins, reference.plan)
    times_of_year = _count_times_of_year(schema, columns, known, reference)
    return replace(document, correlations=training.correlations, times_of_year=times_of_year)


def _count_times_of_year(
    schema: TableSchema, columns: Mapping[str, npt.NDArray[Any]], known: Mapping[str, Values], reference: Reference
) -> TimesOfYear | None:
    """Count features by the half month of the latest date that covers a year, if there is one."""
    dates = [column.name for column in schema.features if column.type == "datetime" and column.name in reference.bins]
    dated = find_parts_of_year({name: columns[name] for name in dates})
    if dated is None:
        return None
    name, parts = dated
    compared = {
        column: bins for column, bins in reference.bins.items() if not isinstance(bins, NumberBins) or not bins.goes_on
    }
    order = np.argsort(parts, kind="stable")
    ends = np.searchsorted(parts[order], np.arange(PARTS_OF_YEAR + 1))
    ordered = {column: _take(known[column], order) for column in compared}
    counted = [
        count_in_bins({column: values[begin:end] for column, values in ordered.items()}, end - begin, compared)
        for begin, end in pairwise(ends.tolist())
    ]
    return TimesOfYear(
        date=name,
        columns={
            column: np.stack([comparable_counts(bins, one.columns[column].counts) for one in counted])
            for column, bins in compared.items()
        },
    )


def _take(values: Values, rows: npt.NDArray[np.int64]) -> Values:
    return FactorizedColumn(values.values, values.codes[rows]) if isinstance(values, FactorizedColumn) else values[rows]


def describe_column(column: Column, values: Values) -> ColumnReference:
    """Describe one column's typed values."""
    if isinstance(values, FactorizedColumn) or values.dtype.kind not in "fM":
        strings = values if isinstance(values, FactorizedColumn) else factorize(values)
        counts = dict(zip(map(str, strings.values), strings.counts().tolist(), strict=True))
        missing = counts.pop(MISSING_STRING, 0)
        return _describe_shares(column, missing, counts, len(strings))
    absent = missing_mask(values)
    missing = int(np.count_nonzero(absent))
    known = values[~absent] if missing else values
    if column.type == "boolean" and values.dtype.kind == "f":
        true = int(np.count_nonzero(known == 1.0))
        counts = {"true": true, "false": len(known) - true}
        return _describe_shares(column, missing, {name: count for name, count in counts.items() if count}, len(values))
    if values.dtype.kind == "M":
        known = known.astype("datetime64[us]").astype(np.int64) / 1e6
    return _describe_numbers(column, missing, known.astype(np.float64, copy=False), len(values))


def _countable(column: Column, values: npt.NDArray[Any]) -> Values:
    """Return factorized strings, the word counts of texts, and other values as they are."""
    if column.type == "text":
        return count_tokens(values)
    return factorize(values) if values.dtype.kind not in "fM" else values


def _describe_classes(schema: TableSchema, target: npt.NDArray[np.int64]) -> ColumnReference:
    counts = np.bincount(target[target >= 0], minlength=len(schema.classes))
    rows = max(1, len(target))
    return ColumnReference(
        name=schema.target.name,
        type=schema.target.type,
        sensitive=schema.target.sensitive,
        missing_share=0.0,
        shares={name: float(count / rows) for name, count in zip(schema.classes, counts, strict=True)},
        distinct=int(np.count_nonzero(counts)),
    )


def _describe_shares(column: Column, missing: int, counts: Mapping[str, int], rows: int) -> ColumnReference:
    commonest = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    rest = sum(count for _, count in commonest[MAX_REFERENCE_CATEGORIES:])
    return ColumnReference(
        name=column.name,
        type=column.type,
        sensitive=column.sensitive,
        missing_share=missing / rows if rows else 0.0,
        shares={category: count / rows for category, count in commonest[:MAX_REFERENCE_CATEGORIES]},
        other_share=rest / rows if rows else 0.0,
        distinct=len(commonest),
    )


def _describe_numbers(column: Column, missing: int, known: npt.NDArray[np.float64], rows: int) -> ColumnReference:
    described = ColumnReference(
        name=column.name,
        type=column.type,
        sensitive=column.sensitive,
        missing_share=missing / rows if rows else 0.0,
        histogram=BinCounts(edges=np.zeros(0), counts=np.zeros(1, dtype=np.int64)),
        fine_histogram=BinCounts(edges=np.zeros(0), counts=np.zeros(1, dtype=np.int64), sums=np.zeros(1)),
    )
    if not len(known):
        return described
    ordered = np.sort(known)
    edges, counts = quantile_bins(ordered, BINS)
    fine_edges, fine_counts = quantile_bins(ordered, FINE_BINS)
    fine_borders = np.cumsum(fine_counts) - fine_counts
    # Edges are values of the column, so no bin but the first can be empty.
    fine_sums = np.where(fine_counts > 0, np.add.reduceat(ordered, fine_borders), 0.0)
    return replace(
        described,
        minimum=float(ordered[0]),
        maximum=float(ordered[-1]),
        mean=float(known.mean()),
        standard_deviation=float(known.std()),
        quantiles=dict(zip(map(str, QUANTILES), np.quantile(ordered, QUANTILES).tolist(), strict=True)),
        histogram=BinCounts(edges=edges, counts=counts),
        fine_histogram=BinCounts(edges=fine_edges, counts=fine_counts, sums=fine_sums),
    )
