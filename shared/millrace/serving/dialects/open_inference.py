"""The Open Inference Protocol (KServe's second, Triton's, MLServer's), in JSON.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md

Columns are tensors of shape (n_rows,) or (n_rows, 1), one each; or all features are one tensor of two dimensions, in
their order. Replied are ``label``, ``probabilities`` and ``decision``, or ``value`` for regression. Binary tensors are
not read. Explanations, where the parameter ``explain`` asks for them, are tensors beside the outputs.
"""

from collections.abc import Mapping
from typing import Any

from millrace.errors import FieldError, InvalidInputError, MillraceError
from millrace.schema import TableSchema
from millrace.serving.dialects.frames import check_distinct, check_row_count
from millrace.serving.dialects.json_body import read_object, read_parameters, wrong
from millrace.serving.dialects.plain_error import plain_error
from millrace.serving.dialects.tensors import Tensor, check_content_type, read_tensor
from millrace.serving.json_words import describe
from millrace.serving.loading import LoadedModel
from millrace.serving.request import PredictionRequest, Request
from millrace.serving.scorer import Scores
from millrace.serving.table import ColumnsTable

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
        As :func:`millrace.serving.dialects.mlflow.read_request`.
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
