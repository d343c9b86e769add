"""What is kept of answers whose outcome is known: enough for metrics, their intervals and calibration."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from millrace.histograms.predictions import (
    Answers,
    AnswerSketch,
    ErrorsByValue,
    ValueSketch,
    add_groups,
    groups_from_dict,
    groups_to_dict,
    locate_probabilities,
    probability_cells,
    rows_by_group,
)
from millrace.histograms.tables import ColumnSketch

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
#: Least probability that a logarithm is taken of, as scikit-learn's for float32 models.
_LEAST_PROBABILITY = float(np.finfo(np.float32).eps)
_COUNTS = ("confusion", "totals", "hits")
_SUMS = ("probability_sums", "variances", "losses")
#: Kept of a regression's errors in each group.
_GROUP_SUMS = 4


@dataclass(slots=True)
class OutcomeSketch:
    """What is kept of a classifier's answers and their outcomes.

    Parameters
    ----------
    confusion : int64 array of shape (n_classes, n_classes)
        Rows by true class and label given.
    totals, hits : int64 array of shape (n_classes, n_cells)
        Rows by each class's probability: all, and those of the class.
    probability_sums : float64 array of shape (n_classes, n_cells)
        Sums of the probabilities in each cell.
    variances : float64 array of shape (n_classes,)
        Sums of ``p (1 - p)``.
    losses : float64 array of shape (4,)
        Sums of logarithmic losses and their squares, of Brier scores and their squares.
    groups : dict of str to dict of str to int64 array of shape (n_classes, n_classes)
        Confusion by column of groups and group.
    """

    confusion: Counts
    totals: Counts
    hits: Counts
    probability_sums: Floats
    variances: Floats
    losses: Floats
    groups: dict[str, dict[str, Counts]] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """How many outcomes there are."""
        return int(self.confusion.sum())

    @classmethod
    def empty(cls, classes: int) -> Self:
        """Return the sketch of no outcomes."""
        shape = (classes, probability_cells(classes))
        confusion, totals, hits = (np.zeros(size, dtype=np.int64) for size in ((classes, classes), shape, shape))
        return cls(confusion, totals, hits, np.zeros(shape), np.zeros(classes), np.zeros(4))

    @classmethod
    def of(cls, answers: Answers, outcomes: Counts) -> Self:
        """Sketch answers and their outcomes, class indices of shape (rows,)."""
        rows, classes = answers.probabilities.shape
        cells = probability_cells(classes)
        located = np.arange(classes) * cells + locate_probabilities(answers.probabilities, cells)
        own = (np.arange(rows), outcomes)
        size, shape = classes * cells, (classes, cells)
        true_probability = np.maximum(answers.probabilities[own], _LEAST_PROBABILITY)
        log_losses = -np.log(true_probability)
        brier = _brier(answers.probabilities, outcomes)
        return cls(
            confusion=_confusion(outcomes, answers.decided, classes),
            totals=np.bincount(located.ravel(), minlength=size).reshape(shape),
            hits=np.bincount(located[own], minlength=size).reshape(shape),
            probability_sums=_sums(located.ravel(), answers.probabilities.ravel(), size).reshape(shape),
            variances=np.sum(answers.probabilities * (1.0 - answers.probabilities), axis=0),
            losses=np.array([log_losses.sum(), (log_losses**2).sum(), brier.sum(), (brier**2).sum()]),
            groups={
                name: {
                    group: _confusion(outcomes[chosen], answers.decided[chosen], classes)
                    for group, chosen in rows_by_group(values)
                }
                for name, values in answers.groups.items()
            },
        )

    def add(self, other: "OutcomeSketch") -> None:
        """Add another sketch of the same classes."""
        self.confusion = self.confusion + other.confusion
        self.totals = self.totals + other.totals
        self.hits = self.hits + other.hits
        self.probability_sums = self.probability_sums + other.probability_sums
        self.variances = self.variances + other.variances
        self.losses = self.losses + other.losses
        add_groups(self.groups, other.groups)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {name: getattr(self, name).tolist() for name in (*_COUNTS, *_SUMS)} | {
            "groups": groups_to_dict(self.groups)
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_dict` wrote."""
        confusion, totals, hits = (np.asarray(document[name], dtype=np.int64) for name in _COUNTS)
        sums, variances, losses = (np.asarray(document[name], dtype=np.float64) for name in _SUMS)
        return cls(confusion, totals, hits, sums, variances, losses, groups_from_dict(document.get("groups", {})))


def _sums(positions: Counts, values: Floats, size: int) -> Floats:
    return np.asarray(np.bincount(positions, weights=values, minlength=size), dtype=np.float64)


