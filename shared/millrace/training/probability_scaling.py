"""Calibration of probabilities on rows outside a model's fit, where cross-validation shows that it pays.

The calibrated probabilities are ``softmax(weights * log(p) + bias)``, which ONNX has as operators. Three forms:

- *temperature*: one weight for all classes (Guo et al., "On calibration of modern neural networks", ICML 2017);
- *platt*: one weight, and a bias of each class (Platt, 1999; Kull et al., NeurIPS 2019, for many classes);
- *beta*: of two classes, a weight of each and a bias (Kull, Silva Filho and Flach, AISTATS 2017).

Weights are positive, so two classes keep the order of their rows. There is no isotonic regression: its steps give rows
the same probability, and it needs thousands of rows to beat *beta* (Niculescu-Mizil and Caruana, ICML 2005).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.metrics.catalogue import LOG_LOSS
from millrace.training.trial_record import ScalingMethod, ScalingReport

FloatArray = npt.NDArray[np.float64]
Array = npt.NDArray[Any]

#: Probabilities below are raised to it before the logarithm; float32 is one part in ten millions.
SMALLEST_PROBABILITY = 1e-7
#: Rows, and rows of each class, that a calibration needs; and most rows that one is fitted on.
MIN_ROWS, MIN_CLASS_ROWS, MAX_ROWS = 100, 10, 20_000
#: Least share of the log loss that a calibration has to gain, besides a standard error.
MIN_GAIN = 0.005
#: Classes, and rows for each, of a bias of each class.
MAX_BIASED_CLASSES, ROWS_PER_BIAS = 10, 50
WEIGHT_RANGE = (0.05, 20.0)
#: Digits after the point: other processors' last digits make the same bytes.
DIGITS = 4

_BINARY = 2
_log_losses = LOG_LOSS.row_loss
#: Weight of the deviation from the identity, in rows: separable classes would ask for infinite weights.
_PENALTY = 1.0
_ITERATIONS, _HALVINGS, _TOLERANCE = 25, 8, 1e-7


@dataclass(frozen=True, slots=True)
class ProbabilityScaling:
    """A calibration of probabilities."""

    method: ScalingMethod
    weights: FloatArray
    bias: FloatArray

    def apply(self, probabilities: Array) -> FloatArray:
        """Return calibrated probabilities, shape (n_rows, n_classes)."""
        return _softmax(_logs(probabilities) * self.weights + self.bias)


@dataclass(frozen=True, slots=True)
class ScalingChoice:
    """The calibration that pays, or None; ``probabilities`` are by those fitted on the other folds."""

    scaling: ProbabilityScaling | None
    report: ScalingReport
    probabilities: Array


def choose_scaling(target: Array, probabilities: Array, fold_of: Array) -> ScalingChoice:
    """Choose a calibration by the cross-validated log loss of rows that the model was not fitted on.

    A form is chosen over a simpler one, or none, if it gains more than a standard error of the rows' differences, and
    more than :data:`MIN_GAIN` of the log loss.

    Parameters
    ----------
    target : array of int, shape (n_rows,)
        Index of each row's class.
    probabilities : array of shape (n_rows, n_classes)
        Of the model.
    fold_of : array of int, shape (n_rows,)
        Fold of each row: each fold is scaled by what the others give.
    """
    before = _log_losses(target, probabilities)
    report = ScalingReport(method="none", rows=len(target), log_loss=float(before.mean()))
    counts = np.bincount(target, minlength=probabilities.shape[1])
    if len(target) < MIN_ROWS or counts.min() < MIN_CLASS_ROWS or not np.isfinite(probabilities).all():
        return ScalingChoice(None, report, probabilities)
    chosen, losses, scaled = None, before, probabilities
    for method in _methods(counts):
        whole, candidate = _fit(method, target, probabilities), np.empty(probabilities.shape, dtype=np.float64)
        if losses.mean() - _log_losses(target, whole.apply(probabilities)).mean() <= MIN_GAIN * before.mean():
            continue  # what does not pay on the rows of its fit does not on others: no fold has to be fitted
        for fold in np.unique(fold_of):
            inside = fold_of == fold
            candidate[inside] = _fit(method, target[~inside], probabilities[~inside], whole).apply(
                probabilities[inside]
            )
        gains = losses - _log_losses(target, candidate)
        error = float(gains.std(ddof=1) / np.sqrt(len(gains)))
        if gains.mean() > max(error, MIN_GAIN * before.mean()):
            chosen, losses, scaled = method, losses - gains, candidate
    if chosen is None:
        return ScalingChoice(None, report, probabilities)
    gains, scaling = before - losses, _fit(chosen, target, probabilities)
    report = ScalingReport(
        method=scaling.method,
        rows=len(target),
        log_loss=float(before.mean()),
        scaled_log_loss=float(losses.mean()),
        standard_error=float(gains.std(ddof=1) / np.sqrt(len(gains))),
        weights=tuple(scaling.weights.tolist()),
        bias=tuple(scaling.bias.tolist()),
    )
    return ScalingChoice(scaling, report, scaled.astype(np.float32))


def _methods(counts: Array) -> list[ScalingMethod]:
    """Return the forms to try, the simplest first."""
    if len(counts) == _BINARY:
        return ["temperature", "platt", "beta"]
    is_biased = len(counts) <= MAX_BIASED_CLASSES and counts.sum() >= ROWS_PER_BIAS * len(counts)
    return ["temperature", "platt"] if is_biased else ["temperature"]


def _features(method: ScalingMethod, logs: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return what each parameter is multiplied by, shape (n_rows, n_classes, n_parameters), and the identity's."""
    classes = logs.shape[1]
    if method == "beta":
        weights, identity = logs[:, :, None] * np.eye(classes), [1.0] * classes
    else:
        weights, identity = logs[:, :, None], [1.0]
    if method == "temperature":
        return weights, np.array(identity)
    biases = np.broadcast_to(np.eye(classes)[:, 1:], (len(logs), classes, classes - 1))
    return np.concatenate([weights, biases], axis=2), np.array([*identity, *[0.0] * (classes - 1)])


