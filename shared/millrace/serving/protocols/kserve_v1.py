"""KServe's V1 protocol: ``instances`` in, ``predictions`` out, in the form of MLflow's reply.

https://kserve.github.io/website/docs/concepts/architecture/data-plane/v1-protocol
"""

from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import unquote

from millrace.errors import InvalidInputError, NotFoundError
from millrace.schema import TableSchema
from millrace.serving.protocols.base import (
    Fixed,
    OpenApiPart,
    Operation,
    Protocol,
    plain_error,
    read_array,
    read_object,
    read_parameters,
    refuse_unknown_keys,
)
from millrace.serving.protocols.mlflow import write_reply
from millrace.serving.request import JSON, PredictionRequest, Request

if TYPE_CHECKING:
    from millrace.serving.model import LoadedModel


def _prepare(request: Request, operation: Operation) -> Request:
    """Name the model: ``churn:predict`` is one segment of a path, so one placeholder holds both."""
    model = request.parameters.get("model_action") or ""
    if operation == "predict":
        model, _, action = unquote(model).partition(":")
        if action != "predict":
            raise NotFoundError("a model's only action is ':predict'")
    return replace(request, parameters={"model": model})


def _parse(request: Request, schema: TableSchema, max_rows: int) -> PredictionRequest:
    """Read ``instances`` (or ``inputs``, as KServe does): objects, or values in the order of the features."""
    document = read_object(request)
    shapes = [key for key in ("instances", "inputs") if key in document]
    if len(shapes) != 1:
        raise InvalidInputError("the request has to hold either 'instances' or 'inputs'")
    refuse_unknown_keys(document, {"instances", "inputs", "parameters", "signature_name"})
    names = [column.name for column in schema.features]
    rows = read_array(shapes[0], document[shapes[0]], names, max_rows)
    return PredictionRequest(rows, parameters=read_parameters(document, "parameters"))


def _openapi(loaded: "LoadedModel", max_rows: int) -> OpenApiPart:
    from millrace.serving import openapi  # noqa: PLC0415 - no prediction needs it

    row = openapi.example_row(loaded.schema)
    examples = {"objects": {"value": {"instances": [row]}}, "lists": {"value": {"instances": [list(row.values())]}}}
    content = {JSON: {"schema": openapi.reference("Instances"), "examples": examples}}
    operation = openapi.operation(
        loaded, "predictInKServeV1", "Predict by KServe's V1 protocol", content, error="PlainError"
    )
    instances = {"instances": openapi.either_rows(max_rows), "parameters": openapi.options(loaded)}
    return OpenApiPart(
        paths={f"/v1/models/{loaded.model}:predict": {"post": operation}},
        schemas={"Instances": openapi.closed_object(instances, ["instances"])},
    )


KSERVE_V1 = Protocol(
    name="kserve_v1",
    title="KServe V1",
    routes={
        ("GET", "/"): Fixed({"status": "alive"}),
        ("GET", "/v1/models/{model_action}"): "check_readiness",
        ("POST", "/v1/models/{model_action}"): "predict",
    },
    parse=_parse,
    write=write_reply,
    write_error=plain_error,
    openapi=_openapi,
    prepare=_prepare,
)
