"""Histograms of tables, and the reference that fixes their bins.

Only histograms of the same reference may be added.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any, Self

import msgspec
import numpy as np
import numpy.typing as npt

from millrace.documents import Document, Record
from millrace.features import count_tokens
from millrace.histograms.bins import (
    Bins,
    CategoryBins,
    Counts,
    FactorizedColumn,
    Floats,
    Histogram,
    NumberBins,
    bounded,
    coarse_groups,
    factorize,
)
from millrace.histograms.correlations import (
    CorrelationSums,
    Score,
    ScoreMatrix,
    ScorePlan,
    category_scores,
    number_score,
)
from millrace.schema import Column, TableSchema

#: Unseen categories that a histogram names.
MAX_UNSEEN = 20
#: Ranges of training by which a number may go on beyond it.
_REACH = 2.0
_ROUNDING = 1e-9  # Of the mean of equal values
#: Categories that have a bin each.
_MAX_CATEGORY_BINS = 100
Values = npt.NDArray[Any] | FactorizedColumn
#: Rows that are counted at a time: the arrays on the way fit the processor's cache, and memory does not grow with rows.
_BLOCK = 32_768


class ColumnHistogram(Histogram, frozen=True, kw_only=True, omit_defaults=True):
    """Histogram and summary of one column."""

    counts: Counts  # known values by bin
    #: Sum of the values in each bin; of shape (0,) for categories.
    sums: Floats = msgspec.field(default_factory=lambda: np.zeros(0))
    missing: int = 0  # Rows without a value, including ``absent``
    absent: int = 0  # Rows without the column
    out_of_range: int = 0  # Numbers outside the range of training, or of the user's rules
    far_out: int = 0  # Of these, numbers that cannot continue what training had
    low: float = float("inf")  # Smallest and greatest number; infinite when there are none
    high: float = float("-inf")
    #: Unseen categories, the most frequent first.
    unseen: dict[str, int] = msgspec.field(default_factory=dict, name="strange")

    @classmethod
    def empty(cls, bins: Bins, *, absent: int = 0) -> Self:
        """Return the histogram of no values, of as many rows as were absent."""
        sums = np.zeros(len(bins) if isinstance(bins, NumberBins) else 0)
        return cls(counts=np.zeros(len(bins), dtype=np.int64), sums=sums, missing=absent, absent=absent)

    @property
    def known(self) -> int:
        """Number of rows with a value."""
        return int(self.counts.sum())

    def _add(self, name: str, first: Any, second: Any) -> Any:
        match name:
            case "low":
                return min(first, second)
            case "high":
                return max(first, second)
            case "unseen":
                return _most_common(Counter(first) + Counter(second)) if second else first
        return super()._add(name, first, second)

    def _subtract(self, name: str, first: Any, second: Any) -> Any:
        match name:
            case "low" | "high":
                return first
            case "unseen":
                return {}
        return super()._subtract(name, first, second)

    def _part(self, name: str, value: Any, share: float) -> Any:
        match name:
            case "low" | "high":
                return value
            case "unseen":
                return {}
            case "sums" if len(value):
                # Of whole rows, so that the mean of each bin stays what it is.
                return self.bin_means() * super()._part("counts", self.counts, share)
        return super()._part(name, value, share)

    def mean(self) -> float | None:
        """Return the mean of the numbers; None for categories and without values."""
        return float(self.sums.sum() / self.known) if len(self.sums) and self.known else None

    def hidden_variance(self, bins: NumberBins) -> float:
        """Return the share of the ranks' variance that lies within bins, where values have no ranks of their own.

        Ties within bins of shares ``p`` take ``sum(p^3)`` of it (Kendall and Gibbons 1990, *Rank Correlation Methods*,
        5th ed., ch. 3). Bins with one value hide nothing.
        """
        return float(np.sum((self.counts[~self.are_single(bins)] / max(1, self.known)) ** 3))

    def are_single(self, bins: NumberBins) -> npt.NDArray[np.bool_]:
        """Return the mask of the bins whose values, if any, all equal the least value that the bin may have."""
        least = np.append([self.low], bins.edges)
        equal = self.bin_means() - least <= _ROUNDING * np.maximum(1.0, np.abs(least))
        return np.asarray(equal | (self.counts == 0))

    def has_few_values(self, bins: Bins) -> bool:
        """Return True for categories, and for numbers whose bins have one value each."""
        if not isinstance(bins, NumberBins):
            return True
        return self.out_of_range == 0 and int(self.counts[~self.are_single(bins)].sum()) == 0

    def bin_means(self) -> Floats:
        """Return the mean of each bin; 0 where it is empty."""
        return np.divide(self.sums, self.counts, out=np.zeros_like(self.sums), where=self.counts > 0)


class TableHistogram(Histogram, frozen=True, kw_only=True):
    """Histograms of the features of some rows, and the sums of their correlations."""

    rows: int
    columns: dict[str, ColumnHistogram]
    correlations: CorrelationSums = msgspec.field(name="dependence")


def count_in_bins(
    columns: Mapping[str, Values], rows: int, bins: Mapping[str, Bins], plan: ScorePlan | None = None
) -> TableHistogram:
    """Count rows in the bins of a reference; columns without bins are ignored, and correlations without a plan.

    Columns are arrays of shape (rows,), typed as in :mod:`millrace.features`, or factorized. Strings may be objects,
    missing where None or empty; a text may be given as its number of words. A feature that is not among them is absent
    from every row.
    """
    plan = plan or ScorePlan([])
    known = {name: columns[name] for name in bins if name in columns}
    blocks = (slice(start, min(rows, start + _BLOCK)) for start in range(0, max(rows, 1), _BLOCK))
    counted = (
        _count_block({name: values[block] for name, values in known.items()}, block.stop - block.start, bins, plan)
        for block in blocks
    )
    return reduce(add, counted)


def _count_block(columns: Mapping[str, Values], rows: int, bins: Mapping[str, Bins], plan: ScorePlan) -> TableHistogram:
    histograms: dict[str, ColumnHistogram] = {}
    scores = ScoreMatrix(plan, rows)
    for name, own in bins.items():
        if name in columns:
            histograms[name], located, known = _count_column(columns[name], own)
            scores.fill(name, located, known, histograms[name].counts)
        else:
            histograms[name] = ColumnHistogram.empty(own, absent=rows)
    return TableHistogram(rows=rows, columns=histograms, correlations=scores.correlation_sums())


#: A column's histogram, the bins of its known values, and the mask of these.
_Counted = tuple[ColumnHistogram, Counts, npt.NDArray[np.bool_]]


def _count_column(values: Values, bins: Bins) -> _Counted:
    if isinstance(bins, CategoryBins):
        return _count_categories(values if isinstance(values, FactorizedColumn) else factorize(values), bins)
    if isinstance(values, FactorizedColumn):
        raise TypeError("categories cannot be counted in the bins of a number")
    if bins.of_text and values.dtype.kind != "f":
        values = count_tokens(values)
    if values.dtype.kind == "M":
        timestamps = values.astype("datetime64[us]")
        values = np.where(np.isnat(timestamps), np.nan, timestamps.astype(np.int64) / 1e6)
    return _count_numbers(values.astype(np.float64, copy=False), bins)


def count_numbers(values: Floats, bins: NumberBins) -> ColumnHistogram:
    """Count one column of numbers in bins."""
    return _count_numbers(values, bins)[0]


def _count_numbers(values: Floats, bins: NumberBins) -> _Counted:
    known = np.isfinite(values)
    numbers = values if known.all() else values[known]
    located = bins.locate(numbers)
    extremes: dict[str, Any] = {}
    if len(numbers):
        low, high = float(numbers.min()), float(numbers.max())
        extremes = {"low": low, "high": high}
        if low < bins.minimum or high > bins.maximum:
            below = int(np.count_nonzero(numbers < bins.minimum))
            extremes["out_of_range"] = below + int(np.count_nonzero(numbers > bins.maximum))
            extremes["far_out"] = below + int(np.count_nonzero(numbers > bins.limit))
    histogram = ColumnHistogram(
        counts=np.bincount(located, minlength=len(bins)),
        sums=np.asarray(np.bincount(located, weights=bounded(numbers), minlength=len(bins)), dtype=np.float64),
        missing=len(values) - len(numbers),
        **extremes,
    )
    return histogram, located, known


def _count_categories(column: FactorizedColumn, bins: CategoryBins) -> _Counted:
    positions = bins.positions(column.values)
    every = positions[column.codes]
    known = every >= 0
    located = every if known.all() else every[known]
    counts = np.bincount(located, minlength=len(bins))
    unseen: Counter[str] = Counter()
    if counts[bins.unseen]:
        for value, position, count in zip(column.values, positions.tolist(), column.counts().tolist(), strict=True):
            if position == bins.unseen and count:
                unseen[str(value)] += count
    missing = len(column) - len(located)
    return ColumnHistogram(counts=counts, missing=missing, unseen=_most_common(unseen)), located, known


def _most_common(unseen: Counter[str]) -> dict[str, int]:
    return dict(unseen.most_common(MAX_UNSEEN))


class BinCounts(Record, frozen=True, kw_only=True, omit_defaults=True):
    """Inner edges of bins, and the counts (and sums) of training's values in them."""

    edges: Floats
    counts: Counts
    sums: Floats | None = None


