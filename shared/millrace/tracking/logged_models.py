"""Logged models of MLflow 3: ``logged-models/…`` of MLflow's API."""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from millrace.errors import FieldError, InvalidInputError, NotFoundError
from millrace.ports import Put, Update
from millrace.tracking.arguments import (
    BOOLEAN,
    INTEGER,
    LIST,
    MAX_KEY,
    MAX_PARAM,
    MAX_TAG,
    TEXT,
    invalid_argument,
    missing_argument,
    read_pairs,
    required,
    validate_length,
    write_pairs,
)
from millrace.tracking.experiments import ensure_experiment_active, find_experiment
from millrace.tracking.metric_chunks import time_order
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
from millrace.tracking.run_names import make_name
from millrace.tracking.search_language import (
    EntityKind,
    FilterComparison,
    Grammar,
    Order,
    parse_filter,
    parse_order,
    sort_found,
)
from millrace.tracking.tracked_runs import describe_point
from millrace.tracking.tracking_calls import Arguments, TrackingCall, TrackingEndpoint
from millrace.tracking.tracking_keys import experiment_partition, logged_model_key, logged_model_pointer
from millrace.tracking.tracking_records import ACTIVE, DELETED, LoggedModelRecord, LoggedPoint

#: Values of metrics that a logged model keeps: the newest.
MAX_POINTS = 1_000
_STATUS = {1: "LOGGED_MODEL_PENDING", 2: "LOGGED_MODEL_READY", 3: "LOGGED_MODEL_UPLOAD_FAILED"}
_ID = re.compile(r"m-[0-9a-f]{32}")
_BAD_SIGNS = ("/", ":", ".", "%", '"', "'")

GRAMMAR = Grammar(
    texts=frozenset(
        {"name", "model_id", "experiment_id", "source_run_id", "status", "model_type", "artifact_location"}
    ),
    numbers=frozenset({"creation_timestamp_ms", "last_updated_timestamp_ms"}),
    kinds={"attributes": "attribute", "metrics": "metric", "params": "parameter", "tags": "tag"},
    listed=frozenset({"name", "model_id", "experiment_id", "source_run_id", "status", "model_type"}),
    listed_kinds=frozenset({"parameter", "tag"}),
    ordered_by=frozenset(
        {"name", "model_id", "experiment_id", "source_run_id", "status", "model_type"}
        | {"creation_timestamp_ms", "last_updated_timestamp_ms"}
    ),
    ordered_by_kinds=frozenset({"metric"}),
    aliases={
        "creation_time": "creation_timestamp_ms",
        "creation_timestamp": "creation_timestamp_ms",
        "last_updated_timestamp": "last_updated_timestamp_ms",
    },
    presence=frozenset(),
)


def find_logged_model(call: TrackingCall, model_id: str, *, with_deleted: bool = False) -> Stored[LoggedModelRecord]:
    """Return a logged model; raises ``NotFoundError``."""
    pointer = call.store.get(logged_model_pointer(model_id)) if _ID.fullmatch(model_id) else None
    found = None
    if pointer is not None:
        key = logged_model_key(pointer["experiment_id"], model_id, pointer["created_ms"])
        found = find_record(key, LoggedModelRecord, call.store, call.objects)
    if found is None or (found.record.stage == DELETED and not with_deleted):
        raise NotFoundError(f"Logged model with ID '{model_id}' not found.")
    return found


def change_logged_model(
    call: TrackingCall, model_id: str, change: Callable[[LoggedModelRecord], None]
) -> LoggedModelRecord:
    """Change a logged model's record in place, from what it is when it is written; returns it."""

    def attempt() -> LoggedModelRecord | None:
        found = find_logged_model(call, model_id)
        change(found.record)
        return None if commit(call.store, [_updated(call, found)]) else found.record

    return repeat(attempt)


def _updated(call: TrackingCall, found: Stored[LoggedModelRecord]) -> Update:
    record = found.record
    key = logged_model_key(record.experiment_id, record.model_id, record.created_ms)
    return change_record(key, record, found.revision, call.objects)


def add_model_points(call: TrackingCall, run_id: str, points: Sequence[LoggedPoint]) -> list[Update]:
    """Return the changes that add values of metrics to logged models, a change a model."""
    by_model: dict[str, list[LoggedPoint]] = {}
    for point in points:
        by_model.setdefault(point.model_id, []).append(point)
    changes = []
    for model_id, given in by_model.items():
        found = find_logged_model(call, model_id)
        known = {_identity(one) for one in found.record.points}
        for one in given:
            logged = LoggedPoint(
                model_id=model_id,
                key=one.key,
                point=one.point,
                run_id=run_id,
                dataset_name=one.dataset_name,
                dataset_digest=one.dataset_digest,
            )
            if _identity(logged) not in known:
                known.add(_identity(logged))
                found.record.points.append(logged)
        found.record.points = found.record.points[-MAX_POINTS:]
        changes.append(_updated(call, found))
    return changes


def _identity(one: LoggedPoint) -> tuple[Any, ...]:
    return one.key, one.run_id, one.dataset_name, one.dataset_digest, time_order(one.point)


