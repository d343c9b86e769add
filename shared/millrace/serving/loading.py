"""Loading a version: every byte is checked against the registry before it is used.

The registry's record holds the SHA-256 of ``manifest.json``; the manifest holds that of every artifact.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from millrace.errors import ArtifactIntegrityError, InvalidInputError
from millrace.schema import TableSchema
from millrace.serving.capture import CaptureRules, CaptureWriter
from millrace.serving.onnx_model import OnnxModel
from millrace.serving.rows import RowReader

if TYPE_CHECKING:
    from millrace.serving.explaining import Explainer

MANIFEST = "manifest.json"
MODEL = "model.onnx"
SIGNATURE = "signature.json"
BACKGROUND = "background.npz"


class ModelSource(Protocol):
    """Where versions come from."""

    def alias_version(self, model: str, alias: str) -> int:
        """Return the version that ``alias`` points to; raises ``ModelNotFoundError`` when there is none."""
        ...

    def manifest_sha256(self, model: str, version: int) -> str:
        """Return the SHA-256 of a version's manifest; raises ``VersionNotFoundError``, also when it is retired."""
        ...

    def artifact(self, model: str, version: int, name: str) -> bytes:
        """Return an artifact's bytes; raises ``ArtifactNotFoundError``."""
        ...


@dataclass(frozen=True, slots=True)
class Threshold:
    """When to decide for a class of a binary task.

    Parameters
    ----------
    index : int
        The class, by its place in the schema's classes.
    value : float
        From this probability on.
    """

    index: int
    value: float


@dataclass(frozen=True)
class LoadedModel:
    """A version that is ready to serve.

    Parameters
    ----------
    model, version : str, int
        Which one it is.
    onnx : OnnxModel
        Scores rows.
    schema : TableSchema
        That it was trained under.
    threshold : Threshold or None, default=None
        That evaluation chose; None decides for the likeliest class.
    created_at : datetime or None, default=None
        When it was registered, where its manifest says so.
    capture : CaptureRules
        How much of what it answers is captured.
    read_background : callable or None, default=None
        Reads the rows that explanations compare with, where the version has them.
    """

    model: str
    version: int
    onnx: OnnxModel
    schema: TableSchema
    threshold: Threshold | None = None
    created_at: datetime | None = None
    capture: CaptureRules = field(default_factory=CaptureRules)
    read_background: Callable[[], bytes] | None = None

    @cached_property
    def reader(self) -> RowReader:
        """Types requests for this version."""
        return RowReader(self.schema)

    @cached_property
    def capture_writer(self) -> CaptureWriter:
        """Writes down what this version answered."""
        return CaptureWriter(self.model, self.version, self.schema, self.capture)

    @cached_property
    def explainer(self) -> "Explainer":
        """Explains this version's predictions; raises ``InvalidInputError`` where it has no background."""
        from millrace.serving.background import load_background  # noqa: PLC0415 - few requests need it
        from millrace.serving.explaining import Explainer  # noqa: PLC0415 - as above

        if self.read_background is None:
            raise InvalidInputError(
                f"version {self.version} of {self.model} was registered before explanations were; train it again"
            )
        return Explainer(self.schema, load_background(self.read_background()))

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
        manifest = json.loads(manifest_body)
        artifacts = manifest["artifacts"]
        model_sha256 = artifacts[MODEL]["sha256"]
        signature_sha256 = artifacts[SIGNATURE]["sha256"]
        background_sha256 = artifacts.get(BACKGROUND, {}).get("sha256")
        created_at = _moment(manifest.get("created_at"))
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactIntegrityError(f"{MANIFEST} of {model} version {version} names no model and signature") from error
    signature = _checked(source, model, version, SIGNATURE, signature_sha256)
    try:
        document = json.loads(signature)
        schema = TableSchema.from_dict(document["schema"])
        threshold = _threshold(document.get("threshold"), schema)
        capture = CaptureRules.from_dict(document.get("capture"))
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactIntegrityError(f"{SIGNATURE} of {model} version {version} holds no schema") from error
    onnx = OnnxModel.load(_checked(source, model, version, MODEL, model_sha256), schema)
    read_background = None
    if background_sha256 is not None:

        def read_background() -> bytes:
            return _checked(source, model, version, BACKGROUND, background_sha256)

    return LoadedModel(model, version, onnx, schema, threshold, created_at, capture, read_background)


def _threshold(document: Any, schema: TableSchema) -> Threshold | None:
    if document is None:
        return None
    if schema.task != "binary":
        raise ValueError("only a binary task has a threshold")
    return Threshold(schema.classes.index(document["positive_class"]), float(document["value"]))


def _moment(text: Any) -> datetime | None:
    return datetime.fromisoformat(text) if isinstance(text, str) else None


def _checked(source: ModelSource, model: str, version: int, name: str, sha256: str) -> bytes:
    body = source.artifact(model, version, name)
    if hashlib.sha256(body).hexdigest() != sha256:
        raise ArtifactIntegrityError(f"{name} of {model} version {version} is not what was registered")
    return body
