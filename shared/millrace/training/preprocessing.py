"""Preprocessing: from the two feature matrices to the matrix of an estimator, in steps with an exact ONNX form.

The encoding of a column follows from its type and from its values in the training split:

=======================  ==================================  ====================================
column                   linear models                       trees
=======================  ==================================  ====================================
number                   median imputed, clipped, scaled     median imputed, or NaN where the
                                                             estimator supports it
number, never known      left out                            left out
two dates                their difference, as a number       their difference, as a number
string                   one-hot of the most frequent        ordinal code; -1 for a value that
                         values; any other is all zeros      training has not seen
string of many values    target encoding, shrunk towards     ordinal code and target encoding; an
                         the overall mean, which stands for  unseen value is below all others
                         an unseen value
=======================  ==================================  ====================================

:mod:`millrace.training.unseen` gives unseen values their meaning. The missing string ``''`` is a value like any other.
Trees get no scaler: after one, float32 rounding moves rows across split points and the ONNX model predicts differently.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from millrace.errors import TrainingFailedError
from millrace.features import FeatureMatrix
from millrace.schema import Task
from millrace.training.category_statistics import UNSEEN_CODE, CategoryStatistics
from millrace.training.clipping import Clipper
from millrace.training.date_differences import DateDifferences, date_pairs
from millrace.training.search_plan import LEAST_ROWS_OF_VALUE, MAX_ONE_HOT_VALUES, one_hot_values

#: ``scaled`` for linear models, ``imputed`` for trees, ``native`` for trees that support missing values.
Encoding = Literal["scaled", "imputed", "native"]


class FeatureTable:
    """The two matrices side by side, as scikit-learn's ``ColumnTransformer`` takes columns: numbers, then strings.

    One array for both would hold objects: every number a Python float (tens of bytes each), and float64 by the time an
    estimator gets it. This keeps the numbers float32.
    """

    def __init__(self, features: FeatureMatrix) -> None:
        self.features = features
        self._numbers = features.numbers.shape[1]
        self.shape = (len(features), self._numbers + features.strings.shape[1])

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """Return an object array of both; columns are cheaper by index."""
        if copy is False:
            raise ValueError("two matrices cannot be one array without a copy")
        both = (self.features.numbers.astype(object), self.features.strings.astype(object))
        return np.concatenate(both, axis=1).astype(dtype or object)

    def __getitem__(self, key: tuple[Any, Any]) -> npt.NDArray[Any]:
        """Return ``[rows, columns]``; the columns are all numbers or all strings."""
        rows, columns = key
        columns = np.asarray(columns)
        numeric = bool((columns < self._numbers).all())
        matrix: npt.NDArray[Any] = self.features.numbers if numeric else self.features.strings
        return np.asarray(matrix[rows][:, columns if numeric else columns - self._numbers])


def build_preprocessor(
    encoding: Encoding,
    features: FeatureMatrix,
    *,
    task: Task = "binary",
    seed: int = 0,
    dates: Sequence[int] = (),
) -> ColumnTransformer:
    """Build the unfitted preprocessing of a :class:`FeatureTable`; raises ``TrainingFailedError`` without values.

    ``dates`` are the columns of ``features.numbers`` that hold the days of a date.
    """
    offset = features.numbers.shape[1]
    known = np.flatnonzero(~np.isnan(features.numbers).all(axis=0)).tolist()
    few, many = _by_cardinality(encoding, features.strings)
    steps: list[tuple[str, Any, list[int]]] = []
    if known:
        steps.append(("numbers", _numbers_step(encoding), known))
    if few:
        step = _strings_step(encoding, features.strings[:, few])
        steps.append(("strings", step, [offset + column for column in few]))
    if many:
        step = _statistics_step(encoding, task, seed)
        steps.append(("many_strings", step, [offset + column for column in many]))
    pairs = date_pairs(features.numbers, dates)
    if pairs:
        days = sorted({column for pair in pairs for column in pair})
        places = tuple((days.index(first), days.index(second)) for first, second in pairs)
        steps.append(("date_differences", _differences_step(encoding, places), days))
    if not steps:
        raise TrainingFailedError("no feature column holds a known value in the training split")
    return ColumnTransformer(steps)


def _by_cardinality(encoding: Encoding, strings: npt.NDArray[Any]) -> tuple[list[int], list[int]]:
    """Return the string columns of few values, and those of many; one-hot outputs may be more where rows are few."""
    rows, columns = strings.shape
    most = MAX_ONE_HOT_VALUES
    if encoding == "scaled":
        most = max(most, min(one_hot_values(columns, rows), rows // LEAST_ROWS_OF_VALUE))
    many = [column for column in range(columns) if len(np.unique(strings[:, column])) > most]
    return [column for column in range(columns) if column not in many], many


def _numbers_step(encoding: Encoding) -> Any:
    if encoding == "native":
        return "passthrough"
    impute = SimpleImputer(strategy="median")
    if encoding == "imputed":
        return impute
    return Pipeline([("impute", impute), ("clip", Clipper()), ("scale", StandardScaler())])


def _differences_step(encoding: Encoding, pairs: tuple[tuple[int, int], ...]) -> Any:
    differences = DateDifferences(pairs)
    rest = _numbers_step(encoding)
    return differences if rest == "passthrough" else make_pipeline(differences, rest)


def _strings_step(encoding: Encoding, strings: npt.NDArray[Any]) -> Any:
    if encoding == "scaled":
        most = one_hot_values(strings.shape[1], len(strings))
        return OneHotEncoder(
            categories=[_frequent_values(column, most) for column in strings.T],
            handle_unknown="ignore",
            sparse_output=False,
            dtype=np.float32,
        )
    return OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=UNSEEN_CODE, dtype=np.float32)


def _statistics_step(encoding: Encoding, task: Task, seed: int) -> Any:
    statistics = CategoryStatistics(task, codes=encoding != "scaled", seed=seed)
    # float32 before the estimator sees it, as ONNX Runtime has it: otherwise a split point may lie between the two.
    return Pipeline([("encode", statistics), ("scale", StandardScaler())]) if encoding == "scaled" else statistics


def _frequent_values(column: npt.NDArray[Any], most: int) -> npt.NDArray[Any]:
    """Return the most frequent values, sorted; of equally frequent ones, those that sort first."""
    values, counts = np.unique(column, return_counts=True)
    return np.sort(values[np.argsort(-counts, kind="stable")[:most]])
