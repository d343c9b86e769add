"""The documents that lie beside a registered model: signature and manifest."""

import hashlib
from collections.abc import Mapping
from typing import Any

from millrace.registry.entities import ModelVersion
from millrace.registry.presentation import to_json
from millrace.registry.versioning import is_required
from millrace.schema import TableSchema
from millrace.spec import CaptureSpec

#: What a version's record says that comes after the manifest is written.
_CHANGING = frozenset({"manifest_sha256", "status", "outcome", "retired_at", "collected_at"})


def build_signature(
    schema: TableSchema, threshold: Mapping[str, Any] | None = None, capture: CaptureSpec | None = None
) -> dict[str, Any]:
    """Return what a version takes and gives, by name and type, and for serving the whole schema and what to capture.

    Where the evaluation chose a ``threshold``, its ``positive_class`` and ``value`` are part of it: a row is called
    positive from that probability on.
    """
    inputs = [{"name": column.name, "type": column.type, "required": is_required(column)} for column in schema.features]
    document = {"schema": schema.to_dict(), "inputs": inputs, "outputs": _outputs(schema)}
    document["capture"] = (capture or CaptureSpec()).model_dump(mode="json")
    if threshold:
        document["threshold"] = {"positive_class": threshold["positive_class"], "value": threshold["value"]}
    return document


def _outputs(schema: TableSchema) -> list[dict[str, Any]]:
    if schema.task == "regression":
        return [{"name": "value", "type": "number"}]
    return [
        {"name": "label", "type": schema.target.type},
        {"name": "probabilities", "type": "number", "classes": list(schema.classes)},
    ]


def build_manifest(
    version: ModelVersion, artifacts: Mapping[str, bytes], evaluation: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the manifest: what the version is, and SHA-256 and size of every artifact as it is stored.

    ``split_fingerprint`` says how its rows were divided, so that a later challenger is not compared with it on rows
    that it has learnt from.
    """
    document: dict[str, Any] = {name: value for name, value in to_json(version).items() if name not in _CHANGING}
    document["split_fingerprint"] = (evaluation.get("split") or {}).get("fingerprint")
    document["artifacts"] = describe_artifacts(artifacts)
    return document


def describe_artifacts(artifacts: Mapping[str, bytes]) -> dict[str, dict[str, Any]]:
    """Return SHA-256 and size by name."""
    return {
        name: {"sha256": hashlib.sha256(body).hexdigest(), "bytes": len(body)}
        for name, body in sorted(artifacts.items())
    }
