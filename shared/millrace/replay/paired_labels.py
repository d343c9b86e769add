"""Quality of both versions on the rows whose ground truth is known, and estimates where it is not."""

import dataclasses
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.captures.joining import join_window
from millrace.captures.window import ReadReport, WindowBuilder
from millrace.evaluation.holdout import measure
from millrace.histograms.predictions import ClassPredictions, PredictionHistogram
from millrace.histograms.tables import TableHistogram
from millrace.metrics.catalogue import ACCURACY, METRICS_BY_NAME, PAIRED_METRICS, RMSE
from millrace.monitoring.context import MonitoredVersion
from millrace.monitoring.estimates import NO_REGRESSION_ESTIMATE, estimate_on_rows
from millrace.monitoring.segments import outcome_numbers
from millrace.ports import ObjectStore
from millrace.releases.paired_quality import (
    MARGIN,
    RELATIVE_MARGIN,
    SCALE_OF_RMSE,
    classification_losses,
    compare_losses,
    loss_unit,
    regression_losses,
)
from millrace.releases.replay_evidence import PairedQuality
from millrace.replay.replay_documents import PairedMetric, QualityEstimate, ReplayRequest
from millrace.replay.replay_summary import Comparison
from millrace.spec import ModelSpec

Array = npt.NDArray[Any]

#: Labelled rows that metrics are measured on; of more, rows at equal distances.
MAX_METRIC_ROWS = 20_000
MIN_METRIC_ROWS = 10
_CONFIDENCE = 0.95


@dataclasses.dataclass(frozen=True, slots=True)
class LabelledRows:
    """Ground truth of replayed rows: class index or number of shape (n_rows,), NaN where it is not known.

    ``order`` holds the positions of the labelled rows, by the time at which their ground truth arrived.
    """

    outcomes: npt.NDArray[np.float64]
    order: npt.NDArray[np.int64]
    unusable: int = 0  # reports that are no class or number of the model

    @property
    def labelled(self) -> npt.NDArray[np.bool_]:
        """Mask of the rows with ground truth."""
        return ~np.isnan(self.outcomes)


def join_labels(
    compared: Comparison,
    store: ObjectStore,
    model: str,
    *,
    since: datetime,
    until: datetime,
    now: datetime,
    exclude_callers: Sequence[str],
) -> LabelledRows:
    """Join replayed rows with all feedback up to ``now``."""
    rows = compared.rows
    window = dataclasses.replace(
        WindowBuilder().build(model, since, until, ReadReport()),
        prediction_ids=rows.prediction_ids.astype(object),
        request_rows=rows.request_rows,
        row_ids=np.array([name or None for name in rows.row_ids.tolist()], dtype=object),
        predicted_at=rows.predicted_at,
    )
    joined = join_window(store, window, now, exclude_callers)
    outcomes, unusable = outcome_numbers(joined.outcomes, compared.schema)
    places = np.flatnonzero(~np.isnan(outcomes))
    # Of labels that arrived together the order is that of their rows' ids: nothing of it depends on the outcome.
    keys = (rows.prediction_ids[places], joined.received_at[places])
    return LabelledRows(outcomes, places[np.lexsort(keys)], unusable)


@dataclasses.dataclass(frozen=True, slots=True)
class QualityTest:
    """A test of paired losses: ``margin`` is that of the losses from 0 to 1, ``unit`` a loss of 1 in the metric's unit.

    ``scale`` is that of a regression's errors.
    """

    metric: str
    margin: float
    unit: float = 1.0
    scale: float = 0.0

    @classmethod
    def of(cls, request: ReplayRequest, compared: Comparison, champion: MonitoredVersion | None) -> "QualityTest | str":
        """Return the test that is requested, or the default one; or the reason for none.

        A margin of accuracy is a difference, that of a loss or an error a share of the champion's on its holdout.
        """
        schema, margin = compared.schema, request.margin
        known = [metric.name for metric in PAIRED_METRICS[schema.task]]
        metric = request.metric if request.metric in known else known[0]
        holdout = champion.holdout_metrics if champion else {}
        if metric not in holdout or (RMSE.name not in holdout and not schema.classes):
            if not schema.classes:
                return (
                    "the champion's errors on its holdout were not kept, so paired errors have no scale to be judged on"
                )
            metric = known[0]
        if metric == ACCURACY.name:
            return cls(metric, MARGIN if margin is None else margin)
        share = RELATIVE_MARGIN if margin is None else margin
        scale = 0.0 if schema.classes else SCALE_OF_RMSE * holdout[RMSE.name]
        unit, own = loss_unit(metric, len(schema.classes), scale), holdout[metric]
        lost = ((1.0 + share) ** 2 - 1.0) * own**2 if metric == RMSE.name else share * own
        return cls(metric, min(1.0, lost / unit) if unit > 0 else 0.0, unit, scale)

    def apply(self, compared: Comparison, labels: LabelledRows) -> PairedQuality:
        """Test the labelled rows, in the order in which their ground truth arrived."""
        champion, candidate = (
            self._losses(labels, decided, outputs.astype(np.float64), is_class=bool(compared.schema.classes))
            for decided, outputs in (
                (compared.champion, compared.rows.champion),
                (compared.candidate, compared.rows.candidate),
            )
        )
        return compare_losses(self.metric, champion, candidate, self.margin, unit=self.unit)

    def _losses(self, labels: LabelledRows, decided: Array, outputs: Array, *, is_class: bool) -> Array:
        order = labels.order
        if not is_class:
            return regression_losses(self.metric, labels.outcomes[order], outputs[order], self.scale)
        indices = labels.outcomes[order].astype(np.int64)
        return classification_losses(self.metric, indices, decided[order], outputs[order])


