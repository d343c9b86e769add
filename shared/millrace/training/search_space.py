"""The search space: the candidates that compete for a task, and the parameters that are tried of each.

Planning draws trials from it, in a function without scikit-learn; :mod:`millrace.training.candidates` has the
estimators. A test holds the table of ``docs/training.md`` to it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from millrace.errors import FieldError, InvalidInputError
from millrace.schema import Task
from millrace.spec.training import ParameterRange
from millrace.training.early_stopping import DEFAULT_PATIENCE, PATIENCE

#: Significant digits of a drawn number: enough for every parameter, and readable in a record.
DIGITS = 4

#: Tree leaves, times classes, of a boosting or forest: its ONNX form grows with them.
MAX_TREES = 6_000
MAX_LEAF_VALUES = 500_000
#: Rows, times passes over them, of a neural network.
MAX_NETWORK_STEPS = 20_000_000


@dataclass(frozen=True, slots=True)
class NumberRange:
    """Numbers between two bounds, both included; uniform, or with a uniform logarithm (``log``)."""

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

    def holds(self, value: Any) -> bool:
        """Return whether a value is in the range."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return self.low <= value <= self.high and (not self.whole or float(value).is_integer())

    def cast(self, value: Any) -> Any:
        """Return a number of a spec in the type of the range."""
        return int(value) if self.whole else float(value)

    def describe(self) -> str:
        """Return the range as text, for documents and errors."""
        return f"{self.low:g} to {self.high:g}{', by factors' if self.log else ''}"


@dataclass(frozen=True, slots=True)
class Choice:
    """Some values, each as likely as any other."""

    values: tuple[Any, ...]

    def at(self, position: float) -> Any:
        """Return the value at ``position``, from 0 up to but not including 1."""
        return self.values[min(int(position * len(self.values)), len(self.values) - 1)]

    def holds(self, value: Any) -> bool:
        """Return whether it is one of the values."""
        return value in self.values

    def cast(self, value: Any) -> Any:
        """Return a value of a spec as it is."""
        return value

    def describe(self) -> str:
        """Return the values as text, for documents and errors."""
        return ", ".join(str(list(value) if isinstance(value, tuple) else value) for value in self.values)


Range = NumberRange | Choice

