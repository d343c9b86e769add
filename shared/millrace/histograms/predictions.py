"""What is kept of a model's answers: by decided class and by probability, or by value."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from millrace.histograms.bins import NumberCells
from millrace.histograms.tables import ColumnSketch, TableSketch, sketch_numbers

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

#: Cells of equal width that probabilities are counted in, and for models with many classes.
PROBABILITY_CELLS = 100
FEW_PROBABILITY_CELLS = 20
_MANY_CLASSES = 10
#: Groups of one column that are told apart; further ones are left out.
MAX_GROUPS = 20


def probability_cells(classes: int) -> int:
    """Return how many cells probabilities of that many classes are counted in."""
    return PROBABILITY_CELLS if classes <= _MANY_CLASSES else FEW_PROBABILITY_CELLS


def locate_probabilities(probabilities: Floats, cells: int) -> Counts:
    """Return the cell of each probability."""
    return np.clip((probabilities * cells).astype(np.int64), 0, cells - 1)


@dataclass(frozen=True, slots=True)
class Answers:
    """A classifier's answers.

    Parameters
    ----------
    decided : int64 array of shape (rows,)
        Class index of the label that was given.
    probabilities : float64 array of shape (rows, n_classes)
        Each row sums to 1.
    groups : mapping of str to sequence of str
        The group of each row, by column of groups.
    """

    decided: Counts
    probabilities: Floats
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.decided)

    @property
    def confidence(self) -> Floats:
        """Probability of the label that was given."""
        return np.asarray(self.probabilities[np.arange(len(self)), self.decided], dtype=np.float64)

    def take(self, rows: npt.NDArray[Any]) -> "Answers":
        """Return the rows where the mask is true."""
        kept = np.flatnonzero(rows).tolist()
        groups = {name: [values[row] for row in kept] for name, values in self.groups.items()}
        return Answers(self.decided[rows], self.probabilities[rows], groups)


@dataclass(slots=True)
class AnswerSketch:
    """What is kept of a classifier's answers.

    Parameters
    ----------
    decided : int64 array of shape (n_classes, n_cells)
        Rows by label given and by its probability.
    probabilities : int64 array of shape (n_classes, n_cells)
        Rows by each class's probability.
    groups : dict of str to dict of str to int64 array of shape (n_classes,)
        Labels given, by column of groups and group.
    """

    decided: Counts
    probabilities: Counts
    groups: dict[str, dict[str, Counts]] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """How many answers there were."""
        return int(self.decided.sum())

    @property
    def labels(self) -> Counts:
        """How often each label was given."""
        return np.asarray(self.decided.sum(axis=1))

    @classmethod
    def empty(cls, classes: int) -> Self:
        """Return the sketch of no answers."""
        shape = (classes, probability_cells(classes))
        return cls(np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64))

    @classmethod
    def of(cls, answers: Answers) -> Self:
        """Sketch answers."""
        classes = answers.probabilities.shape[1]
        cells = probability_cells(classes)
        located = locate_probabilities(answers.probabilities, cells)
        confident = locate_probabilities(answers.confidence, cells)
        decided = np.bincount(answers.decided * cells + confident, minlength=classes * cells)
        every = np.bincount((np.arange(classes) * cells + located).ravel(), minlength=classes * cells)
        shape = (classes, cells)
        groups = {
            name: {
                group: np.bincount(answers.decided[rows], minlength=classes) for group, rows in rows_by_group(values)
            }
            for name, values in answers.groups.items()
        }
        return cls(decided.reshape(shape), every.reshape(shape), groups)

    def add(self, other: "AnswerSketch") -> None:
        """Add another sketch of the same classes."""
        self.decided = self.decided + other.decided
        self.probabilities = self.probabilities + other.probabilities
        add_groups(self.groups, other.groups)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {
            "decided": self.decided.tolist(),
            "probabilities": self.probabilities.tolist(),
            "groups": groups_to_dict(self.groups),
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_dict` wrote."""
        decided, probabilities = (np.asarray(document[name], dtype=np.int64) for name in ("decided", "probabilities"))
        return cls(decided, probabilities, groups_from_dict(document.get("groups", {})))


def rows_by_group(values: Sequence[str]) -> list[tuple[str, Counts]]:
    """Return the rows of each group, the largest groups first, at most :data:`MAX_GROUPS` of them."""
    rows: dict[str, list[int]] = {}
    for row, value in enumerate(values):
        rows.setdefault(value, []).append(row)
    largest = sorted(rows.items(), key=lambda item: (-len(item[1]), item[0]))[:MAX_GROUPS]
    return [(value, np.asarray(found, dtype=np.int64)) for value, found in largest]


