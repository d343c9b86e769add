"""Experiments: ``experiments/…`` of MLflow's API."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

from millrace.errors import (
    AlreadyExistsError,
    FieldError,
    ForbiddenError,
    InvalidInputError,
    InvalidStateError,
    NotFoundError,
)
from millrace.ports import Delete, Put, StoreChange
from millrace.tracking.arguments import (
    INTEGER,
    LIST,
    MAX_EXPERIMENT_NAME,
    MAX_EXPERIMENT_TAG,
    TEXT,
    Kind,
    invalid_argument,
    read_pairs,
    required,
    validate_key,
    validate_length,
    write_pairs,
)
from millrace.tracking.pages import describe_page, read_limit
from millrace.tracking.record_items import (
    Stored,
    change_record,
    commit,
    decode_items,
    find_record,
    make_record,
    repeat,
)
from millrace.tracking.search_language import (
    LISTED,
    EntityKind,
    FilterComparison,
    Grammar,
    parse_filter,
    parse_order,
    select_found,
    sort_found,
)
from millrace.tracking.tracking_calls import Arguments, TrackingCall, TrackingEndpoint
from millrace.tracking.tracking_keys import (
    EXPERIMENTS_PARTITION,
    experiment_key,
    experiment_name_key,
    is_mirrored_experiment,
)
from millrace.tracking.tracking_records import ACTIVE, DELETED, ExperimentRecord

#: The experiment of runs that name none; it exists from the beginning.
DEFAULT_ID, DEFAULT_NAME = "0", "Default"
MAX_PAGE = 50_000
DEFAULT_PAGE = 1_000

ViewType = Literal["ACTIVE_ONLY", "DELETED_ONLY", "ALL"]
_VIEWS: Mapping[Any, ViewType] = {
    "ACTIVE_ONLY": "ACTIVE_ONLY",
    "DELETED_ONLY": "DELETED_ONLY",
    "ALL": "ALL",
    # Clients may send the numbers of the enumeration.
    1: "ACTIVE_ONLY",
    2: "DELETED_ONLY",
    3: "ALL",
}
_ID = re.compile(r"[0-9]{1,64}")

GRAMMAR = Grammar(
    texts=frozenset({"name", "experiment_id"}),
    numbers=frozenset({"creation_time", "last_update_time"}),
    kinds={"attribute": "attribute", "tag": "tag", "tags": "tag"},
    listed=frozenset({"experiment_id"}),
    ordered_by=frozenset({"name", "experiment_id", "creation_time", "last_update_time"}),
    ordered_by_kinds=frozenset(),
    presence=frozenset({"tag"}),
)


def read_view(arguments: Arguments, name: str) -> ViewType:
    """Return whether a search is for active or deleted entities; raises ``InvalidInputError`` for another value."""
    value = arguments.get(name, "ACTIVE_ONLY")
    if isinstance(value, str) and value.isdigit():
        value = int(value)
    if not isinstance(value, str | int) or value not in _VIEWS:
        raise invalid_argument(name, value)
    return _VIEWS[value]


def is_viewed(stage: str, view: ViewType) -> bool:
    """Return whether a view has entities of a stage."""
    return view == "ALL" or (stage == DELETED) == (view == "DELETED_ONLY")


def find_experiment(call: TrackingCall, experiment_id: str) -> Stored[ExperimentRecord]:
    """Return an experiment, deleted or not; raises ``NotFoundError`` when there is none of that id."""
    validate_experiment_id(experiment_id)
    if is_mirrored_experiment(experiment_id):
        mirrored = call.mirror.find_experiment(experiment_id)
        found = None if mirrored is None else Stored(mirrored, 0)
    else:
        key = experiment_key(experiment_id)
        found = find_record(key, ExperimentRecord, call.store, call.objects)
        if found is None and experiment_id == DEFAULT_ID:
            _ensure_default(call)
            found = find_record(key, ExperimentRecord, call.store, call.objects)
    if found is None:
        raise NotFoundError(f"No Experiment with id={experiment_id} exists")
    return found


def validate_experiment_id(experiment_id: str) -> str:
    """Return the id of an experiment; raises ``InvalidInputError`` unless it is a whole number."""
    if not isinstance(experiment_id, str) or not _ID.fullmatch(experiment_id):
        message = f"Invalid experiment ID '{experiment_id}'. Experiment ID must be a valid integer."
        raise InvalidInputError(message, [FieldError("experiment_id", "is no whole number")])
    return experiment_id


def ensure_experiment_active(record: ExperimentRecord) -> None:
    """Raise ``InvalidInputError`` for a deleted experiment, ``ForbiddenError`` for one of Millrace's models."""
    if record.is_mirrored:
        raise ForbiddenError(f"{record.name!r} is one of Millrace's models: its runs are Millrace's own, and read-only")
    if record.stage != ACTIVE:
        message = (
            f"The experiment {record.experiment_id} must be in the 'active' state. Current state is {record.stage}."
        )
        raise InvalidInputError(message, [FieldError("experiment_id", "is deleted")])


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


