"""An OpenAPI 3.1 document of one model's endpoint, made from its signature.

Addresses are relative to the document's own (``servers`` is two levels up), so it is right behind any stage or domain.
Its examples can be sent as they stand.
"""

import csv
import io
from collections.abc import Mapping
from typing import Any

import millrace
from millrace.schema import Column, TableSchema
from millrace.serving.examples import example_row
from millrace.serving.loading import LoadedModel
from millrace.serving.protocols.open_inference import describe_model
from millrace.serving.values import FLOAT32_MAX, MAX_TEXT_LENGTH

Document = dict[str, Any]

_OPTIONS: Document = {
    "type": ["object", "null"],
    "properties": {
        "on_error": {
            "enum": ["refuse", "partial"],
            "description": "Whether bad rows refuse the request, or are left out and told of under 'errors'.",
        },
        "explain": {
            "type": "boolean",
            "description": "Whether to say under 'explanations' how much each feature moved each prediction.",
        },
    },
    "description": "Other members are taken, and not used.",
}


def schemas(schema: TableSchema, max_rows: int) -> Document:
    """Return every schema by name; ``max_rows`` is how many rows one request may hold."""
    row = {
        "type": "object",
        "properties": {column.name: _value(column) for column in schema.features},
        "required": [column.name for column in schema.features if not column.nullable],
        "description": "Other members are ignored, and counted in a warning.",
    }
    width = len(schema.features)
    values = {"prefixItems": [_value(column) for column in schema.features], "items": False, "minItems": width}
    columns = {column.name: _rows(_value(column), max_rows) for column in schema.features}
    return {
        "Row": row,
        "Values": {"type": "array", "description": "In the order of Row's properties.", **values},
        "Invocation": {
            "oneOf": [
                _member("dataframe_records", _rows(reference("Row"), max_rows)),
                _member("dataframe_split", _split(schema, max_rows)),
                _member("instances", _either_rows(max_rows)),
                _member(
                    "inputs",
                    {
                        "anyOf": [
                            {
                                "type": "object",
                                "properties": columns,
                                "required": row["required"],
                                "additionalProperties": {"type": "array"},
                                "description": "Columns of equal length.",
                            },
                            reference("Row"),
                            *_either_rows(max_rows)["anyOf"],
                        ]
                    },
                ),
            ]
        },
        "Instances": _closed({"instances": _either_rows(max_rows), "parameters": _OPTIONS}, ["instances"]),
        "InferenceRequest": _inference_request(schema),
        **_reply_components(schema),
    }


def _value(column: Column) -> Document:
    missing = " Null where it is not known."
    if column.type in ("integer", "number"):
        kind = "A whole number." if column.type == "integer" else "A number."
        limits = {"minimum": -FLOAT32_MAX, "maximum": FLOAT32_MAX}
        return {"type": ["number", "null"], **limits, "description": kind + missing}
    if column.type == "boolean":
        words = ["true", "false", *column.true_values, *column.false_values]
        return {"enum": [True, False, 0, 1, *dict.fromkeys(words), None], "description": "A boolean." + missing}
    if column.type == "datetime":
        formats = ", ".join(form.replace("iso", "ISO 8601") for form in dict.fromkeys((*column.formats, "iso")))
        return {"type": ["string", "null"], "description": f"A date: {formats}.{missing}"}
    if column.type == "text":
        return {"type": ["string", "null"], "description": f"Words.{missing}"}
    longest = max([MAX_TEXT_LENGTH, *map(len, column.categories)])
    examples = {"examples": list(column.categories[:20])} if column.categories else {}
    return {"type": ["string", "null"], "maxLength": longest, **examples, "description": "A category." + missing}


def _split(schema: TableSchema, max_rows: int) -> Document:
    members = {
        "columns": {"const": [column.name for column in schema.features]},
        "data": _rows(reference("Values"), max_rows),
        "index": {"type": "array"},
    }
    return _closed(members, ["columns", "data"])


