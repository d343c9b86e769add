"""The search space: which candidates compete for a task, and what is tried of each.

Planning draws trials from here, in a function without scikit-learn; :mod:`millrace.training.candidates` builds what
they name. ``docs/training.md`` has this as a table, which a test holds to what stands here.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from millrace.errors import FieldError, InvalidInputError
from millrace.schema import Task
from millrace.spec import ParameterRange

#: Significant digits of a drawn number: enough for every parameter, and a record can be read.
DIGITS = 4


@dataclass(frozen=True, slots=True)
class Interval:
    """Numbers between two bounds, both included.

    Parameters
    ----------
    low, high : float
        Bounds; positive where ``log``.
    log : bool, default=False
        Whether every factor is as likely as any other, rather than every difference.
    whole : bool, default=False
        Whether only whole numbers count.
    """

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def at(self, position: float) -> Any:
        """Return the value at ``position``, from 0 up to but not including 1."""
        low, high = (self.low - 0.5, self.high + 0.5) if self.whole else (self.low, self.high)
        if self.log:
            value = math.exp(math.log(low) + position * (math.log(high) - math.log(low)))
        else:
            value = low + position * (high - low)
        if self.whole:
            return int(min(max(round(value), self.low), self.high))
        return min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high)

    def describe(self) -> str:
        """Return the range in words, for documents and faults."""
        scale = ", by factors" if self.log else ""
        return f"{self.low:g} to {self.high:g}{scale}"


@dataclass(frozen=True, slots=True)
class Choice:
    """Some values, each as likely as any other."""

    values: tuple[Any, ...]

    def at(self, position: float) -> Any:
        """Return the value at ``position``, from 0 up to but not including 1."""
        return self.values[min(int(position * len(self.values)), len(self.values) - 1)]

    def describe(self) -> str:
        """Return the values in words, for documents and faults."""
        return ", ".join(str(list(value) if isinstance(value, tuple) else value) for value in self.values)


Range = Interval | Choice


@dataclass(frozen=True, slots=True)
class SearchSpace:
    """What is tried of one candidate.

    Parameters
    ----------
    candidate : str
        As a spec names it, and as it stands in trial ids and on the leaderboard.
    tasks : frozenset of Task
        What it can learn.
    first : mapping of str to Any, default={}
        Parameters of its first trial: settings that do well on most tables.
    ranges : mapping of str to Range, default={}
        Where its further trials are drawn from; a candidate without any has one trial.
    fixed : mapping of str to Any, default={}
        Parameters that every trial has.
    max_rows : int or None, default=None
        Training rows past which it is left out.
    why_max_rows : str, default=""
        The reason, in words.
    """

    candidate: str
    tasks: frozenset[Task]
    first: Mapping[str, Any] = field(default_factory=dict)
    ranges: Mapping[str, Range] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    max_rows: int | None = None
    why_max_rows: str = ""


BASELINE = "baseline"

_CLASSIFICATION: frozenset[Task] = frozenset({"binary", "multiclass"})
_REGRESSION: frozenset[Task] = frozenset({"regression"})
_ANY = _CLASSIFICATION | _REGRESSION

#: Bounded, because ONNX Runtime loads and scores large forests poorly: 100 trees of 500 leaves are a few MB.
_FOREST_SIZE = {"n_estimators": 100, "max_leaf_nodes": 500}
_FOREST_RANGES: Mapping[str, Range] = {
    "max_depth": Interval(4, 24, whole=True),
    "min_samples_leaf": Interval(1, 30, log=True, whole=True),
    "max_features": Choice(("sqrt", 0.3, 0.6, 1.0)),
}


def _forest(name: str, tasks: frozenset[Task], max_features: str | float) -> SearchSpace:
    first = {"max_depth": 16, "min_samples_leaf": 3, "max_features": max_features}
    return SearchSpace(name, tasks, first, _FOREST_RANGES, _FOREST_SIZE)


#: In the order in which trials are numbered; of trials that do equally well, the one planned first wins.
SEARCH_SPACES: tuple[SearchSpace, ...] = (
    SearchSpace(BASELINE, _ANY),
    SearchSpace(
        "logistic_regression", _CLASSIFICATION, {"C": 1.0}, {"C": Interval(1e-3, 1e2, log=True)}, {"max_iter": 1000}
    ),
    SearchSpace("ridge", _REGRESSION, {"alpha": 1.0}, {"alpha": Interval(1e-3, 1e3, log=True)}),
    SearchSpace(
        "hist_gradient_boosting",
        _ANY,
        # Slow and shallow, so that a few hundred rows are not learnt by heart.
        {
            "learning_rate": 0.05,
            "max_iter": 150,
            "max_leaf_nodes": 15,
            "min_samples_leaf": 20,
            "l2_regularization": 1.0,
        },
        {
            "learning_rate": Interval(0.02, 0.3, log=True),
            "max_iter": Interval(50, 300, whole=True),
            "max_leaf_nodes": Interval(5, 63, log=True, whole=True),
            "min_samples_leaf": Interval(5, 100, log=True, whole=True),
            "l2_regularization": Interval(1e-3, 10.0, log=True),
        },
        # The part that early stopping sets aside must hold two rows of every class: a rare class would fail the trial.
        {"early_stopping": False},
    ),
    _forest("random_forest", _CLASSIFICATION, "sqrt"),
    _forest("random_forest", _REGRESSION, 1.0),
    _forest("extra_trees", _CLASSIFICATION, "sqrt"),
    _forest("extra_trees", _REGRESSION, 1.0),
    SearchSpace(
        "neural_network",
        _ANY,
        {"hidden_layer_sizes": [32], "alpha": 1e-2, "learning_rate_init": 3e-3},
        {
            "hidden_layer_sizes": Choice(([16], [32], [64], [32, 16])),
            "alpha": Interval(1e-5, 1.0, log=True),
            "learning_rate_init": Interval(5e-4, 1e-2, log=True),
        },
        {"max_iter": 200},
    ),
    SearchSpace(
        "nearest_neighbours",
        _ANY,
        {"n_neighbours": 15},
        {"n_neighbours": Interval(3, 50, log=True, whole=True)},
        max_rows=1_000,
        why_max_rows="the model is its training rows, and every prediction compares with all of them",
    ),
)

#: Models that people ask for and that are not offered, with the reason.
REFUSED: Mapping[str, str] = {
    "knn": "scikit-learn's neighbours break ties of distance otherwise than ONNX Runtime; take nearest_neighbours",
    "gradient_boosting": "hist_gradient_boosting is the same idea, faster, and knows missing values",
    "voting": "with its defaults it does not convert to ONNX",
    "svm": "its fitting time grows with the square of the rows and its ONNX form keeps the support vectors",
    "xgboost": "the layers of a training function have no room for it beside scikit-learn",
    "lightgbm": "the layers of a training function have no room for it beside scikit-learn",
    "catboost": "the layers of a training function have no room for it beside scikit-learn",
}

#: Parameters whose ONNX form does not answer as the estimator does, by candidate; each was seen to fail.
REFUSED_PARAMETERS: Mapping[tuple[str, str], str] = {
    ("hist_gradient_boosting", "categorical_features"): "it converts, and the ONNX model is silently wrong",
    ("hist_gradient_boosting", "loss"): "with poisson it converts, and the ONNX model is silently wrong",
    ("hist_gradient_boosting", "early_stopping"): "it sets rows aside, and a rare class would fail the trial",
}


def search_spaces_for(task: Task) -> tuple[SearchSpace, ...]:
    """Return what can learn ``task``, in the order of trials."""
    return tuple(space for space in SEARCH_SPACES if task in space.tasks)


def select_search_spaces(task: Task, names: tuple[str, ...] | None) -> tuple[SearchSpace, ...]:
    """Return what a spec names, or all that suits the task.

    Raises
    ------
    InvalidInputError
        When a name is none of the task's candidates; lists those that are, and says why one is refused.
    """
    known = {space.candidate: space for space in search_spaces_for(task)}
    if names is None:
        return tuple(known.values())
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        named = ", ".join(unknown) or "no candidate at all"
        reasons = "".join(f"; {name}: {REFUSED[name]}" for name in unknown if name in REFUSED)
        fault = FieldError("candidates", f"known for {task} are: {', '.join(known)}{reasons}")
        raise InvalidInputError(f"the spec names {named}; {fault.message}", [fault])
    return tuple(known[name] for name in dict.fromkeys(names))


def narrow(
    spaces: Sequence[SearchSpace], wanted: Mapping[str, Mapping[str, ParameterRange]]
) -> tuple[SearchSpace, ...]:
    """Return the spaces with the spec's ranges instead of their own.

    Raises
    ------
    InvalidInputError
        Names every candidate, parameter and value that is not inside a search space, and why one is refused.
    """
    faults = [*_unknown_candidates(spaces, wanted)]
    narrowed = []
    for space in spaces:
        ranges, first = dict(space.ranges), dict(space.first)
        for name, said in wanted.get(space.candidate, {}).items():
            fault = _fault(space, name, said)
            if fault:
                faults.append(FieldError(f"training.parameters.{space.candidate}.{name}", fault))
                continue
            ranges[name] = _as_range(space.ranges[name], said)
            if not _holds(ranges[name], first[name]):
                first[name] = ranges[name].at(0.5)
        narrowed.append(replace(space, ranges=ranges, first=first))
    if faults:
        message = "; ".join(f"{fault.field}: {fault.message}" for fault in faults)
        raise InvalidInputError(f"the spec's parameters cannot be tried: {message}", faults)
    return tuple(narrowed)


def _unknown_candidates(
    spaces: Sequence[SearchSpace], wanted: Mapping[str, Mapping[str, ParameterRange]]
) -> Iterator[FieldError]:
    known = [space.candidate for space in spaces]
    for name in wanted:
        if name not in known:
            yield FieldError(f"training.parameters.{name}", f"no candidate of this run; these are: {', '.join(known)}")


def _fault(space: SearchSpace, name: str, said: ParameterRange) -> str:
    refused = REFUSED_PARAMETERS.get((space.candidate, name))
    if refused:
        return refused
    if name not in space.ranges:
        return f"not searched; these are: {', '.join(space.ranges) or 'none'}"
    outside = [value for value in _named_values(said) if not _holds(space.ranges[name], value)]
    if outside:
        return f"{', '.join(map(str, outside))} is outside of what is known to export: {space.ranges[name].describe()}"
    if isinstance(space.ranges[name], Choice) and said.values is None:
        return f"a list of values, not a range: {space.ranges[name].describe()}"
    return ""


def _named_values(said: ParameterRange) -> list[Any]:
    values = [said.low, said.high] if said.values is None else list(said.values)
    return [list(value) if isinstance(value, tuple) else value for value in values]


def _holds(known: Range, value: Any) -> bool:
    if isinstance(known, Choice):
        return value in known.values
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return known.low <= value <= known.high and (not known.whole or float(value).is_integer())


def _as_range(known: Range, said: ParameterRange) -> Range:
    if said.values is None:
        assert isinstance(known, Interval)  # noqa: S101  # _fault has refused a range of anything else
        return replace(known, low=_number(known, said.low), high=_number(known, said.high))
    values = _named_values(said)
    if isinstance(known, Interval):
        values = [_number(known, value) for value in values]
    return Choice(tuple(values))


def _number(known: Interval, value: Any) -> Any:
    return int(value) if known.whole else float(value)
