"""A version as it serves: its ONNX session and schema, loaded with every byte checked against the registry.

The registry's record holds the SHA-256 of ``manifest.json``; the manifest holds that of every artifact. Evaluation
measures models through :class:`OnnxModel` too, so the model that was measured is the model that serves.

The documents are parsed with the standard library: importing msgspec took as long as 10 ms of a cold start.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import onnxruntime

from millrace.conformal import ConformalCalibration
from millrace.errors import ArtifactIntegrityError
from millrace.features import FeatureMatrix
from millrace.routing import AliasPointer
from millrace.schema import TableSchema
from millrace.serving.rows import RowReader

#: Names of the inputs and outputs of every exported model.
NUMBERS_INPUT = "numbers"
STRINGS_INPUT = "strings"
PROBABILITIES_OUTPUT = "probabilities"
#: Of a model with calibrated probabilities: those before, for evaluation.
RAW_PROBABILITIES_OUTPUT = "raw_probabilities"
VALUE_OUTPUT = "value"

#: Rows that are scored at once: matrices stay small whatever a request holds.
CHUNK_ROWS = 1_024

_MANIFEST = "manifest.json"
_MODEL = "model.onnx"
_SIGNATURE = "signature.json"
_BACKGROUND = "background.npz"
_REFERENCE = "reference.json"
_OPTIONAL = (_BACKGROUND, _REFERENCE)

BuiltT = TypeVar("BuiltT")


@dataclass(frozen=True, slots=True)
class OnnxModel:
    """An ONNX Runtime session and the schema that the model was trained under."""

    session: Any
    schema: TableSchema

    @classmethod
    def load(cls, body: bytes, schema: TableSchema) -> "OnnxModel":
        """Open a session on one thread: a function has about one core, and rows are few.

        Raises ``ArtifactIntegrityError`` for a graph that this ONNX Runtime cannot open, as one of a later release.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            session = onnxruntime.InferenceSession(body, options, providers=["CPUExecutionProvider"])
        except MemoryError:
            raise
        except Exception as error:  # its exceptions have no base class of their own
            raise ArtifactIntegrityError(
                f"the model cannot be opened by ONNX Runtime {onnxruntime.__version__} ({type(error).__name__}): "
                "deploy the release that registered it, or a later one"
            ) from error
        return cls(session, schema)

    def run(self, features: FeatureMatrix) -> npt.NDArray[np.float32]:
        """Score rows; return a float32 array.

        It holds probabilities of shape (n_rows, n_classes), in the order of ``schema.classes``; for regression, values
        of shape (n_rows,), in float64 where float32 would not tell them apart.
        """
        return self.run_inputs(self._inputs(features))

    def run_inputs(self, inputs: Mapping[str, Any]) -> npt.NDArray[np.float32]:
        """Score the rows of the graph's own inputs; an input without columns is not among them."""
        if self.schema.task == "regression":
            (values,) = self.session.run([VALUE_OUTPUT], inputs)
            return np.asarray(values).reshape(-1)
        (probabilities,) = self.session.run([PROBABILITIES_OUTPUT], inputs)
        return np.asarray(probabilities, dtype=np.float32)

    def run_raw(self, features: FeatureMatrix) -> npt.NDArray[np.float32] | None:
        """Return probabilities as they were before their calibration; None for a model without one."""
        if all(output.name != RAW_PROBABILITIES_OUTPUT for output in self.session.get_outputs()):
            return None
        (probabilities,) = self.session.run([RAW_PROBABILITIES_OUTPUT], self._inputs(features))
        return np.asarray(probabilities, dtype=np.float32)

    def _inputs(self, features: FeatureMatrix) -> dict[str, Any]:
        inputs: dict[str, Any] = {}
        if features.numbers.shape[1]:
            inputs[NUMBERS_INPUT] = features.numbers
        if features.strings.shape[1]:
            inputs[STRINGS_INPUT] = features.strings.astype(object, copy=False)
        return inputs


class ModelSource(Protocol):
    """A store of versions."""

    def read_alias(self, model: str, alias: str) -> AliasPointer:
        """Return what ``alias`` points to; raises ``ModelNotFoundError`` when there is nothing."""
        ...

    def manifest_sha256(self, model: str, version: int) -> str:
        """Return the SHA-256 of a version's manifest; raises ``VersionNotFoundError``, also when it is retired."""
        ...

    def artifact(self, model: str, version: int, name: str) -> bytes:
        """Return an artifact's bytes; raises ``ArtifactNotFoundError``."""
        ...

    def earlier_champions(self, model: str, version: int) -> Iterator[int]:
        """Yield the lower versions that were promoted and are not retired, the nearest first; only a few."""
        ...

    def key_models(self, key_id: str) -> Sequence[str] | None:
        """Return the models that an API key may use; None for a key without a scope."""
        ...


