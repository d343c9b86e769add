"""The plan of a search: trials drawn from the search space, and their rows, rounds and folds."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.cost.prices import USD_PER_GB_SECOND
from millrace.data.dataset_documents import PreparedManifest
from millrace.documents import from_plain
from millrace.entities import Run, Trial
from millrace.training.search_space import Range, SearchSpace

#: Strings of a column with a one-hot output of their own; rarer ones share "all zeros" with unseen ones.
MAX_ONE_HOT_VALUES = 50
#: The same up to so many training rows: a network learns of small groups what their mean outcome does not say.
MAX_ONE_HOT_VALUES_OF_FEW_ROWS = 255
FEW_ROWS = 20_000
#: Training rows for each value below which a column of more than :data:`MAX_ONE_HOT_VALUES` has its statistics alone.
LEAST_ROWS_OF_VALUE = 4
#: One-hot outputs of all columns together: with more, a wide table would not fit into memory.
MAX_ONE_HOT_OUTPUTS = 2_000

#: One base per dimension. Beyond these, successive points of a Halton sequence lie on lines.
PRIMES = (2, 3, 5, 7, 11, 13, 17, 19)

#: Python with scikit-learn, ONNX Runtime and the converter loaded, and the model itself.
FIXED_BYTES = 500_000_000
#: Copies of the prepared rows, and of the encoded matrix, that fitting holds at its peak; see docs/training.md.
ROW_COPIES = 2.0
ENCODED_COPIES = 4.0
#: Share of the memory that is planned with.
USABLE_SHARE = 0.9

#: Trials of a run without a number in its spec: in one round, or in several where most see a share of the rows.
DEFAULT_TRIALS = 10
DEFAULT_TRIALS_IN_ROUNDS = 18
#: One in this many reaches the next round, which has this many times the rows: successive halving as in Hyperband
#: (Li et al., Journal of Machine Learning Research 18, 2018, with eta = 3).
REDUCTION = 3
#: Training rows from which there are two and three rounds.
ROUNDS_FROM = (20_000, 200_000)
#: Runs at once that an account's executions suffice for; a new account may have ten executions.
ACCOUNT_RUNS = 10
#: Training and validation rows up to which folds rank the trials: one validation split of so few is too noisy.
MAX_FOLDED_ROWS = 1_000
DEFAULT_FOLDS = 5


def one_hot_values(string_columns: int, rows: int) -> int:
    """Return the number of values of each column with an output of their own; at least two."""
    most = MAX_ONE_HOT_VALUES if rows > FEW_ROWS else MAX_ONE_HOT_VALUES_OF_FEW_ROWS
    return min(most, max(2, MAX_ONE_HOT_OUTPUTS // max(1, string_columns)))


def encoded_width(numbers: int, strings: int, rows: int) -> int:
    """Return the greatest number of encoded features of so many number and string columns, and training rows."""
    return numbers + strings * one_hot_values(strings, rows)


@dataclass(frozen=True, slots=True)
class TrainingCapacity:
    """The workers that train a run; with too much data it trains on a ``sample``, or it is ``refuse``-d."""

    memory_mb: int
    concurrency: int
    large_data: str
    account_executions: int  # at once, which every function of the account shares

    def lanes(self, wanted: int | None, trials: int) -> int:
        """Return the workers of a run: those wanted, within a tenth of the account's executions at once."""
        return max(1, min(wanted or self.concurrency, trials, self.account_executions // ACCOUNT_RUNS))

    def max_rows(self, prepared: PreparedManifest, encoded_columns: int) -> int:
        """Return the number of training rows that fit, with a like share of the validation split."""
        of_trials = prepared.bytes.get("train", 0) + prepared.bytes.get("validation", 0)
        each = ROW_COPIES * of_trials / max(1, prepared.rows["train"]) + ENCODED_COPIES * 4 * encoded_columns
        usable = self.memory_mb * 2**20 * USABLE_SHARE - FIXED_BYTES
        return max(0, int(usable / max(1.0, each)))


@dataclass(frozen=True, slots=True)
class SearchPlan:
    """The plan of a run, kept under ``search`` in its summary.

    ``rows`` of ``of_rows`` training rows are used; ``rounds`` has those of each round. One of the ``folds`` is the
    validation split alone; ``lanes`` are workers at once, each of ``memory_mb``.
    """

    seed: int
    trials: int
    rows: int
    of_rows: int
    why_sampled: str
    rounds: tuple[int, ...]
    folds: int
    why_folds: str
    left_out: Mapping[str, str]
    deadline: str | None
    max_seconds: float | None
    max_cost_usd: float | None
    lanes: int
    memory_mb: int
    spec_revision: int
    #: Whether one more round fits the winner on training and validation rows; plans of earlier releases did not.
    refit: bool = False
    why_not_refitted: str = ""

    @property
    def last_round(self) -> int:
        """The number of the last round, that of the refit included."""
        return len(self.rounds) + self.refit

    @classmethod
    def of(cls, run: Run) -> "SearchPlan | None":
        """Return the plan of a run; None before it is planned."""
        return from_plain(cls, run.summary["search"]) if "search" in run.summary else None

    def cost_usd(self, trials: Iterable[Trial]) -> float:
        """Return the cost of trials so far by the list price, earlier rounds included."""
        seconds = sum(
            (trial.duration_seconds or 0.0) + sum(past["duration_seconds"] or 0.0 for past in trial.earlier_rounds)
            for trial in trials
        )
        return seconds * self.memory_mb / 1024 * USD_PER_GB_SECOND


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
    """
    if dimensions > len(PRIMES):
        raise ValueError(f"{dimensions} dimensions, and at most {len(PRIMES)} can be filled evenly")
    points = np.array(
        [[radical_inverse(index, base) for base in PRIMES[:dimensions]] for index in range(1, count + 1)]
    ).reshape(count, dimensions)
    shift = np.random.default_rng(seed).random(dimensions)
    return np.asarray((points + shift) % 1.0)


def draw_trials(
    spaces: Sequence[SearchSpace], count: int, *, seed: int, classes: int, rows: int
) -> list[tuple[str, Mapping[str, Any]]]:
    """Return candidate and parameters of ``count`` trials, or fewer where the search spaces have no more.

    First each candidate's first trial, in order, and the second of those that have one; then, in turn, trials drawn
    evenly from each one's ranges. The same seed gives the same trials, and a larger count only adds to them.
    """
    planned: list[tuple[str, Mapping[str, Any]]] = []

    def plan(space: SearchSpace, parameters: Mapping[str, Any]) -> None:
        trial = (space.candidate, space.complete(parameters, classes, rows))
        if trial not in planned and len(planned) < count:
            planned.append(trial)

    for space in spaces:
        plan(space, space.first)
    for space in spaces:
        if space.second:
            plan(space, space.second)
    for position in range(count):
        for space in spaces:
            if space.ranges and len(planned) < count:
                plan(space, _draw(space.ranges, position, seed))
    return planned


def _draw(ranges: Mapping[str, Range], position: int, seed: int) -> dict[str, Any]:
    point = halton_points(position + 1, len(ranges), seed)[position]
    return {name: ranges[name].at(float(share)) for name, share in zip(ranges, point, strict=True)}


def rounds_for(rows: int, wanted: int | None) -> int:
    """Return the number of rounds of successive halving."""
    return wanted or 1 + sum(1 for limit in ROUNDS_FROM if rows >= limit)


def rows_of_round(rows: int, round_number: int, rounds: int) -> int:
    """Return the training rows of a round; the last has them all."""
    return math.ceil(rows / math.pow(REDUCTION, rounds - round_number))


def survivors(trials: int) -> int:
    """Return the number of trials that reach the next round: a third, and at least two."""
    return min(trials, max(2, math.ceil(trials / REDUCTION)))


def folds_for(rows: int, smallest_class: int | None, split_by: str, wanted: int | None) -> tuple[int, str]:
    """Return the number of folds that rank the trials, and why; 1 is the validation split alone."""
    if wanted == 1:
        return 1, "the spec chooses the validation split alone"
    if split_by == "time":
        return 1, "the split is by time, and folds would look ahead"
    folds = wanted or DEFAULT_FOLDS
    if wanted is None and rows > MAX_FOLDED_ROWS:
        return 1, f"the validation split is large enough: there are more than {MAX_FOLDED_ROWS:,} rows"
    fewest = rows if smallest_class is None else smallest_class
    if fewest < folds:
        return 1, f"the rarest class has {fewest} rows" if smallest_class is not None else f"there are {rows} rows"
    return folds, f"one validation split of {rows:,} rows is too noisy"
