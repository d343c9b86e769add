"""The Open Inference Protocol (KServe's second, Triton's, MLServer's), in JSON.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md

Columns are tensors of shape (n_rows,) or (n_rows, 1), one each; or all features are one tensor of two dimensions, in
their order. Replied are ``label``, ``probabilities`` and ``decision``, or ``value`` for regression. Binary tensors are
not read. Explanations, where the parameter ``explain`` asks for them, are tensors beside the outputs.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from millrace.errors import FieldError, InvalidInputError, MillraceError
from millrace.schema import TableSchema
from millrace.serving.loading import LoadedModel
from millrace.serving.protocols.parsing import (
    check_distinct,
    check_row_count,
    plain_error,
    read_object,
    read_parameters,
    wrong,
)
from millrace.serving.request import ColumnsTable, PredictionRequest, Request
from millrace.serving.scorer import Scores
from millrace.serving.values import describe

_INTEGERS = ("INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64")
_NULL = type(None)
_KINDS: dict[str, frozenset[type]] = {
    "BOOL": frozenset({bool, int, _NULL}),
    "BYTES": frozenset({str, _NULL}),
    **dict.fromkeys(_INTEGERS, frozenset({int, _NULL})),
    **dict.fromkeys(("FP16", "FP32", "FP64"), frozenset({int, float, _NULL})),
}
#: How a tensor or a request may say it is encoded: pandas' columns, arrays, and the column types of the former.
_CONTENT_TYPES = ("pd", "np", "str", "datetime")
_MOST_DIMENSIONS = 2


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input: ``values`` row by row, ``width`` of them a row."""

    name: str
    n_rows: int
    width: int
    values: list[Any]


def read_tensor(field: str, document: Any) -> Tensor:
    """Read one input tensor of shape (n_rows,) or (n_rows, width).

    Raises
    ------
    InvalidInputError
        When it is no such tensor; ``field`` says where it stands.
    """
    if not isinstance(document, dict):
        raise wrong(field, f"expects an object, got {describe(document)}")
    name, datatype, shape = (document.get(key) for key in ("name", "datatype", "shape"))
    if not isinstance(name, str):
        raise wrong(f"{field}.name", f"expects a string, got {describe(name)}")
    if not isinstance(datatype, str) or datatype not in _KINDS:
        raise wrong(f"{field}.datatype", f"expects one of {', '.join(_KINDS)}")
    check_content_type(field, document.get("parameters"))
    if "data" not in document:
        raise wrong(f"{field}.data", "is missing; binary tensors are not read: send JSON")
    n_rows, width = _read_shape(field, shape)
    values = _flatten(f"{field}.data", document["data"], 0)
    if len(values) != n_rows * width:
        raise wrong(f"{field}.data", f"has {len(values)} values for a shape of {n_rows * width}")
    if not set(map(type, values)) <= _KINDS[datatype]:
        found = next(value for value in values if type(value) not in _KINDS[datatype])
        raise wrong(f"{field}.data", f"expects values of {datatype}, got {_what(found)}")
    return Tensor(name, n_rows, width, values)


def check_content_type(field: str, parameters: Any) -> None:
    """Refuse an encoding that is not read, rather than take its data for something else."""
    if parameters is None:
        return
    if not isinstance(parameters, dict):
        raise wrong(f"{field}.parameters", f"expects an object, got {describe(parameters)}")
    content_type = parameters.get("content_type")
    if content_type is not None and content_type not in _CONTENT_TYPES:
        raise wrong(f"{field}.parameters.content_type", f"expects one of {', '.join(_CONTENT_TYPES)}")
    if parameters.get("binary_data_size") is not None:
        raise wrong(f"{field}.parameters.binary_data_size", "is not read: send the data as JSON")


def _what(value: Any) -> str:
    return "a fraction" if type(value) is float else describe(value)


def _read_shape(field: str, shape: Any) -> tuple[int, int]:
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
        raise wrong(f"{field}.shape", "expects a list of sizes")
    if not 1 <= len(shape) <= _MOST_DIMENSIONS:
        raise wrong(f"{field}.shape", "expects one or two dimensions: rows, and columns")
    return shape[0], math.prod(shape[1:])