def add_groups(total: dict[str, dict[str, Any]], other: Mapping[str, Mapping[str, Any]]) -> None:
    """Add arrays by column and group, in place."""
    for name, groups in other.items():
        own = total.setdefault(name, {})
        for group, counts in groups.items():
            if group in own:
                own[group] = own[group] + counts
            elif len(own) < MAX_GROUPS:
                own[group] = counts


def groups_to_dict(groups: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return arrays by column and group as plain JSON."""
    return {name: {group: counts.tolist() for group, counts in own.items()} for name, own in groups.items()}


def groups_from_dict(document: Mapping[str, Mapping[str, Any]], dtype: Any = np.int64) -> dict[str, dict[str, Any]]:
    """Read what :func:`groups_to_dict` wrote."""
    return {
        name: {group: np.asarray(counts, dtype=dtype) for group, counts in own.items()}
        for name, own in document.items()
    }


@dataclass(slots=True)
class ValueSketch(ColumnSketch):
    """A regression's answers in the target's cells.

    Parameters
    ----------
    groups : dict of str to dict of str to float64 array of shape (3,)
        Rows, sum and sum of squares of the values, in deviations of the target from its mean in training, by column of
        groups and group.
    """

    groups: dict[str, dict[str, Floats]] = field(default_factory=dict)

    @classmethod
    def of(cls, values: Floats, cells: NumberCells, groups: Mapping[str, Sequence[str]] | None = None) -> Self:
        """Sketch answers."""
        column = sketch_numbers(values, cells)
        standard = (values - cells.center) / cells.scale
        by_group = {
            name: {
                group: np.array([len(rows), standard[rows].sum(), (standard[rows] ** 2).sum()], dtype=np.float64)
                for group, rows in rows_by_group(own)
            }
            for name, own in (groups or {}).items()
        }
        return cls(**{name: getattr(column, name) for name in ColumnSketch.__dataclass_fields__}, groups=by_group)

    def add(self, other: ColumnSketch) -> None:
        """Add other answers of the same model."""
        ColumnSketch.add(self, other)
        add_groups(self.groups, other.groups if isinstance(other, ValueSketch) else {})

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return ColumnSketch.to_dict(self) | {"groups": groups_to_dict(self.groups)}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_dict` wrote, or a release that kept no groups."""
        column = ColumnSketch.from_dict(document)
        groups = groups_from_dict(document.get("groups", {}), np.float64)
        return cls(**{name: getattr(column, name) for name in ColumnSketch.__dataclass_fields__}, groups=groups)


@dataclass(frozen=True, slots=True)
class ErrorsByValue:
    """How large a regression's errors were on the holdout, by the cell of the value that was predicted.

    Parameters
    ----------
    sums : float64 array of shape (3, n_cells)
        Rows, sums of the absolute errors and of the squared ones.
    """

    sums: Floats

    @classmethod
    def of(cls, values: Floats, outcomes: Floats, cells: NumberCells) -> Self:
        """Sum up the errors of predicted values."""
        located, errors = cells.locate(values), np.abs(values - outcomes)
        kinds = (np.ones_like(errors), errors, errors**2)
        return cls(np.stack([np.bincount(located, weights=kind, minlength=len(cells)) for kind in kinds]))

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {"sums": self.sums.tolist()}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_dict` wrote."""
        return cls(np.asarray(document["sums"], dtype=np.float64))


@dataclass(slots=True)
class Traffic:
    """What was asked of one version in a window, and what it answered.

    Parameters
    ----------
    features : TableSketch
        Of the rows.
    answers : AnswerSketch, ColumnSketch for regression, or None
        Of the rows; None when none could be read.
    """

    features: TableSketch
    answers: AnswerSketch | ColumnSketch | None = None

    def add(self, other: "Traffic") -> None:
        """Add another window's."""
        self.features.add(other.features)
        self.answers = _add_answers(self.answers, other.answers)


def _add_answers(
    total: AnswerSketch | ColumnSketch | None, other: AnswerSketch | ColumnSketch | None
) -> AnswerSketch | ColumnSketch | None:
    if total is None or other is None:
        return total or other
    if isinstance(total, AnswerSketch):
        if isinstance(other, AnswerSketch):
            total.add(other)
    elif isinstance(other, ColumnSketch):
        total.add(other)
    return total
