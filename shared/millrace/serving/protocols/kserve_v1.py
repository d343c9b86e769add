"""KServe's first protocol: ``instances`` in, ``predictions`` out, as MLflow's reply has them.

https://kserve.github.io/website/docs/concepts/architecture/data-plane/v1-protocol
"""

from collections.abc import Mapping
from typing import Any

from millrace.errors import InvalidInputError, MillraceError
from millrace.schema import TableSchema
from millrace.serving.protocols import mlflow, parsing
from millrace.serving.protocols.parsing import plain_error, read_object, read_parameters, refuse_unknown_keys
from millrace.serving.request import PredictionRequest, Request

NAME = "kserve_v1"

write_reply = mlflow.write_reply


def read_request(request: Request, schema: TableSchema, max_rows: int) -> PredictionRequest:
    """Read ``instances`` (or ``inputs``, as KServe does): objects, or values in the order of the features.

    Raises
    ------
    UnsupportedMediaTypeError, InvalidInputError, PayloadTooLargeError
        As :func:`millrace.serving.protocols.mlflow.read_request`.
    """
    document = read_object(request)
    shapes = [key for key in ("instances", "inputs") if key in document]
    if len(shapes) != 1:
        raise InvalidInputError("the request has to hold either 'instances' or 'inputs'")
    refuse_unknown_keys(document, {"instances", "inputs", "parameters", "signature_name"})
    names = [column.name for column in schema.features]
    rows = parsing.read_array(shapes[0], document[shapes[0]], names, max_rows)
    return PredictionRequest(rows, parameters=read_parameters(document, "parameters"))


def write_error(error: MillraceError, document: Mapping[str, Any]) -> tuple[int, Mapping[str, Any]]:
    """Return status and body: one sentence under ``error``."""
    return plain_error(error, document)
