"""Registered models of users and their versions, and how they are found and changed.

A registered model is one item, found by its name, and each of its versions another one, found by the model's id: so a
new name is one transaction, however many versions there are. Every change of a version changes the model's time too.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from millrace.errors import NotFoundError
from millrace.layout import MLFLOW_LEDGER
from millrace.ports import Key, StoreChange
from millrace.tracking.arguments import invalid_argument, missing_argument, validate_length
from millrace.tracking.record_items import Stored, change_record, commit, find_record, read_record, repeat
from millrace.tracking.tracking_calls import TrackingCall
from millrace.tracking.tracking_keys import short_hash

#: Partitions of the tracking table.
MODELS, VERSIONS = "REGISTERED", "VERSIONS"
NO_STAGE = "None"
STAGES = (NO_STAGE, "Staging", "Production", "Archived")
_ALIAS = re.compile(r"[\w-]+")
_VERSION_ALIAS = re.compile(r"v\d+", re.IGNORECASE)
MAX_ALIAS, MAX_MODEL_NAME = 255, 256


class RegisteredModelRecord(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A registered model of a user."""

    model_id: str
    name: str
    created_ms: int
    updated_ms: int
    description: str = ""
    tags: dict[str, str] = {}
    #: Version number by alias.
    aliases: dict[str, int] = {}
    #: The last number that a version got.
    last_version: int = 0
    #: The latest version of each stage.
    latest: dict[str, int] = {}


