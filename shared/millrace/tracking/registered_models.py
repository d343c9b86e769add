"""Registered models: ``registered-models/…`` of MLflow's API, and their aliases.

Models of users are records; those of Millrace (:mod:`millrace.tracking.model_mirror`) are shown as they are, and refuse
every change but one: the alias ``champion`` promotes.
"""

from collections.abc import Mapping
from typing import Any

from millrace.errors import AlreadyExistsError, InvalidInputError
from millrace.ports import Compare, Delete, StoreChange
from millrace.tracking.arguments import (
    INTEGER,
    LIST,
    MAX_REGISTRY_TAG,
    TEXT,
    read_pairs,
    read_texts,
    required,
    validate_key,
    validate_length,
    write_pairs,
)
from millrace.tracking.model_mirror import find_mirrored_model, list_mirrored_models, mirrored_only, promote_mirrored
from millrace.tracking.model_records import (
    AliasEntry,
    ModelVersionRecord,
    RegisteredModelRecord,
    change_registered,
    find_model_version,
    find_model_versions,
    find_registered,
    list_model_versions,
    list_registered,
    model_version_key,
    read_stage,
    read_version_number,
    registered_model_key,
    validate_alias,
    validate_registered_name,
    write_with_entry,
)
from millrace.tracking.pages import cut_page, describe_page, read_limit
from millrace.tracking.record_items import commit, make_record, repeat
from millrace.tracking.search_language import EntityKind, Grammar, parse_filter, parse_order, select_found, sort_found
from millrace.tracking.tracking_calls import Arguments, TrackingCall, TrackingEndpoint

_DEFAULT_PAGE, _MAX_PAGE = 100, 1_000
_TIMES = frozenset({"creation_timestamp", "last_updated_timestamp"})
_GRAMMAR = Grammar(
    texts=frozenset({"name"}),
    ordered_by=_TIMES | {"name"},
    ordered_by_kinds=frozenset(),
    listed=frozenset({"name"}),
    aliases={"timestamp": "last_updated_timestamp"},
    presence=frozenset({"tag"}),
)
#: A tag that models do not have, and MLflow's clients ask for: without it they are no prompts.
_IS_PROMPT = "mlflow.prompt.is_prompt"


def describe_registered(record: RegisteredModelRecord, latest: list[ModelVersionRecord]) -> dict[str, Any]:
    """Return a registered model as MLflow's JSON."""
    return {
        "name": record.name,
        "creation_timestamp": record.created_ms,
        "last_updated_timestamp": record.updated_ms,
        "description": record.description,
        "latest_versions": [describe_model_version(record, version) for version in latest],
        "tags": write_pairs(record.tags),
        "aliases": [{"alias": alias, "version": str(version)} for alias, version in sorted(record.aliases.items())],
    }


def describe_model_version(model: RegisteredModelRecord, record: ModelVersionRecord) -> dict[str, Any]:
    """Return a version as MLflow's JSON."""
    described = {
        "name": model.name,
        "version": str(record.version),
        "creation_timestamp": record.created_ms,
        "last_updated_timestamp": record.updated_ms,
        "current_stage": record.stage,
        "description": record.description,
        "source": record.source,
        "run_id": record.run_id,
        "run_link": record.run_link,
        "status": "READY",
        "tags": write_pairs(record.tags),
        "aliases": sorted(alias for alias, version in model.aliases.items() if version == record.version),
    }
    return described | ({"model_id": record.logged_model_id} if record.logged_model_id else {})


def tag_value(tags: Mapping[str, str], key: str) -> str | None:
    """Return a tag's value for a comparison."""
    return tags.get(key, "false" if key == _IS_PROMPT else None)


def _with_latest(call: TrackingCall, record: RegisteredModelRecord) -> dict[str, Any]:
    numbers = [(record, version) for version in record.latest.values()]
    return {"registered_model": describe_registered(record, find_model_versions(call, numbers))}


def _create(call: TrackingCall, arguments: Arguments) -> Mapping[str, Any]:
    name = validate_registered_name(arguments["name"])
    if find_mirrored_model(call, name):
        raise AlreadyExistsError(f"Registered Model (name={name}) already exists: it is one of Millrace's models.")
    record = RegisteredModelRecord(
        model_id=call.make_id(),
        name=name,
        created_ms=call.now_ms,
        updated_ms=call.now_ms,
        description=arguments.get("description", ""),
        tags=read_tags(arguments),
    )
    if commit(call.store, [make_record(registered_model_key(name), record, call.objects)]):
        raise AlreadyExistsError(f"Registered Model (name={name}) already exists.")
    return _with_latest(call, record)


