"""Histograms of predictions, by predicted class and probability or by predicted value; traffic of a window."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import msgspec
import numpy as np
import numpy.typing as npt

from millrace.documents import Document, Record
from millrace.histograms.bins import MAX_GROUPS, Counts, Floats, Histogram, NumberBins, bounded
from millrace.histograms.tables import ColumnHistogram, TableHistogram, count_numbers

_PROBABILITY_BINS, _FEW_PROBABILITY_BINS = 100, 20
_MANY_CLASSES = 10


def probability_bins(classes: int) -> int:
    """Return the number of equally wide bins of a probability."""
    return _PROBABILITY_BINS if classes <= _MANY_CLASSES else _FEW_PROBABILITY_BINS


def locate_probabilities(probabilities: Floats, bins: int) -> Counts:
    """Return the bin of each probability."""
    return np.clip((probabilities * bins).astype(np.int64), 0, bins - 1)


@dataclass(frozen=True, slots=True)
class ClassPredictions:
    """Predictions of a classifier."""

    decided: Counts  # shape (rows,); index of the predicted class
    probabilities: Floats  # shape (rows, n_classes); each row sums to 1
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)  # group of each row, by column of groups

    def __len__(self) -> int:
        return len(self.decided)

    @property
    def confidence(self) -> Floats:
        """Probability of the predicted class."""
        return np.asarray(self.probabilities[np.arange(len(self)), self.decided], dtype=np.float64)

    def take(self, mask: npt.NDArray[np.bool_]) -> "ClassPredictions":
        """Return the rows where the mask is true."""
        kept = np.flatnonzero(mask).tolist()
        groups = {name: [values[row] for row in kept] for name, values in self.groups.items()}
        return ClassPredictions(self.decided[mask], self.probabilities[mask], groups)


class PredictionHistogram(Histogram, frozen=True, kw_only=True, tag_field="kind", tag="classes"):
    """Counts of a classifier's predictions."""

    decided: Counts  # shape (n_classes, n_bins); rows by predicted class and its probability
    probabilities: Counts  # shape (n_classes, n_bins); rows by each class's probability
    #: shape (n_classes,); rows by predicted class, by column of groups and group.
    groups: dict[str, dict[str, Counts]] = {}  # noqa: RUF012  # msgspec copies the default

    @property
    def rows(self) -> int:
        """Number of predictions."""
        return int(self.decided.sum())

    @property
    def labels(self) -> Counts:
        """Number of predictions of each class."""
        return np.asarray(self.decided.sum(axis=1))

    @classmethod
    def count(cls, predictions: ClassPredictions) -> Self:
        """Count predictions."""
        classes = predictions.probabilities.shape[1]
        bins = probability_bins(classes)
        located = locate_probabilities(predictions.probabilities, bins)
        confident = locate_probabilities(predictions.confidence, bins)
        decided = np.bincount(predictions.decided * bins + confident, minlength=classes * bins)
        every = np.bincount((np.arange(classes) * bins + located).ravel(), minlength=classes * bins)
        groups = by_group(predictions.groups, lambda rows: np.bincount(predictions.decided[rows], minlength=classes))
        return cls(decided=decided.reshape(classes, bins), probabilities=every.reshape(classes, bins), groups=groups)


def by_group(
    groups: Mapping[str, Sequence[str]], measure: Callable[[Counts], npt.NDArray[Any]]
) -> dict[str, dict[str, Any]]:
    """Measure the rows of each group of each column, the :data:`MAX_GROUPS` largest groups."""
    measured: dict[str, dict[str, Any]] = {}
    for name, values in groups.items():
        rows: dict[str, list[int]] = {}
        for row, value in enumerate(values):
            rows.setdefault(value, []).append(row)
        largest = sorted(rows.items(), key=lambda item: (-len(item[1]), item[0]))[:MAX_GROUPS]
        measured[name] = {group: measure(np.asarray(found, dtype=np.int64)) for group, found in largest}
    return measured


class ValueHistogram(ColumnHistogram, frozen=True, kw_only=True, tag_field="kind", tag="values"):
    """Counts of a regression's predictions in the target's bins."""

    #: shape (3,); rows, sum and sum of squares of the values, in deviations of the target from its mean in training, by
    #: column of groups and group.
    groups: dict[str, dict[str, Floats]] = {}  # noqa: RUF012  # msgspec copies the default

    @classmethod
    def count(cls, values: Floats, bins: NumberBins, groups: Mapping[str, Sequence[str]] | None = None) -> Self:
        """Count predicted values."""
        standard = bounded((values - bins.center) / bins.scale)
        sums = by_group(
            groups or {}, lambda rows: np.array([len(rows), standard[rows].sum(), (standard[rows] ** 2).sum()])
        )
        return cls(**msgspec.structs.asdict(count_numbers(values, bins)), groups=sums)


AnyPredictions = PredictionHistogram | ValueHistogram


class ErrorsByValue(Record, frozen=True, kw_only=True):
    """Rows, sums of absolute errors and of squared errors on the holdout, by the bin of the predicted value."""

    sums: Floats
    signed: Floats | None = None  # shape (n_bins,); sums of errors; None in a profile of an early release

    @classmethod
    def measure(cls, values: Floats, outcomes: Floats, bins: NumberBins) -> Self:
        """Sum the errors of predicted values."""
        located, signed = bins.locate(values), bounded(values - outcomes)
        errors = np.abs(signed)
        kinds = (np.ones_like(errors), errors, errors**2, signed)
        sums = np.stack([np.bincount(located, weights=kind, minlength=len(bins)) for kind in kinds])
        return cls(sums=sums[:3].astype(np.float64), signed=sums[3].astype(np.float64))


class Traffic(Histogram, Document, frozen=True, kw_only=True):
    """Histograms of the requests and predictions of one version in a window; None when no prediction could be read."""

    features: TableHistogram
    predictions: AnyPredictions | None = msgspec.field(default=None, name="answers")

    @classmethod
    def upgrade(cls, stored: dict[str, Any], version: int) -> dict[str, Any]:  # noqa: ARG003  # there is one
        """Name the kind of predictions, which was left to the keys before version 1."""
        return stored | {"answers": tag_predictions(stored["answers"])}


def tag_predictions(stored: dict[str, Any] | None) -> dict[str, Any] | None:
    """Name the kind of stored predictions."""
    return stored and {"kind": "classes" if "decided" in stored else "values"} | stored
