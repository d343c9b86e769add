"""Fairness: differences of the model between the groups of a sensitive column.

======================  ============================================================  =========================
measure                 of a group's rows                                             tasks
======================  ============================================================  =========================
selection_rate          share predicted positive (demographic parity)                 binary
true_positive_rate      of the positives, share predicted positive (equal             binary
                        opportunity)
false_positive_rate     of the negatives, share predicted positive                    binary
calibration             mean probability minus share of positives                     binary
accuracy                share predicted right                                         binary, multiclass
calibration             mean probability of the predicted class minus accuracy        multiclass
mean_error              mean of prediction minus truth                                regression
absolute_error          mean absolute error                                           regression
======================  ============================================================  =========================

A gap is the difference of the two groups farthest apart. Of many groups two are always far apart, so the gap's interval
is widened for the number of pairs (Bonferroni). It combines both groups' own intervals (Newcombe, 1998), which for
shares are Wilson's: with a dozen rows that are all predicted positive, a bootstrap would claim certainty.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.evaluation.slices import MISSING, as_strings, boolean_labels, conditions_of
from millrace.evaluation_results import FairnessResult, Gap, GroupResult, MeasureEstimate
from millrace.features import missing_mask
from millrace.metrics.bootstrap import FloatArray, wilson
from millrace.metrics.catalogue import ACCURACY
from millrace.schema import Column, Task

#: Groups of one column; a number with more values is divided at its quartiles.
MAX_GROUPS = 20
#: Rows that a measure must count in a group to be compared, such as positives for a true positive rate.
MIN_COUNTED_ROWS = 10


@dataclass(frozen=True, slots=True)
class RowMeasure:
    """A measure as the mean of ``values`` over the rows that are ``counted``."""

    values: FloatArray
    counted: npt.NDArray[np.bool_]


def row_measures(
    task: Task, target: npt.NDArray[Any], predictions: npt.NDArray[Any], predicted: npt.NDArray[Any]
) -> dict[str, RowMeasure]:
    """Return the measures of a task."""
    every_row = np.ones(len(target), dtype=np.bool_)
    wide = predictions.astype(np.float64)
    if task == "regression":
        return {
            "mean_error": RowMeasure(wide - target, every_row),
            "absolute_error": RowMeasure(np.abs(wide - target), every_row),
        }
    right = (predicted == target).astype(np.float64)
    if task == "multiclass":
        likeliest = wide.max(axis=1)
        return {ACCURACY.name: RowMeasure(right, every_row), "calibration": RowMeasure(likeliest - right, every_row)}
    selected, positive = (predicted == 1).astype(np.float64), target == 1
    return {
        "selection_rate": RowMeasure(selected, every_row),
        "true_positive_rate": RowMeasure(selected, positive),
        "false_positive_rate": RowMeasure(selected, ~positive),
        "calibration": RowMeasure(wide[:, 1] - positive, every_row),
        ACCURACY.name: RowMeasure(right, every_row),
    }


def group_labels(column: Column, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the group of each row: strings as they are, numbers of many values by quartile, ``missing``."""
    missing = missing_mask(values)
    strings = as_strings(values)
    if values.dtype.kind in "fM" and len(np.unique(strings[~missing])) > MAX_GROUPS:
        labels = np.full(len(values), MISSING, dtype=object)
        for condition in conditions_of(column, values):
            if not condition.missing:
                labels[condition.mask({column.name: values})] = condition.describe().removeprefix(f"{column.name} ")
        return labels.astype(np.str_)
    if column.type == "boolean" and values.dtype.kind == "f":
        names = boolean_labels(column)
        strings = np.where(strings == "1", names["1"], names["0"])
    return np.where(missing, MISSING, strings)


def compare_groups(
    column: Column, values: npt.NDArray[Any], measures: Mapping[str, RowMeasure], *, min_rows: int, confidence: float
) -> FairnessResult:
    """Return every measure of every group of one column, and each measure's gap.

    Groups with fewer than ``min_rows`` rows are shown and not compared; so is a measure with too few counted rows.
    The groups of a sensitive column are numbered, the largest first, instead of named.
    """
    names, codes, counts = np.unique(group_labels(column, values), return_inverse=True, return_counts=True)
    order = np.lexsort((names, -counts))[:MAX_GROUPS].tolist()
    shown = [f"group {n}" if column.sensitive else str(names[group]) for n, group in enumerate(order, start=1)]
    quantile = NormalDist().inv_cdf((1 + confidence) / 2)
    groups: list[GroupResult] = []
    compared: dict[str, list[tuple[str, _GroupMean]]] = {measure: [] for measure in measures}
    for name, group in zip(shown, order, strict=True):
        means = {measure: _mean(of_rows, codes == group) for measure, of_rows in measures.items()}
        known = {measure: mean for measure, mean in means.items() if mean is not None}
        estimates = {measure: mean.estimate(quantile) for measure, mean in known.items()}
        groups.append(GroupResult(name, int(counts[group]), estimates))
        for measure, mean in known.items():
            if counts[group] >= min_rows and mean.rows >= MIN_COUNTED_ROWS:
                compared[measure].append((name, mean))
    gaps = {measure: _gap(means, confidence) for measure, means in compared.items()}
    return FairnessResult(column.name, tuple(groups), len(names) - len(order), gaps)


@dataclass(frozen=True, slots=True)
class _GroupMean:
    mean: float
    deviation: float
    rows: int
    is_share: bool

    def bounds(self, quantile: float) -> tuple[float, float]:
        """Return the interval that reaches ``quantile`` standard errors; Wilson's (1927) for a share."""
        if not self.is_share:
            reach = quantile * self.deviation / math.sqrt(self.rows)
            return self.mean - reach, self.mean + reach
        return wilson(self.mean, self.rows, quantile)

    def estimate(self, quantile: float) -> MeasureEstimate:
        return MeasureEstimate(self.mean, *self.bounds(quantile), rows=self.rows)


def _mean(measure: RowMeasure, members: npt.NDArray[np.bool_]) -> _GroupMean | None:
    values = measure.values[members & measure.counted]
    if not len(values):
        return None
    deviation = float(values.std(ddof=1)) if len(values) > 1 else math.inf
    return _GroupMean(float(values.mean()), deviation, len(values), bool(np.isin(values, (0.0, 1.0)).all()))


def _gap(groups: Sequence[tuple[str, _GroupMean]], confidence: float) -> Gap | None:
    """Compare the two groups farthest apart; the interval combines those of both (Newcombe, 1998)."""
    if len(groups) < 2:  # noqa: PLR2004  # two to compare
        return None
    (highest, most), (lowest, least) = (find(groups, key=lambda group: group[1].mean) for find in (max, min))
    pairs = len(groups) * (len(groups) - 1) // 2
    quantile = NormalDist().inv_cdf(1 - (1 - confidence) / (2 * pairs))
    (most_low, most_high), (least_low, least_high) = most.bounds(quantile), least.bounds(quantile)
    gap = most.mean - least.mean
    low = gap - math.hypot(most.mean - most_low, least_high - least.mean)
    high = gap + math.hypot(most_high - most.mean, least.mean - least_low)
    known = math.isfinite(low) and math.isfinite(high)
    are_shares = most.is_share and least.is_share and most.mean > 0
    return Gap(
        value=gap,
        low=low if known else None,
        high=high if known else None,
        highest=highest,
        lowest=lowest,
        ratio=least.mean / most.mean if are_shares else None,
        clear=known and low > 0,
    )
