"""Tensors of the Open Inference Protocol in JSON: a name, a shape, a datatype, and flat or nested data."""

import math
from dataclasses import dataclass
from typing import Any

from millrace.errors import InvalidInputError
from millrace.serving.dialects.json_body import wrong
from millrace.serving.json_words import describe

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