class ColumnReference(Record, frozen=True, kw_only=True, omit_defaults=True):
    """Distribution of one column in training."""

    name: str
    type: str
    sensitive: bool
    missing_share: float
    #: Of the rows, by category, the most frequent first; None for numbers, dates and texts.
    shares: dict[str, float] | None = None
    other_share: float = 0.0  # of categories that ``shares`` does not list
    distinct: int = 0
    #: Of numbers, of dates in seconds since 1970, and of the word counts of texts; None without values.
    minimum: float | None = None
    maximum: float | None = None
    mean: float | None = None
    standard_deviation: float | None = None
    quantiles: dict[str, float] = {}  # noqa: RUF012  # msgspec copies the default
    histogram: BinCounts | None = None  # ten bins of equal share; a value on an edge belongs to the bin above it
    #: A hundred bins, with sums; None in a reference of an early release.
    fine_histogram: BinCounts | None = msgspec.field(default=None, name="cells")

    def make_bins(self, column: Column | None = None) -> Bins:
        """Return the column's bins; a column of the schema knows every category and the range that a user allows."""
        if self.shares is not None:
            return self._category_bins(self.shares, column)
        rules = column.rules if column else None
        is_date, is_integer = self.type == "datetime", self.type == "integer"
        # A date goes on by itself: only a range that a user states is valid for ever.
        seen = (
            (-np.inf, np.inf)
            if is_date or self.minimum is None or self.maximum is None
            else (self.minimum, self.maximum)
        )
        stated = (rules.minimum, rules.maximum) if rules else (None, None)
        if column and column.ascends:
            seen = (seen[0], np.inf)
        minimum, maximum = (own if rule is None else float(rule) for rule, own in zip(stated, seen, strict=True))
        reach = max(seen[1] - seen[0], float(is_integer)) if np.isfinite(seen).all() else np.inf
        fine = self.finest()
        return NumberBins(
            edges=fine.edges,
            groups=coarse_groups(fine.counts.astype(np.float64)),
            minimum=minimum,
            maximum=maximum,
            center=self.mean or 0.0,
            scale=self.standard_deviation or 1.0,
            of_text=self.type == "text",
            is_date=is_date,
            is_integer=is_integer,
            ascends=bool(column and column.ascends),
            limit=maximum if stated[1] is not None else maximum + _REACH * reach,
        )

    def _category_bins(self, shares: Mapping[str, float], column: Column | None) -> CategoryBins:
        categories = tuple(shares)[:_MAX_CATEGORY_BINS]
        listed = set(column.categories) if column else set()
        # With more values than the reference lists, and a schema that lists none, every other value may be known.
        is_open = bool(self.other_share) and not listed
        return CategoryBins(categories, frozenset((listed | set(shares)) - set(categories)), open=is_open)

    def finest(self) -> BinCounts:
        """Return the finest counts of a number."""
        counts = self.fine_histogram or self.histogram
        if counts is None:
            raise ValueError(f"the reference of {self.name!r} has neither shares nor a histogram")
        return counts

    def count_training(self, bins: Bins, rows: int) -> ColumnHistogram:
        """Return the histogram of the training data."""
        missing = round(self.missing_share * rows)
        if isinstance(bins, CategoryBins):
            shares = list((self.shares or {}).values())
            listed = len(bins.categories)
            known = [*shares[:listed], self.other_share + sum(shares[listed:]), 0.0]
            return ColumnHistogram(
                counts=np.array([round(share * rows) for share in known], dtype=np.int64), missing=missing
            )
        fine = self.finest()
        sums = fine.counts * self._middles(bins) if fine.sums is None else fine.sums
        extremes = {"low": self.minimum, "high": self.maximum} if fine.counts.sum() else {}
        return ColumnHistogram(counts=fine.counts, sums=sums.astype(np.float64), missing=missing, **extremes)  # type: ignore[arg-type]  # with values there are extremes

    def _middles(self, bins: NumberBins) -> Floats:
        borders = np.array([self.minimum or 0.0, *bins.edges, self.maximum or 0.0])
        return np.asarray((borders[:-1] + borders[1:]) / 2.0)


