"""Experiments: ``experiments/…`` of MLflow's API."""

from collections.abc import Mapping
from typing import Any

from millrace.errors import AlreadyExistsError, ForbiddenError, NotFoundError
from millrace.ports import Put
from millrace.tracking.arguments import (
    LIST,
    MAX_EXPERIMENT_NAME,
    TEXT,
    read_pairs,
    required,
    validate_length,
    write_pairs,
)
from millrace.tracking.record_items import Stored, commit, find_record, make_record
from millrace.tracking.tracking_calls import Arguments, TrackingCall, TrackingEndpoint
from millrace.tracking.tracking_keys import (
    experiment_key,
    experiment_name_key,
    is_mirrored_experiment,
)
from millrace.tracking.tracking_records import ExperimentRecord

#: The experiment of runs that name none; it exists from the beginning.
DEFAULT_ID, DEFAULT_NAME = "0", "Default"


def find_experiment(call: TrackingCall, experiment_id: str) -> Stored[ExperimentRecord]:
    """Return an experiment, deleted or not; raises ``NotFoundError`` when there is none of that id."""
    if is_mirrored_experiment(experiment_id):
        mirrored = call.mirror.find_experiment(experiment_id)
        found = None if mirrored is None else Stored(mirrored, 0)
    else:
        found = find_record(experiment_key(experiment_id), ExperimentRecord, call.store, call.objects)
    if found is None:
        raise NotFoundError(f"No Experiment with id={experiment_id} exists")
    return found


def describe_experiment(record: ExperimentRecord) -> dict[str, Any]:
    """Return an experiment as MLflow's JSON."""
    return {
        "experiment_id": record.experiment_id,
        "name": record.name,
        "artifact_location": record.artifact_location,
        "lifecycle_stage": record.stage,
        "creation_time": record.created_ms,
        "last_update_time": record.updated_ms,
        "tags": write_pairs(record.tags),
    }


def _create(call: TrackingCall, arguments: Arguments) -> Mapping[str, Any]:
    name = arguments["name"]
    validate_length("name", name, MAX_EXPERIMENT_NAME)
    if call.mirror.find_experiment_named(name):
        raise ForbiddenError(f"{name!r} is one of Millrace's models: choose another name")
    # Grows with time, and two of one millisecond differ.
    experiment_id = f"{call.now_ms:013d}{int(call.make_id(), 16) % 100_000:05d}"
    record = ExperimentRecord(
        experiment_id=experiment_id,
        name=name,
        artifact_location=arguments.get("artifact_location") or f"{call.artifact_root}/{experiment_id}",
        created_ms=call.now_ms,
        updated_ms=call.now_ms,
        tags=read_pairs(arguments.get("tags", ()), "tags"),
    )
    changes = [
        make_record(experiment_key(experiment_id), record, call.objects),
        Put(experiment_name_key(name), {"experiment_id": experiment_id}),
    ]
    if commit(call.store, changes):
        raise AlreadyExistsError(f"Experiment(name={name}) already exists.")
    return {"experiment_id": experiment_id}


def _get(call: TrackingCall, arguments: Arguments) -> Mapping[str, Any]:
    return {"experiment": describe_experiment(find_experiment(call, arguments["experiment_id"]).record)}


ENDPOINTS = (
    TrackingEndpoint(
        ("POST",), "experiments/create", _create, {"name": required(TEXT), "artifact_location": TEXT, "tags": LIST}
    ),
    TrackingEndpoint(("GET",), "experiments/get", _get, {"experiment_id": required(TEXT)}),
)
