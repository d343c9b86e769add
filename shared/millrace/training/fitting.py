"""Fitting of one candidate: pipeline, ONNX form, parity check and metrics."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import skops.io
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it ships no types

from millrace.data.prepared import PreparedSplit
from millrace.entities import Trial
from millrace.errors import ModelExportError, TrainingFailedError
from millrace.features import FeatureMatrix
from millrace.hashing import split_mix64
from millrace.metrics.catalogue import compute_metrics
from millrace.schema import TableSchema
from millrace.serving.model import OnnxModel
from millrace.training.candidates import ModelPipeline, get_candidate
from millrace.training.export import check_parity, export_onnx, predict_estimator
from millrace.training.preprocessing import FeatureTable
from millrace.training.trial_record import ParityReport

Rows = npt.NDArray[np.int64]

#: Rows of a class that a sample keeps, where there are as many.
MIN_CLASS_ROWS = 3


def sample_positions(row_ids: npt.NDArray[np.uint64], classes: npt.NDArray[np.int64], rows: int, seed: int) -> Rows:
    """Return the positions of about ``rows`` rows, ascending.

    Each class keeps its share, and at least :data:`MIN_CLASS_ROWS` rows. A smaller sample lies inside a larger one.
    """
    if rows >= len(row_ids):
        return np.arange(len(row_ids))
    order = np.argsort(split_mix64(row_ids, seed), kind="stable")
    chosen = []
    for name in np.unique(classes):
        members = order[classes[order] == name]
        quota = max(MIN_CLASS_ROWS, round(rows * len(members) / len(row_ids)))
        chosen.append(members[:quota])
    return np.sort(np.concatenate(chosen))


def assign_folds(
    row_ids: npt.NDArray[np.uint64], classes: npt.NDArray[np.int64], folds: int, seed: int
) -> npt.NDArray[np.int64]:
    """Return the fold of each row, from 0; each class is divided evenly, and rows with one id share a fold."""
    ids, first, inverse = np.unique(row_ids, return_index=True, return_inverse=True)
    order = np.argsort(split_mix64(ids, seed), kind="stable")
    of_id = np.empty(len(ids), dtype=np.int64)
    dealt = 0
    for name in np.unique(classes):
        members = order[classes[first][order] == name]
        of_id[members] = (dealt + np.arange(len(members))) % folds
        dealt += len(members)
    return of_id[inverse]


#: One thread everywhere: trials already run side by side, and sums come out the same on every machine.
MAX_THREADS = 1


@dataclass(frozen=True, slots=True)
class FittedTrial:
    """The result of fitting a trial; its fields are those of the trial's record.

    ``estimator_bytes`` is the scikit-learn pipeline by skops, for people; nothing in the system loads it.
    """

    onnx_bytes: bytes
    estimator_bytes: bytes
    parity: ParityReport
    metrics: Mapping[str, float]
    validation_metrics: Mapping[str, float]
    fold_metrics: tuple[Mapping[str, float], ...]
    warnings: tuple[str, ...]


def fit_trial(trial: Trial, schema: TableSchema, train: PreparedSplit, validation: PreparedSplit) -> FittedTrial:
    """Fit on ``train``, export, compare and measure on ``validation``, and measure folds of both.

    Raises ``TrainingFailedError``, or ``ModelExportError`` without an ONNX form that predicts the same.
    """
    for name, split in (("training", train), ("validation", validation)):
        _check_values(name, split)
    with threadpool_limits(MAX_THREADS):
        pipeline, kinds = fit_pipeline(trial, schema, train)
        onnx_bytes = export_onnx(pipeline, train.features, schema.task)
        onnx_model = OnnxModel.load(onnx_bytes, schema)
        parity = check_parity(pipeline, onnx_model, validation.features)
        if not parity.passed:
            raise ModelExportError(f"the ONNX model differs from its estimator{parity.describe(schema.task)}")
        measured = compute_metrics(schema.task, validation.target, onnx_model.run(validation.features))
        folds = measure_folds(trial, schema, train, validation) if trial.folds > 1 else ()
    estimator_bytes = bytes(skops.io.dumps(pipeline))
    ranked = _mean(folds) if folds else measured
    return FittedTrial(onnx_bytes, estimator_bytes, parity, ranked, measured, folds, kinds)


def fit_pipeline(trial: Trial, schema: TableSchema, train: PreparedSplit) -> tuple[ModelPipeline, tuple[str, ...]]:
    """Return the fitted pipeline of a trial, and the kinds of warnings that fitting raised."""
    if schema.task != "regression":
        missing = len(schema.classes) - len(np.unique(train.target))
        if missing:
            raise TrainingFailedError(f"{missing} of {len(schema.classes)} classes have no row in the training split")
    candidate = get_candidate(trial.candidate, schema.task)
    pipeline = candidate.build(schema.task, train.features, trial.parameters, trial.seed, _plain_numbers(schema))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pipeline.fit(FeatureTable(train.features), train.target)
    return pipeline, tuple(sorted({warning.category.__name__ for warning in caught}))


def _plain_numbers(schema: TableSchema) -> list[int]:
    """Return the numeric columns that hold a feature's value, not a part of a date or a text."""
    widths = [schema.number_width(column) for column in schema.features]
    starts = np.cumsum([0, *widths[:-1]]).tolist() if widths else []
    kinds = ("boolean", "integer", "number")
    return [start for start, column in zip(starts, schema.features, strict=True) if column.type in kinds]


def measure_folds(
    trial: Trial, schema: TableSchema, train: PreparedSplit, validation: PreparedSplit
) -> tuple[Mapping[str, float], ...]:
    """Return the metrics of each fold of the training and validation rows, by a model fitted on the other folds.

    The estimators are measured, not their ONNX forms: a trial is exported and compared once. Every trial of a run has
    the same folds.
    """
    both = (train, validation)
    matrices = (np.concatenate([getattr(split.features, name) for split in both]) for name in ("numbers", "strings"))
    target, row_ids = (np.concatenate([getattr(split, name) for split in both]) for name in ("target", "row_ids"))
    rows = PreparedSplit(FeatureMatrix(*matrices), target, row_ids)
    classes = np.zeros(len(rows), dtype=np.int64) if schema.task == "regression" else rows.target
    fold_of = assign_folds(rows.row_ids, classes, trial.folds, trial.seed)
    metrics = []
    for fold in range(trial.folds):
        pipeline, _ = fit_pipeline(trial, schema, rows.take(fold_of != fold))
        held = rows.take(fold_of == fold)
        predictions = predict_estimator(pipeline, held.features, schema.task)
        metrics.append(compute_metrics(schema.task, held.target, predictions))
    return tuple(metrics)


def _mean(folds: tuple[Mapping[str, float], ...]) -> dict[str, float]:
    """Return the mean of each metric over the folds in which it is defined."""
    names = dict.fromkeys(name for fold in folds for name in fold)
    return {name: float(np.mean([fold[name] for fold in folds if name in fold])) for name in names}


def _check_values(name: str, split: PreparedSplit) -> None:
    """Reject values that no candidate can be fitted on; earlier stages keep them out, but a split is a file."""
    if not len(split):
        raise TrainingFailedError(f"the {name} split has no rows")
    unknown = int(np.sum(~np.isfinite(split.target.astype(np.float64))))
    if unknown:
        raise TrainingFailedError(f"the target of {unknown} rows of the {name} split is not a finite number")
    if np.isinf(split.features.numbers).any():
        raise TrainingFailedError(f"the {name} split holds infinite numbers")
