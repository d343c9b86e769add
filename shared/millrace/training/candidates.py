"""The candidates: estimators of the search spaces in :mod:`millrace.training.search_space`.

Only estimators whose ONNX form is known to be exact are candidates. To add one, write an entry in :data:`CANDIDATES`
and one in the search space; ``tests/unit/training/test_candidate_behaviour.py`` then runs over it.

Two estimators are our own. scikit-learn's neighbours take exactly ``k`` rows, and where several are equally far (as
rows of categories are) it and ONNX Runtime take different ones. Here a neighbour's weight falls to zero at the distance
of the ``k+1``-th, so ties do not matter: the Epanechnikov kernel with nearest-neighbour bandwidth (Hastie, Tibshirani
and Friedman, *The Elements of Statistical Learning*, 2009, section 6.1).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, is_regressor
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline

from millrace.features import FeatureMatrix, float32_centre
from millrace.schema import Task
from millrace.training.preprocessing import Encoding, FeatureTable, build_preprocessor
from millrace.training.repeated_fits import fit_repeatedly, plain_batches
from millrace.training.search_space import LOGARITHM, OF_LOGARITHM, select_search_spaces
from millrace.training.unseen import average_unseen

#: Added to the squared bandwidth, so that rows at distance zero count alike in spite of rounding.
SMOOTHING = 1e-2

#: Standardised values are cut here, so that one extreme number does not make all rows equally far.
MAX_DEVIATION = 10.0

#: Mean of a target, in medians, from which on its logarithm is fitted; and the share of rows that may be zero.
HEAVY_TAIL, FEW_ZEROS = 1.5, 0.05

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


class ModelPipeline(Pipeline):  # type: ignore[misc]  # as above
    """A trial's preprocessing and estimator; it scores unseen categories as the average.

    Where a regression's target loses digits in float32, which ONNX has for targets and most estimators for sums, it is
    fitted less ``centre`` and divided by ``scale``.
    """

    centre = 0.0
    scale = 1.0
    #: Whether to fit the logarithm of a target with a heavy tail, and whether it was: of one plus the target in units
    #: of ``scale``, its median.
    logarithm = False
    is_logarithm = False
    #: Parameters of the estimator in that case.
    of_logarithm: Mapping[str, Any] = {}
    #: Fits of a network that are averaged.
    repeats = 1
    #: See :func:`millrace.training.unseen.average_unseen`.
    plain_numbers: tuple[int, ...] = ()

    @property
    def is_centred(self) -> bool:
        """Return whether the target was."""
        return not self.is_logarithm and (self.scale != 1.0 or self.centre != 0.0)

    def encode_target(self, target: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return what the estimator is fitted on in the place of a target."""
        if self.is_logarithm:
            return np.asarray(np.log1p(np.maximum(target, 0.0) / self.scale))
        return (target - self.centre) / self.scale if self.is_centred else target

    def fit(
        self, rows: FeatureTable, target: npt.NDArray[Any], stop: tuple[FeatureTable, npt.NDArray[Any]] | None = None
    ) -> Self:
        """Fit both steps; boosting that stops early, by the rows and targets of ``stop``."""
        centre = float32_centre(target) if is_regressor(self[-1]) else None
        if centre is not None:
            self.centre, self.scale = centre, float(np.std(target - centre)) or 1.0
        elif self.logarithm and has_heavy_tail(target):
            self.is_logarithm, self.scale = True, float(np.median(target))
            self[-1].set_params(**self.of_logarithm)
        target = self.encode_target(target)
        if stop is None and self.repeats == 1:
            with plain_batches():
                super().fit(rows, target)
        elif stop is None:
            encoded = self[0].fit_transform(rows, target)
            with plain_batches():
                self.steps[-1] = (self.steps[-1][0], fit_repeatedly(self[-1], encoded, target, self.repeats))
        else:
            encoded, stop_target = self[0].fit_transform(rows, target), self.encode_target(stop[1])
            self[-1].fit(encoded, target, X_val=self[0].transform(stop[0]), y_val=stop_target)
        average_unseen(self, rows.features, target, self.plain_numbers)
        return self

    def predict(self, rows: FeatureTable) -> npt.NDArray[Any]:
        """Return the likeliest classes, or values."""
        predicted = np.asarray(super().predict(rows))
        if self.is_logarithm:
            return np.asarray(np.expm1(predicted.astype(np.float64)) * self.scale)
        return predicted.astype(np.float64) * self.scale + self.centre if self.is_centred else predicted


