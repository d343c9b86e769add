"""Fitting of one candidate: pipeline, ONNX form, parity check and metrics."""

import io
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it ships no types

from millrace.data.prepared import PreparedSplit
from millrace.entities import Trial
from millrace.errors import ModelExportError, TrainingFailedError
from millrace.features import FeatureMatrix
from millrace.hashing import split_mix64
from millrace.metrics.catalogue import compute_metrics
from millrace.schema import ColumnType, TableSchema
from millrace.serving.model import OnnxModel
from millrace.training.candidates import ModelPipeline, get_candidate
from millrace.training.early_stopping import (
    DEFAULT_PATIENCE,
    PATIENCE,
    best_iteration,
    fixed,
    losses_of,
    losses_of_parts,
    stopping,
    stops_early,
    truncate,
)
from millrace.training.ensemble import row_losses
from millrace.training.export import (
    MAX_PARITY_ROWS,
    append_scaling,
    check_parity,
    check_scaling,
    export_onnx,
    predict_estimator,
)
from millrace.training.preprocessing import FeatureTable
from millrace.training.probability_scaling import ProbabilityScaling, choose_scaling
from millrace.training.search_space import BOOSTING
from millrace.training.trial_record import (
    ESTIMATOR_NAME,
    HELD_OUT_NAME,
    ONNX_NAME,
    EnsembleReport,
    ParityReport,
    ScalingReport,
)

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


#: Rows on which a trial's two forms are compared where the winner is fitted, and compared, once more.
MAX_TRIAL_PARITY_ROWS = 500

#: Trees above which no skops file is written: nobody reads so many, and its time grows with the square of their number.
MAX_DUMPED_TREES = 200

#: One thread everywhere: trials already run side by side, and sums come out the same on every machine.
MAX_THREADS = 1


#: Folds of the validation rows on which a calibration is chosen, where there are none of the trial.
SCALING_FOLDS = 5


