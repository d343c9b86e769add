"""The search space: which candidates compete for a task, with which parameters.

Planning draws trials from here, in a function without scikit-learn; :mod:`millrace.training.candidates` builds what
they name.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from millrace.errors import FieldError, InvalidInputError
from millrace.schema import Task


@dataclass(frozen=True, slots=True)
class SearchSpace:
    """What is tried of one candidate.

    Parameters
    ----------
    candidate : str
        As a spec names it, and as it stands in trial ids and on the leaderboard.
    tasks : frozenset of Task
        What it can learn.
    parameter_sets : tuple of mapping
        One trial is planned for each.
    """

    candidate: str
    tasks: frozenset[Task]
    parameter_sets: tuple[Mapping[str, Any], ...]


_CLASSIFICATION: frozenset[Task] = frozenset({"binary", "multiclass"})
_REGRESSION: frozenset[Task] = frozenset({"regression"})

#: In the order in which trials are numbered: the simplest first, which wins a tie.
SEARCH_SPACES: tuple[SearchSpace, ...] = (
    SearchSpace("logistic_regression", _CLASSIFICATION, ({"C": 1.0, "max_iter": 1000},)),
    SearchSpace("ridge", _REGRESSION, ({"alpha": 1.0},)),
    SearchSpace(
        "random_forest",
        _CLASSIFICATION | _REGRESSION,
        # Bounded, because ONNX Runtime loads and scores large forests poorly: 100 trees of 500 leaves are a few MB.
        ({"n_estimators": 100, "max_depth": 16, "max_leaf_nodes": 500, "min_samples_leaf": 3},),
    ),
    SearchSpace(
        "hist_gradient_boosting",
        _CLASSIFICATION | _REGRESSION,
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


def search_spaces_for(task: Task) -> tuple[SearchSpace, ...]:
    """Return what can learn ``task``, simplest first."""
    return tuple(space for space in SEARCH_SPACES if task in space.tasks)


def select_search_spaces(task: Task, names: tuple[str, ...] | None) -> tuple[SearchSpace, ...]:
    """Return what a spec names, or all that suits the task.

    Raises
    ------
    InvalidInputError
        When a name is none of the task's candidates; lists those that are.
    """
    known = {space.candidate: space for space in search_spaces_for(task)}
    if names is None:
        return tuple(known.values())
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        named = ", ".join(unknown) or "no candidate at all"
        fault = FieldError("candidates", f"known for {task} are: {', '.join(known)}")
        raise InvalidInputError(f"the spec names {named}; {fault.message}", [fault])
    return tuple(known[name] for name in dict.fromkeys(names))
