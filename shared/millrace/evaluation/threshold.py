"""The threshold of a binary decision, chosen for what wrong decisions cost.

With calibrated probabilities the expected cost is least when a row is called positive from ``c_fp / (c_fp + c_fn)`` on
(Elkan, "The Foundations of Cost-Sensitive Learning", IJCAI 2001). The threshold that was cheapest on some rows is a
noisy estimate of the best one. So the former is taken unless the validation rows speak clearly against it: unless
it cost more than one standard error more than the cheapest one did. The holdout has no say; it only tells what the
chosen threshold costs.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.spec.evaluation import CostSpec

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Threshold:
    """From which probability on a row is called positive.

    Parameters
    ----------
    value : float
        Included.
    rule : {'expected_cost', 'cheapest_on_validation'}
        How it was found.
    validation_cost : float
        What a row of the validation split costs with it, on average.
    """

    value: float
    rule: str
    validation_cost: float


def choose_threshold(target: Array, scores: Array, costs: CostSpec) -> Threshold:
    """Choose a threshold on the validation split.

    Parameters
    ----------
    target : array of shape (n_rows,)
        1 for the positive class, else 0.
    scores : array of shape (n_rows,)
        Its probability.
    costs : CostSpec
        Of wrong decisions.
    """
    expected = costs.false_positive / (costs.false_positive + costs.false_negative)
    positive = target == 1
    order = np.argsort(scores, kind="stable")
    ordered, is_positive = scores[order].astype(np.float64), positive[order]
    # Called positive are the rows from a position on: missed positives lie before it, false alarms behind it.
    missed = np.r_[0, np.cumsum(is_positive)]
    alarms = np.sum(~is_positive) - np.r_[0, np.cumsum(~is_positive)]
    total = costs.false_negative * missed + costs.false_positive * alarms
    possible = np.r_[True, ordered[1:] != ordered[:-1], True]
    positions = np.flatnonzero(possible)
    cheapest = int(positions[np.argmin(total[positions])])
    at_expected = int(np.searchsorted(ordered, expected, "left"))
    rows = len(target)
    if total[at_expected] - total[cheapest] <= _standard_error(is_positive, cheapest, at_expected, costs):
        return Threshold(expected, "expected_cost", float(total[at_expected] / rows))
    return Threshold(_between(ordered, cheapest), "cheapest_on_validation", float(total[cheapest] / rows))


def _standard_error(is_positive: npt.NDArray[np.bool_], first: int, second: int, costs: CostSpec) -> float:
    """Return the standard error of the difference of two total costs: only rows between the thresholds differ."""
    between = is_positive[min(first, second) : max(first, second)]
    differences = np.where(between, costs.false_negative, -costs.false_positive)
    rows = len(is_positive)
    variance = np.sum(differences**2) - np.sum(differences) ** 2 / rows
    return float(np.sqrt(max(0.0, variance)))


def _between(ordered: npt.NDArray[np.float64], position: int) -> float:
    """Return a threshold that has this many scores below it: halfway to the next, or past the end."""
    if position == 0:
        return float(max(0.0, ordered[0] / 2))
    if position == len(ordered):
        return float(min(1.0, (ordered[-1] + 1.0) / 2)) if ordered[-1] < 1.0 else float(np.nextafter(1.0, 2.0))
    return float((ordered[position - 1] + ordered[position]) / 2)


def decisions(probabilities: Array, value: float | None) -> npt.NDArray[np.bool_]:
    """Tell which rows of a binary task are called positive; without a threshold, those where it is the likelier."""
    if value is None:
        return np.asarray(probabilities.argmax(axis=1) == 1, dtype=np.bool_)
    return np.asarray(probabilities[:, 1] >= value, dtype=np.bool_)


def decision_costs(target: Array, called: npt.NDArray[np.bool_], costs: CostSpec) -> npt.NDArray[np.float64]:
    """Return what each row's decision costs."""
    wrong_alarm = called & (target != 1)
    missed = ~called & (target == 1)
    return np.asarray(costs.false_positive * wrong_alarm + costs.false_negative * missed, dtype=np.float64)