def has_heavy_tail(target: npt.NDArray[Any]) -> bool:
    """Return whether a target is positive, but for a few rows, and its mean far above its median."""
    few, median = np.quantile(target, [FEW_ZEROS, 0.5])
    return bool(target.min() >= 0.0 and few > 0.0 and np.mean(target) >= HEAVY_TAIL * median)


EstimatorFactory = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A kind of model that competes in a run; None for the estimator of a task that its search space does not name.

    ``seeded`` estimators take a ``random_state``.
    """

    name: str
    encoding: Encoding
    classifier: EstimatorFactory | None
    regressor: EstimatorFactory | None
    seeded: bool = True

    def build(
        self,
        task: Task,
        features: FeatureMatrix,
        parameters: Mapping[str, Any],
        seed: int,
        plain_numbers: Sequence[int] = (),
        *,
        dates: Sequence[int] = (),
    ) -> ModelPipeline:
        """Build the unfitted pipeline of a trial from the features of the training split.

        ``plain_numbers`` are the columns of ``features.numbers`` that are no parts of a date or a text; ``dates`` are
        those with the days of a date.
        """
        factory = self.regressor if task == "regression" else self.classifier
        assert factory is not None  # noqa: S101  # its search space names no other task
        random = {"random_state": seed} if self.seeded else {}
        known = {name: value for name, value in parameters.items() if name not in (LOGARITHM, *OF_LOGARITHM.values())}
        steps = [
            ("preprocess", build_preprocessor(self.encoding, features, task=task, seed=seed, dates=dates)),
            ("estimator", factory(**random, **known)),
        ]
        pipeline = ModelPipeline(steps)
        pipeline.plain_numbers = tuple(plain_numbers)
        pipeline.logarithm = bool(parameters.get(LOGARITHM))
        pipeline.of_logarithm = {name: parameters[own] for name, own in OF_LOGARITHM.items() if own in parameters}
        return pipeline


#: By name; every candidate of the search space is here.
CANDIDATES: Mapping[str, Candidate] = {
    candidate.name: candidate
    for candidate in (
        Candidate(
            "baseline",
            "native",
            partial(DummyClassifier, strategy="prior"),
            partial(DummyRegressor, strategy="mean"),
            seeded=False,
        ),
        Candidate("logistic_regression", "scaled", LogisticRegression, None),
        Candidate("ridge", "scaled", None, Ridge),
        Candidate("hist_gradient_boosting", "native", HistGradientBoostingClassifier, HistGradientBoostingRegressor),
        Candidate(
            "random_forest",
            "imputed",
            partial(RandomForestClassifier, n_jobs=1),
            partial(RandomForestRegressor, n_jobs=1),
        ),
        Candidate(
            "extra_trees", "imputed", partial(ExtraTreesClassifier, n_jobs=1), partial(ExtraTreesRegressor, n_jobs=1)
        ),
        Candidate("neural_network", "scaled", MLPClassifier, ScaledMLPRegressor),
        Candidate("nearest_neighbours", "scaled", NeighboursClassifier, NeighboursRegressor, seeded=False),
    )
}


def get_candidate(name: str, task: Task) -> Candidate:
    """Return one candidate by name; raises ``InvalidInputError`` when the task has none of that name."""
    (space,) = select_search_spaces(task, (name,))
    return CANDIDATES[space.candidate]
