"""An OpenAPI 3.1 document of one model's endpoint, made from its signature.

Addresses are relative to the document's own (``servers`` is two levels up), so they hold behind any stage or domain.
Its examples are valid requests. Each protocol adds its own part; this module holds the parts that they share.
"""

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import millrace
from millrace.conformal import MIN_LEVEL
from millrace.features import FLOAT32_MAX
from millrace.schema import Column, TableSchema
from millrace.serving.protocols import Protocol
from millrace.serving.rows import MAX_TEXT_LENGTH

if TYPE_CHECKING:
    from millrace.serving.model import LoadedModel

JsonObject = dict[str, Any]

TEXT: JsonObject = {"type": "string"}

_OPTIONS: JsonObject = {
    "on_error": {
        "enum": ["refuse", "partial"],
        "description": "Refuse a request with bad rows, or leave them out and list them under 'errors'.",
    },
    "explain": {
        "type": "boolean",
        "description": "Add each feature's contribution to each prediction, under 'explanations'.",
    },
}
_EXPLAIN = {
    "name": "explain",
    "in": "query",
    "schema": {"type": "boolean", "default": False},
    "description": "Explain each prediction; for a few rows at once.",
}
_ERRORS = {
    "400": "The request is wrong; every bad field is named.",
    "404": "There is no such model or version.",
    "413": "Too many rows or bytes at once.",
    "415": "The content type is not supported.",
    "503": "A dependency is not available; try again.",
}


def openapi_document(loaded: "LoadedModel", max_rows: int, protocols: Iterable[Protocol]) -> JsonObject:
    """Return the document of a version for some protocols; ``max_rows`` is the most rows that a request may hold."""
    loaded = replace(loaded, schema=loaded.schema.without_sensitive_values())
    schema = loaded.schema
    parts = [protocol.openapi(loaded, max_rows) for protocol in protocols]
    schemas = _shared_schemas(schema)
    for part in parts:
        schemas |= part.schemas
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"Predictions of {loaded.model}",
            "version": str(loaded.version),
            "description": f"A {schema.task} model; it predicts '{schema.target.name}'.",
        },
        "servers": [{"url": "../.."}],
        "paths": {path: item for part in parts for path, item in part.paths.items()},
        "components": {"schemas": schemas},
        "x-millrace-version": millrace.__version__,
    }


def open_object(properties: JsonObject, required: list[str]) -> JsonObject:
    """Return the schema of an object that may have other members."""
    return {"type": "object", "properties": properties, "required": required}


def closed_object(properties: JsonObject, required: list[str] | None = None) -> JsonObject:
    """Return the schema of an object without other members; by default it has to have all of them."""
    names = list(properties) if required is None else required
    return {**open_object(properties, names), "additionalProperties": False}


def array(items: JsonObject) -> JsonObject:
    """Return the schema of an array."""
    return {"type": "array", "items": items}


def rows(items: JsonObject, max_rows: int) -> JsonObject:
    """Return the schema of an array with an item for each row."""
    return {**array(items), "minItems": 1, "maxItems": max_rows}


def either_rows(max_rows: int) -> JsonObject:
    """Return the schema of rows as objects or as arrays of values."""
    return {"anyOf": [rows(reference("Row"), max_rows), rows(reference("Values"), max_rows)]}


def reference(name: str) -> JsonObject:
    """Return a reference to a schema of the document."""
    return {"$ref": f"#/components/schemas/{name}"}


def options(loaded: "LoadedModel") -> JsonObject:
    """Return the schema of the options in the body of a request."""
    level = _level_schema(loaded)
    properties = _OPTIONS if level is None else _OPTIONS | {"interval": level}
    return {"type": ["object", "null"], "properties": properties, "description": "Other members are ignored."}


def _level_schema(loaded: "LoadedModel") -> JsonObject | None:
    """Return the schema of the option ``interval``; None for a version that refuses it."""
    if loaded.calibration is None or not loaded.calibration.greatest_level:
        return None
    added = "the interval of each value" if loaded.schema.task == "regression" else "the set of likely classes"
    limits = {"minimum": MIN_LEVEL, "maximum": loaded.calibration.greatest_level}
    return {"type": "number", **limits, "description": f"Add {added}, which holds the truth with this probability."}


def operation(
    loaded: "LoadedModel",
    operation_id: str,
    summary: str,
    content: JsonObject,
    *,
    reply: str = "Predictions",
    error: str = "Error",
) -> JsonObject:
    """Return an operation that predicts."""
    level = _level_schema(loaded)
    interval = [] if level is None else [{"name": "interval", "in": "query", "schema": level}]
    return {
        "operationId": operation_id,
        "summary": summary,
        "parameters": [_EXPLAIN, *interval],
        "requestBody": {"required": True, "content": content},
        "responses": _responses(reply, error, _ERRORS),
    }


def read_operation(operation_id: str, reply: str) -> JsonObject:
    """Return an operation without a body."""
    errors = {status: _ERRORS[status] for status in ("404", "503")}
    return {"operationId": operation_id, "responses": _responses(reply, "PlainError", errors)}


def _responses(reply: str, error: str, errors: Mapping[str, str]) -> JsonObject:
    described = {"200": ("The reply.", reply), **{status: (text, error) for status, text in errors.items()}}
    return {
        status: {"description": text, "content": {"application/json": {"schema": reference(name)}}}
        for status, (text, name) in described.items()
    }


def required_names(schema: TableSchema) -> list[str]:
    """Return the features that every row has to have."""
    return [column.name for column in schema.features if not column.nullable]


