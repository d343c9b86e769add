"""Parse events of EventBridge, the Scheduler and the pipeline, and requests of the API, into triggers."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from millrace.api_requests import ApiRequest
from millrace.causes import CAUSE_OF_EVENT, CauseKind, finding_cause_id
from millrace.documents import parse_timestamp
from millrace.entities import Cause, Source
from millrace.errors import FieldError, InvalidInputError, InvalidNameError
from millrace.layout import INCOMING_PREFIX, MARKERS, folder_of_marker, folder_of_part
from millrace.names import make_cause_id, validate_model_name, validate_run_id
from millrace.ports import ObjectStore
from millrace.spec import invalid_input

_UNREADABLE = re.compile(r"[\s\\\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Refusal:
    """The reason why a key cannot be an upload, and the remedy."""

    reason: str
    remedy: str


def read_upload_key(key: str, drop_zone: str = INCOMING_PREFIX) -> str | Refusal:
    """Return the model that an uploaded key belongs to, or the reason why it belongs to none.

    A file in a folder below the model's, as ``incoming/churn/may/part-0.csv``, is for ``churn`` too: it is one file
    of a dataset, see :func:`millrace.layout.folder_of_part`.
    """
    where = f"upload to {drop_zone}<model>/<file>, for example {drop_zone}churn/may.csv"
    if not key.startswith(drop_zone):
        return Refusal(f"the key is outside {drop_zone}", where)
    model, slash, path = key.removeprefix(drop_zone).partition("/")
    if not slash:
        return Refusal("the key names no model: it lies directly in the drop zone", where)
    try:
        validate_model_name(model)
    except InvalidNameError as error:
        return Refusal(error.message, where)
    return _refuse_path(path, drop_zone, where) or model


def _refuse_path(path: str, drop_zone: str, where: str) -> Refusal | None:
    if path in MARKERS:
        folder = f"put it, with the files that it finishes, into a folder: {drop_zone}<model>/<folder>/{path}"
        return Refusal("the key is a marker that finishes no folder: it lies directly below the model", folder)
    if not path or path.endswith("/"):
        return Refusal("the key ends with '/': it is a folder marker, not a file", where)
    if ".." in path:
        return Refusal("the file name holds '..'", "rename the file without '..' and upload it again")
    if _UNREADABLE.search(path):
        return Refusal(
            "the file name holds spaces, backslashes or control characters",
            "rename the file, with '-' or '_' for each space, and upload it again",
        )
    if any(part in ("", ".") for part in path.split("/")):
        return Refusal("the key holds an empty or '.' folder name", where)
    return None


def with_version_id(event: Mapping[str, Any], data_store: ObjectStore) -> Mapping[str, Any]:
    """Return an event that names its object's version; any other event is returned as it is.

    Raises ``ArtifactNotFoundError`` when no version of the object has that content (any more).
    """
    if event.get("source") != "aws.s3":
        return event
    detail = event.get("detail") or {}
    uploaded = detail.get("object") or {}
    if uploaded.get("version-id") or not uploaded.get("key") or not uploaded.get("etag"):
        return event
    version_id = data_store.find_version(uploaded["key"], uploaded["etag"])
    return {**event, "detail": {**detail, "object": {**uploaded, "version-id": version_id}}}


EVERY_MODEL = "*"


@dataclass(frozen=True, slots=True)
class TrainingTrigger:
    """A request for a run of one model; ``refusal`` is the reason why it starts none, where that is known."""

    cause: Cause
    actor: str
    refusal: str | None = None


@dataclass(frozen=True, slots=True)
class RefusedUpload:
    """An object in the drop zone that no model can learn from, because of its key."""

    refusal_id: str
    source: Source
    refusal: Refusal
    actor: str


@dataclass(frozen=True, slots=True)
class WaitingFile:
    """A file in a folder of the drop zone: nothing happens before the folder's marker or manifest arrives."""

    model: str
    folder: str
    source: Source
    waiting_id: str  # one for all files that arrive in the folder on one day: one entry in the ledger, not one a file
    actor: str


@dataclass(frozen=True, slots=True)
class ScheduleTrigger:
    """A schedule fired; ``model`` may be :data:`EVERY_MODEL`."""

    schedule: str
    model: str
    slot: datetime

    def for_model(self, model: str) -> TrainingTrigger:
        """Return this slot's request for a run of one model."""
        cause = Cause(
            cause_id=make_cause_id("schedule", self.schedule, self.slot.isoformat(), model),
            model=model,
            kind="schedule",
            occurred_at=self.slot,
            reason=f"the schedule {self.schedule} fired at {self.slot:%Y-%m-%d %H:%M} UTC",
        )
        return TrainingTrigger(cause, actor=f"schedule:{self.schedule}")


