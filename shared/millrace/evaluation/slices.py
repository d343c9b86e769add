"""Slices: the model's quality on parts of the holdout, declared ones and the worst that a search finds.

The worst of many slices looks worse than it is: of two hundred parts of a random table, one is bad by chance. So the
validation split selects the worst slices, over every value of every feature and every pair of values, and the holdout,
which had no part in the selection, measures them. The intervals are Bonferroni's for the slices that are reported.

A slice's excess is its mean loss minus that of the other rows, with Welch's interval. A slice is worse when all of the
interval is above zero and the excess is material: of a perfect model no slice is.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise, product
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.evaluation.holdout import measure
from millrace.evaluation_results import SliceResult
from millrace.features import EPOCH, FeatureMatrix, missing_mask
from millrace.metrics.bootstrap import FloatArray
from millrace.metrics.confidence_intervals import OtherRows
from millrace.quantities import format_number
from millrace.schema import DATE_PARTS, MASK, Column, TableSchema
from millrace.spec.training import RangeSpec, SliceSpec

Columns = Mapping[str, npt.NDArray[Any]]
RowMask = npt.NDArray[np.bool_]

#: Values of a column that make a slice each; rarer ones do not.
MAX_VALUES = 12
#: Distinct whole numbers that a column may have to be divided by value.
MAX_WHOLE_VALUES = 6
QUANTILE_BINS = 4
MISSING = "missing"

#: Slices that the search reports.
MAX_FOUND = 5
#: Features whose pairs are searched.
MAX_PAIRED_FEATURES = 20
#: Declared slices that are measured, over all ``by``.
MAX_DECLARED = 100
MAX_SEARCHED_ROWS = 50_000
#: A found slice that shares more than this of its rows with a worse one is redundant.
MAX_SHARED_ROWS = 0.7
#: Standard errors by which a slice must be worse on the validation split to be reported.
MIN_SCORE = 2.0
#: Least material excess, as shares of the other rows' loss and of the trivial baseline's.
MIN_EXCESS_OF_REST, MIN_EXCESS_OF_BASELINE = 0.1, 0.02


@dataclass(frozen=True, slots=True)
class SliceCondition:
    """A condition on one column: allowed strings, a range, or a missing value.

    ``values`` are strings, of which the empty one is a missing value, with labels to be ``shown``. A range includes
    ``low``, and ``high`` where it is ``closed``; where ``is_date``, it is of seconds since 1970.
    """

    column: str
    values: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    closed: bool = True
    is_date: bool = False
    missing: bool = False

    def mask(self, columns: Columns) -> RowMask:
        """Return the rows that meet it; none where the column is absent."""
        column = columns.get(self.column)
        if column is None:
            return np.zeros(len(next(iter(columns.values()), np.empty(0))), dtype=np.bool_)
        if self.missing:
            return missing_mask(column)
        if self.values:
            return np.asarray(np.isin(as_strings(column), self.values), dtype=np.bool_)
        numbers = as_numbers(column)
        inside = ~np.isnan(numbers)
        with np.errstate(invalid="ignore"):
            if self.low is not None:
                inside &= numbers >= self.low
            if self.high is not None:
                inside &= numbers <= self.high if self.closed else numbers < self.high
        return np.asarray(inside, dtype=np.bool_)

    def describe(self) -> str:
        """Return it as text: ``plan is basic``, ``age from 30 to below 45``."""
        if self.missing:
            return f"{self.column} is missing"
        if self.values:
            return f"{self.column} is {' or '.join(value or MISSING for value in self.shown or self.values)}"
        low, high = (
            format_number(bound, 6, is_date=self.is_date, grouped_from=1e6)
            for bound in (self.low or 0.0, self.high or 0.0)
        )
        if self.low is None:
            return f"{self.column} {'at most' if self.closed else 'below'} {high}"
        if self.high is None:
            return f"{self.column} at least {low}"
        return f"{self.column} from {low} to {'' if self.closed else 'below '}{high}"


@dataclass(frozen=True, slots=True)
class Slice:
    """The rows that meet all conditions; ``declared`` in the spec or found, with floors for its metrics."""

    name: str
    conditions: tuple[SliceCondition, ...]
    declared: bool
    floors: Mapping[str, float]

    def mask(self, columns: Columns, rows: int) -> RowMask:
        """Return its rows."""
        inside = np.ones(rows, dtype=np.bool_)
        for condition in self.conditions:
            inside &= condition.mask(columns)
        return inside


def feature_columns(schema: TableSchema, features: FeatureMatrix) -> dict[str, npt.NDArray[Any]]:
    """Return the features by column: strings, float32 numbers, and timestamps for dates; texts are left out."""
    columns: dict[str, npt.NDArray[Any]] = {}
    numbers = {name: position for position, name in enumerate(schema.number_names)}
    strings = {name: position for position, name in enumerate(schema.string_names)}
    for column in schema.features:
        if column.type == "category":
            columns[column.name] = features.strings[:, strings[column.name]]
        elif column.type == "datetime":
            days = features.numbers[:, numbers[f"{column.name}.{DATE_PARTS[0]}"]].astype(np.float64)
            known = np.where(np.isnan(days), 0.0, days)
            timestamps = EPOCH + (known * 86_400_000_000).astype("timedelta64[us]")
            columns[column.name] = np.where(np.isnan(days), np.datetime64("NaT"), timestamps)
        elif column.type != "text":
            values = features.numbers[:, numbers[column.name]]
            columns[column.name] = values if column.centre is None else values.astype(np.float64) + column.centre
    return columns


def boolean_labels(column: Column) -> dict[str, str]:
    """Return the data's own strings for a boolean column's 0 and 1: ``no`` and ``yes``, ``false`` and ``true``."""
    return {"0": next(iter(column.false_values), "false"), "1": next(iter(column.true_values), "true")}


def conditions_of(column: Column, values: npt.NDArray[Any]) -> list[SliceCondition]:
    """Return the conditions that divide a column: its commonest values, or its quartiles; and missing values.

    Booleans, and whole numbers with few distinct values, are divided by value.
    """
    name, missing = column.name, missing_mask(values)
    labels = boolean_labels(column) if column.type == "boolean" else {}
    found: list[SliceCondition] = []
    distinct = np.unique(values[~missing])
    are_few = values.dtype.kind == "f" and len(distinct) <= MAX_WHOLE_VALUES
    if values.dtype.kind not in "fM" or labels or (are_few and (distinct == np.round(distinct)).all()):
        strings, counts = np.unique(as_strings(values)[~missing], return_counts=True)
        commonest = np.sort(np.argsort(-counts, kind="stable")[:MAX_VALUES])
        chosen = [str(strings[position]) for position in commonest]
        found = [SliceCondition(name, values=(value,), shown=(labels.get(value, value),)) for value in chosen]
    elif not missing.all():
        numbers = as_numbers(values)[~missing]
        inner = np.unique(np.quantile(numbers, np.linspace(0.0, 1.0, QUANTILE_BINS + 1)[1:-1], method="inverted_cdf"))
        edges = [None, *(float(edge) for edge in inner if edge > numbers.min()), None]
        found = [
            SliceCondition(name, low=low, high=high, closed=False, is_date=values.dtype.kind == "M")
            for low, high in pairwise(edges)
            if (low, high) != (None, None)
        ]
    return [*found, SliceCondition(name, missing=True)] if missing.any() else found


def as_strings(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return values as text: whole numbers without a fraction, booleans as 0 and 1, missing values as ``''``."""
    if values.dtype.kind == "U":
        return values
    missing = missing_mask(values)
    if values.dtype.kind == "f":
        known = np.where(missing, 0.0, values)
        whole = bool((known == np.round(known)).all() and np.abs(known).max(initial=0.0) < 2**53)
        texts = known.astype(np.int64).astype(np.str_) if whole else known.astype(np.str_)
    else:
        texts = values.astype(np.str_)
    return np.where(missing, "", texts)


