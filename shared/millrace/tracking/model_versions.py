"""Versions of registered models: ``model-versions/…`` of MLflow's API."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from millrace.errors import InvalidInputError, VersionNotFoundError
from millrace.ports import Delete, Exists, StoreChange
from millrace.tracking.arguments import BOOLEAN, INTEGER, LIST, TEXT, required, validate_key
from millrace.tracking.logged_models import find_logged_model
from millrace.tracking.model_mirror import find_mirrored_model, list_mirrored_models, mirrored_only
from millrace.tracking.model_proposals import describe_proposal, describe_proposals, propose_version
from millrace.tracking.model_records import (
    NO_STAGE,
    AliasEntry,
    ModelVersionRecord,
    RegisteredModelRecord,
    change_model_version,
    find_model_version,
    find_registered,
    latest_by_stage,
    list_model_versions,
    list_registered,
    model_version_key,
    read_stage,
    read_version_number,
    registered_model_key,
    validate_registered_name,
    write_with_entry,
)
from millrace.tracking.pages import describe_page, read_limit
from millrace.tracking.record_items import change_record, commit, make_record, repeat
from millrace.tracking.registered_models import describe_model_version, read_tags, tag_value, validate_tag
from millrace.tracking.search_language import (
    EntityKind,
    FilterComparison,
    Grammar,
    parse_filter,
    parse_order,
    select_found,
    sort_found,
)
from millrace.tracking.tracked_runs import find_run_record
from millrace.tracking.tracking_calls import Arguments, TrackingCall, TrackingEndpoint
from millrace.tracking.tracking_keys import is_mirrored_run

_DEFAULT_PAGE, _MAX_PAGE = 10_000, 200_000
#: What a function may return.
_LARGEST_PAGE = 2_500
_ACTIVE_STAGES = ("Staging", "Production")
_ATTRIBUTES = {"version_number": "version", "source_path": "source"}
_GRAMMAR = Grammar(
    texts=frozenset({"name", "run_id", "source_path"}),
    numbers=frozenset({"version_number"}),
    listed=frozenset({"name", "run_id"}),
    ordered_by=frozenset({"name", "version_number", "creation_timestamp", "last_updated_timestamp"}),
    ordered_by_kinds=frozenset(),
    aliases={"timestamp": "last_updated_timestamp"},
    presence=frozenset({"tag"}),
)
_DEFAULT_ORDER = ("last_updated_timestamp DESC", "name ASC", "version_number DESC")
_OF_VERSION = re.compile(r"models:/([^/]+)/([0-9]{1,9})")
_OF_RUN = re.compile(r"runs:/([^/]+)/?(.*)")
#: Schemes of places that only the client's own machine, or a server with files, has.
_NOWHERE = frozenset({"", "file", "mlflow-artifacts"})


def _create(call: TrackingCall, arguments: Arguments) -> Mapping[str, Any]:
    name = validate_registered_name(arguments["name"])
    tags = read_tags(arguments)
    _validate_source(arguments["source"])
    mirrored = find_mirrored_model(call, name)
    if mirrored is None:
        find_registered(call, name)
    version = _resolve(call, arguments)
    version.tags = tags
    if mirrored:
        return {"model_version": propose_version(call, mirrored, version)}

    def attempt() -> RegisteredModelRecord | None:
        model, revision = find_registered(call, name)
        version.model_id, version.version = model.model_id, model.last_version + 1
        model.last_version = model.latest[NO_STAGE] = version.version
        model.updated_ms = call.now_ms
        changes: list[StoreChange] = [
            change_record(registered_model_key(name), model, revision, call.objects),
            make_record(model_version_key(model.model_id, version.version), version, call.objects),
        ]
        return None if commit(call.store, changes) else model

    return {"model_version": describe_model_version(repeat(attempt), version)}


def _resolve(call: TrackingCall, arguments: Arguments) -> ModelVersionRecord:
    """Return the version that a request describes, without its number: where its files are, and whose run made them."""
    source, run_id, logged_model_id = (arguments.get(name, "") for name in ("source", "run_id", "model_id"))
    _validate_source(source)
    location = source
    if source.startswith("models:/m-"):
        if logged_model_id not in ("", source.removeprefix("models:/")):
            raise _invalid_source(source)
        logged_model_id = source.removeprefix("models:/")
    elif copied := _OF_VERSION.fullmatch(source):
        location = _location(call, copied[1], int(copied[2]))
    elif of_run := _OF_RUN.fullmatch(source):
        if of_run[1] != run_id:
            raise _invalid_source(source)
        location = f"{find_run_record(call, run_id).record.artifact_uri}/{of_run[2]}".rstrip("/")
    if logged_model_id:
        logged = find_logged_model(call, logged_model_id).record
        run_id = run_id or logged.source_run_id
        location = logged.artifact_uri if source.startswith("models:/m-") else location
    return ModelVersionRecord(
        model_id="",
        version=0,
        created_ms=call.now_ms,
        updated_ms=call.now_ms,
        source=source,
        location=location,
        run_id=run_id,
        run_link=arguments.get("run_link", ""),
        logged_model_id=logged_model_id,
        description=arguments.get("description", ""),
    )


def _validate_source(source: str) -> None:
    """Raise ``InvalidInputError`` for a source on the client's own machine, or with a way out of its place."""
    plain = source
    while (once := unquote(plain)) != plain:
        plain = once
    try:
        parts = urlsplit(plain)
    except ValueError:
        raise _invalid_source(source) from None
    has_way_out = any(part == ".." for part in re.split(r"[/\\?#]", plain))
    is_malformed = parts.scheme in ("models", "runs") and (bool(parts.netloc) or not parts.path.startswith("/"))
    if parts.scheme in _NOWHERE or len(parts.scheme) == 1 or has_way_out or is_malformed:
        raise _invalid_source(source)


