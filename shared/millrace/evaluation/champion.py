"""The champion, as it serves: loaded from its registered version, or the reason why it cannot be measured."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from millrace.errors import ArtifactIntegrityError, ArtifactNotFoundError
from millrace.layout import version_key
from millrace.names import CHAMPION
from millrace.ports import ObjectStore, Registry
from millrace.schema import TableSchema
from millrace.serving.onnx_model import OnnxModel

#: Column names listed in one sentence.
MAX_NAMES_SHOWN = 10


@dataclass(frozen=True, slots=True)
class Champion:
    """The version that serves.

    Parameters
    ----------
    model : OnnxModel or None
        None when it cannot answer the holdout's rows.
    obstacle : str, default=""
        Why not.
    schema_changed : bool, default=False
        Whether that is because a later schema was adopted on purpose.
    model_name : str, default=""
        The model it is a version of.
    run_id : str or None, default=None
        The run that made it.
    split_fingerprint : str or None, default=None
        How that run's rows were divided; None for versions that do not say.
    """

    version: int
    model: OnnxModel | None
    obstacle: str = ""
    schema_changed: bool = False
    model_name: str = ""
    run_id: str | None = None
    split_fingerprint: str | None = None


def load_champion(
    model_name: str, schema: TableSchema, *, registry: Registry, model_store: ObjectStore
) -> Champion | None:
    """Load the champion for a comparison under ``schema``; None when the model has none yet.

    A champion whose artifacts are missing or damaged is an obstacle to the comparison, not a fault of this run:
    the run's own model is sound, and may be what replaces it.
    """
    version = registry.get_state(model_name).aliases.get(CHAMPION)
    if version is None:
        return None
    try:
        manifest = _read_manifest(model_name, version, registry, model_store)
        signature = _read_verified(model_name, version, "signature.json", manifest, model_store)
        champion_schema = TableSchema.from_dict(json.loads(signature)["schema"])
        difference = schema_difference(champion_schema, schema)
        if difference:
            return Champion(version, None, difference, schema_changed=schema.version > champion_schema.version)
        body = _read_verified(model_name, version, "model.onnx", manifest, model_store)
        return Champion(
            version,
            OnnxModel.load(body, champion_schema),
            model_name=model_name,
            run_id=manifest.get("run_id"),
            split_fingerprint=manifest.get("split_fingerprint"),
        )
    except (ArtifactIntegrityError, ArtifactNotFoundError) as error:
        return Champion(version, None, error.message)


def schema_difference(before: TableSchema, after: TableSchema) -> str:
    """Say what makes a model trained under ``before`` unfit for rows under ``after``; empty when nothing does."""
    if before.task != after.task:
        return f"its task is {before.task}, now {after.task}"
    if before.classes != after.classes:
        return f"it knows {len(before.classes)} classes, not the same as the present {len(after.classes)}"
    old, new = ({(column.name, column.type) for column in schema.features} for schema in (before, after))
    if old != new:
        names = sorted({name for name, _ in old ^ new})
        more = " ..." if len(names) > MAX_NAMES_SHOWN else ""
        return f"its features are not the present ones: {', '.join(names[:MAX_NAMES_SHOWN])}{more}"
    if (before.number_names, before.string_names) != (after.number_names, after.string_names):
        return "its features stand in another order"
    return ""


def _read_manifest(model_name: str, version: int, registry: Registry, model_store: ObjectStore) -> dict[str, Any]:
    body = model_store.get(version_key(model_name, version, "manifest.json"))
    verify_sha256(body, registry.get_version(model_name, version).manifest_sha256, f"version {version}'s manifest.json")
    document: dict[str, Any] = json.loads(body)
    return document


def _read_verified(
    model_name: str, version: int, name: str, manifest: dict[str, Any], model_store: ObjectStore
) -> bytes:
    body = model_store.get(version_key(model_name, version, name))
    verify_sha256(body, manifest["artifacts"].get(name, {}).get("sha256", ""), f"version {version}'s {name}")
    return body


def verify_sha256(body: bytes, expected: str, what: str) -> None:
    """Raise ``ArtifactIntegrityError`` unless ``body`` has this SHA-256."""
    if hashlib.sha256(body).hexdigest() != expected:
        raise ArtifactIntegrityError(f"the stored bytes of {what} are not those that were recorded")
