"""One trial of the pipeline: read the prepared data, fit, export and record; or skip, fail or stop with a reason.

A recorded trial can be reproduced: the same data, parameters and seed give the same model, byte for byte.
"""

import hashlib
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
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
from millrace.data.prepared import PreparedSplit, load_row_ids, load_split
from millrace.documents import parse_timestamp
from millrace.entities import Run, Trial
from millrace.errors import ArtifactIntegrityError, InvalidInputError, MillraceError
from millrace.layout import SplitName, split_key, trial_key
from millrace.metrics.catalogue import Metric, get_metric
from millrace.observability import logger
from millrace.ports import ObjectStore
from millrace.registry.store import Registry
from millrace.schema import TableSchema
from millrace.serving.model import OnnxModel
from millrace.spec import ModelSpec
from millrace.training.contenders import Contender, choose_contender, with_repeats
from millrace.training.ensemble import MAX_CONSIDERED
from millrace.training.fitting import FittedTrial, fit_trial, sample_positions
from millrace.training.limits import LimitGuard, TrialLimits, peak_memory_mb
from millrace.training.planning import load_prepared_schema, rank_key
from millrace.training.refit import exceeded_limit, refit_winner
from millrace.training.search_plan import SearchPlan
from millrace.training.search_space import BASELINE
from millrace.training.trial_record import HELD_OUT_NAME, LOGGED, OF_TRIAL, ONNX_NAME, RECORD_NAME, TrialRecord