def describe_logged_model(record: LoggedModelRecord) -> dict[str, Any]:
    """Return a logged model as MLflow's JSON."""
    info = {
        "model_id": record.model_id,
        "experiment_id": record.experiment_id,
        "name": record.name,
        "artifact_uri": record.artifact_uri,
        "creation_timestamp_ms": record.created_ms,
        "last_updated_timestamp_ms": record.updated_ms,
        "status": record.status,
        "model_type": record.model_type,
        "source_run_id": record.source_run_id,
        "tags": write_pairs(record.tags),
    }
    metrics = [
        {
            **describe_point(one.key, one.point),
            "model_id": one.model_id,
            "run_id": one.run_id,
            **({"dataset_name": one.dataset_name} if one.dataset_name else {}),
            **({"dataset_digest": one.dataset_digest} if one.dataset_digest else {}),
        }
        for one in record.points
    ]
    return {"info": info, "data": {"params": write_pairs(record.params), "metrics": metrics}}


def _create(call: TrackingCall, arguments: Arguments) -> Mapping[str, Any]:
    name = arguments.get("name")
    if name is not None and any(sign in name for sign in _BAD_SIGNS):
        message = (
            f"Invalid model name ({name!r}) provided. Model name must be a non-empty string and cannot contain the "
            f"following characters: {_BAD_SIGNS}"
        )
        raise InvalidInputError(message, [FieldError("name", "has a character that is not allowed")])
    experiment = find_experiment(call, arguments["experiment_id"]).record
    ensure_experiment_active(experiment)
    identifier = call.make_id()
    model_id = f"m-{identifier}"
    record = LoggedModelRecord(
        model_id=model_id,
        experiment_id=experiment.experiment_id,
        name=name or make_name(identifier),
        artifact_uri=f"{experiment.artifact_location.rstrip('/')}/models/{model_id}/artifacts",
        created_ms=call.now_ms,
        updated_ms=call.now_ms,
        model_type=arguments.get("model_type", ""),
        source_run_id=arguments.get("source_run_id", ""),
        params=_read_params(arguments),
        tags=_read_tags(arguments),
    )
    place = {"experiment_id": record.experiment_id, "created_ms": record.created_ms}
    key = logged_model_key(record.experiment_id, model_id, record.created_ms)
    commit(call.store, [make_record(key, record, call.objects), Put(logged_model_pointer(model_id), place)])
    return {"model": describe_logged_model(record)}


def _read_params(arguments: Arguments) -> dict[str, str]:
    params = read_pairs(arguments.get("params", ()), "params")
    for key, value in params.items():
        validate_length("Param key", key, MAX_KEY)
        validate_length("Param value", value, MAX_PARAM)
    return params


def _read_tags(arguments: Arguments) -> dict[str, str]:
    tags = read_pairs(arguments.get("tags", ()), "tags")
    for key, value in tags.items():
        validate_length("key", key, MAX_KEY)
        validate_length("value", value, MAX_TAG)
    return tags


def _get(call: TrackingCall, arguments: Arguments) -> Mapping[str, Any]:
    with_deleted = arguments.get("allow_deleted", False)
    return {
        "model": describe_logged_model(find_logged_model(call, arguments["model_id"], with_deleted=with_deleted).record)
    }


def _finish(call: TrackingCall, arguments: Arguments) -> Mapping[str, Any]:
    given = arguments.get("status")
    if given is None:
        raise missing_argument("status")
    status = _STATUS.get(given) if isinstance(given, int) else given
    if status not in _STATUS.values():
        raise invalid_argument("status", given)
    status = str(status)

    def change(record: LoggedModelRecord) -> None:
        record.status, record.updated_ms = status, call.now_ms

    return {"model": describe_logged_model(change_logged_model(call, arguments["model_id"], change))}


def _delete(call: TrackingCall, arguments: Arguments) -> None:
    def change(record: LoggedModelRecord) -> None:
        record.stage, record.updated_ms = DELETED, call.now_ms

    change_logged_model(call, arguments["model_id"], change)


def _log_params(call: TrackingCall, arguments: Arguments) -> None:
    params = _read_params(arguments)

    def change(record: LoggedModelRecord) -> None:
        for key, value in params.items():
            known = record.params.setdefault(key, value)
            if known != value:
                message = f"Changing param values is not allowed: '{key}' of {record.model_id} is '{known}' already."
                raise InvalidInputError(message, [FieldError(key, "has another value already")])

    change_logged_model(call, arguments["model_id"], change)


def _set_tags(call: TrackingCall, arguments: Arguments) -> None:
    tags = _read_tags(arguments)
    change_logged_model(call, arguments["model_id"], lambda record: record.tags.update(tags))


def _delete_tag(call: TrackingCall, arguments: Arguments) -> None:
    model_id, key = arguments["model_id"], arguments["tag_key"]

    def change(record: LoggedModelRecord) -> None:
        if record.tags.pop(key, None) is None:
            raise NotFoundError(f"No tag with key {key!r} found for model with ID {model_id!r}.")

    change_logged_model(call, model_id, change)