#: Parts of the year in which training's rows are counted apart: half a month each.
PARTS_OF_YEAR = 24
_YEAR_SECONDS = 365.2425 * 86_400.0


def part_of_year(seconds: Floats) -> Floats:
    """Return the position in the year, from 0 to 24, of times in seconds since 1970."""
    return np.asarray(seconds / _YEAR_SECONDS % 1.0 * PARTS_OF_YEAR)


#: Half months that a date must cover: ten months of a year.
_MIN_PARTS_OF_YEAR = 20


def find_parts_of_year(dates: Mapping[str, npt.NDArray[np.datetime64]]) -> tuple[str, Counts] | None:
    """Return the latest date that covers a year, with each row's part of it; 24 of a row without that date.

    The latest date is when a row was made; others, such as a birthday, may be of any time.
    """
    latest = {name: values[~np.isnat(values)].max() for name, values in dates.items() if not np.isnat(values).all()}
    for name in sorted(latest, key=lambda name: latest[name], reverse=True):
        absent = np.isnat(dates[name])
        seconds = dates[name].astype("datetime64[us]").astype(np.int64) / 1e6
        found = np.where(absent, PARTS_OF_YEAR, part_of_year(seconds).astype(np.int64))
        if len(np.unique(found[~absent])) >= _MIN_PARTS_OF_YEAR:
            return name, found
    return None