def value_schema(column: Column) -> JsonObject:
    """Return the schema of one value of a feature."""
    missing = " Null where it is unknown."
    if column.type in ("integer", "number"):
        noun = "A whole number." if column.type == "integer" else "A number."
        limits = {"minimum": -FLOAT32_MAX, "maximum": FLOAT32_MAX}
        return {"type": ["number", "null"], **limits, "description": noun + missing}
    if column.type == "boolean":
        strings = ["true", "false", *column.true_values, *column.false_values]
        return {"enum": [True, False, 0, 1, *dict.fromkeys(strings), None], "description": "A boolean." + missing}
    if column.type == "datetime":
        formats = ", ".join(form.replace("iso", "ISO 8601") for form in dict.fromkeys((*column.formats, "iso")))
        return {"type": ["string", "null"], "description": f"A date: {formats}.{missing}"}
    if column.type == "text":
        return {"type": ["string", "null"], "description": f"A text.{missing}"}
    longest = max([MAX_TEXT_LENGTH, *map(len, column.categories)])
    examples = {"examples": list(column.categories[:20])} if column.categories else {}
    return {"type": ["string", "null"], "maxLength": longest, **examples, "description": "A category." + missing}


def example_row(schema: TableSchema) -> dict[str, Any]:
    """Return a row that a model of this schema can score."""
    return {column.name: _example_value(column) for column in schema.features}


def _example_value(column: Column) -> Any:
    if column.sensitive and column.rules.nullable_override is not False:
        return None
    middle = None
    if column.minimum is not None and column.maximum is not None:
        middle = (column.minimum + column.maximum) / 2
    if column.type == "datetime":
        timestamp = datetime(2026, 1, 31, 12, tzinfo=UTC) if middle is None else datetime.fromtimestamp(middle, UTC)
        return timestamp.replace(microsecond=0).isoformat().replace("+00:00", "Z")
    if middle is not None and column.type in ("integer", "number"):
        return round(middle) if column.type == "integer" else middle
    category = next((category for category in column.categories if category), "other")
    return {"integer": 1, "number": 1.5, "boolean": True, "text": "a few words", "category": category}[column.type]


def csv_text(row: Mapping[str, Any]) -> str:
    """Return a row as CSV below its names."""
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(row)
    writer.writerow([str(value).lower() if isinstance(value, bool) else value for value in row.values()])
    return lines.getvalue()


def _shared_schemas(schema: TableSchema) -> JsonObject:
    values = {column.name: value_schema(column) for column in schema.features}
    errors = array(closed_object({"field": TEXT, "message": TEXT}))
    error = {"error_code": TEXT, "message": TEXT, "fields": errors}
    bad_row = closed_object({"row": {"type": "integer"}, "fields": errors})
    by_row = "intervals" if schema.task == "regression" else "sets"
    predictions = {
        "explanations": array(_explanation_schema(schema)),
        "interval": {"type": "number", "description": f"The level of {by_row}."},
        by_row: array(_interval_schema(schema)),
        "predictions": array(_prediction_schema(schema)),
        "model": TEXT,
        "model_version": {"type": "integer"},
        "prediction_id": TEXT,
        "warnings": errors,
        "errors": array(bad_row),
    }
    row_description = "Other members are ignored, and counted in a warning."
    return {
        "Row": {**open_object(values, required_names(schema)), "description": row_description},
        "Values": {
            "type": "array",
            "description": "In the order of Row's properties.",
            "prefixItems": list(values.values()),
            "items": False,
            "minItems": len(values),
        },
        "Predictions": closed_object(predictions, ["predictions", "model", "model_version", "prediction_id"]),
        "Error": closed_object(error, ["error_code", "message"]),
        "PlainError": closed_object({"error": TEXT}),
    }


def _prediction_schema(schema: TableSchema) -> JsonObject:
    if schema.task == "regression":
        return {"type": ["number", "null"]}
    probability = {"type": "number", "minimum": 0, "maximum": 1.0001}
    label = _label_schema(schema)
    if schema.target.sensitive:
        probabilities: JsonObject = {"type": "object", "additionalProperties": probability}
    else:
        probabilities = open_object(dict.fromkeys(schema.classes, probability), list(schema.classes))
    return closed_object(
        {
            "label": label,
            "probabilities": {**probabilities, "type": ["object", "null"]},
            "decision": {**label, "description": "By the threshold, where there is one."},
        }
    )


def _interval_schema(schema: TableSchema) -> JsonObject:
    if schema.task == "regression":
        ends = {"items": {"type": ["number", "null"]}, "minItems": 2, "maxItems": 2}
        return {"type": ["array", "null"], **ends, "description": "The lower and the upper end."}
    return {
        "type": ["array", "null"],
        "items": _label_schema(schema),
        "minItems": 1,
        "description": "Likely classes, the most probable first; the decision is among them.",
    }


def _label_schema(schema: TableSchema) -> JsonObject:
    if schema.target.sensitive:
        return {"type": ["string", "integer", "boolean", "null"]}
    return {"enum": [*(schema.label(index) for index in range(len(schema.classes))), None]}


def _explanation_schema(schema: TableSchema) -> JsonObject:
    by_feature = {"type": "object", "properties": {column.name: {"type": "number"} for column in schema.features}}
    required = {
        "output": {"enum": ["probability", "value"]},
        "prediction": {"type": "number"},
        "base_value": {"type": "number", "description": "The mean prediction over rows of the training data."},
        "attributions": {**by_feature, "description": "With the base value they sum to the prediction."},
        "standard_errors": {**by_feature, "description": "Of the attributions, from sampling."},
    }
    properties = {**required, "label": {"description": "The class whose probability is explained."}}
    return {**open_object(properties, list(required)), "type": ["object", "null"]}
