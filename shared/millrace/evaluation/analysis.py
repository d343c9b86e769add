"""Post-training analysis of the winner: threshold, curves, slices, fairness, importance, latency and fit."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace import evaluation_results as results
from millrace.conformal import ConformalCalibration
from millrace.data.prepared import PreparedSplit
from millrace.data.reference import describe_column
from millrace.entities import Trial
from millrace.evaluation.curves import (
    DecisionThreshold,
    choose_threshold,
    classification_curves,
    confusion_matrix,
    decision_costs,
    predict_positive,
    residuals,
)
from millrace.evaluation.estimate_errors import measure_estimate_errors
from millrace.evaluation.fairness import compare_groups, row_measures
from millrace.evaluation.gate import SliceEvidence
from millrace.evaluation.holdout import Measurement, baseline_predictions, count_non_finite, measure_latency
from millrace.evaluation.importance import permutation_importance
from millrace.evaluation.learning_curve import diagnose, learning_curve, refit
from millrace.evaluation.prediction_intervals import calibrate, holdout_parts, measure_coverage
from millrace.evaluation.slices import (
    MISSING,
    Columns,
    Slice,
    declared_slices,
    feature_columns,
    find_worst,
    measure_slices,
)
from millrace.evaluation.times_of_year import HoldoutDates, losses_of_classes, losses_of_values
from millrace.features import missing_mask
from millrace.histograms.bins import NumberBins
from millrace.histograms.outcomes import ErrorSums, OutcomeHistogram, PredictionProfile
from millrace.histograms.predictions import ClassPredictions, ErrorsByValue, PredictionHistogram, ValueHistogram
from millrace.metrics.bootstrap import bootstrap, percentile_interval, resamples_for, weighted_mean
from millrace.metrics.catalogue import LOG_LOSS, Metric, compute_metrics
from millrace.metrics.confidence_intervals import OtherRows
from millrace.schema import TableSchema
from millrace.serving.model import OnnxModel
from millrace.spec import ModelSpec
from millrace.training.fitting import HeldOutRows
from millrace.training.trial_record import LOGGED, TrialRecord

Array = npt.NDArray[Any]

#: Rows of the training split on which the winner is measured.
MAX_TRAIN_ROWS = 20_000


@dataclass(frozen=True, slots=True)
class Splits:
    """A run's prepared rows; ``group_columns`` are the holdout's columns that groups and slices are made of."""

    train: PreparedSplit
    validation: PreparedSplit
    holdout: PreparedSplit
    group_columns: Columns = field(default_factory=dict)

    @property
    def rows(self) -> dict[str, int]:
        """Number of rows of each."""
        return {"train": len(self.train), "validation": len(self.validation), "holdout": len(self.holdout)}


@dataclass(frozen=True, slots=True)
class MeasuredWinner:
    """The winner with its finite predictions on the holdout, and what they are compared with."""

    trial: Trial
    model: OnnxModel
    schema: TableSchema
    metric: Metric
    spec: ModelSpec
    splits: Splits
    predictions: Array
    measured: Measurement
    baseline: Measurement
    clock: Callable[[], float]
    record: TrialRecord | None = None
    #: Rows with predictions by models of its recipe that have not seen them; None of an older release's, without folds.
    held_out: HeldOutRows | None = None

    def predict_validation(self) -> Array:
        """Return predictions of the validation rows by the winner, or where it has seen them by those it refits."""
        rows = self.splits.validation
        if self.record and self.record.refit_of and self.held_out:
            return self.held_out.predictions[-len(rows) :]  # those of training come first, where there are folds
        return self.model.run(rows.features)


@dataclass(frozen=True, slots=True)
class AnalyzedWinner:
    """The analysis, the declared slices for the gate, and the calibration that serving needs.

    ``others`` are the targets and predictions of the rows outside the fit and the holdout; None where one is no number.
    """

    analysis: results.Analysis
    slices: list[SliceEvidence]
    calibration: ConformalCalibration | None
    others: OtherRows | None = None


def analyze(winner: MeasuredWinner) -> AnalyzedWinner:
    """Analyse the winner."""
    schema, spec, target = winner.schema, winner.spec, winner.splits.holdout.target
    validation = winner.predict_validation()
    threshold = _threshold(winner, validation)
    predicted, confusion, curves, errors = None, None, None, None
    if schema.task == "regression":
        errors = residuals(target, winner.predictions, spec.seed, hides_values=winner.schema.target.sensitive)
    else:
        predicted = predict_classes(schema, winner.predictions, threshold.value if threshold else None)
        confusion = confusion_matrix(schema, target, predicted)
        curves = classification_curves(schema, target, winner.predictions, spec.gate.confidence)
    limits = {"row": spec.gate.max_row_milliseconds, "batch": spec.gate.max_batch_milliseconds}
    latency = measure_latency(winner.model, winner.splits.holdout.features, winner.clock, limits)
    importance = permutation_importance(
        winner.model,
        winner.splits.holdout,
        winner.metric,
        confidence=spec.gate.confidence,
        seed=spec.seed,
        seconds=spec.evaluation.importance_seconds,
        clock=winner.clock,
    )
    outside, predicted_outside = winner.splits.validation.target, validation
    if winner.held_out:
        outside, predicted_outside = winner.held_out.target, winner.held_out.predictions
    others = None if count_non_finite(predicted_outside) else (outside, predicted_outside)
    slices, evidence = _slices(winner, validation, importance, others)
    fit = _fit(winner, validation)
    calibration = calibrate(schema, outside, predicted_outside, spec.seed)
    analysis = results.Analysis(
        threshold=_threshold_result(winner, threshold),
        confusion=confusion,
        curves=curves,
        residuals=errors,
        slices=slices,
        fairness=_fairness(winner, predicted),
        importance=importance,
        latency=latency,
        fit=fit,
        learning_curve=_learning_curve(winner, fit),
        probability_calibration=_probability_calibration(winner, curves),
        prediction_intervals=_prediction_intervals(winner, calibration) if calibration else None,
    )
    return AnalyzedWinner(analysis, evidence, calibration, others)


def predict_classes(schema: TableSchema, predictions: Array, threshold: float | None) -> npt.NDArray[np.int64]:
    """Return the predicted class index of each row: by the threshold where there is one, else the likeliest."""
    if schema.task == "binary":
        return predict_positive(predictions, threshold).astype(np.int64)
    return np.asarray(predictions.argmax(axis=1), dtype=np.int64)


def _threshold(winner: MeasuredWinner, validation: Array) -> DecisionThreshold | None:
    costs = winner.spec.evaluation.costs
    if costs is None or winner.schema.task != "binary" or count_non_finite(validation):
        return None
    return choose_threshold(winner.splits.validation.target, validation[:, 1], costs)


def _threshold_result(winner: MeasuredWinner, threshold: DecisionThreshold | None) -> results.ThresholdResult | None:
    """Return the threshold with its cost on the holdout beside that of simple alternatives."""
    costs = winner.spec.evaluation.costs
    if threshold is None or costs is None:
        return None
    target, scores = winner.splits.holdout.target, winner.predictions
    alternatives = {
        "threshold": predict_positive(scores, threshold.value),
        "one_half": predict_positive(scores, 0.5),
        "always_positive": np.ones(len(target), dtype=np.bool_),
        "never_positive": np.zeros(len(target), dtype=np.bool_),
    }
    by_name = {name: decision_costs(target, positive, costs) for name, positive in alternatives.items()}
    statistics = {name: weighted_mean(row_costs) for name, row_costs in by_name.items()}
    samples = bootstrap(statistics, len(target), seed=winner.spec.seed, resamples=resamples_for(len(target)))
    holdout = {
        name: results.MetricEstimate.of(
            float(of_rows.mean()), percentile_interval(samples[name], winner.spec.gate.confidence)
        )
        for name, of_rows in by_name.items()
    }
    return results.ThresholdResult(
        positive_class=winner.schema.class_names[1],
        value=threshold.value,
        rule=threshold.rule,
        costs=costs.model_dump(),
        cost_per_row=results.CostPerRow(threshold.validation_cost, holdout),
    )


def _slices(
    winner: MeasuredWinner, validation: Array, importance: results.ImportanceResult, others: OtherRows | None
) -> tuple[tuple[results.SliceResult, ...], list[SliceEvidence]]:
    """Measure the declared slices, and the worst ones of the validation split; return evidence of the declared."""
    schema, spec, splits = winner.schema, winner.spec.evaluation, winner.splits
    columns = {**feature_columns(schema, splits.holdout.features), **splits.group_columns}
    declared, found = declared_slices(spec.slices, columns, schema), list[Slice]()
    trivial = baseline_predictions(schema, splits.train.target, len(splits.holdout))
    baseline_loss = float(winner.metric.row_loss(splits.holdout.target, trivial).mean())
    if not count_non_finite(validation):
        found = find_worst(
            feature_columns(schema, splits.validation.features),
            winner.metric.row_loss(splits.validation.target, validation),
            schema,
            min_rows=spec.min_slice_rows,
            first=[column.name for column in importance.columns],
            baseline_loss=baseline_loss,
        )
    measured, worst = (
        measure_slices(
            slices,
            columns,
            schema=schema,
            target=splits.holdout.target,
            predictions=winner.predictions,
            losses=winner.metric.row_loss(splits.holdout.target, winner.predictions),
            min_rows=spec.min_slice_rows,
            confidence=winner.spec.gate.confidence,
            seed=winner.spec.seed,
            baseline_loss=baseline_loss,
            others=others,
        )
        for slices in (declared, found)
    )
    evidence = [
        SliceEvidence(
            result.name,
            result.rows,
            None if result.metrics is None else {name: metric.value for name, metric in result.metrics.items()},
            part.floors,
        )
        for part, result in zip(declared, measured, strict=True)
    ]
    return (*measured, *worst), evidence


def _probability_calibration(
    winner: MeasuredWinner, curves: results.Curves | None
) -> results.ProbabilityCalibration | None:
    """Return what the trial records of its calibration, with its effect on the holdout."""
    schema, holdout = winner.schema, winner.splits.holdout
    if winner.record is None or winner.record.scaling is None:
        return None
    scaling = winner.record.scaling
    raw, effect = winner.model.run_raw(holdout.features), None
    if raw is not None and curves is not None:
        log_losses = LOG_LOSS.row_loss
        before = classification_curves(schema, holdout.target, raw, winner.spec.gate.confidence)
        effect = results.ScalingEffect(
            raw_log_loss=float(log_losses(holdout.target, raw).mean()),
            log_loss=float(log_losses(holdout.target, winner.predictions).mean()),
            raw_expected_error=before.calibration.expected_error,
            expected_error=curves.calibration.expected_error,
        )
    return results.ProbabilityCalibration(
        method=scaling.method,
        rows=scaling.rows,
        log_loss=scaling.log_loss,
        scaled_log_loss=scaling.scaled_log_loss,
        standard_error=scaling.standard_error,
        holdout=effect,
    )


def _prediction_intervals(winner: MeasuredWinner, calibration: ConformalCalibration) -> results.PredictionIntervals:
    """Measure the coverage of the holdout, and of its declared slices, groups, and classes or thirds of predictions."""
    schema, spec, holdout = winner.schema, winner.spec, winner.splits.holdout
    columns = {**feature_columns(schema, holdout.features), **winner.splits.group_columns}
    parts = holdout_parts(
        schema,
        holdout.target,
        winner.predictions,
        slices=declared_slices(spec.evaluation.slices, columns, schema),
        sensitive=spec.sensitive_groups,
        columns=columns,
    )
    return measure_coverage(
        calibration,
        "out_of_fold" if winner.trial.folds > 1 else "validation",
        holdout.target,
        winner.predictions,
        parts,
        min_rows=spec.evaluation.min_slice_rows,
        confidence=spec.gate.confidence,
    )


def _fairness(winner: MeasuredWinner, predicted: npt.NDArray[np.int64] | None) -> tuple[results.FairnessResult, ...]:
    """Compare the groups of every sensitive column that the data has; validation reports one that it lacks."""
    holdout, columns = winner.splits.holdout, winner.splits.group_columns
    classes = np.zeros(len(holdout), dtype=np.int64) if predicted is None else predicted
    measures = row_measures(winner.schema.task, holdout.target, winner.predictions, classes)
    return tuple(
        compare_groups(
            winner.schema.column(name),
            columns[name],
            measures,
            min_rows=winner.spec.evaluation.min_slice_rows,
            confidence=winner.spec.gate.confidence,
        )
        for name in winner.spec.sensitive_groups
        if name in columns
    )


def _fit(winner: MeasuredWinner, validation: Array) -> results.FitDiagnosis:
    task, splits = winner.schema.task, winner.splits
    step = -(-len(splits.train) // MAX_TRAIN_ROWS)
    train = splits.train.take(np.arange(0, len(splits.train), step))

    def measured(split: PreparedSplit, predictions: Array) -> results.SplitMetrics:
        known = not count_non_finite(predictions)
        return results.SplitMetrics(len(split), compute_metrics(task, split.target, predictions) if known else {})

    by_split = {
        "train": measured(train, winner.model.run(train.features)),
        "validation": measured(splits.validation, validation),
        "holdout": results.SplitMetrics(len(splits.holdout), winner.measured.metrics),
    }
    return diagnose(winner.metric, by_split, winner.baseline.metrics)


def _learning_curve(winner: MeasuredWinner, fit: results.FitDiagnosis) -> results.LearningCurve | None:
    spec, name = winner.spec.evaluation, winner.metric.name
    if not spec.learning_curve or winner.trial.candidate == LOGGED:  # nobody here can fit it again
        return None
    trial = winner.trial
    if winner.record:
        trial = replace(trial, parameters=winner.record.final_parameters)
    return learning_curve(
        trial,
        winner.schema,
        winner.splits.train,
        winner.splits.validation,
        metric=winner.metric,
        whole=(fit.splits["train"].metrics.get(name), fit.splits["validation"].metrics.get(name)),
        refit=refit,
        seconds=spec.learning_curve_seconds,
        clock=winner.clock,
    )


def profile_predictions(
    schema: TableSchema,
    predictions: Array,
    target: Array,
    *,
    train_target: Array,
    threshold: float | None,
    groups: Mapping[str, Array],
    columns: Mapping[str, Array] | None = None,
    seed: int = 0,
) -> PredictionProfile | None:
    """Profile predictions on a holdout, for monitoring; None for a regression whose target never varied.

    A regression's predictions are counted in the bins of ``train_target``; ``groups`` are the values of the declared
    group columns, and ``columns`` those of the features, on whose parts a classifier's estimates are measured.
    """
    named = {
        name: [
            MISSING if gone else str(value) for value, gone in zip(values.tolist(), missing_mask(values), strict=True)
        ]
        for name, values in groups.items()
    }
    dates = HoldoutDates.find(schema, columns or {})
    if schema.task == "regression":
        bins = describe_column(schema.target, train_target).make_bins()
        if not isinstance(bins, NumberBins):
            return None
        values, truth = predictions.astype(np.float64), target.astype(np.float64)
        return PredictionProfile(
            predictions=ValueHistogram.count(values, bins, named),
            outcomes=ErrorSums.measure(values, truth, named, bins.center),
            errors_by_value=ErrorsByValue.measure(values, truth, bins),
            outcomes_by_time=dates.count(lambda rows: ErrorSums.measure(values[rows], truth[rows], origin=bins.center))
            if dates
            else None,
            deviations_of_days=dates.deviations(losses_of_values(values, truth)) if dates else None,
        )
    decided, probabilities = predict_classes(schema, predictions, threshold), predictions.astype(np.float64)
    classes, true_classes = ClassPredictions(decided, probabilities, named), target.astype(np.int64)
    outcomes = OutcomeHistogram.count(classes, true_classes)
    return PredictionProfile(
        predictions=PredictionHistogram.count(classes),
        outcomes=outcomes,
        estimate_errors=measure_estimate_errors(
            schema, predictions, target, columns=columns or {}, outcomes=outcomes, seed=seed
        ),
        outcomes_by_time=dates.count(
            lambda rows: OutcomeHistogram.count(
                ClassPredictions(decided[rows], probabilities[rows]), true_classes[rows]
            ).coarsen()
        )
        if dates
        else None,
        deviations_of_days=dates.deviations(losses_of_classes(probabilities, decided, true_classes)) if dates else None,
    )
