"""Runs of MLflow clients: finding, describing and changing them; ``runs/create`` to ``runs/restore``."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from millrace.errors import FieldError, ForbiddenError, InvalidInputError, NotFoundError
from millrace.ports import Put, StoreChange
from millrace.tracking.arguments import (
    INTEGER,
    LIST,
    MAX_TAG,
    TEXT,
    Kind,
    invalid_argument,
    missing_argument,
    read_pairs,
    required,
    write_pairs,
)
from millrace.tracking.experiments import DEFAULT_ID, ensure_experiment_active, find_experiment
from millrace.tracking.record_items import change_record, commit, make_record, read_record, repeat
from millrace.tracking.run_names import make_name
from millrace.tracking.tracking_calls import Arguments, TrackingCall, TrackingEndpoint
from millrace.tracking.tracking_keys import (
    dataset_item,
    experiment_key,
    is_mirrored_run,
    run_key,
    run_pointer,
)
from millrace.tracking.tracking_records import (
    ACTIVE,
    DELETED,
    DatasetInput,
    ExperimentRecord,
    Point,
    RunRecord,
    decode_record,
    encode_record,
)

NAME_TAG = "mlflow.runName"
_STATUS = {1: "RUNNING", 2: "SCHEDULED", 3: "FINISHED", 4: "FAILED", 5: "KILLED"}
_ID = re.compile(r"[a-zA-Z0-9][\w\-]{0,255}", re.ASCII)


class FoundRun(NamedTuple):
    """A run with its experiment, as they were read together."""

    record: RunRecord
    revision: int
    experiment: ExperimentRecord

    @property
    def stage(self) -> str:
        """The run's stage, or that of its experiment if it came later."""
        return effective_stage(self.record, self.experiment)


def effective_stage(run: RunRecord, experiment: ExperimentRecord) -> str:
    """Return a run's stage, or that of its experiment if it came later."""
    return run.stage if run.stage_changes == experiment.stage_changes else experiment.stage


def read_run_id(arguments: Arguments) -> str:
    """Return the id of the run that a call is about, under either of its names; raises ``InvalidInputError``."""
    run_id = arguments.get("run_id") or arguments.get("run_uuid")
    if not run_id:
        raise missing_argument("run_id")
    if not isinstance(run_id, str) or not _ID.fullmatch(run_id):
        raise invalid_argument("run_id", run_id)
    return run_id


def find_run_record(call: TrackingCall, run_id: str) -> FoundRun:
    """Return a run, deleted or not; raises ``NotFoundError``."""
    if is_mirrored_run(run_id):
        mirrored = call.mirror.find_run(run_id)
        experiment = call.mirror.find_experiment(mirrored.experiment_id) if mirrored else None
        if mirrored is None or experiment is None:
            raise NotFoundError(f"Run with id={run_id} not found")
        return FoundRun(mirrored, 0, experiment)
    place = call.places.get(run_id)
    if place is None:
        pointer = call.store.get(run_pointer(run_id))
        if pointer is None:
            raise NotFoundError(f"Run with id={run_id} not found")
        # Neither changes: the next request of this execution environment need not ask.
        place = call.places[run_id] = (pointer["experiment_id"], pointer["started_ms"])
    experiment_id, started_ms = place
    run, experiment_item = call.store.get_many(
        [run_key(experiment_id, run_id, started_ms), experiment_key(experiment_id)]
    )
    if run is None or experiment_item is None:
        raise NotFoundError(f"Run with id={run_id} not found")
    stored = read_record(run, RunRecord, call.objects)
    return FoundRun(stored.record, stored.revision, read_record(experiment_item, ExperimentRecord, call.objects).record)


def ensure_run_active(found: FoundRun) -> None:
    """Raise ``InvalidInputError`` for a deleted run, ``ForbiddenError`` for one of Millrace's own."""
    if found.record.is_mirrored:
        raise ForbiddenError(f"run {found.record.run_id} is one of Millrace's own, which are read-only")
    if found.stage != ACTIVE:
        message = f"The run {found.record.run_id} must be in the 'active' state. Current state is {found.stage}."
        raise InvalidInputError(message, [FieldError("run_id", "is deleted")])