class _Datasets:
    """The datasets of a search, of which at least one has to fit."""

    def __init__(self, given: Iterable[Any]) -> None:
        listed = list(given)
        if not all(isinstance(one, Mapping) for one in listed):
            raise invalid_argument("datasets", listed)
        self.wanted = [(one.get("dataset_name"), one.get("dataset_digest")) for one in listed]
        if not all(name for name, _ in self.wanted):
            message = "`dataset_name` in the `datasets` clause must be specified."
            raise InvalidInputError(message, [FieldError("datasets", "one has no dataset_name")])

    def fit(self, one: LoggedPoint) -> bool:
        return not self.wanted or any(
            name == one.dataset_name and digest in (None, "", one.dataset_digest) for name, digest in self.wanted
        )


def _matches(record: LoggedModelRecord, comparisons: Sequence[FilterComparison], datasets: _Datasets) -> bool:
    points = [one for one in record.points if datasets.fit(one)]
    metrics = [one for one in comparisons if one.kind == "metric"]
    if datasets.wanted and not metrics and not points:
        return False
    return all(
        any(point.key == one.key and one.holds(point.point.value) for point in points) for one in metrics
    ) and all(one.holds(_value(record, one.kind, one.key)) for one in comparisons if one.kind != "metric")


def _value(record: LoggedModelRecord, kind: EntityKind, key: str) -> Any:
    if kind == "parameter":
        return record.params.get(key)
    if kind == "tag":
        return record.tags.get(key)
    return {
        "name": record.name,
        "model_id": record.model_id,
        "experiment_id": record.experiment_id,
        "source_run_id": record.source_run_id,
        "status": record.status.removeprefix("LOGGED_MODEL_"),
        "model_type": record.model_type,
        "artifact_location": record.artifact_uri,
        "creation_timestamp_ms": record.created_ms,
        "last_updated_timestamp_ms": record.updated_ms,
    }[key]


def _search(call: TrackingCall, arguments: Arguments) -> Mapping[str, Any]:
    limit = read_limit(arguments, 100, 1_000)
    comparisons, datasets = parse_filter(arguments.get("filter"), GRAMMAR), _Datasets(arguments.get("datasets", ()))
    found = [
        record
        for experiment_id in dict.fromkeys(map(str, arguments["experiment_ids"]))
        for record in decode_items(
            call.store.query(experiment_partition(experiment_id), "L#", table="tracking"),
            LoggedModelRecord,
            call.objects,
        )
        if record.stage == ACTIVE and _matches(record, comparisons, datasets)
    ]
    found.sort(key=lambda record: (-record.created_ms, record.model_id))
    for given in reversed(arguments.get("order_by", ())):
        if not isinstance(given, Mapping) or not isinstance(given.get("field_name"), str):
            raise invalid_argument("order_by", given)
        (order,) = parse_order([given["field_name"]], GRAMMAR)
        order = order._replace(descending=not given.get("ascending", True))
        found = _sort(found, order, given.get("dataset_name"), given.get("dataset_digest"))
    page, token = describe_page(found, arguments, limit, describe_logged_model)
    return {"models": page, **token}


def _sort(
    found: list[LoggedModelRecord], order: Order, dataset_name: str | None, dataset_digest: str | None
) -> list[LoggedModelRecord]:
    """Sort by an attribute, or by the latest value of a metric, on a dataset if one is named."""

    def get(record: LoggedModelRecord, kind: EntityKind, key: str) -> Any:
        if kind != "metric":
            return _value(record, kind, key)
        points = [
            one
            for one in record.points
            if one.key == key
            and dataset_name in (None, "", one.dataset_name)
            and dataset_digest in (None, "", one.dataset_digest)
        ]
        latest = max(points, key=lambda one: (one.point.timestamp, one.point.step), default=None)
        return None if latest is None or math.isnan(latest.point.value) else latest.point.value

    return sort_found(found, [order], get)


_PATH = "logged-models/{model_id}"
ENDPOINTS = (
    TrackingEndpoint(
        ("POST",),
        "logged-models",
        _create,
        {
            "experiment_id": required(TEXT),
            "name": TEXT,
            "model_type": TEXT,
            "source_run_id": TEXT,
            "params": LIST,
            "tags": LIST,
        },
    ),
    TrackingEndpoint(
        ("POST",),
        "logged-models/search",
        _search,
        {
            "experiment_ids": required(LIST),
            "filter": TEXT,
            "datasets": LIST,
            "order_by": LIST,
            "max_results": INTEGER,
            "page_token": TEXT,
        },
    ),
    TrackingEndpoint(("GET",), _PATH, _get, {"allow_deleted": BOOLEAN}),
    TrackingEndpoint(("PATCH",), _PATH, _finish),
    TrackingEndpoint(("DELETE",), _PATH, _delete),
    TrackingEndpoint(("POST",), f"{_PATH}/params", _log_params, {"params": LIST}),
    TrackingEndpoint(("PATCH",), f"{_PATH}/tags", _set_tags, {"tags": LIST}),
    TrackingEndpoint(("DELETE",), f"{_PATH}/tags/{{tag_key}}", _delete_tag),
)
