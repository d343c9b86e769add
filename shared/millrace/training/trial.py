"""One trial: fit a candidate, export it, prove the export, measure it, store it."""

import hashlib
import json
import platform
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import onnx
import onnxruntime
import skl2onnx
import sklearn
import skops
import skops.io
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it ships no types

import millrace
from millrace.contracts import TrialOutcome, TrialPointer
from millrace.data.prepared import PreparedSplit, load_split
from millrace.errors import MillraceError, ModelExportError, TrainingFailedError
from millrace.layout import split_key, trial_key
from millrace.observability import logger
from millrace.ports import ObjectStore, Registry
from millrace.registry.entities import Run, Trial
from millrace.schema import TableSchema
from millrace.serving.onnx_model import OnnxModel
from millrace.training.candidates import get_candidate
from millrace.training.export import ParityReport, check_parity, export_onnx
from millrace.training.metrics import compute_metrics
from millrace.training.planning import load_schema
from millrace.training.preprocessing import FeatureTable

ONNX_NAME = "model.onnx"
ESTIMATOR_NAME = "estimator.skops"
RECORD_NAME = "trial.json"

#: One thread everywhere: trials already run side by side, and sums come out the same on every machine.
MAX_THREADS = 1


@dataclass(frozen=True, slots=True)
class FittedTrial:
    """What fitting a trial gave.

    Parameters
    ----------
    onnx_bytes : bytes
        The model as it serves.
    estimator_bytes : bytes
        The scikit-learn pipeline, by skops, for people who want it back; nothing in the system loads it.
    parity : ParityReport
        Of the two.
    metrics : mapping of str to float
        Of the ONNX model on the validation split.
    warnings : tuple of str
        Kinds of warnings raised while fitting.
    """

    onnx_bytes: bytes
    estimator_bytes: bytes
    parity: ParityReport
    metrics: Mapping[str, float]
    warnings: tuple[str, ...]


def train_trial(
    pointer: TrialPointer,
    *,
    registry: Registry,
    data_store: ObjectStore,
    model_store: ObjectStore,
    now: datetime,
    clock: Callable[[], float],
) -> TrialOutcome:
    """Run one planned trial and record what came of it.

    A candidate that cannot be fitted or exported is an outcome, not a fault: the other trials go on. A trial that
    succeeded before is not run again.

    Parameters
    ----------
    now : datetime
        For the record.
    clock : callable
        Seconds from any fixed point, monotonic; measures the duration.

    Raises
    ------
    ServiceUnavailableError
        When a bucket or the registry cannot be reached; the same call may work later.
    RunNotFoundError, ArtifactNotFoundError
        When the run, the trial or its prepared data does not exist.
    """
    trial = registry.get_trial(pointer.model, pointer.run_id, pointer.trial_id)
    if trial.status == "succeeded":
        return TrialOutcome(trial_id=trial.trial_id, outcome="succeeded")
    run = registry.get_run(pointer.model, pointer.run_id)
    registry.update_trial(trial.model, trial.run_id, trial.trial_id, status="running", reason="")
    started = clock()
    schema = load_schema(run, data_store)
    train_body = data_store.get(split_key(run.model, run.run_id, "train"))
    validation_body = data_store.get(split_key(run.model, run.run_id, "validation"))
    train, validation = load_split(train_body), load_split(validation_body)
    try:
        fitted = fit_trial(trial, schema, train, validation)
    except Exception as error:  # noqa: BLE001 - any library's error fails this trial alone; no I/O here
        return _record_failure(trial, error, clock() - started, registry)
    duration = clock() - started
    record = _record(trial, run, schema, fitted) | {
        "rows": {"train": len(train), "validation": len(validation)},
        "prepared": {"train.npz": _sha256(train_body), "validation.npz": _sha256(validation_body)},
        "duration_seconds": duration,
        "trained_at": now.isoformat(),
    }
    _store(trial, fitted, record, model_store)
    registry.update_trial(
        trial.model,
        trial.run_id,
        trial.trial_id,
        status="succeeded",
        metrics=dict(fitted.metrics),
        artifacts=record["artifacts"],
        duration_seconds=duration,
    )
    return TrialOutcome(trial_id=trial.trial_id, outcome="succeeded")