def measure_pairs(compared: Comparison, labels: LabelledRows, spec: ModelSpec) -> tuple[tuple[PairedMetric, ...], int]:
    """Measure every metric of both versions on the same labelled rows, with the bootstrap interval of the gain.

    Returns the metrics, the spec's primary one first, and the number of rows that they are of.
    """
    places = labels.order
    if len(places) > MAX_METRIC_ROWS:
        places = places[np.arange(MAX_METRIC_ROWS) * len(places) // MAX_METRIC_ROWS]
    if len(places) < MIN_METRIC_ROWS:
        return (), len(places)
    schema, rows = compared.schema, compared.rows
    target = labels.outcomes[places].astype(np.int64 if schema.classes else np.float64)
    measured = measure(
        schema, target, {"champion": rows.champion[places], "candidate": rows.candidate[places]}, spec.seed
    )
    champion, candidate = measured["champion"], measured["candidate"]
    found = []
    for name, before in champion.metrics.items():
        metric = METRICS_BY_NAME[name]
        if name not in candidate.metrics:
            continue
        interval = candidate.gain_over(champion, metric, _CONFIDENCE)
        found.append(
            PairedMetric(
                metric=name,
                champion=before,
                candidate=candidate.metrics[name],
                gain=metric.gain(candidate.metrics[name], before),
                low=interval.low if interval else None,
                high=interval.high if interval else None,
            )
        )
    found.sort(key=lambda one: one.metric != spec.primary_metric)
    return tuple(found), len(places)


def estimate_versions(
    compared: Comparison,
    spec: ModelSpec,
    versions: Sequence[tuple[int, MonitoredVersion | None, TableHistogram | None]],
) -> tuple[QualityEstimate, ...]:
    """Estimate the quality of champion and candidate on the same rows, each by its own calibration on its holdout.

    A version whose estimates were not accepted when it was evaluated, or for which these rows are beyond training, has
    a reason instead.
    """
    pairs = ((compared.champion, compared.rows.champion), (compared.candidate, compared.rows.candidate))
    found = []
    for (version, monitored, features), (decided, outputs) in zip(versions, pairs, strict=True):
        if not compared.schema.classes:
            found.append(QualityEstimate(version=version, reason=NO_REGRESSION_ESTIMATE))
        elif monitored is None or monitored.profile is None or features is None:
            found.append(QualityEstimate(version=version, reason="not known: its holdout's predictions were not kept"))
        else:
            predictions = PredictionHistogram.count(ClassPredictions(decided, outputs.astype(np.float64)))
            finding = estimate_on_rows(monitored, predictions, features, (), spec.monitoring)
            found.append(_describe_estimate(version, finding))
    return tuple(found)


def _describe_estimate(version: int, finding: Any) -> QualityEstimate:
    details = finding.details
    if finding.status == "unknown":
        return QualityEstimate(version=version, reason=finding.message)
    return QualityEstimate(
        version=version,
        metric=details["metric"],
        holdout=details["before"],
        value=details["now"],
        low=details["low"],
        high=details["high"],
    )


def find_estimated_loss(estimates: Sequence[QualityEstimate]) -> float | None:
    """Return how far the candidate's estimate is below the champion's; None where one of them is not known."""
    if len({one.metric for one in estimates}) != 1 or any(one.value is None for one in estimates):
        return None
    champion, candidate = estimates
    metric = METRICS_BY_NAME[champion.metric or ""]
    return metric.gain(champion.value or 0.0, candidate.value or 0.0)