@dataclass(frozen=True, slots=True)
class HeldOutRows:
    """Rows with predictions by models that were not fitted on them, and the fold of each."""

    target: npt.NDArray[Any]
    predictions: npt.NDArray[Any]
    fold_of: npt.NDArray[np.int64]

    def dump(self) -> bytes:
        """Return the rows as ``.npz``."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, target=self.target, predictions=self.predictions, fold_of=self.fold_of)
        return buffer.getvalue()

    @classmethod
    def load(cls, body: bytes) -> Self:
        """Read :data:`millrace.training.trial_record.HELD_OUT_NAME`."""
        with np.load(io.BytesIO(body), allow_pickle=False) as arrays:
            target, predictions = arrays["target"], arrays["predictions"]
            folds = arrays["fold_of"] if "fold_of" in arrays else np.zeros(len(target), dtype=np.int64)
            return cls(target, predictions, folds)


@dataclass(frozen=True, slots=True)
class FittedTrial:
    """The result of fitting a trial; its fields are those of the trial's record.

    ``estimator_bytes`` is the scikit-learn pipeline by skops, for people; nothing in the system loads it. Only the last
    fit of a recipe has it, if it has few trees: a winner whose refit failed has none. ``held_out_bytes`` are
    :class:`HeldOutRows`, with calibrated probabilities.
    """

    onnx_bytes: bytes
    parity: ParityReport
    metrics: Mapping[str, float]
    validation_metrics: Mapping[str, float]
    fold_metrics: tuple[Mapping[str, float], ...]
    warnings: tuple[str, ...]
    held_out_bytes: bytes
    scaling: ScalingReport | None = None
    estimator_bytes: bytes | None = None
    iterations: int | None = None
    ensemble: EnsembleReport | None = None
    repeats: int = 1

    @property
    def artifacts(self) -> dict[str, bytes]:
        """Its files, without the record."""
        files = {ONNX_NAME: self.onnx_bytes, HELD_OUT_NAME: self.held_out_bytes}
        return files | ({ESTIMATOR_NAME: self.estimator_bytes} if self.estimator_bytes else {})


def fit_trial(
    trial: Trial, schema: TableSchema, train: PreparedSplit, validation: PreparedSplit, *, is_last: bool = True
) -> FittedTrial:
    """Fit on ``train``, export, compare, calibrate and measure on ``validation``, and measure folds of both.

    The metrics of calibrated probabilities are measured as the calibration was chosen: by what other folds of the same
    rows give. What is not the ``is_last`` fit of its recipe, because the winner is refitted, is compared on fewer rows,
    and its estimator is not kept. Raises ``TrainingFailedError``, or ``ModelExportError`` without an ONNX form that
    predicts the same.
    """
    check_splits(train, validation)
    has_folds = trial.folds > 1
    with threadpool_limits(MAX_THREADS):
        held, iterations = predict_folds(trial, schema, train, validation) if has_folds else (None, None)
        if held is None and stops_early(trial.parameters):
            pipeline, kinds, held, iterations = fit_stopped(trial, schema, train, validation)
        else:
            pipeline, kinds = fit_pipeline(trial, schema, train, iterations)
        most = MAX_PARITY_ROWS if is_last else MAX_TRIAL_PARITY_ROWS
        onnx_bytes, onnx_model, parity = export_checked(pipeline, schema, train, validation, most)
        if held is None:
            held = HeldOutRows(
                validation.target, onnx_model.run(validation.features), _parts(trial, schema, validation)
            )
        predictions = onnx_model.run(validation.features) if has_folds else held.predictions
        scaling = None
        if trial.calibrate and schema.task != "regression":
            choice = choose_scaling(held.target, held.predictions, held.fold_of)
            scaling = choice.report
            if choice.scaling:
                onnx_bytes, scaled_model = append_checked(choice.scaling, onnx_bytes, onnx_model, validation, most)
                held = replace(held, predictions=choice.probabilities)
                predictions = scaled_model.run(validation.features) if has_folds else held.predictions
    measured = compute_metrics(schema.task, validation.target, predictions)
    folds = measure_folds(schema, held) if has_folds else ()
    return FittedTrial(
        onnx_bytes,
        parity,
        mean_metrics(folds) if folds else measured,
        measured,
        folds,
        kinds,
        held.dump(),
        scaling,
        dump_estimator({trial.candidate: pipeline}) if is_last else None,
        iterations,
    )


def dump_estimator(pipelines: Mapping[str, ModelPipeline]) -> bytes | None:
    """Return what was fitted by skops, for people: one pipeline, or those of an average by trial.

    None where there are more than :data:`MAX_DUMPED_TREES` trees.
    """
    if sum(_count_trees(pipeline[-1]) for pipeline in pipelines.values()) > MAX_DUMPED_TREES:
        return None
    import skops.io  # noqa: PLC0415 - it looks for types in all of scikit-learn: a fifth of a cold start

    return bytes(skops.io.dumps(pipelines if len(pipelines) > 1 else next(iter(pipelines.values()))))


def _count_trees(estimator: Any) -> int:
    return sum(map(len, getattr(estimator, "_predictors", ()))) + len(getattr(estimator, "estimators_", ()))


def export_checked(
    pipeline: ModelPipeline, schema: TableSchema, fitted: PreparedSplit, compared: PreparedSplit, most: int
) -> tuple[bytes, OnnxModel, ParityReport]:
    """Return the ONNX form of a pipeline, which predicts the same on up to ``most`` rows and perturbed copies of them.

    Raises ``ModelExportError`` where it does not, or where there is none.
    """
    onnx_bytes = export_onnx(pipeline, fitted.features, schema.task)
    onnx_model = OnnxModel.load(onnx_bytes, schema)
    parity = check_parity(pipeline, onnx_model, compared.features, most)
    if not parity.passed:
        raise ModelExportError(f"the ONNX model differs from its estimator{parity.describe(schema.task)}")
    return onnx_bytes, onnx_model, parity


def append_checked(
    scaling: ProbabilityScaling, onnx_bytes: bytes, onnx_model: OnnxModel, compared: PreparedSplit, most: int
) -> tuple[bytes, OnnxModel]:
    """Return a model with its calibration appended, which follows its formula; ``ModelExportError`` otherwise."""
    scaled_bytes = append_scaling(onnx_bytes, scaling)
    scaled_model = OnnxModel.load(scaled_bytes, onnx_model.schema)
    check_scaling(scaling, onnx_model, scaled_model, compared.features, most)
    return scaled_bytes, scaled_model


def _parts(trial: Trial, schema: TableSchema, validation: PreparedSplit) -> npt.NDArray[np.int64]:
    """Return the part of each validation row: what is chosen of a row is chosen by the other parts."""
    return assign_folds(validation.row_ids, _classes(schema, validation), SCALING_FOLDS, trial.seed)


def _classes(schema: TableSchema, split: PreparedSplit) -> npt.NDArray[Any]:
    """Return what folds and samples are stratified by."""
    return np.zeros(len(split), dtype=np.int64) if schema.task == "regression" else split.target


def join_splits(train: PreparedSplit, validation: PreparedSplit) -> PreparedSplit:
    """Return the training rows, and then the validation rows."""
    both = (train, validation)
    matrices = (np.concatenate([getattr(split.features, name) for split in both]) for name in ("numbers", "strings"))
    target, row_ids = (np.concatenate([getattr(split, name) for split in both]) for name in ("target", "row_ids"))
    return PreparedSplit(FeatureMatrix(*matrices), target, row_ids)


def fit_pipeline(
    trial: Trial, schema: TableSchema, train: PreparedSplit, iterations: int | None = None, *, repeats: int = 1
) -> tuple[ModelPipeline, tuple[str, ...]]:
    """Return the fitted pipeline of a trial, and the kinds of warnings that fitting raised.

    Boosting that stops early has ``iterations``, or else as many as it may. A network is the average of ``repeats``
    fits.
    """
    return _fit(trial, schema, fixed(trial.parameters, iterations), train, repeats=repeats)


def fit_stopped(
    trial: Trial, schema: TableSchema, train: PreparedSplit, validation: PreparedSplit
) -> tuple[ModelPipeline, tuple[str, ...], HeldOutRows, int]:
    """Fit boosting on the training rows as long as the loss of the validation rows falls.

    Returns the pipeline, the kinds of warnings, the validation rows, and the iterations that all of them need. Each
    part of the rows is predicted by as many iterations as the other parts need, up to those of the fit, which the loss
    of all rows ends: only in that does a row have a say in the model that predicts it.
    """
    pipeline, kinds = _fit(trial, schema, stopping(trial.parameters), train, validation)
    estimator, part_of = pipeline[-1], _parts(trial, schema, validation)
    curves = losses_of_parts(_staged_losses(pipeline, schema, validation), part_of)
    trees, rows = estimator._predictors, validation.features
    shape = (len(rows),) if schema.task == "regression" else (len(rows), len(schema.classes))
    predictions = np.empty(shape, dtype=np.float64)
    for number, part in enumerate(np.unique(part_of)):
        own, others = part_of == part, curves[:number] + curves[number + 1 :]
        estimator._predictors = trees[: best_iteration(others or curves)]
        predictions[own] = predict_estimator(pipeline, rows.take(own), schema.task)
    iterations = best_iteration(curves)
    estimator._predictors = trees[:iterations]
    return pipeline, kinds, HeldOutRows(validation.target, predictions, part_of), iterations


def fit_outside(
    trial: Trial, schema: TableSchema, train: PreparedSplit, validation: PreparedSplit
) -> tuple[ModelPipeline, npt.NDArray[Any]]:
    """Return the pipeline of a trial fitted on ``train``, and its predictions of the validation rows.

    Boosting stops by these, as in :func:`fit_stopped`, at the iterations of the trial at the latest.
    """
    if trial.candidate == BOOSTING:
        trial = replace(trial, parameters={**trial.parameters, PATIENCE: DEFAULT_PATIENCE})
        pipeline, _, held, _ = fit_stopped(trial, schema, train, validation)
        return pipeline, held.predictions
    pipeline, _ = fit_pipeline(trial, schema, train)
    return pipeline, predict_estimator(pipeline, validation.features, schema.task)


def _staged_losses(
    pipeline: ModelPipeline, schema: TableSchema, rows: PreparedSplit
) -> Iterator[npt.NDArray[np.float64]]:
    """Yield the loss of each row after each iteration."""
    encoded, target = pipeline[0].transform(FeatureTable(rows.features)), rows.target
    if schema.task == "regression":
        target = pipeline.encode_target(target)
        stages = pipeline[-1].staged_predict(encoded)
    else:
        stages = pipeline[-1].staged_predict_proba(encoded)
    return (row_losses(schema.task, target, predictions) for predictions in stages)


def _fit(
    trial: Trial,
    schema: TableSchema,
    parameters: Mapping[str, Any],
    train: PreparedSplit,
    stop: PreparedSplit | None = None,
    *,
    repeats: int = 1,
) -> tuple[ModelPipeline, tuple[str, ...]]:
    if schema.task != "regression":
        missing = len(schema.classes) - len(np.unique(train.target))
        if missing:
            raise TrainingFailedError(f"{missing} of {len(schema.classes)} classes have no row in the training split")
    candidate = get_candidate(trial.candidate, schema.task)
    pipeline = candidate.build(
        schema.task,
        train.features,
        parameters,
        trial.seed,
        _number_columns(schema, "boolean", "integer", "number"),
        dates=_number_columns(schema, "datetime"),
    )
    pipeline.repeats = repeats
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        beside = (FeatureTable(stop.features), stop.target) if stop else None
        pipeline.fit(FeatureTable(train.features), train.target, beside)
    return pipeline, tuple(sorted({warning.category.__name__ for warning in caught}))


def _number_columns(schema: TableSchema, *kinds: ColumnType) -> list[int]:
    """Return the first numeric column of each feature of these types."""
    widths = [schema.number_width(column) for column in schema.features]
    starts = np.cumsum([0, *widths[:-1]]).tolist() if widths else []
    return [start for start, column in zip(starts, schema.features, strict=True) if column.type in kinds]


def predict_folds(
    trial: Trial, schema: TableSchema, train: PreparedSplit, validation: PreparedSplit
) -> tuple[HeldOutRows, int | None]:
    """Return the training and validation rows, each predicted by a model fitted on the other folds.

    Boosting that stops early has as many iterations as the other folds need; all of them together give the number for
    a fit of more rows, which is None for other trials.

    The estimators predict, not their ONNX forms: a trial is exported and compared once. Every trial of a run has the
    same folds.
    """
    rows = join_splits(train, validation)
    fold_of = assign_folds(rows.row_ids, _classes(schema, rows), trial.folds, trial.seed)
    shape = (len(rows),) if schema.task == "regression" else (len(rows), len(schema.classes))
    predictions = np.empty(shape, dtype=np.float64)
    is_stopping = stops_early(trial.parameters)
    parameters = (stopping if is_stopping else dict)(trial.parameters)
    pipelines = []
    for fold in range(trial.folds):
        inside, outside = rows.take(fold_of != fold), rows.take(fold_of == fold)
        pipelines.append(_fit(trial, schema, parameters, inside, outside if is_stopping else None)[0])
    curves = [losses_of(pipeline[-1]) for pipeline in pipelines] if is_stopping else []
    for fold, pipeline in enumerate(pipelines):
        if is_stopping:
            truncate(pipeline[-1], best_iteration(curves[:fold] + curves[fold + 1 :]))
        predictions[fold_of == fold] = predict_estimator(pipeline, rows.take(fold_of == fold).features, schema.task)
    return HeldOutRows(rows.target, predictions, fold_of), best_iteration(curves) if is_stopping else None


def measure_folds(schema: TableSchema, rows: HeldOutRows) -> tuple[Mapping[str, float], ...]:
    """Return the metrics of each fold."""
    folds = [rows.fold_of == fold for fold in range(rows.fold_of.max() + 1)]
    return tuple(compute_metrics(schema.task, rows.target[fold], rows.predictions[fold]) for fold in folds)


def mean_metrics(folds: tuple[Mapping[str, float], ...]) -> dict[str, float]:
    """Return the mean of each metric over the folds in which it is defined."""
    names = dict.fromkeys(name for fold in folds for name in fold)
    return {name: float(np.mean([fold[name] for fold in folds if name in fold])) for name in names}


def check_splits(train: PreparedSplit, validation: PreparedSplit) -> None:
    """Reject splits that nothing can be fitted on; raises ``TrainingFailedError``."""
    for name, split in (("training", train), ("validation", validation)):
        _check_values(name, split)


def _check_values(name: str, split: PreparedSplit) -> None:
    """Reject values that no candidate can be fitted on; earlier stages keep them out, but a split is a file."""
    if not len(split):
        raise TrainingFailedError(f"the {name} split has no rows")
    unknown = int(np.sum(~np.isfinite(split.target.astype(np.float64))))
    if unknown:
        raise TrainingFailedError(f"the target of {unknown} rows of the {name} split is not a finite number")
    if np.isinf(split.features.numbers).any():
        raise TrainingFailedError(f"the {name} split holds infinite numbers")