def as_numbers(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return values as float64, timestamps as seconds since 1970, and NaN for what is missing or not a number."""
    if values.dtype.kind == "M":
        seconds = values.astype("datetime64[us]").astype(np.int64) / 1e6
        return np.where(np.isnat(values), np.nan, seconds)
    if values.dtype.kind == "f":
        return values.astype(np.float64)
    return np.full(len(values), np.nan)


def declared_slices(declared: Sequence[SliceSpec], columns: Columns, schema: TableSchema) -> list[Slice]:
    """Return the slices that a spec declares, divided by the holdout's own values."""
    known = {column.name: column for column in schema.columns}
    found: list[Slice] = []
    for spec in declared:
        if spec.where:
            conditions = tuple(
                _declared_condition(name, condition, known.get(name)) for name, condition in spec.where.items()
            )
            found.append(Slice(spec.name or _describe(conditions), conditions, declared=True, floors=spec.floors))
        elif all(name in columns and name in known for name in spec.by):
            divided = [_masked(known[name], conditions_of(known[name], columns[name])) for name in spec.by]
            found += [Slice(_describe(c), c, declared=True, floors=spec.floors) for c in product(*divided)]
    return found[:MAX_DECLARED]


def _declared_condition(name: str, condition: RangeSpec | tuple[str, ...], column: Column | None) -> SliceCondition:
    """Return a spec's condition; a boolean's strings become the 0 and 1 that the data holds."""
    if isinstance(condition, RangeSpec):
        is_date = column is not None and column.type == "datetime"
        return SliceCondition(name, low=condition.minimum, high=condition.maximum, is_date=is_date)
    values = shown = tuple(condition)
    if column is not None and column.type == "boolean":
        codes = {"false": "0", "true": "1", **{label: code for code, label in boolean_labels(column).items()}}
        values = tuple(codes.get(value.lower(), value) for value in values)
    if column is not None and column.sensitive:
        shown = (MASK,)
    return SliceCondition(name, values=values, shown=shown)


def _masked(column: Column, conditions: list[SliceCondition]) -> list[SliceCondition]:
    """Replace the values of a sensitive column by numbers."""
    if not column.sensitive:
        return conditions
    return [replace(part, shown=(f"value {number}",)) for number, part in enumerate(conditions, start=1) if part.values]


def _describe(conditions: Sequence[SliceCondition]) -> str:
    return " and ".join(condition.describe() for condition in conditions)


def find_worst(
    columns: Columns,
    losses: FloatArray,
    schema: TableSchema,
    *,
    min_rows: int,
    first: Sequence[str] = (),
    baseline_loss: float = 0.0,
) -> list[Slice]:
    """Search the validation split for the slices of one or two features with the largest excess loss.

    ``baseline_loss`` is the trivial baseline's mean loss, beside which an excess must not be negligible.
    Sensitive columns are left out, because a slice's name has its values; so are texts, which hardly two rows share.
    """
    step = max(1, math.ceil(len(losses) / MAX_SEARCHED_ROWS))
    losses, columns = losses[::step], {name: values[::step] for name, values in columns.items()}
    order = {name: position for position, name in enumerate(first)}
    searched = [column for column in schema.features if column.name in columns and not column.sensitive]
    searched.sort(key=lambda column: order.get(column.name, len(order)))
    divided = {column.name: conditions_of(column, columns[column.name]) for column in searched}
    coded = {name: _codes(parts, columns, len(losses)) for name, parts in divided.items() if len(parts) > 1}
    pairs = combinations(list(coded)[:MAX_PAIRED_FEATURES], 2)
    scored: list[tuple[float, tuple[SliceCondition, ...]]] = []
    for chosen in [*((name,) for name in coded), *pairs]:
        parts, codes = [divided[name] for name in chosen], [coded[name] for name in chosen]
        scored += _scored(parts, codes, losses, min_rows, baseline_loss)
    scored.sort(key=lambda entry: (-entry[0], len(entry[1])))
    return _distinct(scored, columns, losses)


def _codes(conditions: Sequence[SliceCondition], columns: Columns, rows: int) -> npt.NDArray[np.int64]:
    """Return the position of the condition that each row meets; their count for none."""
    codes = np.full(rows, len(conditions), dtype=np.int64)
    for position, condition in enumerate(conditions):
        codes[condition.mask(columns)] = position
    return codes


def _scored(
    conditions: Sequence[Sequence[SliceCondition]],
    codes: Sequence[npt.NDArray[np.int64]],
    losses: FloatArray,
    min_rows: int,
    baseline_loss: float,
) -> Iterator[tuple[float, tuple[SliceCondition, ...]]]:
    """Yield Welch's statistic of every combination of values that has enough rows and is worse than the rest."""
    combined, width = codes[0], len(conditions[0]) + 1
    if len(codes) > 1:
        combined, width = combined + codes[1] * width, width * (len(conditions[1]) + 1)
    counts = np.bincount(combined, minlength=width)
    sums, squares = np.bincount(combined, losses, width), np.bincount(combined, losses**2, width)
    rows, total, total_squares = len(losses), losses.sum(), (losses**2).sum()
    enough = np.flatnonzero((counts >= min_rows) & (rows - counts >= min_rows))
    for code in enough.tolist():
        positions = divmod(code, len(conditions[0]) + 1)[::-1] if len(codes) > 1 else (code,)
        if any(position == len(part) for position, part in zip(positions, conditions, strict=True)):
            continue
        inside = _mean_and_variance(counts[code], sums[code], squares[code])
        outside = _mean_and_variance(rows - counts[code], total - sums[code], total_squares - squares[code])
        error = math.sqrt(inside[1] + outside[1])
        score = (inside[0] - outside[0]) / error if error > 0 else 0.0
        if score >= MIN_SCORE and _is_material(inside[0], outside[0], baseline_loss):
            yield score, tuple(part[position] for position, part in zip(positions, conditions, strict=True))


def _is_material(inside: float, outside: float, baseline_loss: float) -> bool:
    return inside - outside > max(MIN_EXCESS_OF_REST * outside, MIN_EXCESS_OF_BASELINE * baseline_loss)


def _mean_and_variance(rows: int, total: float, squares: float) -> tuple[float, float]:
    """Return a mean and the variance of that mean."""
    mean = total / rows
    variance = max(0.0, squares / rows - mean**2) * rows / max(1, rows - 1)
    return mean, variance / rows


def _distinct(
    scored: Sequence[tuple[float, tuple[SliceCondition, ...]]], columns: Columns, losses: FloatArray
) -> list[Slice]:
    """Return the worst, without near duplicates and without parts of a slice that is as bad as a whole."""
    kept: list[tuple[Slice, RowMask]] = []
    for _, conditions in scored:
        candidate = Slice(_describe(conditions), conditions, declared=False, floors={})
        inside = candidate.mask(columns, len(losses))
        if not any(_is_redundant(inside, other, losses) for _, other in kept):
            kept.append((candidate, inside))
        if len(kept) == MAX_FOUND:
            break
    return [candidate for candidate, _ in kept]


def _is_redundant(part: RowMask, other: RowMask, losses: FloatArray) -> bool:
    shared = int(np.sum(part & other)) / max(1, int(np.sum(part | other)))
    lies_within = not (part & ~other).any() and losses[part].mean() <= losses[other].mean() * 1.1
    return bool(shared > MAX_SHARED_ROWS or lies_within)


def measure_slices(
    slices: Sequence[Slice],
    columns: Columns,
    *,
    schema: TableSchema,
    target: npt.NDArray[Any],
    predictions: npt.NDArray[Any],
    losses: FloatArray,
    min_rows: int,
    confidence: float,
    seed: int,
    baseline_loss: float = 0.0,
    others: OtherRows | None = None,
) -> list[SliceResult]:
    """Measure slices on the holdout; the intervals of their excess hold for all of them together.

    ``others`` are rows outside the fit and the holdout, which show how large errors may be.
    """
    masks = [part.mask(columns, len(target)) for part in slices]
    tested = sum(min_rows <= int(mask.sum()) for mask in masks)
    quantile = NormalDist().inv_cdf(1 - (1 - confidence) / (2 * max(1, tested)))
    measured: list[SliceResult] = []
    for part, mask in zip(slices, masks, strict=True):
        rows, metrics = int(mask.sum()), None
        mean, low, high, is_worse = None, None, None, False
        if rows >= min_rows:
            (measurement,) = measure(schema, target[mask], {"model": predictions[mask]}, seed).values()
            metrics = measurement.estimates(confidence, others)
            inside, outside = losses[mask], losses[~mask]
            if min(len(inside), len(outside)) > 1:
                mean = float(inside.mean() - outside.mean())
                error = math.sqrt(inside.var(ddof=1) / len(inside) + outside.var(ddof=1) / len(outside))
                low, high = mean - quantile * error, mean + quantile * error
                is_worse = low > 0 and _is_material(float(inside.mean()), float(outside.mean()), baseline_loss)
        names = tuple(condition.column for condition in part.conditions)
        measured.append(SliceResult(part.name, part.declared, names, rows, metrics, mean, low, high, is_worse))
    return measured
