"""Loading a version: every byte is checked against the registry before it is used.

The registry's record holds the SHA-256 of ``manifest.json``; the manifest holds that of every artifact.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from millrace.errors import ArtifactIntegrityError
from millrace.schema import TableSchema
from millrace.serving.onnx_model import OnnxModel
from millrace.serving.rows import RowReader

MANIFEST = "manifest.json"
MODEL = "model.onnx"
SIGNATURE = "signature.json"


class ModelSource(Protocol):
    """Where versions come from."""

    def alias_version(self, model: str, alias: str) -> int:
        """Return the version that ``alias`` points to; raises ``ModelNotFoundError`` when there is none."""
        ...

    def manifest_sha256(self, model: str, version: int) -> str:
        """Return the SHA-256 of a version's manifest; raises ``VersionNotFoundError``."""
        ...

    def artifact(self, model: str, version: int, name: str) -> bytes:
        """Return an artifact's bytes; raises ``ArtifactNotFoundError``."""
        ...


@dataclass(frozen=True)
class LoadedModel:
    """A version that is ready to serve."""

    model: str
    version: int
    onnx: OnnxModel
    schema: TableSchema

    @cached_property
    def reader(self) -> RowReader:
        """Types requests for this version."""
        return RowReader(self.schema)

    @cached_property
    def labels(self) -> tuple[Any, ...]:
        """The classes as the values a caller knows; empty for regression."""
        return tuple(self.schema.label(index) for index in range(len(self.schema.classes)))


def load_version(source: ModelSource, model: str, version: int) -> LoadedModel:
    """Read a version's model and schema, and check them.

    Raises
    ------
    VersionNotFoundError, ArtifactNotFoundError
        When the version or one of its artifacts is not there.
    ArtifactIntegrityError
        When the bytes are not those that were registered, or cannot be what they were registered as.
    """
    manifest_body = _checked(source, model, version, MANIFEST, source.manifest_sha256(model, version))
    try:
        artifacts = json.loads(manifest_body)["artifacts"]
        model_sha256 = artifacts[MODEL]["sha256"]
        signature_sha256 = artifacts[SIGNATURE]["sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactIntegrityError(f"{MANIFEST} of {model} version {version} names no model and signature") from error
    signature = _checked(source, model, version, SIGNATURE, signature_sha256)
    try:
        schema = TableSchema.from_dict(json.loads(signature)["schema"])
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactIntegrityError(f"{SIGNATURE} of {model} version {version} holds no schema") from error
    return LoadedModel(
        model, version, OnnxModel.load(_checked(source, model, version, MODEL, model_sha256), schema), schema
    )


def _checked(source: ModelSource, model: str, version: int, name: str, sha256: str) -> bytes:
    body = source.artifact(model, version, name)
    if hashlib.sha256(body).hexdigest() != sha256:
        raise ArtifactIntegrityError(f"{name} of {model} version {version} is not what was registered")
    return body
