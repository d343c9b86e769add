"""The record of the trial of a logged model: what its check found, verified, with its metrics on the validation split.

The check (:mod:`millrace.proposals.check`) runs in a function without rights. What it wrote is taken only with the
hash that it returned.
"""

from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

import millrace
from millrace.contracts import CheckedModel, TrialOutcome, TrialPointer
from millrace.data.prepared import load_split
from millrace.entities import Trial
from millrace.errors import ArtifactIntegrityError, InvalidInputError, first_line
from millrace.features import FeatureMatrix
from millrace.layout import split_key, trial_key
from millrace.metrics.catalogue import compute_metrics
from millrace.ports import ObjectStore
from millrace.registry.store import Registry
from millrace.serving.model import OnnxModel
from millrace.training.planning import MAX_REASON_LENGTH, load_prepared_schema
from millrace.training.trial import library_versions, sha256_of
from millrace.training.trial_record import OF_TRIAL, ONNX_NAME, RECORD_NAME, ParityReport, TrialRecord


def record_logged_model(
    pointer: TrialPointer,
    *,
    registry: Registry,
    data_store: ObjectStore,
    model_store: ObjectStore,
    now: datetime,
    clock: Callable[[], float],
) -> TrialOutcome:
    """Record the trial of a logged model; a refused one is a failed trial, whose reason is the check's.

    ``clock`` returns monotonic seconds.

    Raises
    ------
    InvalidInputError
        When the pointer has no result of a check.
    ArtifactIntegrityError
        When the stored model is not the one that was checked.
    """
    checked = pointer.checked
    if checked is None:
        raise InvalidInputError("a logged model is recorded with the result of its check")
    trial = registry.get_trial(pointer.model, pointer.run_id, pointer.trial_id)
    if trial.status == "succeeded":
        return TrialOutcome(trial_id=trial.trial_id, outcome="succeeded")
    update = partial(registry.update_trial, trial.model, trial.run_id, trial.trial_id)

    def refuse(reason: str) -> TrialOutcome:
        update(status="failed", reason=reason[:MAX_REASON_LENGTH])
        return TrialOutcome(trial_id=trial.trial_id, outcome="failed", reason=reason[:MAX_REASON_LENGTH])

    if checked.outcome == "refused":
        return refuse(checked.reason)
    started = clock()
    body = model_store.get(trial_key(trial.model, trial.run_id, trial.trial_id, ONNX_NAME))
    if sha256_of(body) != checked.sha256:
        raise ArtifactIntegrityError("the stored model is not the one that was checked")
    run = registry.get_run(trial.model, trial.run_id)
    schema = load_prepared_schema(run, data_store)
    stored = data_store.get(split_key(run.model, run.run_id, "validation"))
    validation = load_split(stored)
    try:
        predictions = _predict(OnnxModel.load(body, schema), validation.features)
    except InvalidInputError as error:
        return refuse(error.message)
    metrics = dict(compute_metrics(schema.task, validation.target, predictions))
    facts = {name: getattr(trial, name) for name in OF_TRIAL} | {"parameters": _parameters(trial, checked)}
    rows = {"validation": len(validation)}
    record = TrialRecord(
        **facts,
        rounds=1,
        task=schema.task,
        schema_version=schema.version,
        spec_revision=None,
        dataset_ids=run.dataset_ids,
        prepared={"validation.npz": sha256_of(stored)},
        planned_rows=None,
        rows=rows,
        of_rows=rows,
        sampled=False,
        metrics=metrics,
        validation_metrics=metrics,
        fold_metrics=(),
        parity=ParityReport(checked.max_difference, 0, checked.rows, passed=True),
        warnings=(),
        artifacts={ONNX_NAME: checked.sha256},
        libraries=library_versions(),
        code_version=millrace.__version__,
        duration_seconds=clock() - started,
        peak_memory_mb=None,
        trained_at=now,
    )
    key = trial_key(trial.model, trial.run_id, trial.trial_id, RECORD_NAME)
    model_store.put(key, record.write(), "application/json")
    recorded = ("metrics", "artifacts", "parameters", "duration_seconds")
    update(status="succeeded", **{name: getattr(record, name) for name in recorded})
    return TrialOutcome(trial_id=trial.trial_id, outcome="succeeded")


def _parameters(trial: Trial, checked: CheckedModel) -> dict[str, Any]:
    """Return where the model comes from, with what its check read."""
    return {
        **trial.parameters,
        "columns": checked.columns,
        "source_sha256": checked.source_sha256,
        "example_rows": checked.example_rows,
    }


def _predict(model: OnnxModel, features: FeatureMatrix) -> npt.NDArray[Any]:
    """Return the predictions of a user's model; raises ``InvalidInputError`` unless each row has one.

    The check saw rows that the schema allows: those of the data may be others.
    """
    try:
        predictions = model.run(features)
    except MemoryError:
        raise
    except Exception as error:  # ONNX Runtime's exceptions have no base class of their own
        raise InvalidInputError(f"it fails on the {len(features):,} validation rows: {first_line(error)}") from error
    lacking = int((~np.isfinite(predictions).reshape(len(features), -1).all(axis=1)).sum())
    if lacking:
        raise InvalidInputError(
            f"it has no prediction for {lacking:,} of {len(features):,} validation rows: log it with inputs of "
            "decimals, where values may be missing, and with a prediction for every row"
        )
    return predictions
