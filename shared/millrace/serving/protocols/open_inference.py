"""The Open Inference Protocol (KServe's V2, Triton's, MLServer's), in JSON.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md

Columns are tensors of shape (n_rows,) or (n_rows, 1), one each; or all features are one tensor of two dimensions, in
their order. The outputs are ``label``, ``probabilities`` and ``decision``, or ``value`` for regression; intervals, sets
and explanations are further tensors, if requested. Binary tensors are not supported.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import millrace
from millrace.errors import InvalidInputError
from millrace.json_text import write_json
from millrace.schema import TableSchema
from millrace.serving.array_column import ArrayColumn
from millrace.serving.protocols.base import (
    Fixed,
    OpenApiPart,
    Operation,
    Protocol,
    check_distinct,
    check_row_count,
    field_error,
    plain_error,
    read_object,
    read_parameters,
    refuse,
)
from millrace.serving.request import JSON, ColumnsTable, PredictionRequest, Request
from millrace.serving.rows import json_type

if TYPE_CHECKING:
    from millrace.serving.model import LoadedModel
    from millrace.serving.scoring import Scores

_INTEGERS = ("INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64")
_NULL = type(None)
#: Types of JSON that the values of a datatype may have.
JSON_TYPES: dict[str, frozenset[type]] = {
    "BOOL": frozenset({bool, int, _NULL}),
    "BYTES": frozenset({str, _NULL}),
    **dict.fromkeys(_INTEGERS, frozenset({int, _NULL})),
    **dict.fromkeys(("FP16", "FP32", "FP64"), frozenset({int, float, _NULL})),
}
#: Encodings of a tensor or a request: pandas' columns, arrays, and the column types of the former.
_CONTENT_TYPES = ("pd", "np", "str", "datetime")
_MAX_DIMENSIONS = 2
BINARY_HEADER = "inference-header-content-length"
_DATATYPES = {"integer": "INT64", "number": "FP64", "boolean": "BOOL"}
_MAX_INPUTS = 10_000


@dataclass(frozen=True, slots=True)
class _Tensor:
    """One input: ``values`` row by row, ``width`` per row."""

    name: str
    n_rows: int
    width: int
    values: list[Any]


def _read_tensor(field: str, document: Any) -> _Tensor:
    """Read one input tensor of shape (n_rows,) or (n_rows, width)."""
    if not isinstance(document, dict):
        raise field_error(field, f"expects an object, got {json_type(document)}")
    name, datatype, shape = (document.get(key) for key in ("name", "datatype", "shape"))
    if not isinstance(name, str):
        raise field_error(f"{field}.name", f"expects a string, got {json_type(name)}")
    if not isinstance(datatype, str) or datatype not in JSON_TYPES:
        raise field_error(f"{field}.datatype", f"expects one of {', '.join(JSON_TYPES)}")
    _check_content_type(field, document.get("parameters"))
    if "data" not in document:
        raise field_error(f"{field}.data", "is missing; binary tensors are not supported: send JSON")
    n_rows, width = _read_shape(field, shape)
    values = _flatten(f"{field}.data", document["data"], 0)
    if len(values) != n_rows * width:
        raise field_error(f"{field}.data", f"has {len(values)} values for a shape of {n_rows * width}")
    if not set(map(type, values)) <= JSON_TYPES[datatype]:
        found = next(value for value in values if type(value) not in JSON_TYPES[datatype])
        kind = "a fraction" if type(found) is float else json_type(found)
        raise field_error(f"{field}.data", f"expects values of {datatype}, got {kind}")
    return _Tensor(name, n_rows, width, values)


def _check_content_type(field: str, parameters: Any) -> None:
    """Refuse an unsupported encoding, rather than misread its data."""
    if parameters is None:
        return
    if not isinstance(parameters, dict):
        raise field_error(f"{field}.parameters", f"expects an object, got {json_type(parameters)}")
    content_type = parameters.get("content_type")
    if content_type is not None and content_type not in _CONTENT_TYPES:
        raise field_error(f"{field}.parameters.content_type", f"expects one of {', '.join(_CONTENT_TYPES)}")
    if parameters.get("binary_data_size") is not None:
        raise field_error(f"{field}.parameters.binary_data_size", "is not supported: send the data as JSON")


def _read_shape(field: str, shape: Any) -> tuple[int, int]:
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
        raise field_error(f"{field}.shape", "expects a list of sizes")
    if not 1 <= len(shape) <= _MAX_DIMENSIONS:
        raise field_error(f"{field}.shape", "expects one or two dimensions: rows, and columns")
    return shape[0], math.prod(shape[1:])


def _flatten(field: str, data: Any, depth: int) -> list[Any]:
    """Return nested or flat data as one list; rows of unequal length are refused here or by their total."""
    if not isinstance(data, list):
        raise field_error(field, f"expects a list, got {json_type(data)}")
    if not any(isinstance(value, list) for value in data):
        return data
    if depth + 1 >= _MAX_DIMENSIONS:
        raise field_error(field, "is nested deeper than two dimensions")
    rows = [_flatten(field, row, depth + 1) for row in data]
    if len({len(row) for row in rows}) > 1:
        raise InvalidInputError(f"{field} holds rows that are not equally long")
    return [value for row in rows for value in row]


def _refuse_binary(request: Request, operation: Operation) -> Request:
    if operation == "predict" and BINARY_HEADER in request.headers:
        raise InvalidInputError("binary tensors are not supported: send the data as JSON")
    return request


def _parse(request: Request, schema: TableSchema, max_rows: int) -> PredictionRequest:
    document = read_object(request)
    request_id = document.get("id")
    if not isinstance(request_id, str | None):
        raise field_error("id", f"expects a string, got {json_type(request_id)}")
    parameters = read_parameters(document, "parameters")
    _check_content_type("request", parameters)
    is_wanted = "interval" in request.query or "interval" in parameters
    outputs = _read_outputs(document.get("outputs"), schema, _interval_types(schema) if is_wanted else {})
    inputs = document.get("inputs")
    if not isinstance(inputs, list) or not inputs:
        raise field_error("inputs", "expects a list of tensors")
    if len(inputs) > _MAX_INPUTS:
        raise field_error("inputs", f"holds more than {_MAX_INPUTS} tensors")
    tensors = [_read_tensor(f"inputs[{index}]", tensor) for index, tensor in enumerate(inputs)]
    return PredictionRequest(_read_table(tensors, schema, max_rows), request_id or None, outputs, parameters)


def _write(request: PredictionRequest, scores: "Scores", loaded: "LoadedModel", prediction_id: str) -> dict[str, Any]:
    """Return the reply's body; ``parameters`` holds the prediction's id, and warnings and errors as text."""
    outputs = {output["name"]: output for output in _outputs(scores, loaded.schema)}
    names = list(request.outputs or outputs)
    parameters: dict[str, Any] = {"prediction_id": prediction_id}
    if scores.level is not None:
        parameters["interval"] = scores.level
        further = {output["name"]: output for output in _intervals(scores)}
        names += [name for name in further if name not in names]
        outputs |= further
    if scores.warnings:
        parameters["warnings"] = "; ".join(f"{warning.field} {warning.message}" for warning in scores.warnings)
    if scores.bad_rows:
        parameters["errors"] = "; ".join(
            f"row {row}: {error.field} {error.message}" for row, errors in scores.bad_rows.items() for error in errors
        )
    return {
        "model_name": loaded.model,
        "model_version": str(loaded.version),
        "id": request.request_id or prediction_id,
        "parameters": parameters,
        "outputs": [outputs[name] for name in names] + _explanations(scores, loaded.schema),
    }


def describe_model(loaded: "LoadedModel") -> dict[str, Any]:
    """Return a model's metadata: its inputs and outputs; a size of -1 is the number of rows."""
    inputs = [
        {"name": column.name, "datatype": _DATATYPES.get(column.type, "BYTES"), "shape": [-1]}
        for column in loaded.schema.features
    ]
    n_classes = len(loaded.schema.classes)
    outputs = [
        {"name": name, "datatype": datatype, "shape": [-1, n_classes] if name == "probabilities" else [-1]}
        for name, datatype in _output_types(loaded.schema).items()
    ]
    named = {"name": loaded.model, "versions": [str(loaded.version)], "platform": "onnxruntime_onnx"}
    return {**named, "inputs": inputs, "outputs": outputs}


