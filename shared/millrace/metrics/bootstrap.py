"""Bootstrap confidence intervals of metrics.

Rows are drawn with replacement; a metric's values over the draws give a percentile interval (Efron and Tibshirani, *An
Introduction to the Bootstrap*, 1993, chapter 13). All models are measured on the same draws, so the difference of two
of them is a paired sample.
"""

import math
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from millrace.quantities import format_number

FloatArray = npt.NDArray[np.float64]

#: From weights of shape (n_draws, n_rows) to values of shape (n_draws,); NaN where the metric is not defined.
Statistic = Callable[[FloatArray], FloatArray]

NameT = TypeVar("NameT", bound=Hashable)

DEFAULT_RESAMPLES = 500
#: Fewer draws of a large holdout, whose intervals are narrow anyway, bound the time.
MIN_RESAMPLES = 200
#: A draw on which a metric is not defined is left out; with fewer defined draws than this share, there is no interval.
MIN_DEFINED_SHARE = 0.5

_MAX_WEIGHTS = 2_000_000
_MAX_DRAWN_ROWS = 50_000_000


@dataclass(frozen=True, slots=True)
class ConfidenceInterval:
    """A confidence interval with both bounds included."""

    low: float
    high: float

    def __str__(self) -> str:
        low, high = format_number(self.low), format_number(self.high)
        return low if low == high else f"{low} to {high}"


def weighted_mean(values: FloatArray) -> Statistic:
    """Return the weighted mean of ``values`` as a statistic."""
    return lambda weights: np.asarray(weights @ values / weights.sum(axis=1))


def mean_loss(row_loss: Callable[[npt.NDArray[Any], npt.NDArray[Any]], FloatArray]) -> Callable[..., Statistic]:
    """Return the mean of a row loss as a function of target and predictions."""
    return lambda target, predictions: weighted_mean(row_loss(target, predictions))


def resamples_for(rows: int) -> int:
    """Return the number of draws of a holdout."""
    return int(np.clip(_MAX_DRAWN_ROWS // max(rows, 1), MIN_RESAMPLES, DEFAULT_RESAMPLES))


def draw_weights(rows: int, resamples: int, seed: int) -> Iterator[FloatArray]:
    """Yield the count of each row in each draw, in blocks of shape (n_draws, rows) that fit in memory."""
    generator = np.random.default_rng(seed)
    block = max(1, min(resamples, _MAX_WEIGHTS // rows))
    for start in range(0, resamples, block):
        draws = min(block, resamples - start)
        drawn = generator.integers(0, rows, size=(draws, rows)) + np.arange(draws)[:, None] * rows
        yield np.bincount(drawn.ravel(), minlength=draws * rows).reshape(draws, rows).astype(np.float64)


def bootstrap(
    statistics: Mapping[NameT, Statistic], rows: int, *, seed: int, resamples: int = DEFAULT_RESAMPLES
) -> dict[NameT, FloatArray]:
    """Compute every statistic on the same draws of at least one row; arrays of shape (resamples,)."""
    values: dict[NameT, list[FloatArray]] = {name: [] for name in statistics}
    for weights in draw_weights(rows, resamples, seed):
        for name, statistic in statistics.items():
            values[name].append(statistic(weights))
    return {name: np.concatenate(blocks) for name, blocks in values.items()}


def percentile_interval(samples: FloatArray, confidence: float) -> ConfidenceInterval | None:
    """Return the central interval of the samples; None when the metric is not defined on most draws."""
    defined = samples[np.isfinite(samples)]
    if len(defined) == 0 or len(defined) < MIN_DEFINED_SHARE * len(samples):
        return None
    low, high = np.quantile(defined, [(1 - confidence) / 2, (1 + confidence) / 2])
    return ConfidenceInterval(float(low), float(high))


def gain_interval(
    challenger: FloatArray, other: FloatArray, *, greater_is_better: bool, confidence: float
) -> ConfidenceInterval | None:
    """Return the interval of the gain of ``challenger`` over ``other`` on the same draws; below zero is a loss."""
    gain = challenger - other if greater_is_better else other - challenger
    return percentile_interval(gain, confidence)


def wilson(share: float, rows: int, quantile: float) -> tuple[float, float]:
    """Return Wilson's interval (1927) of a share of ``rows``, ``quantile`` standard errors to either side."""
    z = quantile
    middle = (share + z**2 / (2 * rows)) / (1 + z**2 / rows)
    reach = z / (1 + z**2 / rows) * math.sqrt(share * (1 - share) / rows + z**2 / (4 * rows**2))
    return max(0.0, middle - reach), min(1.0, middle + reach)
