"""Statistics of categories: what the target is on average for each value of a column of many values.

The mean target of a category is shrunk towards the overall mean (Micci-Barreca, "A preprocessing scheme for
high-cardinality categorical attributes in classification and prediction problems", SIGKDD Explorations 3, 2001), and
cross-fitted: the rows that a model is fitted on get the means of other rows, so no row's statistic holds its own
target. With several classes there is one statistic for each class, the share of its rows.

Trees get the category's code beside its statistic: the statistic groups categories that are alike, and the code lets a
split single one out that is not like its mean.
"""

from typing import Any, Self

import numpy as np
import numpy.typing as npt
from skl2onnx import update_registered_converter
from skl2onnx.algebra import onnx_ops as ops
from skl2onnx.common.data_types import FloatTensorType
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.preprocessing import TargetEncoder

from millrace.schema import Task

#: Most classes, the most frequent ones, that a column has statistics of.
MAX_STATISTIC_CLASSES = 10
#: Parts of the training rows; the statistics of each come from the others.
CROSS_FITS = 5
#: Code of an unseen category for trees.
UNSEEN_CODE = -1

Matrix = npt.NDArray[np.float32]


class CategoryStatistics(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn ships no types
    """Columns of strings to statistics of the target, float32, after the codes if ``codes``.

    The output holds for each column in turn: its code, and its statistics.
    """

    def __init__(self, task: Task, codes: bool, seed: int) -> None:
        self.task = task
        self.codes = codes
        self.seed = seed

    def fit(self, strings: npt.NDArray[Any], target: npt.NDArray[Any]) -> Self:
        """Compute the statistics of all rows."""
        self.fit_transform(strings, target)
        return self

    def fit_transform(self, strings: npt.NDArray[Any], target: npt.NDArray[Any], **_ignored: Any) -> Matrix:
        """Compute the statistics of all rows, and return those of the rows themselves, cross-fitted."""
        kind = {"regression": "continuous", "binary": "binary", "multiclass": "multiclass"}[self.task]
        rarest = len(target) if self.task == "regression" else int(np.unique(target, return_counts=True)[1].min())
        folds = KFold if self.task == "regression" or rarest < CROSS_FITS else StratifiedKFold
        encoder = TargetEncoder(target_type=kind, cv=folds(CROSS_FITS, shuffle=True, random_state=self.seed))
        crossed = encoder.fit_transform(strings, target).astype(np.float32)
        columns = self.n_features_in_ = strings.shape[1]
        self.categories_ = [np.asarray(known, dtype=np.str_) for known in encoder.categories_]
        width = len(encoder.encodings_) // columns
        means = np.atleast_1d(np.asarray(encoder.target_mean_, dtype=np.float64))
        kept = np.sort(np.argsort(-means, kind="stable")[:MAX_STATISTIC_CLASSES])
        #: The outputs of each column: a row for each category, and the last for what is unseen.
        self.tables_: list[Matrix] = []
        parts = []
        for column, known in enumerate(self.categories_):
            own = encoder.encodings_[column * width : (column + 1) * width]
            table = np.append(np.stack(own, axis=1), means[None, :], axis=0).astype(np.float32)[:, kept]
            part = crossed[:, column * width : (column + 1) * width][:, kept]
            if self.codes:
                codes = np.append(np.arange(len(known)), UNSEEN_CODE).astype(np.float32)
                table = np.concatenate([codes[:, None], table], axis=1)
                part = np.concatenate([codes[self._positions(strings[:, column], known), None], part], axis=1)
            self.tables_.append(table)
            parts.append(part)
        return np.concatenate(parts, axis=1)

    def transform(self, strings: npt.NDArray[Any]) -> Matrix:
        """Return the statistics of rows."""
        parts = [
            table[self._positions(strings[:, column], known)]
            for column, (known, table) in enumerate(zip(self.categories_, self.tables_, strict=True))
        ]
        return np.concatenate(parts, axis=1)

    @staticmethod
    def _positions(values: npt.NDArray[Any], known: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Return the row of each value in a column's table."""
        values = np.asarray(values, dtype=np.str_)
        found = np.minimum(np.searchsorted(known, values), len(known) - 1)
        return np.where(known[found] == values, found, len(known))

    def set_unseen_below(self) -> npt.NDArray[np.float64]:
        """Give what is unseen outputs below all others, and return the bound of each output, between the two."""
        bounds = []
        for table in self.tables_:
            lowest = table[:-1].min(axis=0).astype(np.float64)
            gap = np.maximum(1.0, np.abs(lowest))
            table[-1] = lowest - gap
            bounds.append(lowest - gap / 2)
        return np.concatenate(bounds)


def _shapes(operator: Any) -> None:
    width = sum(table.shape[1] for table in operator.raw_operator.tables_)
    operator.outputs[0].type = FloatTensorType([operator.inputs[0].get_first_dimension(), width])


def _convert(scope: Any, operator: Any, container: Any) -> None:
    """Look each column's value up in its table: a row's position by a label encoder, its outputs by position."""
    step, version = operator.raw_operator, container.target_opset
    parts = []
    for column, (known, table) in enumerate(zip(step.categories_, step.tables_, strict=True)):
        value = ops.OnnxArrayFeatureExtractor(
            operator.inputs[0], np.array([column], dtype=np.int64), op_version=version
        )
        position = ops.OnnxLabelEncoder_2(
            value,
            keys_strings=known.tolist(),
            values_int64s=list(range(len(known))),
            default_int64=len(known),
            op_version=2,
        )
        flat = ops.OnnxReshape(position, np.array([-1], dtype=np.int64), op_version=version)
        parts.append(ops.OnnxGather(table, flat, axis=0, op_version=version))
    ops.OnnxConcat(*parts, axis=1, op_version=version, output_names=operator.outputs).add_to(scope, container)


update_registered_converter(CategoryStatistics, "MillraceCategoryStatistics", _shapes, _convert)