def read_tags(arguments: Arguments) -> dict[str, str]:
    """Return the tags of a new model or version; raises ``InvalidInputError`` for one that MLflow refuses."""
    tags = read_pairs(arguments.get("tags", ()), "tags")
    for key, value in tags.items():
        validate_tag(key, value)
    return tags


def validate_tag(key: str, value: str) -> None:
    """Raise ``InvalidInputError`` for a tag of the registry that MLflow refuses."""
    validate_key(key, "key")
    validate_length("value", value, MAX_REGISTRY_TAG)


def _get(call: TrackingCall, arguments: Arguments) -> Mapping[str, Any]:
    name = validate_registered_name(arguments["name"])
    if mirrored := find_mirrored_model(call, name):
        return {"registered_model": mirrored.describe()}
    return _with_latest(call, find_registered(call, name).record)


def _update(call: TrackingCall, arguments: Arguments) -> Mapping[str, Any]:
    name = validate_registered_name(arguments["name"])
    mirrored_only(call, name)

    def change(record: RegisteredModelRecord) -> None:
        record.description = arguments.get("description", "")

    return _with_latest(call, change_registered(call, name, change))


def _rename(call: TrackingCall, arguments: Arguments) -> Mapping[str, Any]:
    name = validate_registered_name(arguments["name"])
    new_name = validate_registered_name(arguments["new_name"], "new_name")
    mirrored_only(call, name)
    taken = f"Registered Model (name={new_name}) already exists."
    if find_mirrored_model(call, new_name):
        raise AlreadyExistsError(taken)

    def attempt() -> RegisteredModelRecord | None:
        record, revision = find_registered(call, name)
        if name == new_name:
            raise AlreadyExistsError(taken)
        record.name, record.updated_ms = new_name, call.now_ms
        changes: list[StoreChange] = [
            make_record(registered_model_key(new_name), record, call.objects),
            Delete(registered_model_key(name), (Compare("revision", "=", revision),)),
        ]
        entry = AliasEntry(
            "registered_model_renamed", "renamed by a client of MLflow", {"from_name": name, "aliases": record.aliases}
        )
        failed = write_with_entry(call, changes, record, revision, entry)
        if 0 in failed:
            raise AlreadyExistsError(taken)
        return None if failed else record

    return _with_latest(call, repeat(attempt))


def _delete(call: TrackingCall, arguments: Arguments) -> None:
    name = validate_registered_name(arguments["name"])
    mirrored_only(call, name)

    def attempt() -> RegisteredModelRecord | None:
        record, revision = find_registered(call, name)
        entry = AliasEntry("registered_model_deleted", "deleted by a client of MLflow", {"aliases": record.aliases})
        gone = Delete(registered_model_key(name), (Compare("revision", "=", revision),))
        return None if write_with_entry(call, [gone], record, revision, entry) else record

    record = repeat(attempt)
    # Nobody finds them any more: what a crash leaves costs its storage alone.
    for version in list(list_model_versions(call, record.model_id)):
        call.store.write(Delete(model_version_key(record.model_id, version.version)))


def _search(call: TrackingCall, arguments: Arguments) -> Mapping[str, Any]:
    limit = read_limit(arguments, _DEFAULT_PAGE, _MAX_PAGE)
    comparisons = parse_filter(arguments.get("filter"), _GRAMMAR)
    orders = parse_order(arguments.get("order_by") or ["name ASC"], _GRAMMAR)
    mirrored = {model.name: model for model in list_mirrored_models(call)}
    users = {record.name: record for record in list_registered(call) if record.name not in mirrored}
    summaries = [model.summary() for model in mirrored.values()]
    summaries += [describe_registered(record, []) for record in users.values()]
    summaries.sort(key=lambda summary: str(summary["name"]))
    found = sort_found(select_found(summaries, comparisons, _value), orders, _value)
    page, _ = cut_page(found, arguments, limit)
    records = [users[one["name"]] for one in page if one["name"] in users]
    versions: dict[str, list[ModelVersionRecord]] = {record.model_id: [] for record in records}
    numbers = [(record, version) for record in records for version in record.latest.values()]
    for version in find_model_versions(call, numbers):
        versions[version.model_id].append(version)
    full = {record.name: describe_registered(record, versions[record.model_id]) for record in records}

    def describe(one: Mapping[str, Any]) -> Mapping[str, Any]:
        return full.get(one["name"]) or mirrored[one["name"]].describe()

    described, token = describe_page(found, arguments, limit, describe)
    return {"registered_models": described, **token}


def _value(summary: Mapping[str, Any], kind: EntityKind, key: str) -> Any:
    if kind == "tag":
        return tag_value({tag["key"]: tag["value"] for tag in summary["tags"]}, key)
    return summary.get(key)