def change_run(
    call: TrackingCall,
    run_id: str,
    change: Callable[[RunRecord], Sequence[StoreChange] | None],
    *,
    is_active: bool = True,
) -> FoundRun:
    """Change a run's record, from what it is when it is written; returns it as it is then.

    ``change`` changes the record in place, and returns what changes with it. A change that leaves the record as it was,
    and returns nothing, writes nothing: a request that comes again costs one read.
    """

    def attempt() -> FoundRun | None:
        found = find_run_record(call, run_id)
        if is_active or found.record.is_mirrored:
            ensure_run_active(found)
        before = msgspec.msgpack.encode(found.record)
        others = list(change(found.record) or ())
        if not others and msgspec.msgpack.encode(found.record) == before:
            return found
        key = run_key(found.record.experiment_id, run_id, found.record.started_ms)
        updated = change_record(key, found.record, found.revision, call.objects)
        failed = commit(call.store, [updated, *others])
        return None if failed else found

    return repeat(attempt)


def describe_info(run: RunRecord, stage: str) -> dict[str, Any]:
    """Return a run's ``info`` as MLflow's JSON."""
    info = {
        "run_id": run.run_id,
        "run_uuid": run.run_id,
        "run_name": run.name,
        "experiment_id": run.experiment_id,
        "user_id": run.user,
        "status": run.status,
        "start_time": run.started_ms,
        "artifact_uri": run.artifact_uri,
        "lifecycle_stage": stage,
    }
    return info if run.ended_ms is None else {**info, "end_time": run.ended_ms}


def describe_point(key: str, point: Point) -> dict[str, Any]:
    """Return a value of a metric as MLflow's JSON, in which NaN is a string."""
    value: float | str = point.value if point.value == point.value else "NaN"
    return {"key": key, "value": value, "timestamp": point.timestamp, "step": point.step}


def describe_run_record(run: RunRecord, stage: str, datasets: Mapping[tuple[str, str, str], Any]) -> dict[str, Any]:
    """Return a run as MLflow's JSON; ``datasets`` has those of :func:`read_datasets`."""
    described: dict[str, Any] = {
        "info": describe_info(run, stage),
        "data": {
            "metrics": [describe_point(key, point) for key, point in run.latest.items()],
            "params": write_pairs(run.params),
            "tags": write_pairs(run.tags),
        },
        "inputs": {
            "dataset_inputs": [
                {
                    "dataset": datasets[run.experiment_id, one.name, one.digest],
                    "tags": write_pairs(one.tags),
                }
                for one in run.datasets
            ],
            "model_inputs": run.model_inputs,
        },
    }
    if run.model_outputs:
        described["outputs"] = {"model_outputs": run.model_outputs}
    return described


def read_datasets(call: TrackingCall, runs: Iterable[RunRecord]) -> dict[tuple[str, str, str], dict[str, Any]]:
    """Return the datasets of runs by experiment, name and digest; each is read once."""
    wanted: dict[tuple[str, str, str], DatasetInput] = {}
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for run in runs:
        for one in run.datasets:
            place = run.experiment_id, one.name, one.digest
            found[place] = {"name": one.name, "digest": one.digest, "source_type": one.source_type}
            if not run.is_mirrored:
                wanted[place] = one
    items = call.store.get_many([dataset_item(*place) for place in wanted]) if wanted else []
    for place, item in zip(wanted, items, strict=True):
        if item is not None:
            data = item["data"] if "data" in item else call.objects.get(item["object"])
            found[place] = decode_record(DatasetContent, data).describe()
    return found


