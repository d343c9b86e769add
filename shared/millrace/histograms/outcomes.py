"""Histograms of predictions with known outcomes: enough for metrics, their intervals and calibration."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Self

import msgspec
import numpy as np
from msgspec.structs import replace

from millrace.documents import Document
from millrace.histograms.bins import Counts, Floats, Histogram, NumberBins, bounded
from millrace.histograms.predictions import (
    AnyPredictions,
    ClassPredictions,
    ErrorsByValue,
    by_group,
    locate_probabilities,
    probability_bins,
    tag_predictions,
)
from millrace.histograms.tables import PARTS_OF_YEAR, part_of_year

#: Mean of a regression's errors; the catalogue has no metric that may have either sign.
MEAN_ERROR = "mean_error"
#: Least probability that a logarithm is taken of, as scikit-learn's for float32 models.
_LEAST_PROBABILITY = float(np.finfo(np.float32).eps)
_GROUP_SUMS = 4
#: Bins of probability of a calibration error.
CALIBRATION_BINS = 10
#: Classes up to which counts of a window are kept in the monitor's state.
_MAX_KEPT_CLASSES = 10
#: Rows' weight of a bin's own mean beside what was observed in it.
PRIOR_ROWS = 10.0


class OutcomeHistogram(Histogram, frozen=True, kw_only=True, tag_field="kind", tag="classes"):
    """Counts of a classifier's predictions and their outcomes."""

    confusion: Counts  # shape (n_classes, n_classes); rows by true and predicted class
    totals: Counts  # shape (n_classes, n_bins); rows by each class's probability: all, and those of the class
    hits: Counts
    probability_sums: Floats  # shape (n_classes, n_bins); sums of the probabilities in each bin
    covered: int | None = None  # rows whose prediction set held the outcome; None without a calibration
    losses: Floats  # shape (4,); sums of logarithmic losses and their squares, of Brier scores and their squares
    #: shape (n_classes, n_classes); confusion by column of groups and group.
    groups: dict[str, dict[str, Counts]] = {}  # noqa: RUF012  # msgspec copies the default

    @property
    def rows(self) -> int:
        """Number of outcomes."""
        return int(self.confusion.sum())

    def coarsen(self) -> Self | None:
        """Return the counts in the bins of calibration; None of more classes than are worth to be kept."""
        classes, bins = self.totals.shape
        if classes > _MAX_KEPT_CLASSES:
            return None
        shape = (classes, CALIBRATION_BINS, bins // CALIBRATION_BINS)
        kinds = {
            name: getattr(self, name).reshape(shape).sum(axis=2) for name in ("totals", "hits", "probability_sums")
        }
        return replace(self, **kinds)

    def calibration_map(self) -> Floats:
        """Return the frequency of each class by bin of its probability, shrunk towards the probability itself."""
        classes, bins = self.totals.shape
        middles = np.tile((np.arange(bins) + 0.5) / bins, (classes, 1))
        means = np.divide(self.probability_sums, self.totals, out=middles, where=self.totals > 0)
        return np.asarray((self.hits + PRIOR_ROWS * means) / (self.totals + PRIOR_ROWS))

    @classmethod
    def empty(cls, classes: int) -> Self:
        """Return the histogram of no outcomes."""
        nothing = ClassPredictions(np.zeros(0, dtype=np.int64), np.zeros((0, classes)))
        return cls.count(nothing, np.zeros(0, dtype=np.int64))

    @classmethod
    def count(cls, predictions: ClassPredictions, outcomes: Counts) -> Self:
        """Count predictions and their outcomes, class indices of shape (rows,)."""
        probabilities = predictions.probabilities
        rows, classes = probabilities.shape
        bins = probability_bins(classes)
        located = np.arange(classes) * bins + locate_probabilities(probabilities, bins)
        own = (np.arange(rows), outcomes)
        size, shape = classes * bins, (classes, bins)
        log_losses = -np.log(np.maximum(probabilities[own], _LEAST_PROBABILITY))
        brier = _brier(probabilities, outcomes)
        sums = np.bincount(located.ravel(), weights=probabilities.ravel(), minlength=size).reshape(shape)
        return cls(
            confusion=_confusion(outcomes, predictions.decided, classes),
            totals=np.bincount(located.ravel(), minlength=size).reshape(shape),
            hits=np.bincount(located[own], minlength=size).reshape(shape),
            probability_sums=sums.astype(np.float64, copy=False),
            losses=np.array([log_losses.sum(), (log_losses**2).sum(), brier.sum(), (brier**2).sum()]),
            groups=by_group(
                predictions.groups, lambda rows: _confusion(outcomes[rows], predictions.decided[rows], classes)
            ),
        )


def _brier(probabilities: Floats, outcomes: Counts) -> Floats:
    """Return each row's Brier score: of the second class where there are two, summed over the classes otherwise."""
    if probabilities.shape[1] == 2:  # noqa: PLR2004  # as scikit-learn's for two classes
        return np.asarray((probabilities[:, 1] - outcomes) ** 2)
    truth = np.zeros_like(probabilities)
    truth[np.arange(len(outcomes)), outcomes] = 1.0
    return np.asarray(((probabilities - truth) ** 2).sum(axis=1))


def _confusion(outcomes: Counts, decided: Counts, classes: int) -> Counts:
    return np.bincount(outcomes * classes + decided, minlength=classes * classes).reshape(classes, classes)


class ErrorSums(Histogram, frozen=True, kw_only=True, tag_field="kind", tag="values"):
    """Sums of a regression's errors."""

    rows: int  # number of outcomes
    #: shape (6,); of the errors (prediction less outcome), their absolute values, squares and fourth powers, of the
    #: outcomes and their squares, both less ``origin``.
    sums: Floats
    covered: int | None = None  # rows whose interval held the outcome; None without a calibration
    origin: float = 0.0  # training's mean of the target, so that squares of large values lose no precision
    predicted: Counts | None = None  # shape (n_bins,); rows by the target's bin of the predicted value; None: not kept
    #: shape (4,); rows, sum of errors, of absolute errors and of squared ones, by column of groups and group.
    groups: dict[str, dict[str, Floats]] = {}  # noqa: RUF012  # msgspec copies the default

    def coarsen(self) -> Self:
        """Return the sums without the counts of predicted values."""
        return replace(self, predicted=None)

    @classmethod
    def empty(cls, origin: float = 0.0) -> Self:
        """Return the sums of no outcomes."""
        return cls(rows=0, sums=np.zeros(6), origin=origin)

    @classmethod
    def measure(
        cls,
        values: Floats,
        outcomes: Floats,
        groups: Mapping[str, Any] | None = None,
        origin: float = 0.0,
        bins: NumberBins | None = None,
    ) -> Self:
        """Sum the errors of predicted values; with ``bins`` of the target the values are counted as well."""
        errors, centred = bounded(values - outcomes), bounded(outcomes - origin)
        sums = [errors, np.abs(errors), errors**2, errors**4, centred, centred**2]
        own = by_group(groups or {}, lambda rows: np.array([len(rows), *(kind[rows].sum() for kind in sums[:3])]))
        totals = np.array([float(part.sum()) for part in sums])
        predicted = np.bincount(bins.locate(values), minlength=len(bins)) if bins else None
        return cls(rows=len(errors), sums=totals, origin=origin, groups=own, predicted=predicted)

    def _add(self, name: str, first: Any, second: Any) -> Any:
        return first if name == "origin" else super()._add(name, first, second)


AnyOutcomes = OutcomeHistogram | ErrorSums


class PredictionProfile(Document, frozen=True, kw_only=True):
    """The stored ``prediction_profile.json`` of a version: its predictions on the holdout.

    ``errors_by_value`` is that of a regression, and None in a profile of an early release. ``estimate_errors`` is that
    of a classifier: by metric and feature, the error of its estimate without ground truth, per unit of distance from
    training; None where the holdout has no parts to measure it on, and in a profile of an earlier release.
    """

    predictions: AnyPredictions = msgspec.field(name="answers")
    outcomes: AnyOutcomes
    errors_by_value: ErrorsByValue | None = None
    estimate_errors: dict[str, dict[str, float]] | None = None
    #: Outcomes by half month of the year, coarsely; None where no date of the holdout covers a year, of more classes
    #: than are worth to be kept, and in a profile of an earlier release.
    outcomes_by_time: list[AnyOutcomes] | None = None
    #: How far the true values of metrics differ from day to day, as standard deviations; None where the above is.
    deviations_of_days: dict[str, float] | None = None

    def outcomes_near(self, at: datetime) -> AnyOutcomes | None:
        """Return the outcomes of the two half months nearest to a time of the year; None where they are not known."""
        if self.outcomes_by_time is None:
            return None
        first = int(np.floor(part_of_year(np.array(at.timestamp())) - 0.5))
        parts: list[Any] = [self.outcomes_by_time[(first + step) % PARTS_OF_YEAR] for step in (0, 1)]
        near: AnyOutcomes = parts[0] + parts[1]
        return near

    @classmethod
    def upgrade(cls, stored: dict[str, Any], version: int) -> dict[str, Any]:  # noqa: ARG003  # there is one
        """Name the kinds of histograms, and complete groups of errors that early releases kept without squares."""
        outcomes = stored["outcomes"]
        if "confusion" in outcomes:
            outcomes = {"kind": "classes"} | outcomes
        else:
            mean_square = outcomes["sums"][2] / outcomes["rows"] if outcomes["rows"] else 0.0
            groups = {
                name: {
                    group: sums if len(sums) == _GROUP_SUMS else [*sums, sums[0] * mean_square]
                    for group, sums in own.items()
                }
                for name, own in outcomes.get("groups", {}).items()
            }
            outcomes = {"kind": "values"} | outcomes | {"groups": groups}
        return stored | {"answers": tag_predictions(stored["answers"]), "outcomes": outcomes}
