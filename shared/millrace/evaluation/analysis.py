"""Everything that is told of the winner beside its metrics: where it fails, whom it treats how, what it relies on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.data.prepared import PreparedSplit
from millrace.entities import Trial
from millrace.evaluation.curves import (
    Threshold,
    choose_threshold,
    classification_curves,
    confusion,
    decision_costs,
    decisions,
    residuals,
)
from millrace.evaluation.fairness import compare_groups, rates_of
from millrace.evaluation.gate import SliceEvidence
from millrace.evaluation.holdout import Latency, Measurement, measure_latency, unanswered
from millrace.evaluation.importance import Importances, permutation_importance
from millrace.evaluation.learning_curve import diagnose, fit_document, learning_curve, refit
from millrace.evaluation.slices import (
    Columns,
    MeasuredSlice,
    declared_slices,
    feature_columns,
    find_worst,
    measure_slices,
)
from millrace.metrics.bootstrap import bootstrap, percentile_interval, resamples_for
from millrace.metrics.catalogue import Metric
from millrace.metrics.scores import compute_metrics
from millrace.metrics.weighted import LOSSES, row_losses
from millrace.schema import TableSchema
from millrace.serving.model import OnnxModel
from millrace.spec import ModelSpec

Array = npt.NDArray[Any]

#: Rows of the training split on which the winner is measured.
MAX_TRAIN_ROWS = 20_000


@dataclass(frozen=True, slots=True)
class Splits:
    """A run's prepared rows.

    Parameters
    ----------
    told_apart : mapping of str to array of shape (n_holdout_rows,)
        The holdout's values of the columns that groups and slices are made of, features or not.
    """

    train: PreparedSplit
    validation: PreparedSplit
    holdout: PreparedSplit
    told_apart: Columns = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Examination:
    """What was found.

    Parameters
    ----------
    document : mapping
        Its part of ``evaluation.json``.
    slices : tuple of SliceEvidence
        The declared slices, for the gate.
    latency : mapping of str to Latency
        Of a row and of a batch.
    """

    document: Mapping[str, Any]
    slices: tuple[SliceEvidence, ...]
    latency: Mapping[str, Latency]


@dataclass(frozen=True, slots=True)
class Subject:
    """The winner, its answers, and how they are to be judged."""

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


def examine(subject: Subject) -> Examination:
    """Examine the winner; every answer of it on the holdout must be a number."""
    schema, spec, holdout = subject.schema, subject.spec, subject.splits.holdout
    validation = subject.model.run(subject.splits.validation.features)
    threshold = _threshold(subject, validation)
    value = threshold.value if threshold else None
    called = None if schema.task == "regression" else _called(schema, subject.predictions, value)
    latency = measure_latency(subject.model, holdout.features, subject.clock)
    importances = permutation_importance(
        subject.model,
        holdout,
        subject.metric,
        confidence=spec.gate.confidence,
        seed=spec.seed,
        seconds=spec.evaluation.importance_seconds,
        clock=subject.clock,
    )
    slices = _slices(subject, validation, importances)
    fit = _fit(subject, validation)
    document = {
        "threshold": _threshold_document(subject, threshold),
        "confusion": confusion(schema, holdout.target, called) if called is not None else None,
        "curves": classification_curves(schema, holdout.target, subject.predictions, spec.gate.confidence)
        if called is not None
        else None,
        "residuals": None if called is not None else residuals(holdout.target, subject.predictions, spec.seed),
        "slices": [part.to_dict(spec.gate.confidence) for part in slices],
        "fairness": _fairness(subject, called),
        "importance": importances.to_dict(),
        "latency": {kind: taken.to_dict() for kind, taken in latency.items()},
        "fit": fit,
        "learning_curve": _learning_curve(subject, fit),
    }
    evidence = [
        SliceEvidence(
            part.slice.name, part.rows, part.measurement.metrics if part.measurement else None, part.slice.floors
        )
        for part in slices
        if part.slice.declared
    ]
    return Examination(document, tuple(evidence), latency)


def _called(schema: TableSchema, predictions: Array, threshold: float | None) -> npt.NDArray[np.int64]:
    """Return the class index that each row is called: by the threshold where there is one, else the likeliest."""
    if schema.task == "binary":
        return decisions(predictions, threshold).astype(np.int64)
    return np.asarray(predictions.argmax(axis=1), dtype=np.int64)


def _threshold(subject: Subject, validation: Array) -> Threshold | None:
    costs = subject.spec.evaluation.costs
    if costs is None or subject.schema.task != "binary" or unanswered(validation):
        return None
    return choose_threshold(subject.splits.validation.target, validation[:, 1], costs)


def _threshold_document(subject: Subject, threshold: Threshold | None) -> dict[str, Any] | None:
    """Return the threshold, how it was found, and what it costs on the holdout beside the simple alternatives."""
    costs = subject.spec.evaluation.costs
    if threshold is None or costs is None:
        return None
    target, scores = subject.splits.holdout.target, subject.predictions
    everybody = np.ones(len(target), dtype=np.bool_)
    alternatives = {
        "threshold": decisions(scores, threshold.value),
        "one_half": decisions(scores, 0.5),
        "always_positive": everybody,
        "never_positive": ~everybody,
    }
    by_name = {name: decision_costs(target, called, costs) for name, called in alternatives.items()}
    samples = bootstrap(
        {name: _mean_of(costs_of) for name, costs_of in by_name.items()},
        len(target),
        seed=subject.spec.seed,
        resamples=resamples_for(len(target)),
    )
    holdout = {}
    for name, costs_of in by_name.items():
        interval = percentile_interval(samples[name], subject.spec.gate.confidence)
        holdout[name] = {
            "value": float(costs_of.mean()),
            "low": interval.low if interval else None,
            "high": interval.high if interval else None,
        }
    return {
        "positive_class": subject.schema.classes[1],
        "value": threshold.value,
        "rule": threshold.rule,
        "costs": costs.model_dump(),
        "cost_per_row": {"validation": threshold.validation_cost, "holdout": holdout},
    }


def _mean_of(values: npt.NDArray[np.float64]) -> Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]:
    return lambda weights: np.asarray(weights @ values / weights.sum(axis=1))


def _slices(subject: Subject, validation: Array, importances: Importances) -> list[MeasuredSlice]:
    """Measure the declared slices, and the worst that the validation split points to."""
    schema, spec, splits = subject.schema, subject.spec.evaluation, subject.splits
    loss = LOSSES[subject.metric.name]
    columns = {**feature_columns(schema, splits.holdout.features), **splits.told_apart}
    losses = row_losses(loss, splits.holdout.target, subject.predictions)
    declared = declared_slices(spec.slices, columns, schema)
    found = []
    if not unanswered(validation):
        found = find_worst(
            feature_columns(schema, splits.validation.features),
            row_losses(loss, splits.validation.target, validation),
            schema,
            min_rows=spec.min_slice_rows,
            first=[one.column for one in importances.columns],
        )
    return [
        measured
        for slices in (declared, found)
        for measured in measure_slices(
            slices,
            columns,
            schema=schema,
            target=splits.holdout.target,
            predictions=subject.predictions,
            losses=losses,
            min_rows=spec.min_slice_rows,
            confidence=subject.spec.gate.confidence,
            seed=subject.spec.seed,
        )
    ]


def _fairness(subject: Subject, called: npt.NDArray[np.int64] | None) -> list[dict[str, Any]]:
    """Compare the groups of every sensitive column; one that the data lacks is left out, validation has said so."""
    holdout, told_apart = subject.splits.holdout, subject.splits.told_apart
    whole = np.zeros(len(holdout), dtype=np.int64) if called is None else called
    rates = rates_of(subject.schema.task, holdout.target, subject.predictions, whole)
    return [
        compare_groups(
            subject.schema.column(name),
            told_apart[name],
            rates,
            min_rows=subject.spec.evaluation.min_slice_rows,
            confidence=subject.spec.gate.confidence,
        )
        for name in subject.spec.sensitive_groups
        if name in told_apart
    ]


def _fit(subject: Subject, validation: Array) -> dict[str, Any]:
    schema, splits = subject.schema, subject.splits
    step = -(-len(splits.train) // MAX_TRAIN_ROWS)
    train = splits.train.take(np.arange(0, len(splits.train), step))
    answers = subject.model.run(train.features)
    by_split = {
        "train": {} if unanswered(answers) else compute_metrics(schema.task, train.target, answers),
        "validation": {}
        if unanswered(validation)
        else compute_metrics(schema.task, splits.validation.target, validation),
        "holdout": subject.measured.metrics,
    }
    rows = {"train": len(train), "validation": len(splits.validation), "holdout": len(splits.holdout)}
    return fit_document(diagnose(subject.metric, by_split, subject.baseline.metrics), by_split, rows)


def _learning_curve(subject: Subject, fit: Mapping[str, Any]) -> dict[str, Any] | None:
    spec = subject.spec.evaluation
    if not spec.learning_curve:
        return None
    name = subject.metric.name
    whole = tuple(fit["splits"][split]["metrics"].get(name) for split in ("train", "validation"))
    return learning_curve(
        subject.trial,
        subject.schema,
        subject.splits.train,
        subject.splits.validation,
        metric=subject.metric,
        whole=(whole[0], whole[1]),
        refit=refit,
        seconds=spec.learning_curve_seconds,
        clock=subject.clock,
    ).to_dict()
