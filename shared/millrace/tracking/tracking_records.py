"""Records of experiments, runs and logged models, and their form in items.

A record is one item: its revision, which every change raises, and its content as compressed MessagePack. A content that
an item cannot hold is an object beside the artifacts, which the item names.
"""

import zlib
from typing import Any, TypeVar

import msgspec

ACTIVE, DELETED = "active", "deleted"


class Point(msgspec.Struct, array_like=True, frozen=True, order=True):
    """One value of a metric, in MLflow's order."""

    timestamp: int
    step: int
    value: float


class ExperimentRecord(msgspec.Struct, kw_only=True, omit_defaults=True):
    """An experiment."""

    experiment_id: str
    name: str
    artifact_location: str
    created_ms: int
    updated_ms: int
    stage: str = ACTIVE
    #: Changes of the stage so far: a run belongs to the stage of its experiment that came after its own.
    stage_changes: int = 0
    tags: dict[str, str] = {}
    is_mirrored: bool = False


class DatasetInput(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A dataset of a run; its schema and profile are an item of the experiment."""

    name: str
    digest: str
    source_type: str = ""
    tags: dict[str, str] = {}


class RunRecord(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A run; values of metrics that are older than the tails are packed chunks."""

    run_id: str
    experiment_id: str
    name: str
    user: str
    artifact_uri: str
    started_ms: int
    ended_ms: int | None = None
    status: str = "RUNNING"
    stage: str = ACTIVE
    #: Those of the experiment when the run's own stage was set.
    stage_changes: int = 0
    params: dict[str, str] = {}
    tags: dict[str, str] = {}
    latest: dict[str, Point] = {}
    #: Values of a metric that are in no chunk yet.
    tails: dict[str, list[Point]] = {}
    #: Metrics that have chunks.
    chunked: dict[str, int] = {}
    datasets: list[DatasetInput] = []
    model_inputs: list[dict[str, Any]] = []
    model_outputs: list[dict[str, Any]] = []
    is_mirrored: bool = False


class LoggedPoint(msgspec.Struct, kw_only=True, omit_defaults=True, frozen=True):
    """A value of a metric that was logged for a model."""

    model_id: str
    key: str
    point: Point
    run_id: str = ""
    dataset_name: str | None = None
    dataset_digest: str | None = None


class LoggedModelRecord(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A logged model of MLflow 3."""

    model_id: str
    experiment_id: str
    name: str
    artifact_uri: str
    created_ms: int
    updated_ms: int
    status: str = "LOGGED_MODEL_PENDING"
    model_type: str = ""
    source_run_id: str = ""
    stage: str = ACTIVE
    params: dict[str, str] = {}
    tags: dict[str, str] = {}
    #: The newest values of its metrics.
    points: list[LoggedPoint] = []


RecordT = TypeVar("RecordT", bound=msgspec.Struct)


def encode_record(record: msgspec.Struct) -> bytes:
    """Return a record as compressed MessagePack."""
    return zlib.compress(msgspec.msgpack.encode(record), 1)


def decode_record(kind: type[RecordT], data: bytes) -> RecordT:
    """Read what :func:`encode_record` wrote."""
    return msgspec.msgpack.decode(zlib.decompress(data), type=kind)
