"""The candidates: estimators of the search spaces in :mod:`millrace.training.search_space`.

Only estimators whose ONNX form is known to be exact are candidates. To add one, write an entry in :data:`CANDIDATES`
and one in the search space; ``tests/unit/training/test_candidate_behaviour.py`` then runs over it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
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

    def build(self, task: Task, features: FeatureMatrix, parameters: Mapping[str, Any], seed: int) -> Pipeline:
        """Build the unfitted pipeline of a trial from the features of the training split."""
        factory = self.regressor if task == "regression" else self.classifier
        assert factory is not None  # noqa: S101  # its search space names no other task
        random = {"random_state": seed} if self.seeded else {}
        steps = [
            ("preprocess", build_preprocessor(self.encoding, features, task=task, seed=seed)),
            ("estimator", factory(**random, **parameters)),
        ]
        return Pipeline(steps)


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