def _output_types(schema: TableSchema) -> dict[str, str]:
    if schema.task == "regression":
        return {"value": "FP32"}
    label = {bool: "BOOL", int: "INT64"}.get(type(schema.label(0)), "BYTES")
    return {"label": label, "probabilities": "FP32", "decision": label}


def _interval_types(schema: TableSchema) -> dict[str, str]:
    if schema.task == "regression":
        return {"interval_low": "FP64", "interval_high": "FP64"}
    return {"prediction_set": "BYTES"}


def _tensor(
    name: str, datatype: str, data: Sequence[Any], columns: list[str] | None = None, key: str = ""
) -> dict[str, Any]:
    """Return an output; ``data`` holds rows as wide as ``columns``, named under ``key``, or single values."""
    if columns is None:
        return {"name": name, "datatype": datatype, "shape": [len(data)], "data": data}
    if isinstance(data, ArrayColumn):
        numbers: Sequence[Any] = data.flat()
    else:
        gap: list[Any] = [None] * len(columns)
        numbers = [value for row in data for value in (gap if row is None else row)]
    return {
        "name": name,
        "datatype": datatype,
        "shape": [len(data), len(columns)],
        "data": numbers,
        "parameters": {key: ",".join(columns)},
    }


def _outputs(scores: "Scores", schema: TableSchema) -> list[dict[str, Any]]:
    types = _output_types(schema)
    if scores.values is not None:
        return [_tensor("value", types["value"], scores.values)]
    return [
        _tensor("label", types["label"], scores.labels),
        _tensor("probabilities", types["probabilities"], scores.probabilities, list(scores.classes), "classes"),
        _tensor("decision", types["decision"], scores.decisions),
    ]


