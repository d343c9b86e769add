"""Diagnosis of over- and underfitting, and the learning curve."""

from collections.abc import Callable, Mapping

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it ships no types

from millrace.data.prepared import PreparedSplit
from millrace.entities import Trial
from millrace.errors import MillraceError
from millrace.evaluation_results import FitDiagnosis, LearningCurve, LearningCurvePoint, SplitMetrics
from millrace.metrics.catalogue import Metric, compute_metrics, nearly_perfect
from millrace.quantities import format_number
from millrace.schema import TableSchema
from millrace.training.export import predict_estimator
from millrace.training.fitting import MAX_THREADS, fit_outside, sample_positions

#: Share of the gain over the baseline that may be lost between training and holdout before it is overfitting.
OVERFIT_SHARE = 0.25
#: Share of a perfect model's gain below which the gain on the training split is underfitting.
UNDERFIT_SHARE = 0.1
#: Factor between the losses on the holdout and in training from which on it is stated.
FACTOR_WORTH_SAYING = 1.3

#: Shares of the training rows, the smallest first; the whole is the winner itself.
SHARES = (0.1, 0.25, 0.5)
MIN_SHARE_ROWS = 50
#: Rows of the training split on which a refit is measured.
MAX_MEASURED_ROWS = 5_000

#: From a trial, a schema, training rows and a list of splits, the last for validation, to the metrics on each.
Refit = Callable[[Trial, TableSchema, PreparedSplit, list[PreparedSplit]], list[Mapping[str, float]]]


def diagnose(metric: Metric, splits: Mapping[str, SplitMetrics], baseline: Mapping[str, float]) -> FitDiagnosis:
    """Compare a metric's gain over the trivial baseline on the training, validation and holdout rows."""
    values = [splits[name].metrics.get(metric.name) for name in ("train", "validation", "holdout")]
    trivial, kept_splits = baseline.get(metric.name), dict(splits)
    if trivial is None or any(value is None for value in values):
        explanation = f"{metric.name} is not defined on every split, so there is no diagnosis."
        return FitDiagnosis("unknown", None, explanation, kept_splits)
    train, validation, holdout = (float(value) for value in values if value is not None)
    gained, kept = metric.gain(train, trivial), metric.gain(holdout, trivial)
    possible = metric.gain(metric.best, trivial)
    shown = [format_number(value) for value in (train, validation, holdout)]
    figures = f"{metric.name} is {shown[0]} in training, {shown[1]} in validation and {shown[2]} on the holdout"
    # A reader sees a factor of two where the share of the gain is sound.
    times = holdout / train if metric.change_is_relative and train > 0 else 1.0
    if times >= FACTOR_WORTH_SAYING:
        figures += f", {format_number(times, 2)} times as much as on rows that it has seen"
    if gained <= 0 or (possible > 0 and gained < UNDERFIT_SHARE * possible):
        explanation = (
            f"{figures}: even on its own training rows the model gains little over the trivial baseline "
            f"({format_number(trivial)}). The features say little about the target, or the candidates are too simple."
        )
        return FitDiagnosis("underfit", None, explanation, kept_splits)
    lost = 1 - kept / gained
    if lost > OVERFIT_SHARE:
        explanation = (
            f"{figures}: {lost:.0%} of its gain over the trivial baseline in training is lost on new rows. "
            "More rows, fewer features or simpler candidates would help."
        )
        return FitDiagnosis("overfit", lost, explanation, kept_splits)
    holdout_split = splits["holdout"]
    if any(nearly_perfect(task, holdout_split.metrics, holdout_split.rows) for task in metric.tasks):
        explanation = (
            f"{figures}: too good to be believed before it is known why. Does a feature hold what is known only after "
            "the prediction? See the gate's check of leakage."
        )
        return FitDiagnosis("nearly perfect", lost, explanation, kept_splits)
    kept_share = f"{min(1.0, 1 - lost):.0%} of its gain over the trivial baseline ({format_number(trivial)})"
    return FitDiagnosis("sound", lost, f"{figures}: {kept_share} in training holds on new rows.", kept_splits)


def refit(
    trial: Trial, schema: TableSchema, train: PreparedSplit, splits: list[PreparedSplit]
) -> list[Mapping[str, float]]:
    """Fit a trial's pipeline on ``train`` and measure it on each of ``splits``; the last are the validation rows.

    These stop boosting, which has as many iterations as pay on so few rows. The estimator itself is measured, without
    export: the trial proved parity.
    """
    *inside, validation = splits
    with threadpool_limits(MAX_THREADS):
        pipeline, outside = fit_outside(trial, schema, train, validation)
        predictions = [predict_estimator(pipeline, split.features, schema.task) for split in inside]
    measured = zip(splits, (*predictions, outside), strict=True)
    return [compute_metrics(schema.task, split.target, predicted) for split, predicted in measured]


def learning_curve(
    trial: Trial,
    schema: TableSchema,
    train: PreparedSplit,
    validation: PreparedSplit,
    *,
    metric: Metric,
    whole: tuple[float | None, float | None],
    refit: Refit,
    seconds: float,
    clock: Callable[[], float],
) -> LearningCurve:
    """Fit the winner's pipeline on shares of the training rows, with rows of every class, while there is time."""
    classes = np.zeros(len(train), dtype=np.int64) if schema.task == "regression" else train.target
    points: list[LearningCurvePoint] = []
    note = ""
    begun = clock()
    for share in SHARES:
        rows = int(share * len(train))
        if rows < MIN_SHARE_ROWS:
            note = f"Shares of fewer than {MIN_SHARE_ROWS} rows are left out."
            continue
        if clock() - begun + share * (trial.duration_seconds or 0.0) > seconds:
            note = "Further refits would have taken longer than evaluation.learning_curve_seconds."
            break
        part = train.take(sample_positions(train.row_ids, classes, rows, trial.seed))
        try:
            metrics = refit(trial, schema, part, [part.take(np.arange(min(len(part), MAX_MEASURED_ROWS))), validation])
        except (MillraceError, ValueError, ArithmeticError):
            note = "Some shares of the rows could not be fitted."
            continue
        values = [measured.get(metric.name) for measured in metrics]
        if values[0] is not None and values[1] is not None:
            points.append(LearningCurvePoint(len(part), values[0], values[1]))
    if points and whole[0] is not None and whole[1] is not None:
        points.append(LearningCurvePoint(len(train), whole[0], whole[1]))
    return LearningCurve(metric.name, tuple(points), note)
