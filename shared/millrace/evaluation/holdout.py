"""Measurements on the holdout: the test split, which no fitting and no ranking uses."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.evaluation_results import Latency, MetricEstimate
from millrace.features import FeatureMatrix
from millrace.metrics.bootstrap import (
    ConfidenceInterval,
    FloatArray,
    bootstrap,
    gain_interval,
    percentile_interval,
    resamples_for,
    wilson,
)
from millrace.metrics.catalogue import METRICS, METRICS_BY_NAME, Metric
from millrace.schema import TableSchema
from millrace.serving.model import OnnxModel

BATCH_ROWS = 1_000
WARM_UP_CALLS = 5
BLOCKS = 5
CALLS_OF_A_ROW = 40
CALLS_OF_A_BATCH = 8
#: Seconds after which no further block is timed: the model has proved slow.
MAX_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Measurement:
    """One model's defined metrics on the holdout, with each metric's value on each bootstrap draw."""

    metrics: Mapping[str, float]
    samples: Mapping[str, FloatArray]
    rows: int = 0

    def gain_over(self, other: "Measurement", metric: Metric, confidence: float) -> ConfidenceInterval | None:
        """Return the interval of this model's gain over another by ``metric``."""
        own, others = self.samples[metric.name], other.samples[metric.name]
        return gain_interval(own, others, greater_is_better=metric.greater_is_better, confidence=confidence)

    def estimates(self, confidence: float) -> dict[str, MetricEstimate]:
        """Return every metric with its interval.

        Where every draw gives the same value (thirty rows that are all right), the bootstrap claims a certainty that
        the rows do not support: a share then has Wilson's interval, and other metrics have none.
        """
        quantile = NormalDist().inv_cdf((1 + confidence) / 2)
        estimates: dict[str, MetricEstimate] = {}
        for name, value in self.metrics.items():
            interval = percentile_interval(self.samples[name], confidence)
            if interval and interval.low == interval.high:
                is_share = METRICS_BY_NAME[name].is_share
                interval = ConfidenceInterval(*wilson(value, self.rows, quantile)) if is_share else None
            estimates[name] = MetricEstimate.of(value, interval)
        return estimates


def measure(
    schema: TableSchema, target: npt.NDArray[Any], predictions: Mapping[str, npt.NDArray[Any]], seed: int
) -> dict[str, Measurement]:
    """Measure the finite predictions of several models by every metric of the task, on the same bootstrap draws."""
    rows, names = len(target), [metric.name for metric in METRICS[schema.task]]
    statistics = {
        (model, metric.name): metric.statistic(target, predicted)
        for model, predicted in predictions.items()
        for metric in METRICS[schema.task]
    }
    samples = bootstrap(statistics, rows, seed=seed, resamples=resamples_for(rows))
    whole = {key: float(statistic(np.ones((1, rows)))[0]) for key, statistic in statistics.items()}
    return {
        model: Measurement(
            {name: whole[model, name] for name in names if np.isfinite(whole[model, name])},
            {name: samples[model, name] for name in names},
            rows,
        )
        for model in predictions
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


def measure_latency(model: OnnxModel, features: FeatureMatrix, clock: Callable[[], float]) -> dict[str, Latency]:
    """Time a ``row`` and a ``batch`` of the holdout's rows, repeated where there are fewer."""
    rows = [features.take(np.array([row % len(features)])) for row in range(CALLS_OF_A_ROW)]
    batch = features.take(np.arange(BATCH_ROWS) % len(features))
    return {"row": _time(model, rows, clock), "batch": _time(model, [batch] * CALLS_OF_A_BATCH, clock)}


def _time(model: OnnxModel, inputs: list[FeatureMatrix], clock: Callable[[], float]) -> Latency:
    for features in inputs[:WARM_UP_CALLS]:
        model.run(features)
    begun = clock()
    blocks: list[tuple[float, float]] = []
    while not blocks or (len(blocks) < BLOCKS and clock() - begun < MAX_SECONDS):
        taken = []
        for features in inputs:
            start = clock()
            model.run(features)
            taken.append(1_000.0 * (clock() - start))
        median, p95 = np.percentile(taken, [50, 95])
        blocks.append((float(median), float(p95)))
    median, p95 = min(blocks, key=lambda block: block[1])
    return Latency(len(inputs[0]), median, p95, len(blocks) * len(inputs))
