"""The candidates: how the estimators of :mod:`millrace.training.search_space` are built.

Only estimators whose ONNX form is known to be exact may stand here. Adding one takes an entry in :data:`CANDIDATES`
and one in the search space; the behaviour suite ``tests/unit/training/test_candidate_behaviour.py`` then runs over it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

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
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline

from millrace.features import FeatureMatrix
from millrace.schema import Task
from millrace.training.estimators import NeighboursClassifier, NeighboursRegressor, ScaledMLPRegressor
from millrace.training.preprocessing import Encoding, build_preprocessor
from millrace.training.search_space import select_search_spaces

#: Builds an unfitted estimator of a task from parameters and a seed.
EstimatorFactory = Callable[[Task, Mapping[str, Any], int], Any]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One kind of model that competes in a run.

    Parameters
    ----------
    name : str
        Of its search space.
    encoding : Encoding
        The preprocessing it needs.
    build_estimator : callable
        From task, parameters and seed to an unfitted estimator.
    """

    name: str
    encoding: Encoding
    build_estimator: EstimatorFactory

    def build(self, task: Task, features: FeatureMatrix, parameters: Mapping[str, Any], seed: int) -> Pipeline:
        """Build the unfitted pipeline of a trial.

        Parameters
        ----------
        task : Task
            One that its search space names.
        features : FeatureMatrix
            Of the training split.
        parameters : mapping
            Of the estimator.
        seed : int
            Of every random choice while fitting.
        """
        steps = [
            ("preprocess", build_preprocessor(self.encoding, features, task=task, seed=seed)),
            ("estimator", self.build_estimator(task, parameters, seed)),
        ]
        return Pipeline(steps)


def _baseline(task: Task, _parameters: Mapping[str, Any], _seed: int) -> Any:
    return DummyRegressor(strategy="mean") if task == "regression" else DummyClassifier(strategy="prior")


def _logistic_regression(_task: Task, parameters: Mapping[str, Any], seed: int) -> Any:
    return LogisticRegression(random_state=seed, **parameters)


def _ridge(_task: Task, parameters: Mapping[str, Any], seed: int) -> Any:
    return Ridge(random_state=seed, **parameters)


def _random_forest(task: Task, parameters: Mapping[str, Any], seed: int) -> Any:
    estimator = RandomForestRegressor if task == "regression" else RandomForestClassifier
    return estimator(n_jobs=1, random_state=seed, **parameters)


def _extra_trees(task: Task, parameters: Mapping[str, Any], seed: int) -> Any:
    estimator = ExtraTreesRegressor if task == "regression" else ExtraTreesClassifier
    return estimator(n_jobs=1, random_state=seed, **parameters)


def _hist_gradient_boosting(task: Task, parameters: Mapping[str, Any], seed: int) -> Any:
    estimator = HistGradientBoostingRegressor if task == "regression" else HistGradientBoostingClassifier
    return estimator(random_state=seed, **parameters)


def _neural_network(task: Task, parameters: Mapping[str, Any], seed: int) -> Any:
    estimator = ScaledMLPRegressor if task == "regression" else MLPClassifier
    return estimator(random_state=seed, **parameters)


def _nearest_neighbours(task: Task, parameters: Mapping[str, Any], _seed: int) -> Any:
    estimator = NeighboursRegressor if task == "regression" else NeighboursClassifier
    return estimator(**parameters)


#: By name; every candidate of the search space is here.
CANDIDATES: Mapping[str, Candidate] = {
    candidate.name: candidate
    for candidate in (
        Candidate("baseline", "native", _baseline),
        Candidate("logistic_regression", "scaled", _logistic_regression),
        Candidate("ridge", "scaled", _ridge),
        Candidate("hist_gradient_boosting", "native", _hist_gradient_boosting),
        Candidate("random_forest", "imputed", _random_forest),
        Candidate("extra_trees", "imputed", _extra_trees),
        Candidate("neural_network", "scaled", _neural_network),
        Candidate("nearest_neighbours", "scaled", _nearest_neighbours),
    )
}


def get_candidate(name: str, task: Task) -> Candidate:
    """Return one candidate by name; raises ``InvalidInputError`` when the task has none of that name."""
    (space,) = select_search_spaces(task, (name,))
    return CANDIDATES[space.candidate]
