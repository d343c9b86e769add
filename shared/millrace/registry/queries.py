"""Descriptions of models, versions, runs and approvals as plain JSON, and pages of them.

A page is bounded, because an answer of the API is, and so is what a function reads before it answers.
"""

import json
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from millrace.card import CARD, ModelCard
from millrace.documents import parse_timestamp, to_plain
from millrace.entities import AliasMove, DatasetRecord, LedgerEntry, ModelState, ModelVersion, Run
from millrace.errors import (
    ArtifactNotFoundError,
    FieldError,
    InvalidInputError,
    RunNotFoundError,
    VersionNotFoundError,
)
from millrace.layout import evaluation_key, version_key
from millrace.manifest import SIGNATURE, Signature
from millrace.names import CHAMPION
from millrace.ports import ObjectStore
from millrace.registry.items import ModelKeys, decode, sortable
from millrace.registry.store import EntityT, Registry
from millrace.schema import TableSchema


def describe_alias_at(model: str, timestamp: datetime, registry: Registry, alias: str = CHAMPION) -> dict[str, Any]:
    """Describe the version that an alias pointed to at a time, and the move that made it so: one query, and one read.

    ``version`` is null when there was none.

    Raises ``ModelNotFoundError`` when there is no such model.
    """
    registry.get_state(model)
    move = registry.alias_move_at(model, alias, timestamp)
    version = move.to_version if move else None
    return {
        "model": model,
        "alias": alias,
        "at": to_plain(timestamp),
        "version": to_plain(registry.get_version(model, version)) if version is not None else None,
        "move": to_plain(move),
    }


def describe_alias_moves(model: str, registry: Registry, alias: str = CHAMPION) -> dict[str, Any]:
    """List the moves of an alias, newest first; raises ``ModelNotFoundError``."""
    registry.get_state(model)
    return {"model": model, "alias": alias, "moves": to_plain(registry.list_alias_moves(model, alias))}


def read_timestamp(text: str) -> datetime:
    """Read a timestamp as people write it: ISO 8601, UTC without a time zone; a day is its first second.

    Raises ``InvalidInputError`` when it is none.
    """
    try:
        return parse_timestamp(text.strip()).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        fault = FieldError("at", "write it as 2026-05-03 or 2026-05-03T14:15:00+02:00")
        raise InvalidInputError(f"{text[:40]!r} is no timestamp: {fault.message}", [fault]) from error


_DURATION = re.compile(r"([0-9]{1,5})([mhd])\Z")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
_LEAST_SPAN = timedelta(minutes=5)


