"""JSON Schemas of what a model is asked and what it replies, from its signature, for its OpenAPI document."""

from typing import Any

from millrace.schema import Column, TableSchema
from millrace.serving.cells import FLOAT32_MAX, MAX_TEXT_LENGTH

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