def _invalid_source(source: str) -> InvalidInputError:
    return InvalidInputError(
        f"Invalid model version source: '{source}'. It must be a logged model (models:/m-...), another version "
        "(models:/name/version), an artifact of the run (runs:/run_id/path) or a place in a store such as s3://."
    )


def _location(call: TrackingCall, name: str, version: int) -> str:
    if mirrored := find_mirrored_model(call, name):
        return mirrored.location(version)
    return find_model_version(call, find_registered(call, name).record, version).record.location


def _get(call: TrackingCall, arguments: Arguments) -> Mapping[str, Any]:
    name, number = _read_version(arguments)
    if mirrored := find_mirrored_model(call, name):
        try:
            return {"model_version": mirrored.describe_version(number)}
        except VersionNotFoundError:
            return {"model_version": describe_proposal(mirrored, number)}
    model = find_registered(call, name).record
    return {"model_version": describe_model_version(model, find_model_version(call, model, number).record)}


def _read_version(arguments: Arguments) -> tuple[str, int]:
    return validate_registered_name(arguments["name"]), read_version_number(arguments["version"])


def _get_download_uri(call: TrackingCall, arguments: Arguments) -> Mapping[str, Any]:
    return {"artifact_uri": _location(call, *_read_version(arguments))}


def _update(call: TrackingCall, arguments: Arguments) -> Mapping[str, Any]:
    name, number = _read_version(arguments)
    mirrored_only(call, name)

    def change(record: ModelVersionRecord) -> None:
        record.description = arguments.get("description", "")

    return {"model_version": describe_model_version(*change_model_version(call, name, number, change))}


def _set_tag(call: TrackingCall, arguments: Arguments) -> None:
    (name, number), key, value = _read_version(arguments), arguments["key"], arguments.get("value", "")
    validate_tag(key, value)
    mirrored_only(call, name)
    change_model_version(call, name, number, lambda record: record.tags.update({key: value}))


def _delete_tag(call: TrackingCall, arguments: Arguments) -> None:
    (name, number), key = _read_version(arguments), validate_key(arguments["key"], "key")
    mirrored_only(call, name)

    def change(record: ModelVersionRecord) -> None:
        record.tags.pop(key, None)

    change_model_version(call, name, number, change)


def _delete(call: TrackingCall, arguments: Arguments) -> None:
    name, number = _read_version(arguments)
    mirrored_only(call, name)

    def attempt() -> bool | None:
        model, revision = find_registered(call, name)
        find_model_version(call, model, number)
        gone = {alias: version for alias, version in model.aliases.items() if version == number}
        model.aliases = {alias: version for alias, version in model.aliases.items() if version != number}
        others = (one for one in list_model_versions(call, model.model_id) if one.version != number)
        model.latest, model.updated_ms = latest_by_stage(others), call.now_ms
        changes: list[StoreChange] = [
            change_record(registered_model_key(name), model, revision, call.objects),
            Delete(model_version_key(model.model_id, number), (Exists(),)),
        ]
        reason = "the version was deleted by a client of MLflow"
        entry = AliasEntry("alias_moved", reason, {"aliases": sorted(gone), "from_version": number, "to_version": None})
        return None if write_with_entry(call, changes, model, revision, entry if gone else None) else True

    repeat(attempt)