def _flatten(field: str, data: Any, depth: int) -> list[Any]:
    """Return nested or flat data as one list; a row of another length shows in the total, or here."""
    if not isinstance(data, list):
        raise wrong(field, f"expects a list, got {describe(data)}")
    if not any(isinstance(value, list) for value in data):
        return data
    if depth + 1 >= _MOST_DIMENSIONS:
        raise wrong(field, "is nested deeper than two dimensions")
    rows = [_flatten(field, row, depth + 1) for row in data]
    if len({len(row) for row in rows}) > 1:
        raise InvalidInputError(f"{field} holds rows that are not equally long")
    return [value for row in rows for value in row]


NAME = "open_inference"
PLATFORM = "onnxruntime_onnx"
LABEL = "label"
PROBABILITIES = "probabilities"
DECISION = "decision"
VALUE = "value"

_BINARY_HEADER = "inference-header-content-length"
_DATATYPES = {"integer": "INT64", "number": "FP64", "boolean": "BOOL"}
_MOST_INPUTS = 10_000


def read_request(request: Request, schema: TableSchema, max_rows: int) -> PredictionRequest:
    """Read ``inputs``, ``outputs`` and ``id``; the values are not looked at yet.

    Raises
    ------
    UnsupportedMediaTypeError, InvalidInputError, PayloadTooLargeError
        As :func:`millrace.serving.protocols.mlflow.read_request`.
    """
    if _BINARY_HEADER in request.headers:
        raise InvalidInputError("binary tensors are not read: send the data as JSON")
    document = read_object(request)
    request_id = document.get("id")
    if not isinstance(request_id, str | None):
        raise wrong("id", f"expects a string, got {describe(request_id)}")
    parameters = read_parameters(document, "parameters")
    check_content_type("request", parameters)
    outputs = _read_outputs(document.get("outputs"), schema)
    inputs = document.get("inputs")
    if not isinstance(inputs, list) or not inputs:
        raise wrong("inputs", "expects a list of tensors")
    if len(inputs) > _MOST_INPUTS:
        raise wrong("inputs", f"holds more than {_MOST_INPUTS} tensors")
    tensors = [read_tensor(f"inputs[{index}]", tensor) for index, tensor in enumerate(inputs)]
    return PredictionRequest(_read_table(tensors, schema, max_rows), request_id or None, outputs, parameters)


def write_reply(asked: PredictionRequest, scores: Scores, loaded: LoadedModel, prediction_id: str) -> dict[str, Any]:
    """Return the reply's body; ``parameters`` holds the prediction's id, and warnings and errors in words."""
    outputs = {output["name"]: output for output in _outputs(scores, loaded.schema)}
    parameters = {"prediction_id": prediction_id}
    if scores.notices:
        parameters["warnings"] = "; ".join(f"{notice.field} {notice.message}" for notice in scores.notices)
    if scores.bad_rows:
        parameters["errors"] = "; ".join(
            f"row {row}: {fault.field} {fault.message}" for row, faults in scores.bad_rows.items() for fault in faults
        )
    return {
        "model_name": loaded.model,
        "model_version": str(loaded.version),
        "id": asked.request_id or prediction_id,
        "parameters": parameters,
        "outputs": [outputs[name] for name in asked.outputs or outputs] + _explanations(scores, loaded.schema),
    }


def write_error(error: MillraceError, document: Mapping[str, Any]) -> tuple[int, Mapping[str, Any]]:
    """Return status and body: one sentence under ``error``."""
    return plain_error(error, document)


def describe_model(loaded: LoadedModel) -> dict[str, Any]:
    """Return a model's metadata: its inputs and outputs; a size of -1 is the number of rows."""
    inputs = [
        {"name": column.name, "datatype": _DATATYPES.get(column.type, "BYTES"), "shape": [-1]}
        for column in loaded.schema.features
    ]
    n_classes = len(loaded.schema.classes)
    outputs = [
        {"name": name, "datatype": datatype, "shape": [-1, n_classes] if name == PROBABILITIES else [-1]}
        for name, datatype in _output_types(loaded.schema).items()
    ]
    version = str(loaded.version)
    return {"name": loaded.model, "versions": [version], "platform": PLATFORM, "inputs": inputs, "outputs": outputs}


