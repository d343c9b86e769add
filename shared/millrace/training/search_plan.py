"""From a search space to trials: which settings are tried, on how many rows, in how many rounds."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.entities import Run, Trial
from millrace.layout import prepared_key
from millrace.ports import ObjectStore
from millrace.schema import TableSchema
from millrace.training.search_space import Range, SearchSpace

#: Strings of a column that get a one-hot output of their own; rarer ones share "all zeros" with unseen ones.
MAX_ONE_HOT_VALUES = 50
#: One-hot outputs of all columns together: with more, a wide table would not fit into memory.
MAX_ONE_HOT_OUTPUTS = 2_000


def one_hot_values(string_columns: int) -> int:
    """Return how many values of each column get an output of their own; at least two."""
    return min(MAX_ONE_HOT_VALUES, max(2, MAX_ONE_HOT_OUTPUTS // max(1, string_columns)))


def encoded_width(numbers: int, strings: int) -> int:
    """Return the most columns that a candidate's preprocessing makes of so many numbers and strings."""
    return numbers + strings * one_hot_values(strings)


#: One base a dimension. Beyond these, successive points of a Halton sequence lie on lines.
PRIMES = (2, 3, 5, 7, 11, 13, 17, 19)


def radical_inverse(index: int, base: int) -> float:
    """Return ``index`` written in ``base`` and mirrored at the point: 6 in base 2 is 110, hence 0.011, hence 0.375."""
    value, digit_value = 0.0, 1.0 / base
    while index:
        index, digit = divmod(index, base)
        value += digit * digit_value
        digit_value /= base
    return value


def halton_points(count: int, dimensions: int, seed: int) -> npt.NDArray[np.float64]:
    """Return ``count`` points of the unit cube, shape (count, dimensions).

    The sequence of Halton, "On the efficiency of certain quasi-random sequences of points in evaluating
    multi-dimensional integrals", Numerische Mathematik 2, 1960, shifted modulo 1 by a random vector (Cranley and
    Patterson, SIAM Journal on Numerical Analysis 13, 1976), so that another seed gives other points.

    Raises
    ------
    ValueError
        When there are more dimensions than :data:`PRIMES`.
    """
    if dimensions > len(PRIMES):
        raise ValueError(f"{dimensions} dimensions, and at most {len(PRIMES)} can be filled evenly")
    points = np.array(
        [[radical_inverse(index, base) for base in PRIMES[:dimensions]] for index in range(1, count + 1)]
    ).reshape(count, dimensions)
    shift = np.random.default_rng(seed).random(dimensions)
    return np.asarray((points + shift) % 1.0)


@dataclass(frozen=True, slots=True)
class PreparedSize:
    """Rows and bytes of the splits that trials read.

    Parameters
    ----------
    train_rows, validation_rows : int
        Rows.
    train_bytes, validation_bytes : int
        In memory, uncompressed.
    smallest_class : int or None
        Rows of the rarest class in both together; None for regression.
    """

    train_rows: int
    validation_rows: int
    train_bytes: int
    validation_bytes: int
    smallest_class: int | None = None


def read_prepared_size(run: Run, data_store: ObjectStore) -> PreparedSize:
    """Read a run's manifest of prepared data; raises ``ArtifactNotFoundError`` when it has none."""
    document: dict[str, Any] = json.loads(data_store.get(prepared_key(run.model, run.run_id, "manifest.json")))
    rows, sizes, counts = document["rows"], document.get("bytes", {}), document.get("class_counts", {})
    classes = counts.get("train", {})
    smallest = min((classes[name] + counts["validation"][name] for name in classes), default=None)
    return PreparedSize(rows["train"], rows["validation"], sizes.get("train", 0), sizes.get("validation", 0), smallest)


#: Python with scikit-learn, ONNX Runtime and the converter loaded, and what a model itself takes.
FIXED_BYTES = 500_000_000

#: Copies of the prepared rows, and of the encoded matrix, that fitting holds at its peak; see docs/training.md.
ROW_COPIES = 2.0
ENCODED_COPIES = 4.0

#: Share of the memory that is planned with.
USABLE_SHARE = 0.9

#: AWS Lambda, x86, first tier, us-east-1: dollars a GB-second. Other regions and tiers differ a little.
USD_PER_GB_SECOND = 0.0000166667


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a training function can hold.

    Parameters
    ----------
    memory_mb : int
        Its memory.
    """

    memory_mb: int

    def max_rows(self, size: PreparedSize, encoded_columns: int) -> int:
        """Return how many training rows fit, with a like share of the validation split.

        Parameters
        ----------
        size : PreparedSize
            Of the run's prepared data.
        encoded_columns : int
            Width of the widest matrix that a candidate fits on, in float32.
        """
        prepared = (size.train_bytes + size.validation_bytes) / max(1, size.train_rows)
        each = ROW_COPIES * prepared + ENCODED_COPIES * 4 * encoded_columns
        usable = self.memory_mb * 2**20 * USABLE_SHARE - FIXED_BYTES
        return max(0, int(usable / max(1.0, each)))

    def cost_usd(self, seconds: float) -> float:
        """Return what so many seconds of the function cost by the list price."""
        return seconds * self.memory_mb / 1024 * USD_PER_GB_SECOND


def seconds_spent(trials: Iterable[Trial]) -> float:
    """Return how long trials have run so far, earlier rounds included."""
    return sum(
        (trial.duration_seconds or 0.0) + sum(earlier["duration_seconds"] or 0.0 for earlier in trial.earlier_rounds)
        for trial in trials
    )


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
