"""A neural network for values of any size."""

from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.neural_network import MLPRegressor


class ScaledMLPRegressor(MLPRegressor):  # type: ignore[misc]  # scikit-learn ships no types
    """scikit-learn's network, fitted on a standardised target whose scale then goes into the last layer.

    Its steps and its penalty are made for targets of about one; a price in cents would never be reached. The last
    layer is linear, so taking the scale into it is exact, and the ONNX form needs nothing more.
    """

    def fit(self, rows: npt.NDArray[Any], target: npt.NDArray[Any]) -> Self:
        """Fit the network."""
        mean, scale = float(np.mean(target)), float(np.std(target)) or 1.0
        super().fit(rows, (np.asarray(target, dtype=np.float64) - mean) / scale)
        self.coefs_[-1] = self.coefs_[-1] * scale
        self.intercepts_[-1] = self.intercepts_[-1] * scale + mean
        return self