def _intervals(scores: "Scores") -> list[dict[str, Any]]:
    """Return the tensors of the intervals, or of the sets as JSON lists; null for a row without a prediction."""
    if scores.sets is not None:
        return [_tensor("prediction_set", "BYTES", [row and write_json(row) for row in scores.sets])]
    ends = [row or (None, None) for row in scores.intervals or ()]
    return [
        _tensor("interval_low", "FP64", [low for low, _ in ends]),
        _tensor("interval_high", "FP64", [high for _, high in ends]),
    ]


def _explanations(scores: "Scores", schema: TableSchema) -> list[dict[str, Any]]:
    """Return the tensors of the explanations, if there are any; null for a row without one."""
    if scores.explanations is None:
        return []
    names = [column.name for column in schema.features]
    labels = [each and each.label for each in scores.explanations]
    attributions = [each and each.attribution for each in scores.explanations]
    values = [each and each.values.tolist() for each in attributions]
    standard_errors = [each and each.standard_errors.tolist() for each in attributions]
    return [
        *([] if scores.values is not None else [_tensor("explained_label", _output_types(schema)["label"], labels)]),
        _tensor("base_value", "FP64", [each and each.base_value for each in attributions]),
        _tensor("attributions", "FP64", values, names, "features"),
        _tensor("standard_errors", "FP64", standard_errors, names, "features"),
    ]


def _read_outputs(outputs: Any, schema: TableSchema, further: dict[str, str]) -> tuple[str, ...]:
    if outputs is None:
        return ()
    if not isinstance(outputs, list) or not all(isinstance(output, dict) for output in outputs):
        raise field_error("outputs", "expects a list of objects")
    known = _output_types(schema) | further
    names: list[Any] = [output.get("name") for output in outputs]
    refuse(
        "the request names outputs that the model does not have",
        (
            (f"outputs[{index}].name", f"expects one of {', '.join(known)}")
            for index, name in enumerate(names)
            if not isinstance(name, str) or name not in known
        ),
    )
    check_distinct("outputs", names)
    return tuple(names)


def _read_table(tensors: list[_Tensor], schema: TableSchema, max_rows: int) -> ColumnsTable:
    n_rows = tensors[0].n_rows
    check_row_count("inputs", n_rows, max_rows)
    check_distinct("inputs", [tensor.name for tensor in tensors])
    names = [column.name for column in schema.features]
    if len(tensors) == 1 and tensors[0].name not in names and tensors[0].width == len(names):
        values = tensors[0].values
        return ColumnsTable({name: values[place :: len(names)] for place, name in enumerate(names)}, n_rows)
    errors: list[tuple[str, str]] = []
    for index, tensor in enumerate(tensors):
        if tensor.width != 1:
            expected = f"one column a tensor, or one tensor of all {len(names)} features"
            errors.append((f"inputs[{index}].shape", f"expects {expected}"))
        elif tensor.n_rows != n_rows:
            errors.append((f"inputs[{index}].shape", f"has {tensor.n_rows} rows where others have {n_rows}"))
    refuse("the tensors do not form a table", errors)
    return ColumnsTable({tensor.name: tensor.values for tensor in tensors}, n_rows)


