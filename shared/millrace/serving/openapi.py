"""An OpenAPI 3.1 document of one model's endpoint, made from its signature.

Addresses are relative to the document's own (``servers`` is two levels up), so it is right behind any stage or domain.
Its examples can be sent as they stand.
"""

import csv
import io
from collections.abc import Mapping
from typing import Any

import millrace
from millrace.schema import TableSchema
from millrace.serving.dialects.open_inference import describe_model
from millrace.serving.examples import example_row
from millrace.serving.json_schemas import Document, reference, schemas
from millrace.serving.loading import LoadedModel

_EXPLAIN = {
    "name": "explain",
    "in": "query",
    "schema": {"type": "boolean", "default": False},
    "description": "Whether to explain each prediction; for a few rows at once.",
}
_ERRORS = {
    "400": "The request is wrong; every bad field is named.",
    "404": "There is no such model or version.",
    "413": "Too many rows or bytes at once.",
    "415": "The content type is none that is read.",
    "503": "Something is not available; try again.",
}


def openapi_document(loaded: LoadedModel, max_rows: int) -> Document:
    """Return the document of a model.

    Parameters
    ----------
    loaded : LoadedModel
        The version whose signature it describes.
    max_rows : int
        Rows that one request may hold.
    """
    model, schema = loaded.model, loaded.schema
    version = {"name": "version", "in": "path", "required": True, "schema": {"type": "string"}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"Predictions of {model}",
            "version": str(loaded.version),
            "description": f"A {schema.task} model; it predicts '{schema.target.name}'.",
        },
        "servers": [{"url": "../.."}],
        "paths": {
            f"/models/{model}/invocations": {"post": _invocations("predict", schema)},
            f"/models/{model}/versions/{{version}}/invocations": {
                "parameters": [{**version, "description": "A version's number, or an alias such as champion."}],
                "post": _invocations("predictWithVersion", schema),
            },
            f"/v1/models/{model}:predict": {
                "post": _operation(
                    "predictInKServeV1", "Predict, as KServe's first protocol", "Predictions", "PlainError", _v1(schema)
                )
            },
            f"/v2/models/{model}": {"get": _read("describeModel", "ModelMetadata")},
            f"/v2/models/{model}/ready": {"get": _read("isModelReady", "Ready")},
            f"/v2/models/{model}/infer": {
                "post": _operation(
                    "infer", "Predict, as the Open Inference Protocol", "Inference", "PlainError", _v2(loaded)
                )
            },
        },
        "components": {"schemas": schemas(schema, max_rows)},
        "x-millrace-version": millrace.__version__,
    }


# -- operations --------------------------------------------------------------------------------------------------------
def _invocations(operation_id: str, schema: TableSchema) -> Document:
    row = example_row(schema)
    values = list(row.values())
    content = {
        "application/json": {
            "schema": reference("Invocation"),
            "examples": {
                "dataframe_records": {"value": {"dataframe_records": [row]}},
                "dataframe_split": {"value": {"dataframe_split": {"columns": list(row), "data": [values]}}},
                "instances": {"value": {"instances": [values]}},
                "inputs": {"value": {"inputs": {name: [value] for name, value in row.items()}}},
            },
        },
        "text/csv": {
            "schema": {"type": "string", "description": "Names in the first line, then one row a line."},
            "examples": {"csv": {"value": _csv(row)}},
        },
    }
    return _operation(operation_id, "Predict, as MLflow", "Predictions", "Error", content)


def _v1(schema: TableSchema) -> Document:
    row = example_row(schema)
    examples = {"objects": {"value": {"instances": [row]}}, "lists": {"value": {"instances": [list(row.values())]}}}
    return {"application/json": {"schema": reference("Instances"), "examples": examples}}


def _v2(loaded: LoadedModel) -> Document:
    row = example_row(loaded.schema)
    inputs = [
        {"name": tensor["name"], "shape": [1], "datatype": tensor["datatype"], "data": [row[tensor["name"]]]}
        for tensor in describe_model(loaded)["inputs"]
    ]
    value = {"id": "example", "parameters": {"content_type": "pd"}, "inputs": inputs}
    return {"application/json": {"schema": reference("InferenceRequest"), "examples": {"columns": {"value": value}}}}


def _operation(operation_id: str, summary: str, reply: str, error: str, content: Document) -> Document:
    return {
        "operationId": operation_id,
        "summary": summary,
        "parameters": [_EXPLAIN],
        "requestBody": {"required": True, "content": content},
        "responses": _responses(reply, error, _ERRORS),
    }


def _read(operation_id: str, reply: str) -> Document:
    errors = {status: _ERRORS[status] for status in ("404", "503")}
    return {"operationId": operation_id, "responses": _responses(reply, "PlainError", errors)}


def _responses(reply: str, error: str, errors: Mapping[str, str]) -> Document:
    answered = {"description": "The answer.", "content": {"application/json": {"schema": reference(reply)}}}
    refused = {
        status: {"description": text, "content": {"application/json": {"schema": reference(error)}}}
        for status, text in errors.items()
    }
    return {"200": answered, **refused}


def _csv(row: Mapping[str, Any]) -> str:
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(row)
    writer.writerow([str(value).lower() if isinstance(value, bool) else value for value in row.values()])
    return lines.getvalue()