def _inference_request(schema: TableSchema) -> Document:
    names = [column.name for column in schema.features]
    tensor = {
        "type": "object",
        "required": ["name", "shape", "datatype", "data"],
        "properties": {
            "name": {"type": "string", "examples": names},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1, "maxItems": 2},
            "datatype": {"type": "string", "examples": ["BOOL", "INT64", "FP64", "BYTES"]},
            "data": {"type": "array"},
            "parameters": {"type": "object"},
        },
    }
    output = {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}
    return {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": "string"},
            "parameters": {"type": "object"},
            "inputs": {"type": "array", "items": tensor, "minItems": 1},
            "outputs": {"type": "array", "items": output},
        },
    }


def _reply_components(schema: TableSchema) -> Document:
    text = {"type": "string"}
    probability = {"type": "number", "minimum": 0, "maximum": 1.0001}
    number = {"type": ["number", "null"]}
    prediction: Document = number
    if schema.task != "regression":
        labels = [schema.label(index) for index in range(len(schema.classes))]
        classes = dict.fromkeys(schema.classes, probability)
        probabilities = {"type": ["object", "null"], "properties": classes, "required": list(schema.classes)}
        prediction = _closed(
            {
                "label": {"enum": [*labels, None]},
                "probabilities": probabilities,
                "decision": {"enum": [*labels, None], "description": "By the threshold, where there is one."},
            },
            ["label", "probabilities", "decision"],
        )
    fault = _closed({"field": text, "message": text}, ["field", "message"])
    faults = {"type": "array", "items": fault}
    bad_row = _closed({"row": {"type": "integer"}, "fields": faults}, ["row", "fields"])
    tensor = {"type": "object", "required": ["name", "shape", "datatype"]}
    by_feature = {"type": "object", "properties": {column.name: {"type": "number"} for column in schema.features}}
    explanation = {
        "type": ["object", "null"],
        "properties": {
            "output": {"enum": ["probability", "value"]},
            "label": {"description": "The class whose probability is explained."},
            "prediction": {"type": "number"},
            "base_value": {"type": "number", "description": "The mean prediction over rows of the training data."},
            "attributions": {**by_feature, "description": "With the base value they sum to the prediction."},
            "standard_errors": {**by_feature, "description": "Of the attributions, from sampling."},
        },
        "required": ["output", "prediction", "base_value", "attributions", "standard_errors"],
    }
    return {
        "Predictions": _closed(
            {
                "explanations": {"type": "array", "items": explanation},
                "predictions": {"type": "array", "items": prediction},
                "model": text,
                "model_version": {"type": "integer"},
                "prediction_id": text,
                "warnings": {"type": "array", "items": fault},
                "errors": {"type": "array", "items": bad_row},
            },
            ["predictions", "model", "model_version", "prediction_id"],
        ),
        "Inference": {
            "type": "object",
            "properties": {
                "outputs": {"type": "array", "items": {**tensor, "required": [*tensor["required"], "data"]}}
            },
            "required": ["model_name", "model_version", "id", "outputs"],
        },
        "ModelMetadata": {
            "type": "object",
            "properties": {"inputs": {"type": "array", "items": tensor}, "outputs": {"type": "array", "items": tensor}},
            "required": ["name", "versions", "platform", "inputs", "outputs"],
        },
        "Ready": _closed({"name": text, "ready": {"type": "boolean"}}, ["name", "ready"]),
        "Error": _closed(
            {"error_code": text, "message": text, "fields": {"type": "array", "items": fault}},
            ["error_code", "message"],
        ),
        "PlainError": _closed({"error": text}, ["error"]),
    }


def _closed(properties: Document, required: list[str]) -> Document:
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _member(name: str, schema: Document) -> Document:
    return _closed({name: schema, "params": _OPTIONS}, [name])


def _rows(items: Document, max_rows: int) -> Document:
    return {"type": "array", "items": items, "minItems": 1, "maxItems": max_rows}


def _either_rows(max_rows: int) -> Document:
    return {"anyOf": [_rows(reference("Row"), max_rows), _rows(reference("Values"), max_rows)]}


def reference(name: str) -> Document:
    """Return a reference to one of :func:`schemas`."""
    return {"$ref": f"#/components/schemas/{name}"}


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