def change_experiment(
    call: TrackingCall, experiment_id: str, change: Callable[[ExperimentRecord], list[StoreChange] | None]
) -> None:
    """Change an experiment's record, from what it is when it is written.

    ``change`` changes the record in place, and returns what changes with it.
    """

    def attempt() -> bool | None:
        found = find_experiment(call, experiment_id)
        if found.record.is_mirrored:
            ensure_experiment_active(found.record)
        others = change(found.record) or []
        updated = change_record(experiment_key(experiment_id), found.record, found.revision, call.objects)
        failed = commit(call.store, [updated, *others])
        if failed and 0 not in failed:
            raise AlreadyExistsError(f"Experiment(name={found.record.name}) already exists.")
        return None if failed else True

    repeat(attempt)


def _create(call: TrackingCall, arguments: Arguments) -> Mapping[str, Any]:
    name = _validate_name(call, arguments["name"], "name")
    # Grows with time; two of one millisecond differ.
    experiment_id = f"{call.now_ms:013d}{int(call.make_id(), 16) % 100_000:05d}"
    location = arguments.get("artifact_location") or f"{call.artifact_root}/{experiment_id}"
    tags = read_pairs(arguments.get("tags", ()), "tags")
    for key, value in tags.items():
        validate_key(key, "key")
        validate_length("value", value, MAX_EXPERIMENT_TAG)
    if _write_new(call, experiment_id, name, location, tags):
        raise AlreadyExistsError(f"Experiment(name={name}) already exists.")
    return {"experiment_id": experiment_id}


def _validate_name(call: TrackingCall, name: str, path: str) -> str:
    validate_length(path, name, MAX_EXPERIMENT_NAME)
    if call.mirror.find_experiment_named(name):
        raise ForbiddenError(f"{name!r} is one of Millrace's models: choose another name")
    return name


def _write_new(call: TrackingCall, experiment_id: str, name: str, location: str, tags: dict[str, str]) -> list[int]:
    record = ExperimentRecord(
        experiment_id=experiment_id,
        name=name,
        artifact_location=location,
        created_ms=call.now_ms,
        updated_ms=call.now_ms,
        tags=tags,
    )
    named = Put(experiment_name_key(name), {"experiment_id": experiment_id})
    return commit(call.store, [make_record(experiment_key(experiment_id), record, call.objects), named])


def _ensure_default(call: TrackingCall) -> None:
    """Create the default experiment; requests that do so at once agree on it."""
    _write_new(call, DEFAULT_ID, DEFAULT_NAME, f"{call.artifact_root}/{DEFAULT_ID}", {})


def _get(call: TrackingCall, arguments: Arguments) -> Mapping[str, Any]:
    return {"experiment": describe_experiment(find_experiment(call, arguments["experiment_id"]).record)}


def _get_by_name(call: TrackingCall, arguments: Arguments) -> Mapping[str, Any]:
    name = arguments["experiment_name"]
    record = call.mirror.find_experiment_named(name)
    if record is None and name == DEFAULT_NAME:
        find_experiment(call, DEFAULT_ID)
    if record is None:
        item = call.store.get(experiment_name_key(name))
        if item is None:
            raise NotFoundError(f"Could not find experiment with name '{name}'")
        record = find_experiment(call, item["experiment_id"]).record
    return {"experiment": describe_experiment(record)}


def list_experiments(call: TrackingCall) -> Iterator[ExperimentRecord]:
    """Yield every experiment, deleted or not, also those of Millrace's models."""
    find_experiment(call, DEFAULT_ID)
    items = call.store.query(EXPERIMENTS_PARTITION, "E#", table="tracking")
    yield from decode_items(items, ExperimentRecord, call.objects)
    yield from call.mirror.list_experiments()


def _search(call: TrackingCall, arguments: Arguments) -> Mapping[str, Any]:
    limit, view = read_limit(arguments, DEFAULT_PAGE, MAX_PAGE), read_view(arguments, "view_type")
    comparisons = [_compare_id(one) for one in parse_filter(arguments.get("filter"), GRAMMAR)]
    order = arguments.get("order_by") or ["creation_time DESC", "experiment_id ASC"]
    orders = parse_order(order, GRAMMAR)
    found = [record for record in list_experiments(call) if is_viewed(record.stage, view)]
    found.sort(key=lambda record: -int(record.experiment_id))
    found = sort_found(select_found(found, comparisons, _value), orders, _value)
    page, token = describe_page(found, arguments, limit, describe_experiment)
    return {"experiments": page, **token}