#: From parameters, the number of classes (0 for regression) and of training rows to the changed parameters.
Bound = Callable[[Mapping[str, Any], int, int], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class SearchSpace:
    """The trials of one candidate."""

    candidate: str
    tasks: frozenset[Task]
    #: Parameters of its first trial, which do well on most tables.
    first: Mapping[str, Any] = field(default_factory=dict)
    #: Parameters that are drawn for further trials; a candidate without any has one trial.
    ranges: Mapping[str, Range] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    #: Fixed parameters that a spec may set.
    settable: Mapping[str, Range] = field(default_factory=dict)
    #: Parameters of its second trial, where no one setting suits small and large tables.
    second: Mapping[str, Any] = field(default_factory=dict)
    #: Limits parameters where a task has many classes or rows.
    bound: Bound | None = None
    #: Training rows above which it is left out, for the reason ``why_max_rows``.
    max_rows: int | None = None
    why_max_rows: str = ""

    def complete(self, parameters: Mapping[str, Any], classes: int, rows: int) -> dict[str, Any]:
        """Return the parameters of a trial with the fixed ones, limited for so many classes and training rows."""
        complete = {**self.fixed, **parameters}
        return complete | self.bound(complete, classes, rows) if self.bound else complete


def _bound_boosting(parameters: Mapping[str, Any], classes: int, _rows: int) -> dict[str, Any]:
    """Limit the iterations: each grows a tree per class, and one tree for two classes."""
    if classes <= 2:  # noqa: PLR2004  # two classes take one tree
        return {}
    return {"max_iter": min(parameters["max_iter"], max(10, MAX_TREES // classes))}


def _bound_forest(parameters: Mapping[str, Any], classes: int, _rows: int) -> dict[str, Any]:
    """Limit the leaves: each holds a number per class."""
    if not classes:
        return {}
    most = MAX_LEAF_VALUES // (parameters["n_estimators"] * classes)
    return {"max_leaf_nodes": min(parameters["max_leaf_nodes"], max(16, most))}


def _bound_network(parameters: Mapping[str, Any], _classes: int, rows: int) -> dict[str, Any]:
    """Limit the passes: the cost of each grows with the rows."""
    return {"max_iter": min(parameters["max_iter"], max(10, MAX_NETWORK_STEPS // max(1, rows)))}


#: A parameter of boosting that no estimator knows: the logarithm of the target is fitted, if that has a heavy tail.
LOGARITHM = "logarithm_of_heavy_tail"
#: Parameters of that fit which take the place of the trial's own: small trees, as factors add up in a logarithm.
OF_LOGARITHM: Mapping[str, str] = {
    name: f"{name}_of_logarithm" for name in ("max_leaf_nodes", "min_samples_leaf", "l2_regularization", "max_features")
}
BASELINE, BOOSTING = "baseline", "hist_gradient_boosting"

_CLASSIFICATION: frozenset[Task] = frozenset({"binary", "multiclass"})
_REGRESSION: frozenset[Task] = frozenset({"regression"})
_ANY = _CLASSIFICATION | _REGRESSION

#: Bounded, because ONNX Runtime loads and scores large forests poorly: 100 trees of 500 leaves are a few MB.
_FOREST_SIZE = {"n_estimators": 100, "max_leaf_nodes": 500}
_FOREST_RANGES: Mapping[str, Range] = {
    "max_depth": NumberRange(4, 24, whole=True),
    "min_samples_leaf": NumberRange(1, 30, log=True, whole=True),
    "max_features": Choice(("sqrt", 0.3, 0.6, 1.0)),
}


def _forest(name: str, tasks: frozenset[Task], max_features: str | float) -> SearchSpace:
    first = {"max_depth": 16, "min_samples_leaf": 3, "max_features": max_features}
    return SearchSpace(name, tasks, first, _FOREST_RANGES, _FOREST_SIZE, bound=_bound_forest)


#: scikit-learn's trees, with half of the features at each split; and small leaves, for groups of a few rows.
_DEFAULT_TREES = {
    "learning_rate": 0.1,
    "max_leaf_nodes": 31,
    "min_samples_leaf": 20,
    "l2_regularization": 0.0,
    "max_features": 0.5,
}
_SMALL_LEAVES = _DEFAULT_TREES | {"max_leaf_nodes": 15, "min_samples_leaf": 5, "l2_regularization": 1.0}
_OF_LOGARITHM = {"max_leaf_nodes": 8, "min_samples_leaf": 5, "l2_regularization": 1.0, "max_features": 0.75}


def _boosting(tasks: frozenset[Task], first: Mapping[str, Any], second: Mapping[str, Any]) -> SearchSpace:
    """Return the space of boosting, which stops early: the first two trials have as many iterations as pay."""
    return SearchSpace(
        BOOSTING,
        tasks,
        first,
        {
            "learning_rate": NumberRange(0.05, 0.25, log=True),
            "max_leaf_nodes": NumberRange(5, 63, log=True, whole=True),
            "min_samples_leaf": NumberRange(2, 100, log=True, whole=True),
            "l2_regularization": NumberRange(1e-3, 10.0, log=True),
            "max_features": NumberRange(0.2, 1.0),
        },
        # scikit-learn's own stopping would need two rows of every class in the part that it holds out.
        {"max_iter": 400, "early_stopping": False, PATIENCE: DEFAULT_PATIENCE},
        {"max_iter": NumberRange(10, 1_000, whole=True)},
        second,
        _bound_boosting,
    )


#: In the order in which trials are numbered; of trials that do equally well, the one planned first wins.
SEARCH_SPACES: tuple[SearchSpace, ...] = (
    SearchSpace(BASELINE, _ANY),
    SearchSpace(
        "logistic_regression", _CLASSIFICATION, {"C": 1.0}, {"C": NumberRange(1e-3, 1e2, log=True)}, {"max_iter": 1000}
    ),
    SearchSpace("ridge", _REGRESSION, {"alpha": 1.0}, {"alpha": NumberRange(1e-3, 1e3, log=True)}),
    _boosting(_CLASSIFICATION, _DEFAULT_TREES, _SMALL_LEAVES),
    # Few rows of a regression may be most of its errors, and one feature most of a value.
    _boosting(
        _REGRESSION,
        {**_SMALL_LEAVES, "max_features": 1.0},
        {**_DEFAULT_TREES, LOGARITHM: True, **{OF_LOGARITHM[name]: value for name, value in _OF_LOGARITHM.items()}},
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
            "alpha": NumberRange(1e-5, 1.0, log=True),
            "learning_rate_init": NumberRange(5e-4, 1e-2, log=True),
        },
        {"max_iter": 200},
        bound=_bound_network,
    ),
    SearchSpace(
        "nearest_neighbours",
        _ANY,
        {"n_neighbours": 15},
        {"n_neighbours": NumberRange(3, 50, log=True, whole=True)},
        max_rows=1_000,
        why_max_rows="the model is its training rows, and every prediction compares with all of them",
    ),
)

_NO_ROOM = "it does not fit into the layers of a training function beside scikit-learn"

#: Models that people may name and that are not offered, with the reason.
REFUSED: Mapping[str, str] = {
    "knn": "scikit-learn's neighbours break ties of distance differently from ONNX Runtime; use nearest_neighbours",
    "gradient_boosting": "hist_gradient_boosting is the same method, faster, and supports missing values",
    "voting": "with its defaults it does not convert to ONNX",
    "svm": "its fitting time grows with the square of the rows and its ONNX form keeps the support vectors",
    "xgboost": _NO_ROOM,
    "lightgbm": _NO_ROOM,
    "catboost": _NO_ROOM,
}

#: Parameters whose ONNX form predicts differently from the estimator, by candidate; each was seen to fail.
REFUSED_PARAMETERS: Mapping[tuple[str, str], str] = {
    ("hist_gradient_boosting", "categorical_features"): "it converts, and the ONNX model is silently wrong",
    ("hist_gradient_boosting", "loss"): "with poisson it converts, and the ONNX model is silently wrong",
    ("hist_gradient_boosting", "early_stopping"): "boosting stops early as it is, by rows outside the fit",
}


def search_spaces_for(task: Task) -> tuple[SearchSpace, ...]:
    """Return the search spaces of a task, in the order of trials."""
    return tuple(space for space in SEARCH_SPACES if task in space.tasks)


def select_search_spaces(task: Task, names: tuple[str, ...] | None) -> tuple[SearchSpace, ...]:
    """Return the search spaces that a spec names, or all of the task; raises ``InvalidInputError`` for others."""
    known = {space.candidate: space for space in search_spaces_for(task)}
    if names is None:
        return tuple(known.values())
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        reasons = "".join(f"; {name}: {REFUSED[name]}" for name in unknown if name in REFUSED)
        fault = FieldError("candidates", f"the candidates of a {task} task are: {', '.join(known)}{reasons}")
        named = f"unknown candidates {', '.join(unknown)}" if unknown else "the spec names no candidate"
        raise InvalidInputError(f"{named}; {fault.message}", [fault])
    return tuple(known[name] for name in dict.fromkeys(names))


def override_search_space(
    spaces: Sequence[SearchSpace], wanted: Mapping[str, Mapping[str, ParameterRange]]
) -> tuple[SearchSpace, ...]:
    """Return the spaces with the spec's ranges; raises ``InvalidInputError``, which names every fault."""
    known = [space.candidate for space in spaces]
    unknown = f"not a candidate of this run, which has: {', '.join(known)}"
    faults = [FieldError(f"training.parameters.{name}", unknown) for name in wanted if name not in known]
    overridden = []
    for space in spaces:
        ranges, first, second = dict(space.ranges), dict(space.first), dict(space.second)
        for name, stated in wanted.get(space.candidate, {}).items():
            fault = _fault(space, name, stated)
            if fault:
                faults.append(FieldError(f"training.parameters.{space.candidate}.{name}", fault))
                continue
            ranges[name] = _as_range(_stateable(space)[name], stated)
            for start in (first, second):
                if start and (name in space.settable or (name in start and not ranges[name].holds(start[name]))):
                    start[name] = ranges[name].at(0.5)
                own = OF_LOGARITHM.get(name)
                if own in start and not ranges[name].holds(start[own]):
                    del start[own]
        overridden.append(replace(space, ranges=ranges, first=first, second=second))
    if faults:
        message = "; ".join(f"{fault.field}: {fault.message}" for fault in faults)
        raise InvalidInputError(f"the spec's parameters are invalid: {message}", faults)
    return tuple(overridden)


def _stateable(space: SearchSpace) -> dict[str, Range]:
    """Return the ranges within which a spec may state parameters."""
    return {**space.ranges, **space.settable}


def _fault(space: SearchSpace, name: str, stated: ParameterRange) -> str:
    refused = REFUSED_PARAMETERS.get((space.candidate, name))
    if refused:
        return refused
    if name not in _stateable(space):
        return f"not searched; the searched parameters are: {', '.join(_stateable(space)) or 'none'}"
    known = _stateable(space)[name]
    outside = [value for value in _stated_values(stated) if not known.holds(value)]
    if outside:
        return f"{', '.join(map(str, outside))} is outside of what is known to export: {known.describe()}"
    if isinstance(known, Choice) and stated.values is None:
        return f"a list of values, not a range: {known.describe()}"
    return ""


def _stated_values(stated: ParameterRange) -> list[Any]:
    values = [stated.low, stated.high] if stated.values is None else list(stated.values)
    return [list(value) if isinstance(value, tuple) else value for value in values]


def _as_range(known: Range, stated: ParameterRange) -> Range:
    if stated.values is None and isinstance(known, NumberRange):
        return replace(known, low=known.cast(stated.low), high=known.cast(stated.high))
    return Choice(tuple(known.cast(value) for value in _stated_values(stated)))
