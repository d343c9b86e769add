"""A model's schemas as they are kept: each version and revision once, the current one where everybody looks."""

import json
from collections.abc import Mapping
from typing import Any

from millrace.errors import ArtifactNotFoundError, SchemaNotFoundError
from millrace.layout import schema_key, schema_revision_key
from millrace.ports import ObjectStore, Registry
from millrace.schema import TableSchema

_JSON = "application/json"


def load_schema(model: str, registry: Registry, data_store: ObjectStore) -> TableSchema | None:
    """Return the model's current schema, or None before the first accepted dataset.

    Raises
    ------
    ModelNotFoundError
        When there is no such model.
    """
    version = registry.get_state(model).current_schema_version
    if not version:
        return None
    return TableSchema.from_dict(json.loads(data_store.get(schema_key(model, version))))


def store_schema(model: str, schema: TableSchema, registry: Registry, data_store: ObjectStore) -> None:
    """Make a schema that :func:`millrace.data.evolution.numbered` numbered the model's; again changes nothing."""
    body = json.dumps(schema.to_dict(), indent=2, ensure_ascii=False, allow_nan=False).encode()
    data_store.put(schema_revision_key(model, schema.version, schema.revision), body, _JSON)
    data_store.put(schema_key(model, schema.version), body, _JSON)
    if registry.get_state(model).schema_version < schema.version:
        registry.set_schema_version(model, schema.version)


def describe_schema(model: str, version: str | None, registry: Registry, data_store: ObjectStore) -> Mapping[str, Any]:
    """Return a model's schema as plain JSON.

    Parameters
    ----------
    version : str or None
        ``3`` for a version's newest revision, ``3.1`` for one revision, None for the current schema.

    Raises
    ------
    ModelNotFoundError, SchemaNotFoundError
        When there is no such model, or it has no such schema.
    """
    current = registry.get_state(model).current_schema_version
    if not current:
        raise SchemaNotFoundError(
            f"the model {model!r} has no schema yet: it is inferred from the first accepted upload"
        )
    numbers = (version or str(current)).split(".")
    if not all(number.isascii() and number.isdigit() for number in numbers) or len(numbers) > 2:  # noqa: PLR2004  # version and revision
        raise SchemaNotFoundError(f"{version!r} is no schema version: one looks like 2 or 2.1")
    key = schema_key(model, int(numbers[0])) if len(numbers) == 1 else schema_revision_key(model, *map(int, numbers))
    try:
        document: Mapping[str, Any] = json.loads(data_store.get(key))
    except ArtifactNotFoundError as fault:
        raise SchemaNotFoundError(
            f"the model {model!r} has no schema version {version}; the current is {current}"
        ) from fault
    return document
