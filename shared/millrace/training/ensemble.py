"""Weights of an ensemble: the best few trials averaged, where rows outside the fits say that it pays.

Members are added one by one, with replacement, as long as the loss of the average falls, and the weights are the mean
of those that many draws of the rows give (Caruana, Niculescu-Mizil, Crew and Ksikes, "Ensemble selection from libraries
of models", ICML 2004). They are chosen on the same rows for all trials: out of fold, or the validation split. So was
the best trial: the two are compared on those rows. What is claimed of an average is measured by cross-validation: the
weights of each fold's rows come from the other folds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from millrace.metrics.catalogue import Metric, compute_metrics
from millrace.schema import Task
from millrace.training.search_space import BOOSTING
from millrace.training.trial_record import EnsembleReport

#: Models in one graph: each adds its latency and its bytes.
MAX_MEMBERS = 3
#: Boostings among them: their fits are the dearest, and a third adds least to two.
MAX_BOOSTINGS = 2
#: Trials, best first, that are considered.
MAX_CONSIDERED = 8
#: Steps of the selection; a weight is a multiple of one part in so many.
STEPS = 8
#: Draws of rows with replacement whose weights are averaged: a few hundred rows choose too sharply. Most rows of one.
DRAWS, MAX_DRAWN_ROWS = 20, 5_000
#: A smaller weight is not worth a member.
LEAST_WEIGHT, WEIGHT_DIGITS = 0.1, 3
#: Standard errors by which the cross-validated loss may exceed that of the best trial, which is the least of several on
#: the very rows that it was chosen on.
TOLERATED_ERRORS = 2.0
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
    #: By trial; unknown ones are no boosting.
    candidates: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class EnsembleChoice:
    """Weights of the trials that are averaged, the largest first, or of the best alone; and what was measured.

    ``predictions`` are those of each row by the weights of the other folds: the weights themselves know the row.
    """

    weights: Mapping[str, float]
    report: EnsembleReport
    predictions: npt.NDArray[np.float64]


def choose_ensemble(rows: HeldOutPredictions, metric: Metric, seed: int = 0) -> EnsembleChoice:
    """Return the weights of the trials that are averaged: of one, the best, unless an average is better.

    It is if its loss is lower on the rows, and ``metric``, by which the trials are ranked, no worse; not if by
    cross-validation its loss is higher by more than :data:`TOLERATED_ERRORS`. ``seed`` draws the rows.
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
    errors = np.stack([_errors(rows.task, rows.target, predictions) for predictions in stacked])
    averaged = np.empty_like(stacked[0])
    boostings = [position for position, name in enumerate(names) if rows.candidates.get(name) == BOOSTING]
    for fold in np.unique(rows.fold_of):
        own = rows.fold_of == fold
        weights = average_weights(rows.task, errors[:, ~own], seed, boostings)
        averaged[own] = np.tensordot(weights, stacked[:, own], axes=1)
    single, losses = _losses(rows.task, errors[0]), row_losses(rows.task, rows.target, averaged)
    loss, ensemble_loss = float(single.mean()), float(losses.mean())
    standard_error = float((single - losses).std(ddof=1) / np.sqrt(count))
    weights = average_weights(rows.task, errors, seed, boostings)
    chosen = {name: float(weight) for name, weight in zip(names, weights, strict=True) if weight > 0}
    fault = ""
    if len(chosen) == 1:
        fault = "the best is enough"
    elif not float(_losses(rows.task, weights @ errors).mean()) < loss:
        fault = "the average has no lower loss with weights of these rows either"
    elif ensemble_loss > loss + TOLERATED_ERRORS * standard_error:
        fault = "the average is worse by more than chance"
    elif (
        not metric.gain(*(_measure(rows, metric, each) for each in (np.tensordot(weights, stacked, axes=1), best))) >= 0
    ):
        fault = f"the average's {metric.name} is no better"
    reason = f"an average of trials has a loss of {ensemble_loss:.4g} outside the fits, the best trial of {loss:.4g}"
    report = EnsembleReport(
        rows=count,
        reason=f"{reason}, and {fault}" if fault else reason,
        loss=loss,
        ensemble_loss=ensemble_loss,
        standard_error=standard_error,
    )
    if fault:
        return EnsembleChoice(alone, report, best)
    return EnsembleChoice(dict(sorted(chosen.items(), key=lambda pair: -pair[1])), report, averaged)


def _measure(rows: HeldOutPredictions, metric: Metric, predictions: _Floats) -> float:
    return compute_metrics(rows.task, rows.target, predictions).get(metric.name, float("nan"))


def average_weights(task: Task, errors: _Floats, seed: int, boostings: Sequence[int] = ()) -> _Floats:
    """Return the mean weights of models over :data:`DRAWS` of rows; ``errors`` hold those of each model and row.

    At most :data:`MAX_MEMBERS` are not zero, and :data:`MAX_BOOSTINGS` of ``boostings``; they sum to one.
    """
    draws, count = np.random.default_rng(seed), errors.shape[1]
    drawn = (draws.integers(0, count, min(count, MAX_DRAWN_ROWS)) for _ in range(DRAWS))
    weights = np.mean([select_weights(task, errors[:, rows]) for rows in drawn], axis=0)
    order = np.argsort(-weights, kind="stable")
    is_boosting = np.isin(order, np.asarray(boostings, dtype=np.int64))
    kept = order[~is_boosting | (np.cumsum(is_boosting) <= MAX_BOOSTINGS)][:MAX_MEMBERS]
    kept = kept[weights[kept] >= LEAST_WEIGHT]
    few = np.zeros(len(errors))
    few[kept] = np.round(weights[kept] / weights[kept].sum(), WEIGHT_DIGITS)
    few[kept[0]] += 1.0 - few.sum()
    return few


def select_weights(task: Task, errors: _Floats) -> _Floats:
    """Return weights of models that minimise the loss of their average on some rows.

    At most :data:`MAX_MEMBERS` are not zero; they sum to one. The first model is the best one.
    """
    counts = np.zeros(len(errors))
    counts[0] = 1.0
    total = errors[0].copy()
    lowest = float(_losses(task, total).mean())
    for step in range(1, STEPS):
        allowed = range(len(errors)) if np.count_nonzero(counts) < MAX_MEMBERS else np.flatnonzero(counts).tolist()
        losses = {model: float(_losses(task, (total + errors[model]) / (step + 1)).mean()) for model in allowed}
        chosen = min(losses, key=lambda model: losses[model])
        # A member that is already in may be repeated: that only makes room for finer weights.
        if losses[chosen] >= lowest and counts[chosen] == 0:
            break
        counts[chosen] += 1
        total += errors[chosen]
        lowest = min(lowest, losses[chosen])
    return np.asarray(counts / counts.sum())


def row_losses(task: Task, target: npt.NDArray[np.generic], predictions: _Floats) -> _Floats:
    """Return the squared error, or the log loss, of each row."""
    return _losses(task, _errors(task, target, predictions))


def _errors(task: Task, target: npt.NDArray[np.generic], predictions: _Floats) -> _Floats:
    """Return what an average of predictions has the average of: a row's residual, or the chance of its class."""
    if task == "regression":
        return np.asarray(predictions - target.astype(np.float64))
    return np.asarray(predictions[np.arange(len(target)), target.astype(np.int64)])


def _losses(task: Task, errors: _Floats) -> _Floats:
    return errors**2 if task == "regression" else np.asarray(-np.log(np.maximum(errors, _SMALLEST_PROBABILITY)))
