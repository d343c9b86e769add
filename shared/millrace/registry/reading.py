"""What callers may read about models, as plain JSON."""

import json
import re
from collections.abc import Mapping
from typing import Any

from millrace.errors import ArtifactNotFoundError, VersionNotFoundError
from millrace.layout import evaluation_key, version_key
from millrace.ports import ObjectStore, Registry
from millrace.registry.entities import ModelVersion
from millrace.registry.presentation import to_json

CARD = "card.json"

#: Longer ones no counter reaches, and no key holds.
_VERSION_NUMBER = re.compile(r"^[0-9]{1,12}\Z")


def describe_version(model: str, name: str, registry: Registry, model_store: ObjectStore) -> dict[str, Any]:
    """Return a version, by number or alias, with the aliases that point to it and its schema (null when unreadable).

    Raises
    ------
    ModelNotFoundError, VersionNotFoundError
        When there is no such model, version or alias.
    """
    aliases = registry.get_state(model).aliases
    version = _find_version(model, name, aliases, registry)
    return {
        **to_json(version),
        "aliases": sorted(alias for alias, pointed in aliases.items() if pointed == version.version),
        "schema": _schema(version, model_store),
    }


def describe_card(model: str, name: str, registry: Registry, model_store: ObjectStore) -> dict[str, Any]:
    """Return a version's model card as JSON; its page lies beside it.

    Raises
    ------
    ModelNotFoundError, VersionNotFoundError
        When there is no such model, version or alias.
    ArtifactNotFoundError
        When the version was registered before there were cards, or its artifacts were collected.
    """
    version = _find_version(model, name, registry.get_state(model).aliases, registry)
    document = _read_json(model_store, version_key(model, version.version, CARD))
    if document is None:
        raise ArtifactNotFoundError(f"version {version.version} of {model!r} has no model card")
    card: dict[str, Any] = document
    return card


def describe_run(model: str, run_id: str, registry: Registry, model_store: ObjectStore) -> dict[str, Any]:
    """Return a run, its trials, and its evaluation (null while there is none); raises ``RunNotFoundError``."""
    run = registry.get_run(model, run_id)
    return {
        "run": to_json(run),
        "trials": to_json(registry.list_trials(model, run_id)),
        "evaluation": _read_json(model_store, evaluation_key(model, run_id)),
    }


def describe_approval(model: str, run_id: str, registry: Registry) -> dict[str, Any]:
    """Return a run's approval, without the token; raises ``ApprovalNotFoundError``."""
    document: dict[str, Any] = to_json(registry.get_approval(model, run_id))
    # Whoever has the token can answer in anybody's name.
    del document["task_token"]
    return document


def describe_cause(model: str, cause_id: str, registry: Registry) -> dict[str, Any]:
    """Return a cause and what became of it, side by side; raises ``CauseNotFoundError``."""
    record = registry.get_cause(model, cause_id)
    outcome = {"status": record.status, "run_id": record.run_id, "reason": record.reason}
    document: dict[str, Any] = to_json(record.cause)
    return document | outcome


def _find_version(model: str, name: str, aliases: Mapping[str, int], registry: Registry) -> ModelVersion:
    number = int(name) if _VERSION_NUMBER.match(name) else aliases.get(name)
    if number is None:
        raise VersionNotFoundError(f"the model {model!r} has no version or alias {name!r}")
    return registry.get_version(model, number)


def _schema(version: ModelVersion, model_store: ObjectStore) -> Any:
    signature = _read_json(model_store, version_key(version.model, version.version, "signature.json"))
    return signature["schema"] if signature else None


def _read_json(store: ObjectStore, key: str) -> Any:
    try:
        return json.loads(store.get(key))
    except ArtifactNotFoundError:
        return None
