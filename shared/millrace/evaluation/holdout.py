"""Measurements on the holdout: the test split, which no fitting and no ranking uses."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.evaluation_results import Latency, MetricEstimate
from millrace.features import FeatureMatrix
from millrace.metrics.bootstrap import ConfidenceInterval, bootstrap, gain_interval, resamples_for
from millrace.metrics.catalogue import METRICS_BY_NAME, Metric, compute_metrics
from millrace.metrics.confidence_intervals import OtherRows
from millrace.schema import TableSchema
from millrace.serving.model import OnnxModel

BATCH_ROWS = 1_000
WARM_UP_CALLS = 3
BLOCKS = 5
CALLS_OF_A_ROW = 40
CALLS_OF_A_BATCH = 8
#: Seconds after which no further block is timed: of a model within its limit of latency, and of one beyond, which may
#: have been slow by chance.
ENOUGH_SECONDS, MAX_SECONDS = 0.5, 20.0


@dataclass(frozen=True, slots=True)
class Measurement:
    """One model's predictions on the holdout, with its defined metrics; none of a model that could not be measured."""

    metrics: Mapping[str, float] = field(default_factory=dict)
    target: npt.NDArray[Any] = field(default_factory=lambda: np.empty(0))
    predictions: npt.NDArray[Any] = field(default_factory=lambda: np.empty(0))
    seed: int = 0

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.target)

    def gain_over(self, other: "Measurement", metric: Metric, confidence: float) -> ConfidenceInterval | None:
        """Return the interval of this model's gain over another by ``metric``, from bootstrap draws that both share."""
        statistics = {name: metric.statistic(one.target, one.predictions) for name, one in ((0, self), (1, other))}
        samples = bootstrap(statistics, self.rows, seed=self.seed, resamples=resamples_for(self.rows))
        return gain_interval(samples[0], samples[1], greater_is_better=metric.greater_is_better, confidence=confidence)

    def estimates(self, confidence: float, others: OtherRows | None = None) -> dict[str, MetricEstimate]:
        """Return every metric with its interval, or with the reason for which the rows do not support one.

        ``others`` are rows outside the fit beside these: they show how large errors may be.
        """
        intervals = {
            name: METRICS_BY_NAME[name].interval(self.target, self.predictions, confidence, others)
            for name in self.metrics
        }
        return {name: MetricEstimate.of(value, intervals[name]) for name, value in self.metrics.items()}


def measure(
    schema: TableSchema, target: npt.NDArray[Any], predictions: Mapping[str, npt.NDArray[Any]], seed: int
) -> dict[str, Measurement]:
    """Measure the finite predictions of several models by every metric of the task; their gains share draws."""
    return {
        model: Measurement(compute_metrics(schema.task, target, predicted), target, predicted, seed)
        for model, predicted in predictions.items()
    }


def count_non_finite(predictions: npt.NDArray[Any]) -> int:
    """Return the number of rows whose prediction is not a number."""
    finite = np.isfinite(predictions)
    return int(np.sum(~(finite if finite.ndim == 1 else finite.all(axis=1))))


def baseline_predictions(schema: TableSchema, train_target: npt.NDArray[Any], rows: int) -> npt.NDArray[np.float64]:
    """Return the trivial baseline's predictions: each class's share in training, or the mean."""
    if schema.task == "regression":
        return np.full(rows, train_target.mean(), dtype=np.float64)
    shares = np.bincount(train_target, minlength=len(schema.classes)) / len(train_target)
    return np.tile(shares, (rows, 1))


def measure_latency(
    model: OnnxModel, features: FeatureMatrix, clock: Callable[[], float], limits: Mapping[str, float | None]
) -> dict[str, Latency]:
    """Time a ``row`` and a ``batch`` of the holdout's rows, repeated where there are fewer.

    Each is timed longer where it exceeds its limit in milliseconds.
    """
    rows = [features.take(np.array([row % len(features)])) for row in range(CALLS_OF_A_ROW)]
    batch = features.take(np.arange(BATCH_ROWS) % len(features))
    inputs = {"row": rows, "batch": [batch] * CALLS_OF_A_BATCH}
    return {kind: _time(model, calls, clock, limits.get(kind)) for kind, calls in inputs.items()}


def _time(model: OnnxModel, inputs: list[FeatureMatrix], clock: Callable[[], float], limit: float | None) -> Latency:
    for features in inputs[:WARM_UP_CALLS]:
        model.run(features)
    begun = clock()
    blocks: list[tuple[float, float]] = []
    seconds = 0.0
    while not blocks or (len(blocks) < BLOCKS and clock() - begun < seconds):
        taken = []
        for features in inputs:
            start = clock()
            model.run(features)
            taken.append(1_000.0 * (clock() - start))
        median, p95 = np.percentile(taken, [50, 95])
        blocks.append((float(median), float(p95)))
        exceeds = limit is not None and min(block[1] for block in blocks) > limit
        seconds = MAX_SECONDS if exceeds else ENOUGH_SECONDS
    median, p95 = min(blocks, key=lambda block: block[1])
    return Latency(len(inputs[0]), median, p95, len(blocks) * len(inputs))
