"""Versions that users propose for Millrace's models: ``model-versions/create`` with the name of one.

The version is pending, as MLflow calls it, while a run of the training pipeline checks the logged model and applies the
gate; then it is the challenger, or its registration has failed with the reasons. The numbers of failed ones are not
used again.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from millrace.causes import LOGGED_MODEL
from millrace.errors import InvalidInputError, InvalidStateError, VersionNotFoundError
from millrace.names import make_cause_id
from millrace.tracking.model_mirror import MAX_RUNS, MirroredModel, bucket_uri, milliseconds
from millrace.tracking.model_records import ModelVersionRecord
from millrace.tracking.tracking_calls import TrackingCall

if TYPE_CHECKING:
    from millrace.entities import LoggedModel, Run

_MLMODEL, _ONNX = "MLmodel", ".onnx"


def propose_version(call: TrackingCall, model: MirroredModel, proposed: ModelVersionRecord) -> dict[str, Any]:
    """Reserve a number for a logged model, and request the run that checks and evaluates it.

    Raises
    ------
    InvalidInputError
        When it is no ONNX model that was logged here, or has tags.
    InvalidStateError
        When the model has no data to evaluate it on.
    ForbiddenError
        When this server cannot start runs.
    """
    from millrace.entities import Cause, LoggedModel  # noqa: PLC0415 - few requests propose
    from millrace.triggers.requests import request_training  # noqa: PLC0415 - as above

    name = model.name
    prefix = _find_folder(call, name, proposed)
    registry = call.registry()
    logged = LoggedModel(
        source=proposed.source,
        prefix=prefix,
        version=registry.next_version(name),
        proposed_by=call.actor,
        mlflow_run_id=proposed.run_id,
        mlflow_model_id=proposed.logged_model_id,
    )
    reason = f"{proposed.source} was proposed as version {logged.version} by a client of MLflow"
    cause = Cause(
        make_cause_id(LOGGED_MODEL, name, call.make_id()), name, LOGGED_MODEL, call.now, None, reason, None, logged
    )
    result = request_training(cause, registry=registry, pipeline=call.pipeline(), now=call.now, actor=call.actor)
    call.publish()
    if result.outcome == "skipped":
        raise InvalidStateError(result.reason)
    return _describe(model, logged, call.now_ms, _Progress(result.run_id))


def _find_folder(call: TrackingCall, name: str, proposed: ModelVersionRecord) -> str:
    """Return the prefix of a logged model's files; raises ``InvalidInputError`` where they are none of ONNX."""
    begin = f"{bucket_uri(call.artifact_root)}/"
    location = proposed.location.rstrip("/") + "/"
    if not location.startswith(f"{call.artifact_root}/"):
        raise InvalidInputError(f"a version of {name!r} is a model that was logged here, not {proposed.source!r}")
    if proposed.tags:
        raise InvalidInputError(f"{name!r} is one of Millrace's models, whose versions take no tags: leave them out")
    prefix = location.removeprefix(begin)
    names = {listed.key.removeprefix(prefix) for listed in call.objects.list(prefix)}
    if _MLMODEL not in names or not any(one.endswith(_ONNX) for one in names):
        raise InvalidInputError(
            f"{proposed.source!r} holds no ONNX model: a version of {name!r} is logged with mlflow.onnx.log_model, or "
            "converted first (docs/mlflow.md); nothing else is loaded"
        )
    return prefix


def describe_proposal(model: MirroredModel, number: int) -> dict[str, Any]:
    """Return a version that is proposed, or was and is not registered; raises ``VersionNotFoundError``."""
    registry = model.call.registry()
    for record in registry.list_pending_causes(model.name):
        logged = record.cause.logged_model
        if logged and logged.version == number:
            created = milliseconds(record.cause.occurred_at) or 0
            return _describe(model, logged, created, _Progress(None))
    run = _find_run(registry.list_runs(model.name, limit=MAX_RUNS), number)
    if run is None or run.logged_model is None:
        raise VersionNotFoundError(f"{model.name!r} has no version {number}")
    is_over = run.status in ("rejected", "failed", "skipped")
    progress = _Progress(run.run_id, "; ".join(run.reasons) if is_over else None)
    return _describe(model, run.logged_model, milliseconds(run.requested_at) or 0, progress)


def _find_run(runs: "Iterable[Run]", number: int) -> "Run | None":
    return next((run for run in runs if run.logged_model and run.logged_model.version == number), None)


@dataclass(frozen=True, slots=True)
class _Progress:
    """The run that evaluates a proposal, none while it waits for another; and why it failed."""

    run_id: str | None
    failure: str | None = None

    @property
    def status(self) -> str:
        return "PENDING_REGISTRATION" if self.failure is None else "FAILED_REGISTRATION"

    @property
    def message(self) -> str:
        if self.failure is not None:
            return self.failure
        return f"run {self.run_id} checks and evaluates it" if self.run_id else "it waits for the active run"


def _describe(model: MirroredModel, logged: "LoggedModel", created: int, progress: _Progress) -> dict[str, Any]:
    run_id = progress.run_id
    described = {
        "name": model.name,
        "version": str(logged.version),
        "creation_timestamp": created,
        "last_updated_timestamp": created,
        "current_stage": "None",
        "description": "",
        "source": logged.source,
        "run_id": logged.mlflow_run_id,
        "run_link": "",
        "status": progress.status,
        "status_message": progress.message,
        "tags": [{"key": "millrace.run_id", "value": run_id}] if run_id else [],
        "aliases": [],
    }
    return described | ({"model_id": logged.mlflow_model_id} if logged.mlflow_model_id else {})
