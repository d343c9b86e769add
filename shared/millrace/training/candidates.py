"""The candidates: which estimators compete, with which parameters.

Only estimators whose ONNX form is known to be exact may stand here. Adding one takes an entry in
:data:`CANDIDATES`; the behaviour suite ``tests/unit/training/test_candidate_behaviour.py`` then runs over it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline

from millrace.errors import FieldError, InvalidInputError
from millrace.features import FeatureMatrix
from millrace.schema import Task
from millrace.training.preprocessing import Encoding, build_preprocessor

#: Builds an unfitted estimator of a task from parameters and a seed.
EstimatorFactory = Callable[[Task, Mapping[str, Any], int], Any]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One kind of model that competes in a run.

    Parameters
    ----------
    name : str
        As a spec names it, and as it stands in trial ids and on the leaderboard.
    tasks : frozenset of Task
        What it can learn.
    encoding : Encoding
        The preprocessing it needs.
    build_estimator : callable
        From task, parameters and seed to an unfitted estimator.
    parameter_sets : tuple of mapping
        One trial is planned for each.
    """

    name: str
    tasks: frozenset[Task]
    encoding: Encoding
    build_estimator: EstimatorFactory
    parameter_sets: tuple[Mapping[str, Any], ...]

    def build(self, task: Task, features: FeatureMatrix, parameters: Mapping[str, Any], seed: int) -> Pipeline:
        """Build the unfitted pipeline of a trial.

        Parameters
        ----------
        task : Task
            One of ``tasks``.
        features : FeatureMatrix
            Of the training split.
        parameters : mapping
            Of the estimator.
        seed : int
            Of every random choice while fitting.
        """
        steps = [
            ("preprocess", build_preprocessor(self.encoding, features)),
            ("estimator", self.build_estimator(task, parameters, seed)),
        ]
        return Pipeline(steps)


def _logistic_regression(_task: Task, parameters: Mapping[str, Any], seed: int) -> Any:
    return LogisticRegression(random_state=seed, **parameters)


def _ridge(_task: Task, parameters: Mapping[str, Any], seed: int) -> Any:
    return Ridge(random_state=seed, **parameters)


def _random_forest(task: Task, parameters: Mapping[str, Any], seed: int) -> Any:
    estimator = RandomForestRegressor if task == "regression" else RandomForestClassifier
    return estimator(n_jobs=1, random_state=seed, **parameters)


def _hist_gradient_boosting(task: Task, parameters: Mapping[str, Any], seed: int) -> Any:
    estimator = HistGradientBoostingRegressor if task == "regression" else HistGradientBoostingClassifier
    return estimator(random_state=seed, **parameters)


_CLASSIFICATION: frozenset[Task] = frozenset({"binary", "multiclass"})
_REGRESSION: frozenset[Task] = frozenset({"regression"})

#: In the order in which trials are numbered: the simplest first, which wins a tie.
CANDIDATES: tuple[Candidate, ...] = (
    Candidate("logistic_regression", _CLASSIFICATION, "scaled", _logistic_regression, ({"C": 1.0, "max_iter": 1000},)),
    Candidate("ridge", _REGRESSION, "scaled", _ridge, ({"alpha": 1.0},)),
    Candidate(
        "random_forest",
        _CLASSIFICATION | _REGRESSION,
        "imputed",
        _random_forest,
        # Bounded, because ONNX Runtime loads and scores large forests poorly: 100 trees of 500 leaves are a few MB.
        ({"n_estimators": 100, "max_depth": 16, "max_leaf_nodes": 500, "min_samples_leaf": 3},),
    ),
    Candidate(
        "hist_gradient_boosting",
        _CLASSIFICATION | _REGRESSION,
        "native",
        _hist_gradient_boosting,
        # Slow and shallow, so that a few hundred rows are not learnt by heart. No early stopping: the part it sets
        # aside must hold two rows of every class, and a rare class would fail the trial.
        (
            {
                "learning_rate": 0.05,
                "max_iter": 150,
                "max_leaf_nodes": 15,
                "min_samples_leaf": 20,
                "l2_regularization": 1.0,
                "early_stopping": False,
            },
        ),
    ),
)


def candidates_for(task: Task) -> tuple[Candidate, ...]:
    """Return the candidates that can learn ``task``, simplest first."""
    return tuple(candidate for candidate in CANDIDATES if task in candidate.tasks)


def select_candidates(task: Task, names: tuple[str, ...] | None) -> tuple[Candidate, ...]:
    """Return the candidates a spec names, or all that suit the task.

    Raises
    ------
    InvalidInputError
        When a name is none of the task's candidates; lists those that are.
    """
    known = {candidate.name: candidate for candidate in candidates_for(task)}
    if names is None:
        return tuple(known.values())
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        named = ", ".join(unknown) or "no candidate at all"
        fault = FieldError("candidates", f"known for {task} are: {', '.join(known)}")
        raise InvalidInputError(f"the spec names {named}; {fault.message}", [fault])
    return tuple(known[name] for name in dict.fromkeys(names))


def get_candidate(name: str, task: Task) -> Candidate:
    """Return one candidate by name; raises ``InvalidInputError`` as :func:`select_candidates` does."""
    return select_candidates(task, (name,))[0]