def _move_stage(call: TrackingCall, arguments: Arguments) -> Mapping[str, Any]:
    name, number = _read_version(arguments)
    stage, archives = read_stage(arguments["stage"]), arguments.get("archive_existing_versions", False)
    mirrored_only(call, name)
    if archives and stage not in _ACTIVE_STAGES:
        raise InvalidInputError(
            "Model version transition cannot archive existing model versions because "
            f"'{arguments['stage']}' is not an Active stage. Valid stages are {list(_ACTIVE_STAGES)}"
        )

    def attempt() -> tuple[RegisteredModelRecord, ModelVersionRecord] | None:
        model, revision = find_registered(call, name)
        moved, own = find_model_version(call, model, number)
        versions = {one.version: one for one in list_model_versions(call, model.model_id)}
        listed = [one for one in versions.values() if archives and one.stage == stage and one.version != number]
        for one in listed:
            # One after the other: repeated, they are archived already.
            other, of_other = find_model_version(call, model, one.version)
            other.stage, other.updated_ms = "Archived", call.now_ms
            key = model_version_key(model.model_id, other.version)
            if commit(call.store, [change_record(key, other, of_other, call.objects)]):
                return None
            versions[other.version] = other
        moved.stage, moved.updated_ms = stage, call.now_ms
        model.latest, model.updated_ms = latest_by_stage(iter((versions | {number: moved}).values())), call.now_ms
        changes: list[StoreChange] = [
            change_record(registered_model_key(name), model, revision, call.objects),
            change_record(model_version_key(model.model_id, number), moved, own, call.objects),
        ]
        return None if commit(call.store, changes) else (model, moved)

    return {"model_version": describe_model_version(*repeat(attempt))}


def _search(call: TrackingCall, arguments: Arguments) -> Mapping[str, Any]:
    limit = min(read_limit(arguments, _DEFAULT_PAGE, _MAX_PAGE), _LARGEST_PAGE)
    comparisons = parse_filter(arguments.get("filter"), _GRAMMAR)
    orders = parse_order(arguments.get("order_by") or _DEFAULT_ORDER, _GRAMMAR)
    found = sorted(_list(call, comparisons), key=lambda one: (one["name"], -int(one["version"])))
    found = sort_found(select_found(found, comparisons, _value), orders, _value)
    page, token = describe_page(found, arguments, limit, lambda one: one)
    return {"model_versions": page, **token}


def _list(call: TrackingCall, comparisons: Iterable[FilterComparison]) -> Iterator[dict[str, Any]]:
    """Yield the versions that a filter may let pass: those of one model where it names one."""
    equal = {one.key: one.value for one in comparisons if one.kind == "attribute" and one.operator == "="}
    name, run_id = equal.get("name"), equal.get("run_id")
    if name is not None:
        mirrored = find_mirrored_model(call, name)
        if mirrored:
            registered = list(mirrored.describe_versions())
            yield from registered
            yield from describe_proposals(mirrored, {one["version"] for one in registered})
        else:
            models = [record for record in list_registered(call) if record.name == name]
            for model in models:
                yield from (describe_model_version(model, one) for one in list_model_versions(call, model.model_id))
        return
    names = set()
    if run_id is None or is_mirrored_run(run_id):
        for mirrored in list_mirrored_models(call):
            names.add(mirrored.name)
            yield from mirrored.describe_versions()
    by_id = {record.model_id: record for record in list_registered(call) if record.name not in names}
    for version in list_model_versions(call):
        if model_of := by_id.get(version.model_id):
            yield describe_model_version(model_of, version)


def _value(described: Mapping[str, Any], kind: EntityKind, key: str) -> Any:
    if kind == "tag":
        return tag_value({tag["key"]: tag["value"] for tag in described["tags"]}, key)
    value = described.get(_ATTRIBUTES.get(key, key))
    return int(str(value)) if key == "version_number" else value


_VERSION = {"name": required(TEXT), "version": required(TEXT)}
_KEY = _VERSION | {"key": required(TEXT), "value": TEXT}
_CREATE = {
    "name": required(TEXT),
    "source": required(TEXT),
    "run_id": TEXT,
    "tags": LIST,
    "run_link": TEXT,
    "description": TEXT,
    "model_id": TEXT,
}
_STAGE = _VERSION | {"stage": required(TEXT), "archive_existing_versions": BOOLEAN}
_SEARCH = {"filter": TEXT, "max_results": INTEGER, "order_by": LIST, "page_token": TEXT}
ENDPOINTS = (
    TrackingEndpoint(("POST",), "model-versions/create", _create, _CREATE),
    TrackingEndpoint(("GET",), "model-versions/get", _get, _VERSION),
    TrackingEndpoint(("GET",), "model-versions/get-download-uri", _get_download_uri, _VERSION),
    TrackingEndpoint(("PATCH",), "model-versions/update", _update, _VERSION | {"description": TEXT}),
    TrackingEndpoint(("DELETE",), "model-versions/delete", _delete, _VERSION),
    TrackingEndpoint(("POST",), "model-versions/transition-stage", _move_stage, _STAGE),
    TrackingEndpoint(("POST",), "model-versions/set-tag", _set_tag, _KEY),
    TrackingEndpoint(("DELETE",), "model-versions/delete-tag", _delete_tag, _KEY),
    TrackingEndpoint(("GET", "POST"), "model-versions/search", _search, _SEARCH),
)