def fit_trial(trial: Trial, schema: TableSchema, train: PreparedSplit, validation: PreparedSplit) -> FittedTrial:
    """Fit on ``train``; export; compare and measure on ``validation``.

    Raises
    ------
    TrainingFailedError
        When the training split cannot teach this candidate.
    ModelExportError
        When there is no ONNX form, or one that answers differently.
    """
    for name, split in (("training", train), ("validation", validation)):
        if not len(split):
            raise TrainingFailedError(f"the {name} split has no rows")
    pipeline, kinds = _fit(trial, schema, train)
    onnx_bytes = export_onnx(pipeline, train.features, schema.task)
    onnx_model = OnnxModel.load(onnx_bytes, schema)
    with threadpool_limits(MAX_THREADS):
        parity = check_parity(pipeline, onnx_model, validation.features)
    if not parity.passed:
        raise ModelExportError(
            f"the ONNX model differs from its estimator: by up to {parity.max_probability_difference:.3g}, with"
            f" another label on {parity.label_mismatches} of {parity.rows} rows"
        )
    metrics = compute_metrics(schema.task, validation.target, onnx_model.run(validation.features))
    return FittedTrial(onnx_bytes, bytes(skops.io.dumps(pipeline)), parity, metrics, kinds)


def _fit(trial: Trial, schema: TableSchema, train: PreparedSplit) -> tuple[Pipeline, tuple[str, ...]]:
    if schema.task != "regression":
        missing = len(schema.classes) - len(np.unique(train.target))
        if missing:
            raise TrainingFailedError(f"{missing} of {len(schema.classes)} classes have no row in the training split")
    candidate = get_candidate(trial.candidate, schema.task)
    pipeline = candidate.build(schema.task, train.features, trial.parameters, trial.seed)
    with threadpool_limits(MAX_THREADS), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pipeline.fit(FeatureTable(train.features), train.target)
    return pipeline, tuple(sorted({warning.category.__name__ for warning in caught}))


def _record_failure(trial: Trial, error: Exception, duration: float, registry: Registry) -> TrialOutcome:
    """Record a failed trial; the traceback goes to the log, because the caller only gets a reason."""
    reason = failure_reason(error)
    logger.warning("trial failed", exc_info=error, model=trial.model, run_id=trial.run_id, trial_id=trial.trial_id)
    registry.update_trial(
        trial.model, trial.run_id, trial.trial_id, status="failed", reason=reason, duration_seconds=duration
    )
    return TrialOutcome(trial_id=trial.trial_id, outcome="failed", reason=reason)


def failure_reason(error: Exception) -> str:
    """Return why a trial failed, in words without data values: a library's own message may quote the table."""
    if isinstance(error, MillraceError):
        return error.message
    if isinstance(error, MemoryError):
        return "the function ran out of memory"
    return f"fitting stopped with {type(error).__name__}; the function's log has the details"


def _record(trial: Trial, run: Run, schema: TableSchema, fitted: FittedTrial) -> dict[str, Any]:
    return {
        "model": trial.model,
        "run_id": trial.run_id,
        "trial_id": trial.trial_id,
        "candidate": trial.candidate,
        "parameters": dict(trial.parameters),
        "seed": trial.seed,
        "task": schema.task,
        "schema_version": schema.version,
        "dataset_ids": list(run.dataset_ids),
        "metrics": dict(fitted.metrics),
        "parity": fitted.parity.to_dict(),
        "warnings": list(fitted.warnings),
        "artifacts": {ONNX_NAME: _sha256(fitted.onnx_bytes), ESTIMATOR_NAME: _sha256(fitted.estimator_bytes)},
        "libraries": library_versions(),
    }


def _store(trial: Trial, fitted: FittedTrial, record: Mapping[str, Any], model_store: ObjectStore) -> None:
    """Write the artifacts, the record last: where there is a record, there is everything it names."""

    def key(name: str) -> str:
        return trial_key(trial.model, trial.run_id, trial.trial_id, name)

    model_store.put(key(ONNX_NAME), fitted.onnx_bytes)
    model_store.put(key(ESTIMATOR_NAME), fitted.estimator_bytes)
    model_store.put(key(RECORD_NAME), json.dumps(record, indent=2).encode(), "application/json")


def library_versions() -> dict[str, str]:
    """Return the versions that made a model, from the modules themselves: layers carry no package metadata."""
    modules = (millrace, np, sklearn, skl2onnx, onnx, onnxruntime, skops)
    return {"python": platform.python_version()} | {module.__name__: module.__version__ for module in modules}


def _sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()
