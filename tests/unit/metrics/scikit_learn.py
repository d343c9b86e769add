"""The metrics of the catalogue by scikit-learn, as the reference of tests."""

from collections.abc import Callable, Mapping

import numpy as np
from sklearn import metrics


def _proper(probabilities: np.ndarray) -> np.ndarray:
    wide = probabilities.astype(np.float64)
    return wide / wide.sum(axis=1, keepdims=True)


def _log_loss(target: np.ndarray, probabilities: np.ndarray) -> float:
    return float(metrics.log_loss(target, _proper(probabilities), labels=np.arange(probabilities.shape[1])))


def _roc_auc(target: np.ndarray, probabilities: np.ndarray) -> float:
    if len(np.unique(target)) < 2:
        return float("nan")
    return float(metrics.roc_auc_score(target, probabilities[:, 1]))


def _roc_auc_ovr(target: np.ndarray, probabilities: np.ndarray) -> float:
    classes = np.arange(probabilities.shape[1])
    if len(np.unique(target)) < len(classes):
        return float("nan")
    return float(metrics.roc_auc_score(target, _proper(probabilities), multi_class="ovr", labels=classes))


def _pr_auc(target: np.ndarray, probabilities: np.ndarray) -> float:
    if not (target == 1).any():
        return float("nan")
    return float(metrics.average_precision_score(target, probabilities[:, 1]))


def _brier(target: np.ndarray, probabilities: np.ndarray) -> float:
    wide, classes = probabilities.astype(np.float64), probabilities.shape[1]
    labels = np.arange(classes)
    return float(metrics.brier_score_loss(target, _proper(wide), labels=labels, scale_by_half=classes == 2))


def _f1(target: np.ndarray, probabilities: np.ndarray) -> float:
    return float(metrics.f1_score(target, probabilities.argmax(axis=1), zero_division=0.0))


def _macro_f1(target: np.ndarray, probabilities: np.ndarray) -> float:
    labels = np.arange(probabilities.shape[1])
    predicted = probabilities.argmax(axis=1)
    return float(metrics.f1_score(target, predicted, labels=labels, average="macro", zero_division=0.0))


def _r2(target: np.ndarray, values: np.ndarray) -> float:
    return float("nan") if np.ptp(target) == 0 else float(metrics.r2_score(target, values))


def _error_quantile(share: float) -> Callable[[np.ndarray, np.ndarray], float]:
    def quantile(target: np.ndarray, values: np.ndarray) -> float:
        return float(np.quantile(np.abs(values.astype(np.float64) - target), share, method="inverted_cdf"))

    return quantile


REFERENCE: Mapping[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "roc_auc": _roc_auc,
    "pr_auc": _pr_auc,
    "log_loss": _log_loss,
    "brier": _brier,
    "accuracy": lambda target, probabilities: float(metrics.accuracy_score(target, probabilities.argmax(axis=1))),
    "f1": _f1,
    "macro_f1": _macro_f1,
    "roc_auc_ovr": _roc_auc_ovr,
    "rmse": lambda target, values: float(metrics.root_mean_squared_error(target, values)),
    "mae": lambda target, values: float(metrics.mean_absolute_error(target, values)),
    "r2": _r2,
    "error_p50": _error_quantile(0.5),
    "error_p90": _error_quantile(0.9),
}