def read_begin(text: str | None, now: datetime, *, default: timedelta, longest: timedelta) -> datetime:
    """Read ``since``, the beginning of a span up to now: a duration such as ``24h`` or ``7d``, a day, or a timestamp.

    Raises ``InvalidInputError`` when it is none, is not five minutes ago, or longer ago than ``longest``.
    """
    if text is None:
        return now - default
    duration = _DURATION.match(text)
    try:
        if duration:
            since = now - timedelta(**{_UNITS[duration[2]]: int(duration[1])})
        else:
            since = parse_timestamp(text.strip()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise _bad_since("expects a duration such as 24h or 7d, or a day or time such as 2026-05-03") from None
    if since > now - _LEAST_SPAN:
        raise _bad_since("is not in the past: write a duration of 5m at least, such as 24h or 7d")
    if since < now - longest:
        raise _bad_since(f"is more than {longest.days} days ago: write {longest.days}d at most")
    return since


def _bad_since(message: str) -> InvalidInputError:
    return InvalidInputError(f"since {message}", [FieldError("since", message)])


#: Longer ones no counter reaches, and no key holds.
#: A number has one form, as in serving: a path in another would pass by a policy that names the first.
_VERSION_NUMBER = re.compile(r"^[1-9][0-9]{0,11}\Z")


def describe_version(model: str, name: str, registry: Registry, model_store: ObjectStore) -> dict[str, Any]:
    """Return a version, by number or alias, with the aliases that point to it and its schema (null when unreadable).

    Raises ``ModelNotFoundError`` or ``VersionNotFoundError`` when there is no such model, version or alias.
    """
    aliases = registry.get_state(model).aliases
    version = _find_version(model, name, aliases, registry)
    return {
        **to_plain(version),
        "aliases": sorted(alias for alias, pointed in aliases.items() if pointed == version.version),
        "schema": _schema(version, model_store),
    }


def describe_card(model: str, name: str, registry: Registry, model_store: ObjectStore) -> dict[str, Any]:
    """Return a version's model card as JSON; its page lies beside it.

    Raises ``ModelNotFoundError`` or ``VersionNotFoundError`` when there is no such model, version or alias;
    ``ArtifactNotFoundError`` when the version was registered before there were cards, or its artifacts were collected.
    """
    version = _find_version(model, name, registry.get_state(model).aliases, registry)
    try:
        stored = model_store.get(version_key(model, version.version, CARD))
    except ArtifactNotFoundError as error:
        raise ArtifactNotFoundError(f"version {version.version} of {model!r} has no model card") from error
    card: dict[str, Any] = to_plain(ModelCard.read(stored))
    return card


def describe_run(model: str, run_id: str, registry: Registry, model_store: ObjectStore) -> dict[str, Any]:
    """Return a run, its trials, and its evaluation (null while there is none); raises ``RunNotFoundError``."""
    run = registry.get_run(model, run_id)
    return {
        "run": to_plain(run),
        "trials": to_plain(registry.list_trials(model, run_id)),
        "evaluation": _read_json(model_store, evaluation_key(model, run_id)),
    }


def describe_approval(model: str, run_id: str, registry: Registry) -> dict[str, Any]:
    """Return a run's approval, without the token; raises ``ApprovalNotFoundError``."""
    document: dict[str, Any] = to_plain(registry.get_approval(model, run_id))
    # Whoever has the token can decide in anybody's name.
    del document["task_token"]
    return document


def describe_cause(model: str, cause_id: str, registry: Registry) -> dict[str, Any]:
    """Return a cause with its outcome; raises ``CauseNotFoundError``."""
    record = registry.get_cause(model, cause_id)
    outcome = {"status": record.status, "run_id": record.run_id, "reason": record.reason, "refusal": record.refusal}
    document: dict[str, Any] = to_plain(record.cause)
    return document | {"cause_reason": record.cause.reason} | outcome


def _find_version(model: str, name: str, aliases: Mapping[str, int], registry: Registry) -> ModelVersion:
    number = int(name) if _VERSION_NUMBER.match(name) else aliases.get(name)
    if number is None:
        raise VersionNotFoundError(f"the model {model!r} has no version or alias {name!r}")
    return registry.get_version(model, number)


def _schema(version: ModelVersion, model_store: ObjectStore) -> Any:
    try:
        return _shown(Signature.read(model_store.get(version_key(version.model, version.version, SIGNATURE))).schema)
    except ArtifactNotFoundError:
        return None


def _shown(schema: Mapping[str, Any]) -> dict[str, Any]:
    return TableSchema.from_dict(schema).without_sensitive_values().to_dict()


def _read_json(store: ObjectStore, key: str) -> Any:
    try:
        return json.loads(store.get(key))
    except ArtifactNotFoundError:
        return None


MAX_MODELS = 500
MAX_ITEMS, MAX_RUNS = 100, 50
_AFTER = re.compile(r"[A-Za-z0-9._:#+-]{1,200}\Z")
_LIMIT = re.compile(r"[0-9]{1,6}\Z")
#: Fields of a model's last run that a list shows.
_OF_RUN = ("run_id", "kind", "status", "stage", "requested_at", "finished_at", "reasons")
_MAX_REASONS, _REASON_LENGTH = 3, 300


class PageRequest(NamedTuple):
    """Parameters of a page: the token of the page before, and the most items."""

    after: str | None = None
    limit: int = MAX_ITEMS

    @classmethod
    def read(cls, after: str | None, limit: str | None, most: int = MAX_ITEMS) -> "PageRequest":
        """Read the query's ``after`` and ``limit``; raises ``InvalidInputError``."""
        if after is not None and not _AFTER.match(after):
            message = "give the next of the page before"
            raise InvalidInputError(f"after is not valid: {message}", [FieldError("after", message)])
        if limit is None:
            return cls(after, most)
        if not _LIMIT.match(limit) or not 1 <= int(limit) <= most:
            message = f"give a whole number from 1 to {most}"
            raise InvalidInputError(f"limit is not valid: {message}", [FieldError("limit", message)])
        return cls(after, int(limit))


def list_models(registry: Registry, request: PageRequest) -> dict[str, Any]:
    """Return ``models`` that are not deleted, by name, each with its ``last_run``, and the ``next`` page's token."""
    names = registry.list_names(request.after, request.limit)
    states = [state for state in registry.find_states(names) if state.deleted_at is None]
    runs = _last_runs(states, registry)
    models = [to_plain(state) | {"last_run": runs.get(state.model)} for state in states]
    return {"models": models, "next": names[-1] if len(names) == request.limit else None}


def _last_runs(states: Iterable[ModelState], registry: Registry) -> Mapping[str, dict[str, Any]]:
    named = [state for state in states if state.last_run_id]
    found = registry.find_runs((state.model, str(state.last_run_id)) for state in named)
    # Runs of an earlier release are not named by their model's state.
    found += [run for state in states if not state.last_run_id for run in registry.list_runs(state.model, limit=1)]
    return {run.model: _describe_run(run) for run in found}


def _describe_run(run: Run) -> dict[str, Any]:
    plain: dict[str, Any] = to_plain(run)
    reasons = [reason[:_REASON_LENGTH] for reason in run.reasons[:_MAX_REASONS]]
    return {name: plain[name] for name in _OF_RUN} | {"reasons": reasons}


def list_versions(model: str, registry: Registry, request: PageRequest) -> dict[str, Any]:
    """Return ``versions``, newest first, and the ``next`` page's token; raises ``ModelNotFoundError``."""
    return _list_page("versions", ModelVersion, model, registry, request)


def list_datasets(model: str, registry: Registry, request: PageRequest) -> dict[str, Any]:
    """Return ``datasets``, newest first, and the ``next`` page's token; raises ``ModelNotFoundError``."""
    return _list_page("datasets", DatasetRecord, model, registry, request)


def list_runs(model: str, registry: Registry, request: PageRequest) -> dict[str, Any]:
    """Return ``runs``, newest first, and the ``next`` page's token; raises ``ModelNotFoundError``."""
    return _list_page("runs", Run, model, registry, request)


def _list_page(
    name: str, entity_class: type[EntityT], model: str, registry: Registry, request: PageRequest
) -> dict[str, Any]:
    registry.get_state(model)
    page = {"after": request.after, "limit": request.limit, "newest_first": True}
    found, tokens = registry.list_page(entity_class, model, f"{name[:-1].upper()}#", **page)
    return {name: to_plain(found), "next": tokens[-1] if len(tokens) == request.limit else None}


class LedgerPart(NamedTuple):
    """Entries of a ledger from a time on, newest first; incomplete when there are more than were to be read."""

    entries: list[LedgerEntry]
    is_complete: bool


def read_ledger(model: str, registry: Registry, *, since: datetime, until: datetime, most: int) -> LedgerPart:
    """Return the newest entries of a model from ``since`` to ``until``, at most ``most``."""
    # Behind the time, a key has the entry's id.
    last = f"LEDGER#{sortable(until)}~"
    found: list[LedgerEntry] = []
    partition = ModelKeys(model).partition
    for item in registry.store.query(partition, "LEDGER#", up_to=last, newest_first=True, limit=most + 1):
        entry = decode(LedgerEntry, item)
        if entry.occurred_at < since:
            break
        found.append(entry)
    return LedgerPart(found[:most], is_complete=len(found) <= most)


def find_move_entry(move: AliasMove, registry: Registry) -> LedgerEntry | None:
    """Return the entry of the ledger that recorded an alias move; None where it came before such entries."""
    item = registry.store.get(ModelKeys(move.model).item("LEDGER", move.occurred_at, move.entry_id))
    return decode(LedgerEntry, item) if item else None


def find_run(run_id: str, registry: Registry) -> Run:
    """Return the run of that id, whatever its model; raises ``RunNotFoundError``."""
    found = registry.find_runs((name, run_id) for name in registry.list_names())
    if not found:
        raise RunNotFoundError(f"no model has a run {run_id!r}")
    return found[0]