@dataclass(frozen=True, slots=True)
class Threshold:
    """Decision threshold of a binary task: the least probability of the positive class, ``schema.classes[index]``."""

    index: int
    value: float


@dataclass(frozen=True, slots=True)
class CaptureRules:
    """Extent to which traffic is captured: a share of the requests, and the most rows of one request."""

    sampling_rate: float = 1.0
    max_rows: int = 1_000


@dataclass(frozen=True)
class LoadedModel:
    """A version that is ready to serve.

    ``threshold`` is None unless evaluation chose one, ``created_at`` unless the manifest has it, and ``calibration``
    unless the version was registered with one; ``calibration_fault`` is the reason why it cannot be read.
    ``read_background`` reads the rows that explanations compare with, and ``read_reference`` the distributions of the
    training data; a version without them has None. ``instead_of`` is the damaged champion that this version serves for.
    """

    model: str
    version: int
    onnx: OnnxModel
    schema: TableSchema
    threshold: Threshold | None = None
    created_at: datetime | None = None
    capture: CaptureRules = field(default_factory=CaptureRules)
    read_background: Callable[[], bytes] | None = None
    instead_of: int | None = None
    calibration: ConformalCalibration | None = None
    calibration_fault: str = ""
    read_reference: Callable[[], bytes] | None = None

    @cached_property
    def reader(self) -> RowReader:
        """Types the rows of requests for this version."""
        return RowReader(self.schema)

    @cached_property
    def labels(self) -> tuple[Any, ...]:
        """The classes as callers know them; empty for regression."""
        return tuple(self.schema.label(index) for index in range(len(self.schema.classes)))

    @cached_property
    def _built(self) -> dict[Any, Any]:
        return {}

    def built(self, build: "Callable[[LoadedModel], BuiltT]") -> BuiltT:
        """Return ``build(self)``, built on first use and kept as long as this version is loaded."""
        if build not in self._built:
            self._built[build] = build(self)
        found: BuiltT = self._built[build]
        return found


def load_version(source: ModelSource, model: str, version: int) -> LoadedModel:
    """Load a version's model and schema, and check them.

    Raises ``ArtifactIntegrityError`` when the bytes are not those that were registered, or cannot be parsed, and as the
    source does.
    """

    def read(name: str, sha256: str) -> bytes:
        body = source.artifact(model, version, name)
        if hashlib.sha256(body).hexdigest() != sha256:
            raise ArtifactIntegrityError(f"{name} of {model} version {version} is not what was registered")
        return body

    manifest_body = read(_MANIFEST, source.manifest_sha256(model, version))
    try:
        manifest = json.loads(manifest_body)
        artifacts = manifest["artifacts"]
        model_sha256, signature_sha256 = (artifacts[name]["sha256"] for name in (_MODEL, _SIGNATURE))
        background_sha256, reference_sha256 = (artifacts.get(name, {}).get("sha256") for name in _OPTIONAL)
        created = manifest.get("created_at")
        created_at = datetime.fromisoformat(created) if isinstance(created, str) else None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        message = f"{_MANIFEST} of {model} version {version} names no model and signature"
        raise ArtifactIntegrityError(message) from error
    signature_body = read(_SIGNATURE, signature_sha256)
    try:
        signature = json.loads(signature_body)
        schema = TableSchema.from_dict(signature["schema"])
        threshold = _read_threshold(signature.get("threshold"), schema)
        rules = signature.get("capture") or {}
        capture = CaptureRules(float(rules.get("sampling_rate", 1.0)), int(rules.get("max_rows", 1_000)))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactIntegrityError(f"{_SIGNATURE} of {model} version {version} holds no schema") from error
    onnx = OnnxModel.load(read(_MODEL, model_sha256), schema)
    background = None if background_sha256 is None else lambda: read(_BACKGROUND, background_sha256)
    loaded = LoadedModel(model, version, onnx, schema, threshold, created_at, capture, background)
    if reference_sha256 is not None:
        loaded = replace(loaded, read_reference=lambda: read(_REFERENCE, reference_sha256))
    try:
        return replace(loaded, calibration=_read_calibration(signature.get("confidence"), schema))
    except (ValueError, KeyError, TypeError) as error:  # as that of a later release: predictions do not need it
        return replace(loaded, calibration_fault=str(error))


def _read_calibration(document: Any, schema: TableSchema) -> ConformalCalibration | None:
    if document is None:
        return None
    calibration = ConformalCalibration.from_document(document)
    if (calibration.method == "absolute_residual") != (schema.task == "regression"):
        raise ValueError(f"confidence of method {calibration.method} is not for a {schema.task} task")
    return calibration


def _read_threshold(document: Any, schema: TableSchema) -> Threshold | None:
    if document is None:
        return None
    if schema.task != "binary":
        raise ValueError("only a binary task has a threshold")
    return Threshold(schema.classes.index(document["positive_class"]), float(document["value"]))
