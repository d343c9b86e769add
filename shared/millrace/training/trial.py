"""One trial as the pipeline runs it: read, fit, record; or skip, or stop, and say why."""

import hashlib
import json
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import scipy
import skl2onnx
import sklearn
import skops

import millrace
from millrace.contracts import TrialOutcome, TrialPointer
from millrace.data.prepared import PreparedSplit, count_rows, load_split
from millrace.entities import Run, Trial
from millrace.errors import MillraceError
from millrace.layout import SplitName, split_key, trial_key
from millrace.observability import logger
from millrace.ports import ObjectStore, Registry
from millrace.schema import TableSchema
from millrace.training.fitting import FittedTrial, fit_trial, sample_rows
from millrace.training.limits import TrialLimits, Watch, peak_memory_mb
from millrace.training.planning import load_schema
from millrace.training.search_plan import Capacity, seconds_spent

ONNX_NAME = "model.onnx"
ESTIMATOR_NAME = "estimator.skops"
RECORD_NAME = "trial.json"


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What surrounded a trial.

    Parameters
    ----------
    prepared : mapping of str to str
        SHA-256 of the files it read, by name.
    rows : mapping of str to int
        Used of each split.
    of_rows : mapping of str to int
        There are of each split; more than ``rows`` where it was trained on a sample.
    duration_seconds : float
        Of reading, fitting and exporting.
    peak_memory_mb : float or None
        Largest resident memory of the process.
    """

    prepared: Mapping[str, str]
    rows: Mapping[str, int]
    of_rows: Mapping[str, int]
    duration_seconds: float
    peak_memory_mb: float | None
    trained_at: datetime


def build_record(
    trial: Trial, run: Run, schema: TableSchema, fitted: FittedTrial, around: Circumstances
) -> dict[str, Any]:
    """Return ``trial.json`` as plain JSON; :mod:`millrace.training.reproduction` trains the same model from it."""
    search = run.summary.get("search", {})
    return {
        "model": trial.model,
        "run_id": trial.run_id,
        "trial_id": trial.trial_id,
        "candidate": trial.candidate,
        "parameters": dict(trial.parameters),
        "seed": trial.seed,
        "round": trial.round,
        "rounds": len(search.get("rounds", ())) or 1,
        "folds": trial.folds,
        "task": schema.task,
        "schema_version": schema.version,
        "spec_revision": search.get("spec_revision"),
        "dataset_ids": list(run.dataset_ids),
        "prepared": dict(around.prepared),
        "planned_rows": trial.rows,
        "rows": dict(around.rows),
        "of_rows": dict(around.of_rows),
        "sampled": dict(around.rows) != dict(around.of_rows),
        "metrics": dict(fitted.metrics),
        "validation_metrics": dict(fitted.validation_metrics),
        "fold_metrics": [dict(fold) for fold in fitted.fold_metrics],
        "parity": fitted.parity.to_dict(),
        "warnings": list(fitted.warnings),
        "artifacts": {ONNX_NAME: sha256_of(fitted.onnx_bytes), ESTIMATOR_NAME: sha256_of(fitted.estimator_bytes)},
        "libraries": library_versions(),
        "code_version": millrace.__version__,
        "duration_seconds": around.duration_seconds,
        "peak_memory_mb": around.peak_memory_mb,
        "trained_at": around.trained_at.isoformat(),
    }


def library_versions() -> dict[str, str]:
    """Return the versions that made a model, from the modules themselves: layers carry no package metadata."""
    modules = (millrace, np, scipy, sklearn, skl2onnx, onnx, onnxruntime, skops)
    return {"python": platform.python_version()} | {module.__name__: module.__version__ for module in modules}


def sha256_of(body: bytes) -> str:
    """Return the SHA-256 of some bytes, in hexadecimal."""
    return hashlib.sha256(body).hexdigest()


@dataclass(frozen=True, slots=True)
class TrialData:
    """What a trial learns from, and how it came to be.

    Parameters
    ----------
    of_rows : mapping of str to int
        Rows there are of each split, of which those here may be a sample.
    prepared : mapping of str to str
        SHA-256 of the files.
    """

    schema: TableSchema
    train: PreparedSplit
    validation: PreparedSplit
    of_rows: Mapping[str, int]
    prepared: Mapping[str, str]


def train_trial(
    pointer: TrialPointer,
    *,
    registry: Registry,
    data_store: ObjectStore,
    model_store: ObjectStore,
    limits: TrialLimits,
    now: datetime,
    clock: Callable[[], float],
) -> TrialOutcome:
    """Run one planned trial and record what came of it.

    A candidate that cannot be fitted or exported, or that reaches a limit, is an outcome, not a fault: the other
    trials go on. A trial that succeeded in this round before is not run again; one is skipped when the run's budget
    is spent.

    Parameters
    ----------
    limits : TrialLimits
        Of the function that this runs in.
    now : datetime
        For the budget and the record.
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
    if trial.status in ("succeeded", "eliminated") or trial.round > pointer.round:
        return TrialOutcome(trial_id=trial.trial_id, outcome="succeeded")
    run = registry.get_run(pointer.model, pointer.run_id)
    spent = budget_spent(run, registry, now)
    if spent:
        registry.update_trial(trial.model, trial.run_id, trial.trial_id, status="skipped", reason=spent)
        return TrialOutcome(trial_id=trial.trial_id, outcome="skipped", reason=spent)
    registry.update_trial(trial.model, trial.run_id, trial.trial_id, status="running", reason="")
    started = clock()
    schema = load_schema(run, data_store)
    bodies = {name: data_store.get(split_key(run.model, run.run_id, name)) for name in _SPLITS}
    try:
        with Watch(limits):
            data = load_trial_data(trial, schema, bodies)
            fitted = fit_trial(trial, schema, data.train, data.validation)
    except Exception as error:  # noqa: BLE001 - any library's error fails this trial alone; no I/O here
        return _record_failure(trial, error, clock() - started, registry)
    around = Circumstances(
        prepared=data.prepared,
        rows={"train": len(data.train), "validation": len(data.validation)},
        of_rows=data.of_rows,
        duration_seconds=clock() - started,
        peak_memory_mb=peak_memory_mb(),
        trained_at=now,
    )
    record = build_record(trial, run, schema, fitted, around)
    _store(trial, fitted, record, model_store)
    registry.update_trial(
        trial.model,
        trial.run_id,
        trial.trial_id,
        status="succeeded",
        metrics=dict(fitted.metrics),
        artifacts=record["artifacts"],
        duration_seconds=around.duration_seconds,
        peak_memory_mb=around.peak_memory_mb,
    )
    return TrialOutcome(trial_id=trial.trial_id, outcome="succeeded")


