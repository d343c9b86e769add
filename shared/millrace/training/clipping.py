"""Bounds of numbers for models whose predictions grow with their inputs: linear models, networks and neighbours.

One number far beyond all others, a typing error most often, would else move a prediction beyond all others. A column is
clipped at its first and last percentile, each moved outwards by the distance of the two, so that a trend may go on for
as long again.
"""

from typing import Any, Self

import numpy as np
import numpy.typing as npt
from skl2onnx import update_registered_converter
from skl2onnx.algebra import onnx_ops as ops
from skl2onnx.common.data_types import FloatTensorType
from sklearn.base import BaseEstimator, TransformerMixin

#: The quantiles that stand for a column's range, and the share of it that is added on either side.
LOW, HIGH = 0.01, 0.99
MARGIN = 1.0


class Clipper(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """Columns of known numbers, each within bounds."""

    def fit(self, numbers: npt.NDArray[Any], target: Any = None) -> Self:  # noqa: ARG002  # as steps are called
        """Find the bounds of each column; where both percentiles are one number, its least and greatest."""
        wide = numbers.astype(np.float64)
        low, high = np.quantile(wide, [LOW, HIGH], axis=0)
        is_flat = low == high
        low, high = low - MARGIN * (high - low), high + MARGIN * (high - low)
        bounds = np.where(is_flat, [wide.min(axis=0), wide.max(axis=0)], [low, high])
        largest = float(np.finfo(np.float32).max)
        self.low_, self.high_ = np.clip(bounds, -largest, largest).astype(np.float32)
        self.n_features_in_ = numbers.shape[1]
        return self

    def transform(self, numbers: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the numbers within the bounds."""
        return np.asarray(np.clip(numbers, self.low_, self.high_))


def _shapes(operator: Any) -> None:
    rows = operator.inputs[0].get_first_dimension()
    operator.outputs[0].type = FloatTensorType([rows, operator.raw_operator.n_features_in_])


def _convert(scope: Any, operator: Any, container: Any) -> None:
    step, version = operator.raw_operator, container.target_opset
    raised = ops.OnnxMax(operator.inputs[0], step.low_[None, :], op_version=version)
    ops.OnnxMin(raised, step.high_[None, :], op_version=version, output_names=operator.outputs).add_to(scope, container)


update_registered_converter(Clipper, "MillraceClipper", _shapes, _convert)
