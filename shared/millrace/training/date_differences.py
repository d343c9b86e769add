"""Differences of dates: the days from each date column of a row to each other one, a duration or an age.

A tree would need a split for every day to see that two dates are a week apart, and a difference is one number. It is
taken of the days since 2000 that the model gets, so it is exact to a minute and a half.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from skl2onnx import update_registered_converter
from skl2onnx.algebra import onnx_ops as ops
from skl2onnx.common.data_types import FloatTensorType
from sklearn.base import BaseEstimator, TransformerMixin

#: Dates of a row whose differences are taken, the first ones: six pairs.
MAX_DATES = 4


def date_pairs(numbers: npt.NDArray[np.float32], dates: Sequence[int]) -> list[tuple[int, int]]:
    """Return the pairs of columns with days whose difference is known in some row and is not always the same."""
    pairs = []
    for first, second in combinations(list(dates)[:MAX_DATES], 2):
        difference = numbers[:, second] - numbers[:, first]
        known = difference[~np.isnan(difference)]
        if len(known) and bool((known != known[0]).any()):
            pairs.append((first, second))
    return pairs


class DateDifferences(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """Pairs of columns to their differences, float32; NaN where one is missing."""

    def __init__(self, pairs: tuple[tuple[int, int], ...]) -> None:
        self.pairs = pairs

    def fit(self, days: npt.NDArray[np.float32], _target: Any = None) -> Self:
        """Learn nothing."""
        self.n_features_in_ = days.shape[1]
        return self

    def transform(self, days: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return the second column of each pair less the first."""
        firsts, seconds = (list(columns) for columns in zip(*self.pairs, strict=True))
        return np.asarray(days[:, seconds] - days[:, firsts])


def _shapes(operator: Any) -> None:
    rows = operator.inputs[0].get_first_dimension()
    operator.outputs[0].type = FloatTensorType([rows, len(operator.raw_operator.pairs)])


def _convert(scope: Any, operator: Any, container: Any) -> None:
    version = container.target_opset
    firsts, seconds = (np.array(columns, dtype=np.int64) for columns in zip(*operator.raw_operator.pairs, strict=True))
    chosen = [ops.OnnxGather(operator.inputs[0], columns, axis=1, op_version=version) for columns in (seconds, firsts)]
    ops.OnnxSub(*chosen, op_version=version, output_names=operator.outputs).add_to(scope, container)


update_registered_converter(DateDifferences, "MillraceDateDifferences", _shapes, _convert)
