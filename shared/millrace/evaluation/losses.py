"""What each row costs a model: the losses that slices are compared by, one number a row."""

from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

#: The loss that goes with each metric; it is additive over rows, which areas and F-scores are not.
LOSSES = {
    "roc_auc": "log_loss",
    "roc_auc_ovr": "log_loss",
    "pr_auc": "log_loss",
    "log_loss": "log_loss",
    "brier": "brier",
    "accuracy": "error",
    "f1": "error",
    "macro_f1": "error",
    "rmse": "squared_error",
    "r2": "squared_error",
    "mae": "absolute_error",
    "error_p50": "absolute_error",
    "error_p90": "absolute_error",
}


def row_losses(loss: str, target: npt.NDArray[Any], predictions: npt.NDArray[Any]) -> FloatArray:
    """Return the loss of each row; ``loss`` is a value of :data:`LOSSES`."""
    wide = predictions.astype(np.float64)
    if loss == "squared_error":
        return np.asarray((wide - target) ** 2)
    if loss == "absolute_error":
        return np.asarray(np.abs(wide - target))
    if loss == "error":
        return np.asarray(wide.argmax(axis=1) != target, dtype=np.float64)
    of_target = wide[np.arange(len(target)), target]
    if loss == "brier":
        return np.asarray((wide**2).sum(axis=1) - 2 * of_target + 1)
    smallest = np.finfo(np.float64).eps
    return np.asarray(-np.log(np.clip(of_target / wide.sum(axis=1), smallest, 1.0)))
