"""The protocols of serving; a new one is a module here, a member of the list and a row of ``docs/serving.md``."""

from millrace.serving.protocols.base import Fixed, Operation, Protocol, request_form
from millrace.serving.protocols.kserve_v1 import KSERVE_V1
from millrace.serving.protocols.mlflow import MLFLOW
from millrace.serving.protocols.open_inference import BINARY_HEADER, JSON_TYPES, OPEN_INFERENCE

__all__ = [
    "BINARY_HEADER",
    "JSON_TYPES",
    "KSERVE_V1",
    "MLFLOW",
    "OPEN_INFERENCE",
    "PROTOCOLS",
    "Fixed",
    "Operation",
    "Protocol",
    "request_form",
]

PROTOCOLS: tuple[Protocol, ...] = (MLFLOW, OPEN_INFERENCE, KSERVE_V1)