def _fit(
    method: ScalingMethod, target: Array, probabilities: Array, near: ProbabilityScaling | None = None
) -> ProbabilityScaling:
    """Minimise the log loss by Newton's method, from the identity or from a calibration of the same form on."""
    step = -(-len(target) // MAX_ROWS)
    target, logs = target[::step], _logs(probabilities[::step])
    features, identity = _features(method, logs)
    observed, parameters = np.eye(logs.shape[1])[target], identity.copy()
    if near:
        of_classes = near.weights if method == "beta" else near.weights[:1]
        parameters = np.concatenate([of_classes, near.bias[1:]])[: len(identity)]
    flat = np.ascontiguousarray(features).reshape(-1, len(identity))

    def objective(at: FloatArray) -> float:
        scores = features @ at
        top = scores.max(axis=1)
        sums = np.log(np.exp(scores - top[:, None]).sum(axis=1)) + top
        return float((sums - (scores * observed).sum(axis=1)).sum() + _PENALTY / 2 * ((at - identity) ** 2).sum())

    value = objective(parameters)
    for _ in range(_ITERATIONS):
        shares = _softmax(features @ parameters)
        gradient = flat.T @ (shares - observed).ravel() + _PENALTY * (parameters - identity)
        weighted = shares[:, :, None] * features
        means = weighted.sum(axis=1)
        curvature = weighted.reshape(flat.shape).T @ flat - means.T @ means
        direction = np.linalg.solve(curvature + _PENALTY * np.eye(len(identity)), gradient)
        for halving in range(_HALVINGS):
            moved = parameters - direction * 0.5**halving
            lower = objective(moved)
            if lower <= value:
                break
        else:
            break
        parameters, value, gained = moved, lower, value - lower
        if gained < _TOLERANCE * max(1.0, abs(value)):
            break
    classes = logs.shape[1]
    count = classes if method == "beta" else 1
    weights = np.clip(np.broadcast_to(parameters[:count], (classes,)), *WEIGHT_RANGE)
    bias = np.zeros(classes) if method == "temperature" else np.r_[0.0, parameters[count:]]
    return ProbabilityScaling(method, np.round(weights, DIGITS), np.round(bias, DIGITS))


def _logs(probabilities: Array) -> FloatArray:
    return np.log(np.maximum(probabilities.astype(np.float64), SMALLEST_PROBABILITY))


def _softmax(scores: FloatArray) -> FloatArray:
    raised = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))