def _get_latest(call: TrackingCall, arguments: Arguments) -> Mapping[str, Any]:
    name = validate_registered_name(arguments["name"])
    stages = {read_stage(stage) for stage in read_texts(arguments, "stages")}
    if mirrored := find_mirrored_model(call, name):
        versions = mirrored.describe()["latest_versions"]
    else:
        versions = _with_latest(call, find_registered(call, name).record)["registered_model"]["latest_versions"]
    return {"model_versions": [one for one in versions if not stages or one["current_stage"] in stages]}


def _set_tag(call: TrackingCall, arguments: Arguments) -> None:
    name, key, value = validate_registered_name(arguments["name"]), arguments["key"], arguments.get("value", "")
    validate_tag(key, value)
    mirrored_only(call, name)
    change_registered(call, name, lambda record: record.tags.update({key: value}), is_update=False)


def _delete_tag(call: TrackingCall, arguments: Arguments) -> None:
    name = validate_registered_name(arguments["name"])
    key = validate_key(arguments["key"], "key")
    mirrored_only(call, name)

    def change(record: RegisteredModelRecord) -> None:
        record.tags.pop(key, None)

    change_registered(call, name, change, is_update=False)


def _set_alias(call: TrackingCall, arguments: Arguments) -> None:
    name, alias = validate_registered_name(arguments["name"]), validate_alias(arguments["alias"], is_new=True)
    version = read_version_number(arguments["version"])
    if mirrored := find_mirrored_model(call, name):
        promote_mirrored(call, mirrored, alias, version)
        return
    _move(call, name, alias, version)


def _delete_alias(call: TrackingCall, arguments: Arguments) -> None:
    name, alias = validate_registered_name(arguments["name"]), validate_alias(arguments["alias"])
    mirrored_only(call, name)
    _move(call, name, alias, None)


def _move(call: TrackingCall, name: str, alias: str, version: int | None) -> None:
    """Move an alias to a version, or remove it, with its entry in the ledger; the same again changes nothing."""

    def change(record: RegisteredModelRecord) -> AliasEntry:
        if version is not None:
            find_model_version(call, record, version)  # at each attempt: a version's deletion changes its model
        details = {"alias": alias, "from_version": record.aliases.get(alias), "to_version": version}
        if version is None:
            record.aliases.pop(alias, None)
        else:
            record.aliases[alias] = version
        return AliasEntry("alias_moved", "set by a client of MLflow", details)

    record = find_registered(call, name).record
    if version is not None:
        find_model_version(call, record, version)
    if record.aliases.get(alias) != version:
        change_registered(call, name, change, is_update=False)


def _get_by_alias(call: TrackingCall, arguments: Arguments) -> Mapping[str, Any]:
    name, alias = validate_registered_name(arguments["name"]), validate_alias(arguments["alias"])
    if mirrored := find_mirrored_model(call, name):
        return {"model_version": mirrored.describe_alias(alias)}
    record = find_registered(call, name).record
    latest = max(record.latest.values(), default=None)
    number = latest if alias.lower() == "latest" else record.aliases.get(alias)
    if number is None:
        raise InvalidInputError(f"Registered model alias {alias} not found.")
    return {"model_version": describe_model_version(record, find_model_version(call, record, number).record)}


_NAME = {"name": required(TEXT)}
_ALIAS = _NAME | {"alias": required(TEXT)}
_KEY = _NAME | {"key": required(TEXT), "value": TEXT}
_SEARCH = {"filter": TEXT, "max_results": INTEGER, "order_by": LIST, "page_token": TEXT}
ENDPOINTS = (
    TrackingEndpoint(("POST",), "registered-models/create", _create, _NAME | {"tags": LIST, "description": TEXT}),
    TrackingEndpoint(("GET",), "registered-models/get", _get, _NAME),
    TrackingEndpoint(("PATCH",), "registered-models/update", _update, _NAME | {"description": TEXT}),
    TrackingEndpoint(("POST",), "registered-models/rename", _rename, _NAME | {"new_name": required(TEXT)}),
    TrackingEndpoint(("DELETE",), "registered-models/delete", _delete, _NAME),
    TrackingEndpoint(("GET", "POST"), "registered-models/search", _search, _SEARCH),
    TrackingEndpoint(("GET", "POST"), "registered-models/get-latest-versions", _get_latest, _NAME | {"stages": LIST}),
    TrackingEndpoint(("POST",), "registered-models/set-tag", _set_tag, _KEY),
    TrackingEndpoint(("DELETE",), "registered-models/delete-tag", _delete_tag, _KEY),
    TrackingEndpoint(("POST",), "registered-models/alias", _set_alias, _ALIAS | {"version": required(TEXT)}),
    TrackingEndpoint(("DELETE",), "registered-models/alias", _delete_alias, _ALIAS),
    TrackingEndpoint(("GET",), "registered-models/alias", _get_by_alias, _ALIAS),
)