_SPLITS: tuple[SplitName, SplitName] = ("train", "validation")


def load_trial_data(trial: Trial, schema: TableSchema, bodies: Mapping[SplitName, bytes]) -> TrialData:
    """Read the splits, or the trial's share of both when it trains on fewer rows than there are."""
    of_rows: dict[str, int] = {name: count_rows(body) for name, body in bodies.items()}
    share = 1.0 if trial.rows is None else trial.rows / max(1, of_rows["train"])

    def sampled(row_ids: npt.NDArray[np.uint64], target: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        classes = np.zeros(len(target), dtype=np.int64) if schema.task == "regression" else target
        return sample_rows(row_ids, classes, max(1, round(share * len(row_ids))), trial.seed)

    train, validation = (load_split(bodies[name], sampled if share < 1.0 else None) for name in _SPLITS)
    prepared = {f"{name}.npz": sha256_of(body) for name, body in bodies.items()}
    return TrialData(schema, train, validation, of_rows, prepared)


def budget_spent(run: Run, registry: Registry, now: datetime) -> str:
    """Return why no further trial of a run may start; empty while one may."""
    search = run.summary.get("search", {})
    deadline, most = search.get("deadline"), search.get("max_cost_usd")
    if deadline and now >= datetime.fromisoformat(deadline):
        return f"the search's time budget of {search['max_seconds']:g} s was spent before it began"
    if most is not None:
        seconds = seconds_spent(registry.list_trials(run.model, run.run_id))
        if Capacity(search["memory_mb"]).cost_usd(seconds) >= most:
            return f"the search's cost budget of {most:g} USD was spent before it began"
    return ""


def failure_reason(error: Exception) -> str:
    """Return why a trial failed, in words without data values: a library's own message may quote the table."""
    if isinstance(error, MillraceError):
        return error.message
    if isinstance(error, MemoryError):
        return "the function ran out of memory"
    return f"fitting stopped with {type(error).__name__}; the function's log has the details"


def _record_failure(trial: Trial, error: Exception, duration: float, registry: Registry) -> TrialOutcome:
    """Record a failed trial; the traceback goes to the log, because the caller only gets a reason."""
    reason = failure_reason(error)
    logger.warning("trial failed", exc_info=error, model=trial.model, run_id=trial.run_id, trial_id=trial.trial_id)
    registry.update_trial(
        trial.model,
        trial.run_id,
        trial.trial_id,
        status="failed",
        reason=reason,
        duration_seconds=duration,
        peak_memory_mb=peak_memory_mb(),
    )
    return TrialOutcome(trial_id=trial.trial_id, outcome="failed", reason=reason)


def _store(trial: Trial, fitted: FittedTrial, record: Mapping[str, Any], model_store: ObjectStore) -> None:
    """Write the artifacts, the record last: where there is a record, there is everything it names."""

    def key(name: str) -> str:
        return trial_key(trial.model, trial.run_id, trial.trial_id, name)

    model_store.put(key(ONNX_NAME), fitted.onnx_bytes)
    model_store.put(key(ESTIMATOR_NAME), fitted.estimator_bytes)
    model_store.put(key(RECORD_NAME), json.dumps(record, indent=2).encode(), "application/json")