class ModelVersionRecord(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A version of a registered model of a user."""

    model_id: str
    version: int
    created_ms: int
    updated_ms: int
    source: str
    #: Where its files are: the place that ``source`` stands for.
    location: str
    run_id: str = ""
    run_link: str = ""
    logged_model_id: str = ""
    description: str = ""
    stage: str = NO_STAGE
    tags: dict[str, str] = {}


def registered_model_key(name: str) -> Key:
    """Return the key of a registered model."""
    return Key(MODELS, f"M#{short_hash(name)}", "tracking")


def model_version_key(model_id: str, version: int) -> Key:
    """Return the key of a version: those of a model are in the order of their numbers."""
    return Key(VERSIONS, f"{model_id}#{version:09d}", "tracking")


def find_registered(call: TrackingCall, name: str) -> Stored[RegisteredModelRecord]:
    """Return a registered model of a user; raises ``NotFoundError``."""
    found = find_record(registered_model_key(name), RegisteredModelRecord, call.store, call.objects)
    if found is None:
        raise NotFoundError(f"Registered Model with name={name} not found")
    return found


def list_registered(call: TrackingCall) -> list[RegisteredModelRecord]:
    """Return every registered model of users."""
    items = call.store.query(MODELS, "M#", table="tracking")
    return [read_record(item, RegisteredModelRecord, call.objects).record for item in items]


def find_model_version(call: TrackingCall, model: RegisteredModelRecord, version: int) -> Stored[ModelVersionRecord]:
    """Return a version; raises ``NotFoundError``."""
    found = find_record(model_version_key(model.model_id, version), ModelVersionRecord, call.store, call.objects)
    if found is None:
        raise NotFoundError(f"Model Version (name={model.name}, version={version}) not found")
    return found


def find_model_versions(
    call: TrackingCall, versions: Sequence[tuple[RegisteredModelRecord, int]]
) -> list[ModelVersionRecord]:
    """Return the versions of models and numbers that exist, by batch."""
    items = call.store.get_many([model_version_key(model.model_id, version) for model, version in versions])
    return [read_record(item, ModelVersionRecord, call.objects).record for item in items if item is not None]


def list_model_versions(call: TrackingCall, model_id: str = "") -> Iterator[ModelVersionRecord]:
    """Yield the versions of a model by number, or of all models, also those whose model is being deleted."""
    prefix = f"{model_id}#" if model_id else ""
    items = call.store.query(VERSIONS, prefix, table="tracking")
    return (read_record(item, ModelVersionRecord, call.objects).record for item in items)


@dataclass(frozen=True, slots=True)
class AliasEntry:
    """An entry of the ledger: the action, and what changed."""

    action: str
    reason: str
    details: Mapping[str, Any]


def change_registered(
    call: TrackingCall,
    name: str,
    change: Callable[[RegisteredModelRecord], AliasEntry | None],
    *,
    is_update: bool = True,
) -> RegisteredModelRecord:
    """Change a registered model; an entry that ``change`` returns goes to the ledger in the same transaction.

    ``is_update`` moves the time of its last update.
    """

    def attempt() -> RegisteredModelRecord | None:
        record, revision = find_registered(call, name)
        entry = change(record)
        if is_update:
            record.updated_ms = call.now_ms
        written = change_record(registered_model_key(name), record, revision, call.objects)
        return None if write_with_entry(call, [written], record, revision, entry) else record

    return repeat(attempt)


def change_model_version(
    call: TrackingCall, name: str, version: int, change: Callable[[ModelVersionRecord], None]
) -> tuple[RegisteredModelRecord, ModelVersionRecord]:
    """Change a version, and with it the time of the model's last update."""

    def attempt() -> tuple[RegisteredModelRecord, ModelVersionRecord] | None:
        model, revision = find_registered(call, name)
        record, own = find_model_version(call, model, version)
        change(record)
        record.updated_ms = model.updated_ms = call.now_ms
        changes = [
            change_record(registered_model_key(name), model, revision, call.objects),
            change_record(model_version_key(model.model_id, version), record, own, call.objects),
        ]
        return None if commit(call.store, changes) else (model, record)

    return repeat(attempt)


def write_with_entry(
    call: TrackingCall,
    changes: Sequence[StoreChange],
    model: RegisteredModelRecord,
    revision: int,
    entry: AliasEntry | None,
) -> list[int]:
    """Make changes, all or none, with an entry of the ledger; returns the positions of those that failed."""
    if entry is None:
        return commit(call.store, changes)
    from millrace.entities import LedgerEntry  # noqa: PLC0415 - few requests move an alias
    from millrace.registry.store import Registry  # noqa: PLC0415 - as above

    details = {"registered_model": model.name, **entry.details}
    written = LedgerEntry(
        MLFLOW_LEDGER, f"{model.model_id}-{revision + 1}", call.now, call.actor, entry.action, entry.reason, details
    )
    return Registry(call.store).append_ledger(written, changes)


def validate_registered_name(name: str, path: str = "name") -> str:
    """Return the name of a registered model; raises ``InvalidInputError`` for one that MLflow refuses."""
    if not name.strip():
        raise missing_argument(path)
    if any(sign in name for sign in "/:"):
        raise invalid_argument(path, name, f"Invalid model name '{name}'. Names cannot contain '/' or ':'.")
    if name in (".", ".."):
        raise invalid_argument(path, name, "Names may be treated as files, and must not resolve to other names.")
    validate_length(path, name, MAX_MODEL_NAME)
    return name


def validate_alias(alias: str, *, is_new: bool = False) -> str:
    """Return an alias; raises ``InvalidInputError`` for one that MLflow refuses, or reserves where it is new."""
    validate_length("Registered model alias name", alias, MAX_ALIAS)
    if not _ALIAS.fullmatch(alias):
        hint = "Names may only contain alphanumerics, underscores (_) and dashes (-)."
        raise invalid_argument("alias", alias, f"Invalid alias name: '{alias}'. {hint}")
    if is_new and (alias.lower() == "latest" or _VERSION_ALIAS.fullmatch(alias)):
        raise invalid_argument("alias", alias, f"'{alias}' alias name is reserved.")
    return alias


def read_version_number(version: Any) -> int:
    """Return the number of a version; raises ``InvalidInputError`` for another text."""
    text = str(version)
    if not text.isascii() or not text.isdigit() or len(text) > 9:  # noqa: PLR2004 - the digits of a key
        raise invalid_argument("version", version, f"Parameter 'version' must be an integer, got '{version}'.")
    return int(text)


def read_stage(stage: str) -> str:
    """Return a stage as MLflow spells it; raises ``InvalidInputError`` for another one."""
    for known in STAGES:
        if stage.lower() == known.lower():
            return known
    reason = f"Invalid Model Version stage: {stage}. Value must be one of {', '.join(STAGES)}."
    raise invalid_argument("stage", stage, reason)


def latest_by_stage(versions: Iterator[ModelVersionRecord]) -> dict[str, int]:
    """Return the latest version of each stage."""
    return {version.stage: version.version for version in sorted(versions, key=lambda one: one.version)}