def _openapi(loaded: "LoadedModel", max_rows: int) -> OpenApiPart:  # noqa: ARG001 - shapes have no largest size
    from millrace.serving import openapi  # noqa: PLC0415 - no prediction needs it

    row = openapi.example_row(loaded.schema)
    inputs = [
        {"name": tensor["name"], "shape": [1], "datatype": tensor["datatype"], "data": [row[tensor["name"]]]}
        for tensor in describe_model(loaded)["inputs"]
    ]
    value = {"id": "example", "parameters": {"content_type": "pd"}, "inputs": inputs}
    schema = openapi.reference("InferenceRequest")
    content = {JSON: {"schema": schema, "examples": {"columns": {"value": value}}}}
    summary = "Predict by the Open Inference Protocol"
    infer = openapi.operation(loaded, "infer", summary, content, reply="Inference", error="PlainError")
    path = f"/v2/models/{loaded.model}"
    return OpenApiPart(
        paths={
            path: {"get": openapi.read_operation("describeModel", "ModelMetadata")},
            f"{path}/ready": {"get": openapi.read_operation("isModelReady", "Ready")},
            f"{path}/infer": {"post": infer},
        },
        schemas=_openapi_schemas(loaded),
    )


def _openapi_schemas(loaded: "LoadedModel") -> dict[str, Any]:
    from millrace.serving.openapi import TEXT, array, closed_object, open_object, options  # noqa: PLC0415 - as above

    shape = {**array({"type": "integer", "minimum": 0}), "minItems": 1, "maxItems": 2}
    request_tensor = {
        "name": {**TEXT, "examples": [column.name for column in loaded.schema.features]},
        "shape": shape,
        "datatype": {**TEXT, "examples": ["BOOL", "INT64", "FP64", "BYTES"]},
        "data": {"type": "array"},
    }
    inputs = open_object({**request_tensor, "parameters": {"type": "object"}}, list(request_tensor))
    request = {
        "id": TEXT,
        "parameters": options(loaded),
        "inputs": {**array(inputs), "minItems": 1},
        "outputs": array(open_object({"name": TEXT}, ["name"])),
    }
    tensor = {"type": "object", "required": ["name", "shape", "datatype"]}
    outputs = array({**tensor, "required": [*tensor["required"], "data"]})
    metadata = {"inputs": array(tensor), "outputs": array(tensor)}
    return {
        "InferenceRequest": open_object(request, ["inputs"]),
        "Inference": open_object({"outputs": outputs}, ["model_name", "model_version", "id", "outputs"]),
        "ModelMetadata": open_object(metadata, ["name", "versions", "platform", "inputs", "outputs"]),
        "Ready": closed_object({"name": TEXT, "ready": {"type": "boolean"}}),
    }


_HEALTHY = Fixed({"live": True, "ready": True})

OPEN_INFERENCE = Protocol(
    name="open_inference",
    title="Open Inference Protocol",
    routes={
        ("GET", "/v2"): Fixed({"name": "millrace", "version": millrace.__version__, "extensions": []}),
        ("GET", "/v2/health/live"): _HEALTHY,
        ("GET", "/v2/health/ready"): _HEALTHY,
        ("GET", "/v2/models/{model}"): "describe_model",
        ("GET", "/v2/models/{model}/ready"): "check_readiness",
        ("POST", "/v2/models/{model}/infer"): "predict",
        ("GET", "/v2/models/{model}/versions/{version}"): "describe_model",
        ("GET", "/v2/models/{model}/versions/{version}/ready"): "check_readiness",
        ("POST", "/v2/models/{model}/versions/{version}/infer"): "predict",
    },
    parse=_parse,
    write=_write,
    write_error=plain_error,
    openapi=_openapi,
    prepare=_refuse_binary,
    describe=describe_model,
)