@dataclass(frozen=True, slots=True)
class RunEnded:
    """The pipeline reports that a run has ended; ``reason`` is recorded unless the run recorded its own."""

    model: str
    run_id: str
    reason: str
    fault: str | None = None  # the name of the error that ended it; none when it was stopped on purpose


@dataclass(frozen=True, slots=True)
class ModelEnded:
    """A model was deleted; ``stopped_run`` was its active run until then."""

    model: str
    deleted_at: datetime
    stopped_run: str | None
    actor: str
    reason: str


@dataclass(frozen=True, slots=True)
class IncidentEnded:
    """An incident of monitoring was resolved."""

    model: str
    incident_id: str
    event_id: str  # of this resolution: the incident may open again
    event: str  # by which it was reported
    version: int | None
    since: datetime
    opened_at: datetime
    resolved_at: datetime
    reason: str


Trigger = TrainingTrigger | RefusedUpload | WaitingFile | ScheduleTrigger | RunEnded | ModelEnded | IncidentEnded


def parse_event(event: Mapping[str, Any], now: datetime) -> Trigger:
    """Parse an event.

    Raises ``InvalidInputError`` when it is none of these, or a part of it is missing; ``InvalidNameError`` when it
    names a model that cannot exist.

    Parameters
    ----------
    event : mapping
        ``Object Created`` of S3, the schedule's payload, a finding of monitoring, ``IncidentResolved``,
        ``ModelDeleted``, ``TrainingFinished`` of the pipeline, or ``Step Functions Execution Status Change``.
    now : datetime
        The slot of a schedule whose own time was not filled in.
    """
    kind = (event.get("source"), event.get("detail-type"))
    try:
        if kind == ("aws.s3", "Object Created"):
            return _read_upload(event)
        if event.get("source") == "millrace.schedule":
            return _read_schedule(event, now)
        if kind[0] == "millrace" and (read := _READERS.get(str(kind[1]))):
            return read(event["detail"])
        if kind[0] == "millrace" and (cause_kind := CAUSE_OF_EVENT.get(str(kind[1]))):
            return _read_finding(event["detail"], cause_kind)
        if kind == ("aws.states", "Step Functions Execution Status Change"):
            return _read_status_change(event["detail"])
    except (KeyError, TypeError, AttributeError) as error:
        missing = str(error.args[0]) if isinstance(error, KeyError) else "detail"
        raise InvalidInputError(
            f"the event of {kind[0]} lacks or misstates {missing!r}", [FieldError(missing, "missing or not readable")]
        ) from error
    raise InvalidInputError(f"no trigger: source {kind[0]!r}, detail-type {kind[1]!r}")


def manual_trigger(model: str, request_id: str, reason: str, actor: str, now: datetime) -> TrainingTrigger:
    """Return the trigger of a person's request; the same request id is the same request."""
    cause = Cause(
        cause_id=make_cause_id("manual", model, request_id),
        model=validate_model_name(model),
        kind="manual",
        occurred_at=now,
        reason=reason or "requested by hand",
    )
    return TrainingTrigger(cause, actor)


def _read_upload(event: Mapping[str, Any]) -> TrainingTrigger | RefusedUpload | WaitingFile:
    detail = event["detail"]
    # EventBridge gives keys as they are; only S3's own notifications encode them.
    key, bucket, version_id = detail["object"]["key"], detail["bucket"]["name"], detail["object"]["version-id"]
    source = Source(bucket, key, version_id, uploaded_at=_read_timestamp(event["time"], "time"))
    cause_id = make_cause_id("upload", bucket, key, version_id)
    actor = str(detail.get("requester") or "s3")
    model = read_upload_key(key)
    if isinstance(model, Refusal):
        return RefusedUpload(cause_id, source, model, actor)
    folder = folder_of_part(key)
    if folder is not None and folder_of_marker(key) is None:
        waiting_id = make_cause_id("waiting", bucket, folder, source.uploaded_at.date().isoformat())
        return WaitingFile(model, folder, source, waiting_id, actor)
    cause = Cause(cause_id, model, "upload", source.uploaded_at, source, reason=f"{key} was uploaded")
    return TrainingTrigger(cause, actor)


