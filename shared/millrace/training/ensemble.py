"""Weights of an ensemble: the best few trials averaged, where rows outside the fits say that it pays.

Members are added one by one, with replacement, as long as the loss of the average falls (Caruana, Niculescu-Mizil, Crew
and Ksikes, "Ensemble selection from libraries of models", ICML 2004). The weights are chosen on the same rows for all
trials: out of fold, or the validation split. An average of models always looks good on the rows it was chosen on, so it
is validated by cross-validation: the weights of each fold's rows come from the other folds.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from millrace.metrics.catalogue import Metric, compute_metrics
from millrace.schema import Task
from millrace.training.trial_record import EnsembleReport

#: Models in one graph: each adds its latency and its bytes.
MAX_MEMBERS = 3
#: Trials, best first, that are considered.
MAX_CONSIDERED = 8
#: Steps of the selection; a weight is a multiple of one part in so many.
STEPS = 8
#: The average has to lower the loss by this share. A bar of a standard error refused half of the averages that were
#: better on rows of a holdout: what is chosen among noisy trials is itself no surer than their average.
LEAST_SHARE = 0.001
#: Rows outside the fits below which nothing is averaged.
LEAST_ROWS = 100
_SMALLEST_PROBABILITY = 1e-7

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class HeldOutPredictions:
    """Predictions of trials, best trial first, for the same rows outside of their fits, and each row's fold."""

    task: Task
    target: npt.NDArray[np.generic]
    fold_of: npt.NDArray[np.int64]
    predictions: Mapping[str, npt.NDArray[np.generic]]


@dataclass(frozen=True, slots=True)
class EnsembleChoice:
    """Weights of the trials that are averaged, the largest first, or of the best alone; and what was measured.

    ``predictions`` are those of each row by the weights of the other folds: the weights themselves know the row.
    """

    weights: Mapping[str, float]
    report: EnsembleReport
    predictions: npt.NDArray[np.float64]


def choose_ensemble(rows: HeldOutPredictions, metric: Metric) -> EnsembleChoice:
    """Return the weights of the trials that are averaged: of one, the best, unless an average is better.

    It is if its cross-validated loss is lower by :data:`LEAST_SHARE`, and ``metric``, by which the trials are ranked,
    is no worse.
    """
    names = list(rows.predictions)[:MAX_CONSIDERED]
    count, alone = len(rows.target), {names[0]: 1.0}
    best = np.asarray(rows.predictions[names[0]], dtype=np.float64)
    if len(names) < 2:  # noqa: PLR2004 - nothing to average
        return EnsembleChoice(alone, EnsembleReport(rows=count, reason="there is one trial"), best)
    if count < LEAST_ROWS:
        reason = f"{count} rows are too few to choose weights"
        return EnsembleChoice(alone, EnsembleReport(rows=count, reason=reason), best)
    stacked = np.stack([np.asarray(rows.predictions[name], dtype=np.float64) for name in names])
    single = row_losses(rows.task, rows.target, stacked[0])
    averaged = np.empty_like(stacked[0])
    for fold in np.unique(rows.fold_of):
        own = rows.fold_of == fold
        weights = select_weights(rows.task, rows.target[~own], stacked[:, ~own])
        averaged[own] = np.tensordot(weights, stacked[:, own], axes=1)
    losses = row_losses(rows.task, rows.target, averaged)
    loss, ensemble_loss = float(single.mean()), float(losses.mean())
    before, after = (
        compute_metrics(rows.task, rows.target, predictions).get(metric.name, float("nan"))
        for predictions in (stacked[0], averaged)
    )
    weights = select_weights(rows.task, rows.target, stacked)
    chosen = {name: float(weight) for name, weight in zip(names, weights, strict=True) if weight > 0}
    is_lower = ensemble_loss < (1 - LEAST_SHARE) * loss
    pays = len(chosen) > 1 and is_lower and metric.gain(after, before) >= 0.0
    reason = f"an average of trials has a loss of {ensemble_loss:.4g} outside the fits, the best trial of {loss:.4g}"
    if is_lower and not pays:
        reason += f", and the average's {metric.name} is no better" if len(chosen) > 1 else ", and the best is enough"
    report = EnsembleReport(
        rows=count,
        reason=reason,
        loss=loss,
        ensemble_loss=ensemble_loss,
        standard_error=float((single - losses).std(ddof=1) / np.sqrt(count)),
    )
    if not pays:
        return EnsembleChoice(alone, report, best)
    return EnsembleChoice(dict(sorted(chosen.items(), key=lambda pair: -pair[1])), report, averaged)


def select_weights(task: Task, target: npt.NDArray[np.generic], stacked: _Floats) -> _Floats:
    """Return weights of models that minimise the loss of their average; ``stacked`` holds the predictions of each.

    At most :data:`MAX_MEMBERS` are not zero; they sum to one. The first model is the best one.
    """
    counts = np.zeros(len(stacked))
    counts[0] = 1.0
    total = stacked[0].copy()
    lowest = float(row_losses(task, target, total).mean())
    for step in range(1, STEPS):
        allowed = range(len(stacked)) if np.count_nonzero(counts) < MAX_MEMBERS else np.flatnonzero(counts).tolist()
        losses = {model: _loss_with(task, target, total, stacked[model], step) for model in allowed}
        chosen = min(losses, key=lambda model: losses[model])
        # A member that is already in may be repeated: that only makes room for finer weights.
        if losses[chosen] >= lowest and counts[chosen] == 0:
            break
        counts[chosen] += 1
        total += stacked[chosen]
        lowest = min(lowest, losses[chosen])
    return np.asarray(counts / counts.sum())


def _loss_with(task: Task, target: npt.NDArray[np.generic], total: _Floats, added: _Floats, count: int) -> float:
    return float(row_losses(task, target, (total + added) / (count + 1)).mean())


def row_losses(task: Task, target: npt.NDArray[np.generic], predictions: _Floats) -> _Floats:
    """Return the squared error, or the log loss, of each row."""
    if task == "regression":
        return np.asarray((predictions - target.astype(np.float64)) ** 2)
    chance = predictions[np.arange(len(target)), target.astype(np.int64)]
    return np.asarray(-np.log(np.maximum(chance, _SMALLEST_PROBABILITY)))