def _compare_id(one: FilterComparison) -> FilterComparison:
    """Return a comparison with an id, which is a whole number, as one of numbers."""
    if (one.kind, one.key) != ("attribute", "experiment_id") or one.operator in LISTED:
        return one
    if one.operator not in ("=", "!="):
        message = f"Invalid comparator for experiment_id: {one.operator}"
        raise InvalidInputError(message, [FieldError("filter", message)])
    return one._replace(value=int(validate_experiment_id(one.value)))


def _value(record: ExperimentRecord, kind: EntityKind, key: str) -> Any:
    if kind == "tag":
        return record.tags.get(key)
    return {
        "name": record.name,
        "experiment_id": int(record.experiment_id),
        "creation_time": record.created_ms,
        "last_update_time": record.updated_ms,
    }[key]


def _update(call: TrackingCall, arguments: Arguments) -> None:
    experiment_id, name = arguments["experiment_id"], arguments["new_name"]

    def rename(record: ExperimentRecord) -> list[StoreChange] | None:
        if record.stage != ACTIVE:
            raise InvalidStateError("Cannot rename a non-active experiment.")
        old, record.updated_ms = record.name, call.now_ms
        if name == old:
            return None
        record.name = _validate_name(call, name, "name")
        return [Put(experiment_name_key(name), {"experiment_id": experiment_id}), Delete(experiment_name_key(old))]

    change_experiment(call, experiment_id, rename)


def _set_stage(call: TrackingCall, experiment_id: str, stage: str) -> None:
    def change(record: ExperimentRecord) -> None:
        if record.stage == stage:
            raise NotFoundError(f"No Experiment with id={experiment_id} exists")
        # Every run has the stage of its experiment from now on, until it gets one of its own.
        record.stage, record.stage_changes, record.updated_ms = stage, record.stage_changes + 1, call.now_ms

    change_experiment(call, experiment_id, change)


def _delete(call: TrackingCall, arguments: Arguments) -> None:
    _set_stage(call, arguments["experiment_id"], DELETED)


def _restore(call: TrackingCall, arguments: Arguments) -> None:
    _set_stage(call, arguments["experiment_id"], ACTIVE)


def _set_tag(call: TrackingCall, arguments: Arguments) -> None:
    key = validate_key(arguments["key"], "key")
    value = validate_length("value", arguments.get("value", ""), MAX_EXPERIMENT_TAG)

    def change(record: ExperimentRecord) -> None:
        ensure_experiment_active(record)
        record.tags[key] = value

    change_experiment(call, arguments["experiment_id"], change)


def _delete_tag(call: TrackingCall, arguments: Arguments) -> None:
    experiment_id, key = arguments["experiment_id"], arguments["key"]

    def change(record: ExperimentRecord) -> None:
        ensure_experiment_active(record)
        if record.tags.pop(key, None) is None:
            raise NotFoundError(f"No tag with name: {key} in experiment with id {experiment_id}")

    change_experiment(call, experiment_id, change)


_ID_ARGUMENT: Mapping[str, Kind] = {"experiment_id": required(TEXT)}
ENDPOINTS = (
    TrackingEndpoint(
        ("POST",), "experiments/create", _create, {"name": required(TEXT), "artifact_location": TEXT, "tags": LIST}
    ),
    TrackingEndpoint(("GET",), "experiments/get", _get, _ID_ARGUMENT),
    TrackingEndpoint(("GET",), "experiments/get-by-name", _get_by_name, {"experiment_name": required(TEXT)}),
    TrackingEndpoint(
        ("GET", "POST"),
        "experiments/search",
        _search,
        {"filter": TEXT, "order_by": LIST, "max_results": INTEGER, "page_token": TEXT},
    ),
    TrackingEndpoint(("POST",), "experiments/update", _update, {**_ID_ARGUMENT, "new_name": required(TEXT)}),
    TrackingEndpoint(("POST",), "experiments/delete", _delete, _ID_ARGUMENT),
    TrackingEndpoint(("POST",), "experiments/restore", _restore, _ID_ARGUMENT),
    TrackingEndpoint(
        ("POST",), "experiments/set-experiment-tag", _set_tag, {**_ID_ARGUMENT, "key": required(TEXT), "value": TEXT}
    ),
    TrackingEndpoint(
        ("POST",), "experiments/delete-experiment-tag", _delete_tag, {**_ID_ARGUMENT, "key": required(TEXT)}
    ),
)
