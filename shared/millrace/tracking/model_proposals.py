"""Versions that users propose for Millrace's models: ``model-versions/create`` with the name of one.

The version is pending, as MLflow calls it, while a run of the training pipeline checks the logged model and applies the
gate; then it is the challenger, or its registration has failed with the reasons. The numbers of failed ones are not
used again.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from millrace.causes import LOGGED_MODEL
from millrace.errors import InvalidInputError, InvalidStateError, VersionNotFoundError
from millrace.names import make_cause_id
from millrace.tracking.model_mirror import MAX_RUNS, MirroredModel, bucket_uri, milliseconds
from millrace.tracking.model_records import ModelVersionRecord
from millrace.tracking.tracking_calls import TrackingCall

if TYPE_CHECKING:
    from millrace.entities import Cause, LoggedModel
    from millrace.registry.store import Registry

_MLMODEL, _ONNX = "MLmodel", ".onnx"


def propose_version(call: TrackingCall, model: MirroredModel, proposed: ModelVersionRecord) -> dict[str, Any]:
    """Reserve a number for a logged model, and request the run that checks and evaluates it.

    The same again, while that one is pending, is the same version: clients repeat a request after an error.

    Raises
    ------
    InvalidInputError
        When it is no ONNX model that was logged here, or has tags, a description or a link.
    InvalidStateError
        When the model has no data to evaluate it on.
    ForbiddenError
        When this server cannot start runs.
    """
    from millrace.entities import Cause, LoggedModel  # noqa: PLC0415 - few requests propose
    from millrace.triggers.requests import find_refusal, request_training  # noqa: PLC0415 - as above

    name, registry, pipeline = model.name, call.registry(), call.pipeline()
    logged = LoggedModel(
        source=proposed.source,
        prefix=_find_folder(call, name, proposed),
        version=0,
        proposed_by=call.actor,
        mlflow_run_id=proposed.run_id,
        mlflow_model_id=proposed.logged_model_id,
    )
    cause = _find_pending_cause(registry, name, logged)
    if cause is None:
        cause = Cause(
            make_cause_id(LOGGED_MODEL, name, call.make_id()), name, LOGGED_MODEL, call.now, logged_model=logged
        )
        if refusal := find_refusal(cause, registry, call.now):
            raise InvalidStateError(refusal)
        # Last, because a number is not used again.
        logged = replace(logged, version=registry.next_version(name))
        reason = f"{logged.source} was proposed as version {logged.version} by a client of MLflow"
        cause = replace(cause, reason=reason, logged_model=logged)
    result = request_training(cause, registry=registry, pipeline=pipeline, now=call.now, actor=call.actor)
    call.publish()
    if result.outcome == "skipped" or cause.logged_model is None:
        raise InvalidStateError(result.reason)
    return _describe(model, cause.logged_model, milliseconds(cause.occurred_at) or 0, _Progress(result.run_id))


def _find_pending_cause(registry: "Registry", name: str, logged: "LoggedModel") -> "Cause | None":
    """Return the cause of the same proposal by the same caller, if it waits, or is that of the active run."""
    from millrace.entities import FINISHED_STATUSES  # noqa: PLC0415 - as above

    found = registry.list_pending_causes(name, MAX_RUNS)
    active = registry.get_state(name).active_run_id
    run = registry.find_run(name, active) if active else None
    if run and run.status not in FINISHED_STATUSES:
        found += registry.find_causes(name, run.cause_ids)
    for record in found:
        other = record.cause.logged_model
        if other and replace(other, version=0) == logged:
            return record.cause
    return None


def _find_folder(call: TrackingCall, name: str, proposed: ModelVersionRecord) -> str:
    """Return the prefix of a logged model's files; raises ``InvalidInputError`` where they are none of ONNX."""
    begin = f"{bucket_uri(call.artifact_root)}/"
    location = proposed.location.rstrip("/") + "/"
    if not location.startswith(f"{call.artifact_root}/"):
        raise InvalidInputError(f"a version of {name!r} is a model that was logged here, not {proposed.source!r}")
    if proposed.tags or proposed.description or proposed.run_link:
        raise InvalidInputError(
            f"{name!r} is one of Millrace's models, whose versions take no tags, description or link: leave them out"
        )
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
    for described in describe_proposals(model, ()):
        if described["version"] == str(number):
            return described
    raise VersionNotFoundError(f"{model.name!r} has no version {number}")


def describe_proposals(model: MirroredModel, registered: Collection[str]) -> Iterator[dict[str, Any]]:
    """Yield the versions that are proposed, or were and are not ``registered``: each once, by its latest run."""
    registry, seen = model.call.registry(), set(registered)
    for record in registry.list_pending_causes(model.name, MAX_RUNS):
        logged = record.cause.logged_model
        if logged and str(logged.version) not in seen:
            seen.add(str(logged.version))
            yield _describe(model, logged, milliseconds(record.cause.occurred_at) or 0, _Progress(None))
    for run in registry.list_runs(model.name, limit=MAX_RUNS):
        logged = run.logged_model
        if logged and str(logged.version) not in seen:
            seen.add(str(logged.version))
            is_over = run.status in ("rejected", "failed", "skipped")
            progress = _Progress(run.run_id, "; ".join(run.reasons) if is_over else None)
            yield _describe(model, logged, milliseconds(run.requested_at) or 0, progress)


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