def _read_schedule(event: Mapping[str, Any], now: datetime) -> ScheduleTrigger:
    model = event["model"]
    time = event["time"]
    # A schedule that was started by hand, or by an emulator, leaves the placeholder: its slot is this minute.
    slot = now.replace(second=0, microsecond=0) if time.startswith("<") else _read_timestamp(time, "time")
    return ScheduleTrigger(event["schedule"], model if model == EVERY_MODEL else validate_model_name(model), slot)


def _read_finished(detail: Mapping[str, Any]) -> RunEnded:
    outcome, error = detail["outcome"], detail.get("error")
    reason = f"the pipeline ended as {outcome}" + (f": {error}" if error else "")
    fault = (error or outcome) if outcome == "failed" else None
    return RunEnded(validate_model_name(detail["model"]), detail["run_id"], reason, fault)


def _read_deletion(detail: Mapping[str, Any]) -> ModelEnded:
    run = detail["stopped_run"]
    return ModelEnded(
        validate_model_name(detail["model"]),
        _read_timestamp(detail["occurred_at"], "occurred_at"),
        None if run is None else validate_run_id(run),
        str(detail["actor"]),
        str(detail["reason"]),
    )


def _read_finding(detail: Mapping[str, Any], kind: CauseKind) -> TrainingTrigger:
    """Read a finding of monitoring: one cause an incident, and another one for each further request."""
    model, incident, request = validate_model_name(detail["model"]), detail["incident_id"], detail.get("request", 1)
    cause = Cause(
        cause_id=finding_cause_id(kind.name, model, incident, request),
        model=model,
        kind=kind.name,
        occurred_at=_read_timestamp(detail["occurred_at"], "occurred_at"),
        reason=detail["reason"],
        incident_id=str(incident),
    )
    subjects = {str(finding["subject"]) for finding in detail.get("findings", ())}
    return TrainingTrigger(cause, "monitoring", kind.refusal(subjects) or _refuse_often(request))


def _refuse_often(request: int) -> str | None:
    """Return why an incident's request starts nothing: runs that have not ended it become rarer, and never cease."""
    if request & (request - 1) == 0:
        return None
    return (
        f"this is request {request} of an incident that persists, and training follows requests 1, 2, 4, 8, 16, ...: "
        "the runs so far have not ended it"
    )


def _read_resolution(detail: Mapping[str, Any]) -> IncidentEnded:
    since, opened_at, resolved_at = (
        _read_timestamp(detail[name], name) for name in ("since", "opened_at", "resolved_at")
    )
    return IncidentEnded(
        model=validate_model_name(detail["model"]),
        incident_id=str(detail["incident_id"]),
        event_id=str(detail["event_id"]),
        event=str(detail["incident"]),
        version=detail["version"],
        since=since,
        opened_at=opened_at,
        resolved_at=resolved_at,
        reason=str(detail["reason"]),
    )


#: Readers of the stack's own events, by their name.
_READERS: Mapping[str, Callable[[Mapping[str, Any]], Trigger]] = {
    "TrainingFinished": _read_finished,
    "ModelDeleted": _read_deletion,
    "IncidentResolved": _read_resolution,
}


def _read_status_change(detail: Mapping[str, Any]) -> RunEnded:
    try:
        model = json.loads(detail["input"])["model"]
    except ValueError as error:
        raise InvalidInputError(
            "the execution's input is not JSON", [FieldError("detail.input", "not JSON")]
        ) from error
    # The error's name suffices; its cause may hold a stack trace, and with it data.
    error_name = detail.get("error")
    reason = f"the pipeline's execution ended as {detail['status']}" + (f": {error_name}" if error_name else "")
    fault = None if detail["status"] == "ABORTED" else error_name or detail["status"]
    return RunEnded(validate_model_name(model), detail["name"], reason, fault)


def _read_timestamp(text: str, field: str) -> datetime:
    try:
        return parse_timestamp(text).astimezone(UTC)
    except ValueError as error:
        raise InvalidInputError(f"{field} is no ISO 8601 time", [FieldError(field, "not an ISO 8601 time")]) from error


class ManualRequest(BaseModel):
    """Body of ``POST /models/{model}/runs``; may be left out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reason: str = Field(default="", max_length=1000)


def read_run_request(model: str, event: Mapping[str, Any], now: datetime) -> TrainingTrigger:
    """Parse a request for a run.

    Raises ``InvalidInputError`` when there is a body that does not match :class:`ManualRequest`.
    """
    request = ApiRequest(event)
    try:
        body = ManualRequest.model_validate(request.body)
    except ValidationError as error:
        raise invalid_input("the request is not valid", error) from error
    return manual_trigger(model, request.request_id, body.reason, request.caller, now)
