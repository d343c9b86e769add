"""Permutation importance: what the model loses when one column is shuffled (Breiman, "Random Forests", 2001).

It is asked of the ONNX model that serves, on holdout rows. A date is one column, although the model sees four numbers
of it, and so is a text with all its words. Columns that say the same share their importance: shuffled alone, neither
is missed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from millrace.data.prepared import PreparedSplit
from millrace.features import FeatureMatrix
from millrace.metrics.bootstrap import FloatArray, draw_weights, percentile_interval
from millrace.metrics.catalogue import METRICS, Metric
from millrace.metrics.weighted import statistic
from millrace.schema import TableSchema
from millrace.serving.explain import column_groups
from millrace.serving.model import OnnxModel

#: Holdout rows that are shuffled, shuffles of each column, and bootstrap draws of the rows.
MAX_ROWS = 1_000
REPEATS = 5
RESAMPLES = 200

#: What is measured instead of a metric that is not defined on the rows.
ALWAYS_DEFINED = frozenset({"log_loss", "rmse"})


@dataclass(frozen=True, slots=True)
class Importance:
    """What one column is worth.

    Parameters
    ----------
    value : float
        What the metric loses, on average over the shuffles.
    low, high : float or None
        Of the bootstrap interval over rows; None where the metric is not defined on most draws.
    repeats : int
        How often the column was shuffled.
    """

    column: str
    value: float
    low: float | None
    high: float | None
    repeats: int


@dataclass(frozen=True, slots=True)
class Importances:
    """What every column is worth, the most important first; those that time did not suffice for are named."""

    metric: str
    rows: int
    columns: tuple[Importance, ...]
    not_measured: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {
            "metric": self.metric,
            "rows": self.rows,
            "columns": [
                {"name": one.column, "value": one.value, "low": one.low, "high": one.high, "repeats": one.repeats}
                for one in self.columns
            ],
            "not_measured": list(self.not_measured),
        }


def permutation_importance(
    model: OnnxModel,
    holdout: PreparedSplit,
    metric: Metric,
    *,
    confidence: float,
    seed: int,
    seconds: float,
    clock: Callable[[], float],
) -> Importances:
    """Shuffle every column in turn, and again while there is time.

    Parameters
    ----------
    metric : Metric
        Whose loss is measured.
    seconds : float
        What it may take; the first round over all columns comes first.
    clock : callable
        Seconds from any fixed point, monotonic.
    """
    generator = np.random.default_rng(seed)
    rows = holdout
    if len(holdout) > MAX_ROWS:
        rows = holdout.take(np.sort(generator.choice(len(holdout), MAX_ROWS, replace=False)))
    weights = np.concatenate([np.ones((1, len(rows))), *draw_weights(len(rows), RESAMPLES, seed)])
    answers = model.run(rows.features)
    present = statistic(metric.name, rows.target, answers)(weights)
    if not np.isfinite(present[0]):  # an area under the curve needs rows of every class; the task's own loss does not
        metric = next(one for one in METRICS[model.schema.task] if one.name in ALWAYS_DEFINED)
        present = statistic(metric.name, rows.target, answers)(weights)
    names = [column.name for column in model.schema.features]
    losses: dict[str, list[FloatArray]] = {name: [] for name in names}
    deadline = clock() + seconds
    for name in names * REPEATS:
        if clock() >= deadline:
            break
        shuffled = _shuffle(rows.features, model.schema, name, generator)
        after = statistic(metric.name, rows.target, model.run(shuffled))(weights)
        losses[name].append(present - after if metric.greater_is_better else after - present)
    measured = [_summarise(name, repeats, confidence) for name, repeats in losses.items() if repeats]
    known = sorted((one for one in measured if one is not None), key=lambda one: (-one.value, one.column))
    done = {one.column for one in known}
    return Importances(metric.name, len(rows), tuple(known), tuple(name for name in names if name not in done))


def _summarise(name: str, repeats: list[FloatArray], confidence: float) -> Importance | None:
    mean = np.mean(repeats, axis=0)
    if not np.isfinite(mean[0]):
        return None
    interval = percentile_interval(mean[1:], confidence)
    low, high = (interval.low, interval.high) if interval else (None, None)
    return Importance(name, float(mean[0]), low, high, len(repeats))


def _shuffle(features: FeatureMatrix, schema: TableSchema, name: str, generator: np.random.Generator) -> FeatureMatrix:
    order = generator.permutation(len(features))
    place = [column.name for column in schema.features].index(name)
    own_numbers, own_strings = (np.flatnonzero(groups == place) for groups in column_groups(schema))
    numbers, strings = features.numbers, features.strings
    if len(own_strings):
        strings = strings.copy()
        strings[:, own_strings] = strings[np.ix_(order, own_strings)]
    else:
        numbers = numbers.copy()
        numbers[:, own_numbers] = numbers[np.ix_(order, own_numbers)]
    return FeatureMatrix(numbers, strings)
