"""Measuring on the holdout: the test split, which no fitting and no ranking has seen."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.features import FeatureMatrix
from millrace.metrics.bootstrap import (
    FloatArray,
    Interval,
    bootstrap,
    gain_interval,
    percentile_interval,
    resamples_for,
    wilson,
)
from millrace.metrics.catalogue import METRICS, Metric
from millrace.metrics.scores import compute_metrics
from millrace.metrics.weighted import statistic
from millrace.schema import TableSchema
from millrace.serving.model import OnnxModel

#: Metrics that are a share of the rows.
_SHARES = frozenset({"accuracy"})


@dataclass(frozen=True, slots=True)
class Measurement:
    """One model's metrics on the holdout.

    Parameters
    ----------
    metrics : mapping of str to float
        Those that are defined.
    samples : mapping of str to array of shape (resamples,)
        Each metric on each bootstrap draw; the same draws for every model.
    rows : int, default=0
        That were measured.
    """

    metrics: Mapping[str, float]
    samples: Mapping[str, FloatArray]
    rows: int = 0

    def interval(self, name: str, confidence: float) -> Interval | None:
        """Return the percentile interval of one metric."""
        return percentile_interval(self.samples[name], confidence)

    def gain_over(self, other: "Measurement", metric: Metric, confidence: float) -> Interval | None:
        """Return the interval of what this model gains over another, by ``metric``."""
        return gain_interval(
            self.samples[metric.name],
            other.samples[metric.name],
            greater_is_better=metric.greater_is_better,
            confidence=confidence,
        )

    def to_dict(self, confidence: float) -> dict[str, dict[str, float | None]]:
        """Return ``{name: {value, low, high}}``.

        Where every draw gives the same value, as of thirty rows that are all right, the bootstrap is sure of what it
        cannot know: a share has Wilson's interval then, and other metrics have none.
        """
        quantile = NormalDist().inv_cdf((1 + confidence) / 2)
        document: dict[str, dict[str, float | None]] = {}
        for name, value in self.metrics.items():
            interval = self.interval(name, confidence)
            low, high = (interval.low, interval.high) if interval else (None, None)
            if low is not None and low == high:
                low, high = wilson(value, self.rows, quantile) if name in _SHARES else (None, None)
            document[name] = {"value": value, "low": low, "high": high}
        return document


def measure(
    schema: TableSchema, target: npt.NDArray[Any], predictions: Mapping[str, npt.NDArray[Any]], seed: int
) -> dict[str, Measurement]:
    """Measure several models' predictions by every metric of the task, on the same bootstrap draws.

    Parameters
    ----------
    target : array of shape (n_rows,)
        Class indices or values.
    predictions : mapping of str to array
        By whatever the caller calls each model; see :mod:`millrace.metrics.scores`.
    seed : int
        Of the draws.
    """
    names = [metric.name for metric in METRICS[schema.task]]
    statistics = {
        (model, name): statistic(name, target, answers) for model, answers in predictions.items() for name in names
    }
    samples = bootstrap(statistics, len(target), seed=seed, resamples=resamples_for(len(target)))
    return {
        model: Measurement(
            compute_metrics(schema.task, target, answers), {name: samples[model, name] for name in names}, len(target)
        )
        for model, answers in predictions.items()
    }


def unanswered(predictions: npt.NDArray[Any]) -> int:
    """Return for how many rows a model's answer is not a number."""
    finite = np.isfinite(predictions)
    return int(np.sum(~(finite if finite.ndim == 1 else finite.all(axis=1))))


def baseline_predictions(schema: TableSchema, train_target: npt.NDArray[Any], rows: int) -> npt.NDArray[np.float64]:
    """Return what one would say without a model: each class's share in training, or the mean."""
    if schema.task == "regression":
        return np.full(rows, train_target.mean(), dtype=np.float64)
    shares = np.bincount(train_target, minlength=len(schema.classes)) / len(train_target)
    return np.tile(shares, (rows, 1))


#: Rows of a batch.
BATCH_ROWS = 1_000

WARM_UP_CALLS = 5
BLOCKS = 5
CALLS_OF_A_ROW = 40
CALLS_OF_A_BATCH = 8

#: Seconds after which no further block is begun: a model this slow has shown it.
MAX_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds of a call, in the quietest block."""

    rows: int
    median: float
    p95: float
    calls: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {"rows": self.rows, "p50_milliseconds": self.median, "p95_milliseconds": self.p95, "calls": self.calls}


def measure_latency(model: OnnxModel, features: FeatureMatrix, clock: Callable[[], float]) -> dict[str, Latency]:
    """Time one row and a batch of the holdout's rows, repeated where there are fewer.

    Parameters
    ----------
    clock : callable
        Seconds from any fixed point, monotonic.

    Returns
    -------
    dict of str to Latency
        ``row`` and ``batch``.
    """
    rows = [features.take(np.array([row % len(features)])) for row in range(CALLS_OF_A_ROW)]
    batch = features.take(np.arange(BATCH_ROWS) % len(features))
    return {
        "row": _time(model, rows, clock),
        "batch": _time(model, [batch] * CALLS_OF_A_BATCH, clock),
    }


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