_SPLITS: tuple[SplitName, SplitName] = ("train", "validation")
#: What the registry knows of a record.
_RECORDED = ("parameters", "metrics", "artifacts", "duration_seconds", "peak_memory_mb")


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
    """Run one planned trial and record its outcome.

    A candidate that cannot be fitted or exported, or that reaches a limit, is an outcome and no error: the other trials
    continue. A trial that succeeded in this round is not run again; one is skipped when the run's budget is spent.
    ``clock`` returns monotonic seconds.

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
    update = partial(registry.update_trial, trial.model, trial.run_id, trial.trial_id)
    run = registry.get_run(pointer.model, pointer.run_id)
    spent = budget_spent(run, registry, now)
    if spent:
        update(status="skipped", reason=spent)
        return TrialOutcome(trial_id=trial.trial_id, outcome="skipped", reason=spent)
    update(status="running", reason="", started_at=now)
    started = clock()
    schema = load_prepared_schema(run, data_store)
    bodies = {name: data_store.get(split_key(run.model, run.run_id, name)) for name in _SPLITS}
    search, choice = SearchPlan.of(run), None
    if trial.refit_of:
        spec = registry.get_spec(run.model)
        metric = get_metric(schema.task, spec.primary_metric)
        choice = _Choice(_read_contenders(trial, spec, metric, registry, model_store), spec, metric)
    try:
        with LimitGuard(limits):
            data = load_trial_data(trial, schema, bodies)
            if choice:
                trial, fitted = _refit(trial, schema, data, choice, clock)
            else:
                is_last = search is None or not search.refit
                fitted = fit_trial(trial, schema, data.train, data.validation, is_last=is_last)
    except Exception as error:  # noqa: BLE001 - any library's error fails this trial alone; no I/O here
        return _record_failure(trial, error, clock() - started, update)
    record = build_record(
        trial, run, schema, fitted, data, duration_seconds=clock() - started, peak=peak_memory_mb(), trained_at=now
    )
    for name, body in fitted.artifacts.items():
        model_store.put(trial_key(trial.model, trial.run_id, trial.trial_id, name), body)
    # The record last: where there is a record, there is everything it names.
    key = trial_key(trial.model, trial.run_id, trial.trial_id, RECORD_NAME)
    model_store.put(key, record.write(), "application/json")
    recorded = {name: getattr(record, name) for name in _RECORDED}
    update(status="succeeded", **recorded)
    return TrialOutcome(trial_id=trial.trial_id, outcome="succeeded")


def _read_contenders(
    trial: Trial, spec: ModelSpec, metric: Metric, registry: Registry, model_store: ObjectStore
) -> list[Contender]:
    """Read the trials that a refit chooses from, the best first: the one that it refits, and others of its round."""
    (won,) = trial.refit_of
    rivals = [
        other
        for other in registry.list_trials(trial.model, trial.run_id)
        if other.status == "succeeded"
        and not other.refit_of
        and other.candidate != BASELINE
        and other.rows == trial.rows
        and HELD_OUT_NAME in other.artifacts
    ]
    rivals.sort(key=lambda other: (other.trial_id != won, rank_key(other.trial_id, other.metrics, metric)))
    names = [won, *(other.trial_id for other in rivals if other.trial_id != won)]
    is_alone = spec.training.ensemble != "auto" or trial.candidate == BASELINE
    chosen = names[: 1 if is_alone else MAX_CONSIDERED]
    contenders = []
    for name in chosen:
        record, held_out = (
            model_store.get(trial_key(trial.model, trial.run_id, name, file)) for file in (RECORD_NAME, HELD_OUT_NAME)
        )
        contenders.append(Contender(TrialRecord.read(record), held_out))
    return contenders


@dataclass(frozen=True, slots=True)
class _Choice:
    """Trials that a refit chooses from, and the rule of the choice."""

    contenders: Sequence[Contender]
    spec: ModelSpec
    metric: Metric


def _refit(
    trial: Trial, schema: TableSchema, data: "TrialData", choice: _Choice, clock: Callable[[], float]
) -> tuple[Trial, FittedTrial]:
    """Return what is refitted, one trial or an average within the limits of the gate, and the result."""
    best, gate = choice.contenders[0], choice.spec.gate
    winner = choose_contender(choice.contenders, schema, data.validation, choice.metric)
    if choice.spec.training.ensemble == "auto":
        rows = len(data.train) + len(data.validation)
        winner, best = (with_repeats(one, rows) for one in (winner, best))
    trial = replace(trial, parameters=best.record.final_parameters)
    exceeds = partial(exceeded_limit, schema=schema, rows=data.validation, gate=gate, clock=clock)
    fitted = refit_winner(trial, schema, data.train, data.validation, winner, best=best, exceeds=exceeds)
    if fitted.ensemble and fitted.ensemble.members:
        trial = replace(trial, refit_of=tuple(member.trial_id for member in fitted.ensemble.members))
    return trial, fitted


@dataclass(frozen=True, slots=True)
class TrialData:
    """The rows of a trial, which may be a sample ``of_rows`` of each split, and the SHA-256 of the prepared files."""

    train: PreparedSplit
    validation: PreparedSplit
    of_rows: Mapping[str, int]
    prepared: Mapping[str, str]


def load_trial_data(trial: Trial, schema: TableSchema, bodies: Mapping[SplitName, bytes]) -> TrialData:
    """Read the splits, or the trial's share of both when it trains on a sample."""
    of_rows: dict[str, int] = {name: len(load_row_ids(body)) for name, body in bodies.items()}
    share = 1.0 if trial.rows is None else trial.rows / max(1, of_rows["train"])

    def sampled(row_ids: npt.NDArray[np.uint64], target: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        classes = np.zeros(len(target), dtype=np.int64) if schema.task == "regression" else target
        return sample_positions(row_ids, classes, max(1, round(share * len(row_ids))), trial.seed)

    train, validation = (load_split(bodies[name], sampled if share < 1.0 else None) for name in _SPLITS)
    return TrialData(train, validation, of_rows, {f"{name}.npz": sha256_of(body) for name, body in bodies.items()})


def build_record(
    trial: Trial,
    run: Run,
    schema: TableSchema,
    fitted: FittedTrial,
    data: TrialData,
    *,
    duration_seconds: float,
    peak: float | None,
    trained_at: datetime,
) -> TrialRecord:
    """Return the record of a trial that succeeded; ``peak`` is the largest resident memory in MB."""
    search = SearchPlan.of(run)
    rows = {"train": len(data.train), "validation": len(data.validation)}
    return TrialRecord(
        **{name: getattr(trial, name) for name in OF_TRIAL},
        rounds=len(search.rounds) if search else 1,
        task=schema.task,
        schema_version=schema.version,
        spec_revision=search.spec_revision if search else None,
        dataset_ids=run.dataset_ids,
        prepared=dict(data.prepared),
        planned_rows=trial.rows,
        rows=rows,
        of_rows=dict(data.of_rows),
        sampled=rows != data.of_rows,
        metrics=dict(fitted.metrics),
        validation_metrics=dict(fitted.validation_metrics),
        fold_metrics=tuple(dict(fold) for fold in fitted.fold_metrics),
        parity=fitted.parity,
        warnings=fitted.warnings,
        artifacts={name: sha256_of(body) for name, body in fitted.artifacts.items()},
        iterations=fitted.iterations,
        scaling=fitted.scaling,
        ensemble=fitted.ensemble,
        repeats=fitted.repeats,
        libraries=library_versions(),
        code_version=millrace.__version__,
        duration_seconds=duration_seconds,
        peak_memory_mb=peak,
        trained_at=trained_at,
    )


def library_versions() -> dict[str, str]:
    """Return the versions of Python and the libraries, from the modules themselves: layers have no package metadata."""
    modules = (millrace, np, scipy, sklearn, skl2onnx, onnx, onnxruntime, skops)
    return {"python": platform.python_version()} | {module.__name__: module.__version__ for module in modules}


def sha256_of(body: bytes) -> str:
    """Return the SHA-256 of some bytes, in hexadecimal."""
    return hashlib.sha256(body).hexdigest()


def budget_spent(run: Run, registry: Registry, now: datetime) -> str:
    """Return the reason why no further trial of a run may start; empty while one may."""
    search = SearchPlan.of(run)
    if search is None:
        return ""
    if search.deadline and now >= parse_timestamp(search.deadline):
        return f"the search's time budget of {search.max_seconds:g} s was spent before it began"
    if search.max_cost_usd is not None:
        cost = search.cost_usd(registry.list_trials(run.model, run.run_id))
        if cost >= search.max_cost_usd:
            return f"the search's cost budget of {search.max_cost_usd:g} USD was spent before it began"
    return ""


def _record_failure(trial: Trial, error: Exception, duration: float, update: Callable[..., object]) -> TrialOutcome:
    """Record a failed trial; the traceback goes to the log, and the caller gets a reason."""
    # Without data values: a library's own message may quote the table.
    reason = f"fitting stopped with {type(error).__name__}; the function's log has the details"
    if isinstance(error, MillraceError | MemoryError):
        reason = error.message if isinstance(error, MillraceError) else "the function ran out of memory"
    logger.warning("trial failed", exc_info=error, model=trial.model, run_id=trial.run_id, trial_id=trial.trial_id)
    update(status="failed", reason=reason, duration_seconds=duration, peak_memory_mb=peak_memory_mb())
    return TrialOutcome(trial_id=trial.trial_id, outcome="failed", reason=reason)


@dataclass(frozen=True, slots=True)
class Reproduction:
    """A trial trained again, compared with its record; the predictions are those on the validation split.

    ``other_libraries`` have the versions then and now, where they differ.
    """

    byte_equal: bool
    max_prediction_difference: float | None
    other_libraries: Mapping[str, tuple[str, str]]
    fitted: FittedTrial


def reproduce_trial(
    record: TrialRecord, schema: TableSchema, bodies: Mapping[SplitName, bytes], recorded_onnx: bytes | None = None
) -> Reproduction:
    """Train a trial again from its record.

    Parameters
    ----------
    schema : TableSchema
        The run's prepared ``schema.json``.
    bodies : mapping of str to bytes
        The run's prepared ``train.npz`` and ``validation.npz``.
    recorded_onnx : bytes or None, default=None
        The recorded model, to compare predictions.

    Raises
    ------
    ArtifactIntegrityError
        When the prepared data, or the recorded model, is not what the record names.
    TrainingFailedError, ModelExportError
        When it can no longer be fitted.
    InvalidInputError
        When a user logged its model, which was not trained here.
    """
    if record.candidate == LOGGED:
        raise InvalidInputError("a user logged this model with MLflow: it was not trained here")
    for name, body in bodies.items():
        if sha256_of(body) != record.prepared[f"{name}.npz"]:
            raise ArtifactIntegrityError(f"{name}.npz is not the prepared data that the trial was trained on")
    if recorded_onnx is not None and sha256_of(recorded_onnx) != record.artifacts[ONNX_NAME]:
        raise ArtifactIntegrityError(f"the stored {ONNX_NAME} is not the one that the trial recorded")
    data = load_trial_data(record.trial, schema, bodies)
    if record.refit_of:
        # What the winner's folds gave is in the record: its parameters, iterations and calibration.
        fitted = refit_winner(record.trial, schema, data.train, data.validation, Contender(record, b""))
    else:
        fitted = fit_trial(record.trial, schema, data.train, data.validation, is_last=False)
    now, then = library_versions(), record.libraries
    difference = None
    if recorded_onnx is not None:
        rows = load_split(bodies["validation"]).features
        models = (OnnxModel.load(body, schema) for body in (recorded_onnx, fitted.onnx_bytes))
        first, second = (model.run(rows).astype(np.float64) for model in models)
        difference = float(np.abs(first - second).max(initial=0.0))
    return Reproduction(
        byte_equal=sha256_of(fitted.onnx_bytes) == record.artifacts[ONNX_NAME],
        max_prediction_difference=difference,
        other_libraries={name: (then[name], now.get(name, "-")) for name in then if now.get(name) != then[name]},
        fitted=fitted,
    )