class DatasetContent(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A dataset of an experiment's runs, as the first of them logged it."""

    name: str
    digest: str
    source_type: str
    source: str
    schema: str | None = None
    profile: str | None = None

    def describe(self) -> dict[str, Any]:
        """Return the dataset as MLflow's JSON."""
        return {name: value for name, value in msgspec.structs.asdict(self).items() if value is not None}

    def encode(self) -> bytes:
        """Return the dataset as it is stored."""
        return encode_record(self)


def describe_found_run(call: TrackingCall, found: FoundRun) -> dict[str, Any]:
    """Return a run as MLflow's JSON."""
    return describe_run_record(found.record, found.stage, read_datasets(call, [found.record]))


def _create(call: TrackingCall, arguments: Arguments) -> Mapping[str, Any]:
    experiment = find_experiment(call, arguments.get("experiment_id") or DEFAULT_ID).record
    ensure_experiment_active(experiment)
    tags, name = read_pairs(arguments.get("tags", ()), "tags"), arguments.get("run_name")
    tagged = tags.get(NAME_TAG)
    if name and tagged and name != tagged:
        message = (
            "Both 'run_name' argument and 'mlflow.runName' tag are specified, but with different values "
            f"(run_name='{name}', mlflow.runName='{tagged}')."
        )
        raise InvalidInputError(message, [FieldError("run_name", "differs from the tag")])
    run_id = call.make_id()
    name = name or tagged or make_name(run_id)
    tags[NAME_TAG] = name
    record = RunRecord(
        run_id=run_id,
        experiment_id=experiment.experiment_id,
        name=name,
        user=arguments.get("user_id", ""),
        artifact_uri=f"{experiment.artifact_location.rstrip('/')}/{run_id}/artifacts",
        started_ms=arguments.get("start_time", 0),
        stage_changes=experiment.stage_changes,
        tags={key: value[:MAX_TAG] for key, value in tags.items()},
    )
    place = record.experiment_id, record.started_ms
    changes = [
        make_record(run_key(record.experiment_id, run_id, record.started_ms), record, call.objects),
        Put(run_pointer(run_id), {"experiment_id": place[0], "started_ms": place[1]}),
    ]
    commit(call.store, changes)
    call.places[run_id] = place
    return {"run": describe_run_record(record, ACTIVE, {})}


def _get(call: TrackingCall, arguments: Arguments) -> Mapping[str, Any]:
    return {"run": describe_found_run(call, find_run_record(call, read_run_id(arguments)))}


def read_status(status: Any) -> str:
    """Return the name of a run's status, which may be its number; raises ``InvalidInputError``."""
    name = _STATUS.get(status) if isinstance(status, int) else status
    if name not in _STATUS.values():
        raise invalid_argument("status", status)
    return str(name)


def _update(call: TrackingCall, arguments: Arguments) -> Mapping[str, Any]:
    def change(run: RunRecord) -> None:
        if arguments.get("status") is not None:
            run.status = read_status(arguments["status"])
        if "end_time" in arguments:
            run.ended_ms = arguments["end_time"]
        if name := arguments.get("run_name"):
            run.name = run.tags[NAME_TAG] = name

    found = change_run(call, read_run_id(arguments), change)
    return {"run_info": describe_info(found.record, found.stage)}


def _set_stage(call: TrackingCall, arguments: Arguments, stage: str) -> None:
    run_id = read_run_id(arguments)
    experiment = find_run_record(call, run_id).experiment

    def change(run: RunRecord) -> None:
        run.stage, run.stage_changes = stage, experiment.stage_changes

    change_run(call, run_id, change, is_active=False)


def _delete(call: TrackingCall, arguments: Arguments) -> None:
    _set_stage(call, arguments, DELETED)


def _restore(call: TrackingCall, arguments: Arguments) -> None:
    _set_stage(call, arguments, ACTIVE)


_ID_ARGUMENT: Mapping[str, Kind] = {"run_id": TEXT, "run_uuid": TEXT}
ENDPOINTS = (
    TrackingEndpoint(
        ("POST",),
        "runs/create",
        _create,
        {"experiment_id": TEXT, "user_id": TEXT, "run_name": TEXT, "start_time": INTEGER, "tags": LIST},
    ),
    TrackingEndpoint(("GET",), "runs/get", _get, _ID_ARGUMENT),
    TrackingEndpoint(("POST",), "runs/update", _update, {**_ID_ARGUMENT, "end_time": INTEGER, "run_name": TEXT}),
    TrackingEndpoint(("POST",), "runs/delete", _delete, {"run_id": required(TEXT)}),
    TrackingEndpoint(("POST",), "runs/restore", _restore, {"run_id": required(TEXT)}),
)
