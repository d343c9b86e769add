"""Estimators with an exact ONNX form: kernel nearest neighbours, and a network for a target of any scale.

scikit-learn's neighbours take exactly ``k`` rows, and where several are equally far (as rows of categories are) it and
ONNX Runtime take different ones. Here a neighbour's weight falls to zero at the distance of the ``k+1``-th, so ties do
not matter: the Epanechnikov kernel with nearest-neighbour bandwidth (Hastie, Tibshirani and Friedman, *The Elements of
Statistical Learning*, 2009, section 6.1).
"""

from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.neural_network import MLPRegressor

#: Added to the squared bandwidth, so that rows at distance zero count alike in spite of rounding.
SMOOTHING = 1e-2

#: Standardised values are cut here, so that one extreme number does not make all rows equally far.
MAX_DEVIATION = 10.0

#: Rows compared at once.
BLOCK_ROWS = 1_024


class _KernelNeighbours(BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """Base of both tasks; ``outcomes_`` are the values that are averaged over neighbours."""

    def __init__(self, n_neighbours: int = 15) -> None:
        self.n_neighbours = n_neighbours

    def _store(self, rows: npt.NDArray[Any], outcomes: npt.NDArray[Any]) -> None:
        self.rows_ = np.clip(rows, -MAX_DEVIATION, MAX_DEVIATION).astype(np.float64)
        self.outcomes_ = outcomes.astype(np.float64)
        self.n_features_in_ = rows.shape[1]
        #: Position, among ascending distances, of the one that is the bandwidth.
        self.bandwidth_position_ = min(self.n_neighbours, len(rows) - 1)

    def _average(self, rows: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        blocks = [self._average_block(rows[start : start + BLOCK_ROWS]) for start in range(0, len(rows), BLOCK_ROWS)]
        return np.concatenate(blocks) if blocks else np.empty((0, self.outcomes_.shape[1]))

    def _average_block(self, rows: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        cut = np.clip(rows, -MAX_DEVIATION, MAX_DEVIATION).astype(np.float64)
        squared = (cut**2).sum(axis=1, keepdims=True) + (self.rows_**2).sum(axis=1) - 2.0 * cut @ self.rows_.T
        squared = np.maximum(squared, 0.0)
        position = self.bandwidth_position_
        bandwidth = np.partition(squared, position, axis=1)[:, position : position + 1] + SMOOTHING
        weights = np.maximum(1.0 - squared / bandwidth, 0.0)
        return np.asarray(weights @ self.outcomes_ / weights.sum(axis=1, keepdims=True))


class NeighboursClassifier(ClassifierMixin, _KernelNeighbours):  # type: ignore[misc]  # as above
    """Weighted shares of classes among the ``n_neighbours`` nearest rows."""

    def fit(self, rows: npt.NDArray[Any], target: npt.NDArray[Any]) -> Self:
        """Store the rows."""
        self.classes_, positions = np.unique(target, return_inverse=True)
        self._store(rows, np.eye(len(self.classes_))[positions])
        return self

    def predict_proba(self, rows: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Return the weighted share of each class, shape (n_rows, n_classes)."""
        return self._average(rows)

    def predict(self, rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the class with the largest share."""
        return np.asarray(self.classes_[self.predict_proba(rows).argmax(axis=1)])


class NeighboursRegressor(RegressorMixin, _KernelNeighbours):  # type: ignore[misc]  # as above
    """Weighted mean of the ``n_neighbours`` nearest rows."""

    def fit(self, rows: npt.NDArray[Any], target: npt.NDArray[Any]) -> Self:
        """Store the rows."""
        self._store(rows, np.asarray(target, dtype=np.float64)[:, None])
        return self

    def predict(self, rows: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Return the weighted mean, shape (n_rows,)."""
        return self._average(rows)[:, 0]


class ScaledMLPRegressor(MLPRegressor):  # type: ignore[misc]  # scikit-learn ships no types
    """scikit-learn's network, fitted on a standardised target whose scale then goes into the last layer.

    Its steps and its penalty are made for targets of about one. The last layer is linear, so scaling it is exact, and
    the ONNX form needs no further node.
    """

    def fit(self, rows: npt.NDArray[Any], target: npt.NDArray[Any]) -> Self:
        """Fit the network."""
        mean, scale = float(np.mean(target)), float(np.std(target)) or 1.0
        super().fit(rows, (np.asarray(target, dtype=np.float64) - mean) / scale)
        self.coefs_[-1] = self.coefs_[-1] * scale
        self.intercepts_[-1] = self.intercepts_[-1] * scale + mean
        return self