class TimesOfYear(Record, frozen=True, kw_only=True):
    """Counts of training's rows by the part of the year in which a date of theirs is."""

    date: str  # Name of the column
    #: shape (24, n_bins); known values by part of the year and bin: of numbers the coarse bins.
    columns: dict[str, Counts]

    def near(self, name: str, position: float) -> tuple[Floats, Counts]:
        """Return the counts of the two nearest parts, weighted by distance, and those of the four nearest."""
        counts, middle = self.columns[name], position - 0.5
        first, share = int(np.floor(middle)), middle - np.floor(middle)
        parts = [counts[(first + step) % PARTS_OF_YEAR] for step in (-1, 0, 1, 2)]
        return np.asarray((1.0 - share) * parts[1] + share * parts[2]), np.asarray(sum(parts))


class ReferenceDocument(Document, frozen=True, kw_only=True):
    """The stored ``reference.json`` of a version: distributions of its training data.

    Correlations are those of the features that are not sensitive; None in a reference of an early release.
    """

    rows: int
    task: str
    features: list[ColumnReference]
    target: ColumnReference
    split: str = "train"
    schema_version: int | None = None
    correlations: CorrelationSums | None = msgspec.field(default=None, name="dependence")
    times_of_year: TimesOfYear | None = None  # None where no date covers a year, and in earlier releases


@dataclass(frozen=True, slots=True)
class Reference:
    """The training data of a version, and the bins in which later rows are counted."""

    bins: Mapping[str, Bins]  # by feature
    plan: ScorePlan  # scores whose correlations are compared
    training: TableHistogram
    target: NumberBins | None = None  # of a regression's target
    times_of_year: TimesOfYear | None = None

    @classmethod
    def build(cls, document: ReferenceDocument, schema: TableSchema | None = None) -> Self:
        """Build the bins; the schema of the same version knows every category and the allowed ranges."""
        known = {column.name: column for column in schema.features} if schema else {}
        features = {column.name: column for column in document.features if not column.sensitive}
        bins = {name: column.make_bins(known.get(name)) for name, column in features.items()}
        columns = {name: column.count_training(bins[name], document.rows) for name, column in features.items()}
        plan = _plan_scores(bins, columns, document.rows)
        sums = document.correlations
        if sums is None or len(sums.sums) != len(plan):
            sums = CorrelationSums.empty(len(plan))
        target = document.target.make_bins() if document.task == "regression" else None
        return cls(
            bins=bins,
            plan=plan,
            training=TableHistogram(rows=document.rows, columns=columns, correlations=sums),
            target=target if isinstance(target, NumberBins) else None,
            times_of_year=document.times_of_year,
        )


def comparable_counts(bins: Bins, counts: Counts) -> Counts:
    """Merge counts into bins that have enough rows each for a comparison; unseen categories are left out."""
    return bins.coarse(counts).astype(np.int64) if isinstance(bins, NumberBins) else counts[: bins.unseen]


def _plan_scores(bins: Mapping[str, Bins], columns: Mapping[str, ColumnHistogram], rows: int) -> ScorePlan:
    scores: list[Score] = []
    for name, own in bins.items():
        counts = columns[name].counts
        if isinstance(own, NumberBins):
            score = number_score(name, counts)
            scores += [score] if score else []
        else:
            scores += category_scores(name, own.categories, counts, rows)
    return ScorePlan(scores)
