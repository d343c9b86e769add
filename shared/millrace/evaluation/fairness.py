"""Fairness: how differently the model treats the groups that the spec calls sensitive.

======================  ============================================================  =========================
measure                 of a group's rows                                             tasks
======================  ============================================================  =========================
selection_rate          share that is called positive (demographic parity)            binary
true_positive_rate      of the positives, share called positive (equal opportunity)   binary
false_positive_rate     of the negatives, share called positive                       binary
calibration             mean probability minus share of positives                     binary
accuracy                share that is called right                                    binary, multiclass
calibration             mean probability of the called class minus accuracy           multiclass
mean_error              mean of prediction minus truth                                regression
absolute_error          mean size of it                                               regression
======================  ============================================================  =========================

A gap is the difference of the groups that are farthest apart. Of many groups two are always far apart; so the gap's
interval is widened for the number of pairs (Bonferroni). It is made of both groups' own intervals (Newcombe, 1998),
which for shares are Wilson's: with a dozen rows of which all are called positive, a bootstrap would be sure of it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.evaluation.slices import MISSING, as_words, boolean_words, conditions_of
from millrace.features import missing_mask
from millrace.metrics.bootstrap import wilson
from millrace.schema import Column, Task

FloatArray = npt.NDArray[np.float64]

#: Groups of one column that are told of; a number with more values is cut at its quartiles.
MAX_GROUPS = 20
#: Rows that a measure must count in a group to be compared, such as positives for a true positive rate.
MIN_COUNTED_ROWS = 10


@dataclass(frozen=True, slots=True)
class Rate:
    """A mean over some of the rows: of ``values``, where ``counted``."""

    values: FloatArray
    counted: npt.NDArray[np.bool_]


def rates_of(
    task: Task, target: npt.NDArray[Any], predictions: npt.NDArray[Any], called: npt.NDArray[Any]
) -> dict[str, Rate]:
    """Return the measures of a task, as means over rows.

    Parameters
    ----------
    target, predictions : array
        As :mod:`millrace.metrics.scores` takes them.
    called : array of shape (n_rows,)
        The class index that each row is called; ignored for regression.
    """
    everyone = np.ones(len(target), dtype=np.bool_)
    wide = predictions.astype(np.float64)
    if task == "regression":
        return {"mean_error": Rate(wide - target, everyone), "absolute_error": Rate(np.abs(wide - target), everyone)}
    right = (called == target).astype(np.float64)
    if task == "multiclass":
        likeliest = wide.max(axis=1)
        return {"accuracy": Rate(right, everyone), "calibration": Rate(likeliest - right, everyone)}
    selected, positive = (called == 1).astype(np.float64), target == 1
    return {
        "selection_rate": Rate(selected, everyone),
        "true_positive_rate": Rate(selected, positive),
        "false_positive_rate": Rate(selected, ~positive),
        "calibration": Rate(wide[:, 1] - positive, everyone),
        "accuracy": Rate(right, everyone),
    }


def group_labels(column: Column, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the group of each row: words as they are, numbers of many values by quartile, ``missing``."""
    missing = missing_mask(values)
    words = as_words(values)
    if values.dtype.kind in "fM" and len(np.unique(words[~missing])) > MAX_GROUPS:
        labels = np.full(len(values), MISSING, dtype=object)
        for condition in conditions_of(column, values):
            if not condition.missing:
                labels[condition.mask({column.name: values})] = condition.describe().removeprefix(f"{column.name} ")
        return labels.astype(np.str_)
    if column.type == "boolean" and values.dtype.kind == "f":
        called = boolean_words(column)
        words = np.where(words == "1", called["1"], called["0"])
    return np.where(missing, MISSING, words)


def compare_groups(
    column: Column, values: npt.NDArray[Any], rates: Mapping[str, Rate], *, min_rows: int, confidence: float
) -> dict[str, Any]:
    """Return every measure of every group of one column, and each measure's gap, as plain JSON.

    Groups with fewer than ``min_rows`` rows are shown and not compared; a measure of too few counted rows likewise.
    A column that is sensitive has its groups numbered, the largest first, instead of named.
    """
    names, codes, counts = np.unique(group_labels(column, values), return_inverse=True, return_counts=True)
    order = np.lexsort((names, -counts))[:MAX_GROUPS].tolist()
    shown = [f"group {n}" if column.sensitive else str(names[group]) for n, group in enumerate(order, start=1)]
    quantile = NormalDist().inv_cdf((1 + confidence) / 2)
    groups: list[dict[str, Any]] = []
    for name, group in zip(shown, order, strict=True):
        measures = {measure: _estimate(rate, codes == group) for measure, rate in rates.items()}
        told = {measure: one.to_dict(quantile) for measure, one in measures.items() if one is not None}
        groups.append({"name": name, "rows": int(counts[group]), "measures": told, "estimates": measures})
    gaps = {
        measure: _gap(
            [
                (group["name"], group["estimates"][measure])
                for group in groups
                if group["rows"] >= min_rows
                and group["estimates"][measure] is not None
                and group["estimates"][measure].rows >= MIN_COUNTED_ROWS
            ],
            confidence,
        )
        for measure in rates
    }
    for group in groups:
        del group["estimates"]
    return {"column": column.name, "groups": groups, "left_out_groups": len(names) - len(order), "gaps": gaps}


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over some rows, and what its interval follows from."""

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

    def to_dict(self, quantile: float) -> dict[str, Any]:
        """Return plain JSON."""
        low, high = self.bounds(quantile)
        return {"value": self.mean, "low": low, "high": high, "rows": self.rows}


def _estimate(rate: Rate, members: npt.NDArray[np.bool_]) -> Estimate | None:
    values = rate.values[members & rate.counted]
    if not len(values):
        return None
    deviation = float(values.std(ddof=1)) if len(values) > 1 else math.inf
    return Estimate(float(values.mean()), deviation, len(values), bool(np.isin(values, (0.0, 1.0)).all()))


def _gap(groups: Sequence[tuple[str, Estimate]], confidence: float) -> dict[str, Any] | None:
    """Compare the two groups that are farthest apart; the difference's interval is of both's own (Newcombe, 1998)."""
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
    return {
        "value": gap,
        "low": low if known else None,
        "high": high if known else None,
        "highest": highest,
        "lowest": lowest,
        "ratio": least.mean / most.mean if most.is_share and least.is_share and most.mean > 0 else None,
        "clear": known and low > 0,
    }
