"""The documents of a registered version: manifest and signature."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from millrace.card import Artifact, describe_artifacts
from millrace.documents import Document, Record
from millrace.entities import ModelVersion
from millrace.schema import TableSchema
from millrace.spec.operations import CaptureSpec

MANIFEST = "manifest.json"
MODEL = "model.onnx"
SIGNATURE = "signature.json"


class Manifest(Document, frozen=True, kw_only=True, eq=False):
    """``manifest.json``: the facts of a version that never change, and its artifacts."""

    model: str
    version: int
    semantic_version: str
    run_id: str
    trial_id: str
    candidate: str
    task: str
    metrics: dict[str, float]
    dataset_ids: tuple[str, ...]
    schema_version: int
    created_at: datetime
    #: Of the division of its rows, so that a later challenger is not compared with it on rows that it was trained on.
    split_fingerprint: str | None = None
    #: Start of the holdout of a split by time: the version was trained on earlier rows alone.
    trained_before: str | float | None = None
    #: The best champion so far, an earlier one, which later challengers are compared with as well; None for this one.
    best_version: int | None = None
    artifacts: dict[str, Artifact]  # by name

    @classmethod
    def of(
        cls,
        version: ModelVersion,
        artifacts: Mapping[str, bytes],
        split: Mapping[str, Any] | None = None,
        best_version: int | None = None,
    ) -> "Manifest":
        """Describe a version, the bytes of its artifacts, and the ``split`` of its rows."""
        fields = {name: getattr(version, name) for name in cls.__struct_fields__ if hasattr(version, name)}
        described = split or {}
        return cls(
            **fields,
            split_fingerprint=described.get("fingerprint"),
            trained_before=described.get("test_from"),
            best_version=best_version,
            artifacts=describe_artifacts(artifacts),
        )


class Input(Record, frozen=True, kw_only=True, eq=False):
    """A feature of a request."""

    name: str
    type: str
    required: bool


class Output(Record, frozen=True, kw_only=True, eq=False, omit_defaults=True):
    """A part of a prediction; ``classes`` are those of its probabilities."""

    name: str
    type: str
    classes: tuple[str, ...] = ()


class SignatureThreshold(Record, frozen=True, kw_only=True, eq=False):
    """A row is predicted positive from this probability of the positive class on."""

    positive_class: str
    value: float


class SignatureCapture(Record, frozen=True, kw_only=True, eq=False):
    """The part of the traffic that is captured; see :class:`millrace.spec.CaptureSpec`."""

    sampling_rate: float = 1.0
    max_rows: int = 1_000


class Signature(Document, frozen=True, kw_only=True, eq=False, omit_defaults=True):
    """``signature.json``: inputs and outputs of a version by name and type, and what serving needs."""

    schema: dict[str, Any]  # the whole schema, see :meth:`millrace.schema.TableSchema.to_dict`
    inputs: tuple[Input, ...] = ()
    outputs: tuple[Output, ...] = ()
    capture: SignatureCapture | None = None  # none in versions that were registered before captures
    threshold: SignatureThreshold | None = None  # where the evaluation chose one
    #: See :class:`millrace.conformal.ConformalCalibration`; none in versions of earlier releases.
    confidence: dict[str, Any] | None = None

    @classmethod
    def of(
        cls,
        schema: TableSchema,
        threshold: SignatureThreshold | None,
        capture: CaptureSpec,
        confidence: dict[str, Any] | None = None,
    ) -> "Signature":
        """Describe the inputs and outputs of a model that was trained under ``schema``."""
        inputs = [Input(name=column.name, type=column.type, required=not column.nullable) for column in schema.features]
        return cls(
            schema=schema.to_dict(),
            inputs=tuple(inputs),
            outputs=_outputs(schema),
            capture=SignatureCapture(**capture.model_dump()),
            threshold=threshold,
            confidence=confidence,
        )


def _outputs(schema: TableSchema) -> tuple[Output, ...]:
    if schema.task == "regression":
        return (Output(name="value", type="number"),)
    label = Output(name="label", type=schema.target.type)
    return (label, Output(name="probabilities", type="number", classes=schema.classes))