def _brier(probabilities: Floats, outcomes: Counts) -> Floats:
    """Return each row's Brier score: of the second class where there are two, summed over the classes otherwise."""
    if probabilities.shape[1] == 2:  # noqa: PLR2004  # as scikit-learn's for two classes
        return np.asarray((probabilities[:, 1] - outcomes) ** 2)
    truth = np.zeros_like(probabilities)
    truth[np.arange(len(outcomes)), outcomes] = 1.0
    return np.asarray(((probabilities - truth) ** 2).sum(axis=1))


def _confusion(outcomes: Counts, decided: Counts, classes: int) -> Counts:
    return np.bincount(outcomes * classes + decided, minlength=classes * classes).reshape(classes, classes)


@dataclass(slots=True)
class ErrorSketch:
    """What is kept of a regression's answers and their outcomes.

    Parameters
    ----------
    rows : int
        How many outcomes there are.
    sums : float64 array of shape (6,)
        Of the errors (answer less outcome), their absolute values, squares and fourth powers, of the outcomes and their
        squares, both less ``origin``.
    origin : float
        Training's mean of the target, so that squares of large values lose nothing.
    groups : dict of str to dict of str to float64 array of shape (4,)
        Rows, sum of errors, of absolute errors and of squared ones, by column of groups and group.
    """

    rows: int
    sums: Floats
    origin: float = 0.0
    groups: dict[str, dict[str, Floats]] = field(default_factory=dict)

    @classmethod
    def empty(cls, origin: float = 0.0) -> Self:
        """Return the sketch of no outcomes."""
        return cls(0, np.zeros(6), origin)

    @classmethod
    def of(cls, values: Floats, outcomes: Floats, groups: Mapping[str, Any] | None = None, origin: float = 0.0) -> Self:
        """Sketch predicted values and their outcomes."""
        errors, centred = values - outcomes, outcomes - origin
        sums = [errors, np.abs(errors), errors**2, errors**4, centred, centred**2]
        by_group = {
            name: {
                group: np.array([len(rows), *(float(kind[rows].sum()) for kind in sums[:3])], dtype=np.float64)
                for group, rows in rows_by_group(own)
            }
            for name, own in (groups or {}).items()
        }
        return cls(len(errors), np.array([float(part.sum()) for part in sums]), origin, by_group)

    def add(self, other: "ErrorSketch") -> None:
        """Add another sketch of the same origin."""
        self.rows += other.rows
        self.sums = self.sums + other.sums
        add_groups(self.groups, other.groups)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {
            "rows": self.rows,
            "sums": self.sums.tolist(),
            "origin": self.origin,
            "groups": groups_to_dict(self.groups),
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_dict` wrote."""
        sums = np.asarray(document["sums"], dtype=np.float64)
        groups = groups_from_dict(document.get("groups", {}), np.float64)
        mean_square = sums[2] / document["rows"] if document["rows"] else 0.0
        by_group = {
            name: {group: _with_squares(kept, mean_square) for group, kept in own.items()}
            for name, own in groups.items()
        }
        return cls(document["rows"], sums, document["origin"], by_group)


def _with_squares(kept: Floats, mean_square: float) -> Floats:
    """Complete what releases wrote that kept no squares by group: by those of all rows."""
    return kept if len(kept) == _GROUP_SUMS else np.append(kept, kept[0] * mean_square)


@dataclass(frozen=True, slots=True)
class PredictionProfile:
    """How a version answered its holdout.

    Parameters
    ----------
    answers : AnswerSketch, or ValueSketch for regression
        Of every row.
    outcomes : OutcomeSketch, or ErrorSketch for regression
        Of every row.
    errors_by_value : ErrorsByValue or None, default=None
        Of a regression; None where an older release kept none.
    """

    answers: AnswerSketch | ColumnSketch
    outcomes: OutcomeSketch | ErrorSketch
    errors_by_value: ErrorsByValue | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        document = {"answers": self.answers.to_dict(), "outcomes": self.outcomes.to_dict()}
        return document | ({"errors_by_value": self.errors_by_value.to_dict()} if self.errors_by_value else {})

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """Read what :meth:`to_dict` wrote."""
        if "confusion" in document["outcomes"]:
            return cls(AnswerSketch.from_dict(document["answers"]), OutcomeSketch.from_dict(document["outcomes"]))
        errors = document.get("errors_by_value")
        return cls(
            ValueSketch.from_dict(document["answers"]),
            ErrorSketch.from_dict(document["outcomes"]),
            ErrorsByValue.from_dict(errors) if errors else None,
        )