def _output_types(schema: TableSchema) -> dict[str, str]:
    if schema.task == "regression":
        return {VALUE: "FP32"}
    label = {bool: "BOOL", int: "INT64"}.get(type(schema.label(0)), "BYTES")
    return {LABEL: label, PROBABILITIES: "FP32", DECISION: label}


def _outputs(scores: Scores, schema: TableSchema) -> list[dict[str, Any]]:
    types = _output_types(schema)
    if scores.values is not None:
        return [{"name": VALUE, "datatype": types[VALUE], "shape": [len(scores.values)], "data": scores.values}]
    n_classes = len(scores.classes)
    unknown: list[float | None] = [None] * n_classes
    return [
        {"name": LABEL, "datatype": types[LABEL], "shape": [len(scores.labels)], "data": scores.labels},
        {
            "name": PROBABILITIES,
            "datatype": types[PROBABILITIES],
            "shape": [len(scores.probabilities), n_classes],
            "data": [value for row in scores.probabilities for value in (unknown if row is None else row)],
            "parameters": {"classes": ",".join(scores.classes)},
        },
        {"name": DECISION, "datatype": types[DECISION], "shape": [len(scores.decisions)], "data": scores.decisions},
    ]


def _explanations(scores: Scores, schema: TableSchema) -> list[dict[str, Any]]:
    """Return the tensors that explain the predictions, where they were asked for; null for a row that has none."""
    if scores.explanations is None:
        return []
    names = [column.name for column in schema.features]
    gap: list[float | None] = [None] * len(names)
    told = [None if each is None else each.attribution for each in scores.explanations]
    n_rows = len(told)
    labels = [None if each is None else each.label for each in scores.explanations]
    explained: list[dict[str, Any]] = []
    if schema.task != "regression":
        datatype = _output_types(schema)[LABEL]
        explained.append({"name": "explained_label", "datatype": datatype, "shape": [n_rows], "data": labels})
    base_values = [None if each is None else each.base_value for each in told]
    explained.append({"name": "base_value", "datatype": "FP64", "shape": [n_rows], "data": base_values})
    for name, matrix in (
        ("attributions", [gap if each is None else each.values.tolist() for each in told]),
        ("standard_errors", [gap if each is None else each.standard_errors.tolist() for each in told]),
    ):
        data = [value for row in matrix for value in row]
        shape = [n_rows, len(names)]
        explained.append(
            {
                "name": name,
                "datatype": "FP64",
                "shape": shape,
                "data": data,
                "parameters": {"features": ",".join(names)},
            }
        )
    return explained


def _read_outputs(outputs: Any, schema: TableSchema) -> tuple[str, ...]:
    if outputs is None:
        return ()
    if not isinstance(outputs, list) or not all(isinstance(output, dict) for output in outputs):
        raise wrong("outputs", "expects a list of objects")
    known = _output_types(schema)
    names: list[Any] = [output.get("name") for output in outputs]
    faults = [
        FieldError(f"outputs[{index}].name", f"expects one of {', '.join(known)}")
        for index, name in enumerate(names)
        if not isinstance(name, str) or name not in known
    ]
    if faults:
        raise InvalidInputError("the request asks for outputs that the model has not", faults[:100])
    check_distinct("outputs", names)
    return tuple(names)


def _read_table(tensors: list[Tensor], schema: TableSchema, max_rows: int) -> ColumnsTable:
    n_rows = tensors[0].n_rows
    check_row_count("inputs", n_rows, max_rows)
    check_distinct("inputs", [tensor.name for tensor in tensors])
    names = [column.name for column in schema.features]
    if len(tensors) == 1 and tensors[0].name not in names and tensors[0].width == len(names):
        values = tensors[0].values
        return ColumnsTable({name: values[place :: len(names)] for place, name in enumerate(names)}, n_rows)
    faults: list[FieldError] = []
    for index, tensor in enumerate(tensors):
        if tensor.width != 1:
            expected = f"one column a tensor, or one tensor of all {len(names)} features"
            faults.append(FieldError(f"inputs[{index}].shape", f"expects {expected}"))
        elif tensor.n_rows != n_rows:
            faults.append(FieldError(f"inputs[{index}].shape", f"has {tensor.n_rows} rows where others have {n_rows}"))
    if faults:
        raise InvalidInputError("the tensors are no table", faults[:100])
    return ColumnsTable({tensor.name: tensor.values for tensor in tensors}, n_rows)
