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
interval is widened for the number of pairs (Bonferroni), with standard errors from the bootstrap.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.evaluation.columns import MISSING, as_words, conditions_of
from millrace.evaluation.intervals import draw_weights, percentile_interval, resamples_for
from millrace.features import missing_cells
from millrace.schema import Task

FloatArray = npt.NDArray[np.float64]

#: Groups of one column that are told of; a number with more values is cut at its quartiles.
MAX_GROUPS = 20


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
        As :mod:`millrace.training.metrics` takes them.
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


def group_labels(name: str, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the group of each row: words as they are, numbers of many values by quartile, ``missing``."""
    missing = missing_cells(values)
    words = as_words(values)
    if values.dtype.kind in "fM" and len(np.unique(words[~missing])) > MAX_GROUPS:
        labels = np.full(len(values), MISSING, dtype=object)
        for condition in conditions_of(name, values):
            if not condition.missing:
                labels[condition.mask({name: values})] = condition.describe().removeprefix(f"{name} ")
        return labels.astype(np.str_)
    return np.where(missing, MISSING, words)


def compare_groups(
    name: str, values: npt.NDArray[Any], rates: Mapping[str, Rate], *, min_rows: int, confidence: float, seed: int
) -> dict[str, Any]:
    """Return every measure of every group of one column, and each measure's gap, as plain JSON.

    Groups with fewer than ``min_rows`` rows are shown and not compared; a measure of too few counted rows likewise.
    """
    labels = group_labels(name, values)
    names, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    order = np.lexsort((names, -counts))[:MAX_GROUPS]
    members = np.stack([codes == position for position in order], axis=1)
    shown = [str(names[position]) for position in order]
    document: dict[str, Any] = {
        "column": name,
        "groups": [{"name": shown[i], "rows": int(members[:, i].sum()), "measures": {}} for i in range(len(shown))],
        "left_out_groups": len(names) - len(order),
        "gaps": {},
    }
    samples = _sampled(members, rates, seed)
    for measure, rate in rates.items():
        counted = (members & rate.counted[:, None]).sum(axis=0)
        means = np.full(len(shown), np.nan)
        for position, group in enumerate(document["groups"]):
            if not counted[position]:
                continue
            means[position] = rate.values[members[:, position] & rate.counted].mean()
            interval = percentile_interval(samples[measure][:, position], confidence)
            group["measures"][measure] = {
                "value": float(means[position]),
                "low": interval.low if interval else None,
                "high": interval.high if interval else None,
                "rows": int(counted[position]),
            }
        enough = np.flatnonzero((members.sum(axis=0) >= min_rows) & (counted >= min(min_rows, 10)))
        document["gaps"][measure] = _gap(shown, means, samples[measure], enough, confidence)
    return document


def _sampled(members: npt.NDArray[np.bool_], rates: Mapping[str, Rate], seed: int) -> dict[str, FloatArray]:
    """Return each measure of each group on each bootstrap draw, of shape (draws, groups)."""
    rows = len(members)
    drawn: dict[str, list[FloatArray]] = {measure: [] for measure in rates}
    for weights in draw_weights(rows, resamples_for(rows), seed):
        for measure, rate in rates.items():
            counted = (members & rate.counted[:, None]).astype(np.float64)
            total = weights @ (counted * rate.values[:, None])
            with np.errstate(invalid="ignore", divide="ignore"):
                drawn[measure].append(total / (weights @ counted))
    return {measure: np.concatenate(blocks) for measure, blocks in drawn.items()}


def _gap(
    names: Sequence[str], means: FloatArray, samples: FloatArray, enough: npt.NDArray[Any], confidence: float
) -> dict[str, Any] | None:
    if len(enough) < 2:  # noqa: PLR2004  # two to compare
        return None
    most, least = int(enough[np.argmax(means[enough])]), int(enough[np.argmin(means[enough])])
    gap = float(means[most] - means[least])
    difference = samples[:, most] - samples[:, least]
    defined = difference[np.isfinite(difference)]
    pairs = len(enough) * (len(enough) - 1) // 2
    reach = (
        NormalDist().inv_cdf(1 - (1 - confidence) / (2 * pairs)) * float(defined.std()) if len(defined) else math.inf
    )
    known = math.isfinite(reach)
    return {
        "value": gap,
        "low": gap - reach if known else None,
        "high": gap + reach if known else None,
        "highest": names[most],
        "lowest": names[least],
        "ratio": float(means[least] / means[most]) if means[most] > 0 and means[least] >= 0 else None,
        "clear": known and gap - reach > 0,
    }
