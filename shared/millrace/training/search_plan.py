"""From a search space to trials: which settings are tried, on how many rows, in how many rounds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from millrace.schema import TableSchema
from millrace.training.ranges import Range
from millrace.training.sampling import halton_points
from millrace.training.search_space import SearchSpace

#: Trials of a run when the spec says nothing: on a small table in one round; on a larger one most see a share of it.
DEFAULT_TRIALS = 10
DEFAULT_TRIALS_IN_ROUNDS = 18

#: One in this many goes on to the next round, which has this many times the rows: successive halving as Hyperband
#: does it (Li et al., Journal of Machine Learning Research 18, 2018, with eta = 3).
REDUCTION = 3

#: Training rows from which there are two and three rounds.
ROUNDS_FROM = (20_000, 200_000)

#: Training and validation rows up to which trials are ranked by folds: one validation split of so few says little.
MAX_FOLDED_ROWS = 1_000
DEFAULT_FOLDS = 5

#: Tree leaves, times classes, that a boosting or forest may have: what its ONNX form grows with.
MAX_TREES = 6_000
MAX_LEAF_VALUES = 500_000
#: Rows, times passes over them, that a neural network is given.
MAX_NETWORK_STEPS = 20_000_000


@dataclass(frozen=True, slots=True)
class PlannedTrial:
    """A candidate and its parameters."""

    candidate: str
    parameters: Mapping[str, Any]


def draw_trials(
    spaces: Sequence[SearchSpace], count: int, *, seed: int, schema: TableSchema, rows: int
) -> list[PlannedTrial]:
    """Return ``count`` trials, or fewer where there is no more to try.

    First the first trial of each candidate, in order; then, in turn, trials drawn evenly from each one's ranges.
    The same seed gives the same trials, and a larger count only adds to them.

    Parameters
    ----------
    rows : int
        That they will train on; with the schema's classes, bounds what would grow past use.
    """
    planned: list[PlannedTrial] = []

    def plan(space: SearchSpace, parameters: Mapping[str, Any]) -> None:
        bounded = bound_parameters({**space.fixed, **parameters}, len(schema.classes), rows)
        trial = PlannedTrial(space.candidate, bounded)
        if trial not in planned and len(planned) < count:
            planned.append(trial)

    for space in spaces:
        plan(space, space.first)
    for position in range(count):
        for space in spaces:
            if space.ranges and len(planned) < count:
                plan(space, _draw(space.ranges, position, seed))
    return planned


def _draw(ranges: Mapping[str, Range], position: int, seed: int) -> dict[str, Any]:
    point = halton_points(position + 1, len(ranges), seed)[position]
    return {name: ranges[name].at(float(share)) for name, share in zip(ranges, point, strict=True)}


def bound_parameters(parameters: Mapping[str, Any], classes: int, rows: int) -> dict[str, Any]:
    """Return the parameters with fewer trees, leaves or passes where the task has many classes or rows.

    Boosting grows a tree for each class and iteration, a forest's leaf holds a number for each class, and a network's
    pass costs as much as there are rows.
    """
    bounded = dict(parameters)
    if "l2_regularization" in bounded and classes > 2:  # noqa: PLR2004  # two classes take one tree
        bounded["max_iter"] = min(bounded["max_iter"], max(10, MAX_TREES // classes))
    if "n_estimators" in bounded and classes:
        most = MAX_LEAF_VALUES // (bounded["n_estimators"] * classes)
        bounded["max_leaf_nodes"] = min(bounded["max_leaf_nodes"], max(16, most))
    if "hidden_layer_sizes" in bounded:
        bounded["max_iter"] = min(bounded["max_iter"], max(10, MAX_NETWORK_STEPS // max(1, rows)))
    return bounded


def rounds_for(rows: int, wanted: int | None) -> int:
    """Return how many rounds of successive halving there are."""
    return wanted or 1 + sum(1 for limit in ROUNDS_FROM if rows >= limit)


def rows_of_round(rows: int, round_number: int, rounds: int) -> int:
    """Return how many rows a round trains on; the last has them all."""
    return math.ceil(rows / math.pow(REDUCTION, rounds - round_number))


def survivors(trials: int) -> int:
    """Return how many trials of a round go on to the next: a third, and at least two."""
    return min(trials, max(2, math.ceil(trials / REDUCTION)))


def folds_for(rows: int, smallest_class: int | None, split_by: str, wanted: int | None) -> tuple[int, str]:
    """Return by how many folds trials are ranked, and why; 1 stands for the validation split alone.

    Parameters
    ----------
    rows : int
        Of the training and the validation split together.
    smallest_class : int or None
        Rows of the rarest class among them; None for regression.
    split_by : {'random', 'time', 'group'}
        How the run's data was split: folds would let a model of time look ahead.
    wanted : int or None
        What the spec says.
    """
    if wanted == 1:
        return 1, "the spec asks for the validation split alone"
    if split_by == "time":
        return 1, "the split is by time, and folds would look ahead"
    folds = wanted or DEFAULT_FOLDS
    if wanted is None and rows > MAX_FOLDED_ROWS:
        return 1, f"the validation split is large enough: there are more than {MAX_FOLDED_ROWS:,} rows to choose by"
    fewest = rows if smallest_class is None else smallest_class
    if fewest < folds:
        return 1, f"the rarest class has {fewest} rows" if smallest_class is not None else f"there are {rows} rows"
    return folds, f"one validation split of {rows:,} rows says little"
