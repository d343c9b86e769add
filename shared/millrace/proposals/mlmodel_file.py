"""The ``MLmodel`` file of a logged model: its ONNX file, the columns of its signature, and its input example."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from millrace.errors import InvalidInputError

MLMODEL = "MLmodel"
#: Of a signature with two thousand columns; the parser is slow.
MAX_MLMODEL_BYTES = 400_000
#: Key of the metadata with the classes in the order of the model's probabilities.
CLASSES = "classes"


@dataclass(frozen=True, slots=True)
class MlmodelFile:
    """Contents of an ``MLmodel`` file, as far as a check needs them."""

    model_file: str
    columns: tuple[str, ...]  # of the signature's inputs, in order
    example_file: str
    classes: tuple[Any, ...] = ()  # from the metadata, in the order of the probabilities

    @classmethod
    def parse(cls, body: bytes) -> "MlmodelFile":
        """Read the file; raises ``InvalidInputError`` with the way out, where a model is not logged as it has to be."""
        if len(body) > MAX_MLMODEL_BYTES:
            raise InvalidInputError(f"MLmodel has {len(body):,} bytes; at most {MAX_MLMODEL_BYTES:,} are read")
        try:
            document = _mapping(yaml.safe_load(body))
        # The last ones are PyYAML's for values that do not fit their tags.
        except (yaml.YAMLError, RecursionError, ValueError, TypeError, LookupError, AttributeError) as error:
            raise InvalidInputError("MLmodel is no YAML") from error
        flavor = _mapping(_mapping(document.get("flavors")).get("onnx"))
        if not flavor:
            raise InvalidInputError("it has no onnx flavor: log it with mlflow.onnx.log_model, or convert it first")
        return cls(
            model_file=_file_name(flavor.get("data"), "the onnx flavor's data"),
            columns=_read_columns(_mapping(document.get("signature")).get("inputs")),
            example_file=_read_example(_mapping(document.get("saved_input_example_info"))),
            classes=_read_classes(_mapping(document.get("metadata")).get(CLASSES)),
        )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _file_name(value: Any, what: str) -> str:
    if not isinstance(value, str) or not value or "/" in value or "\\" in value:
        raise InvalidInputError(f"{what} is no file of the model's folder")
    return value


def _read_columns(inputs: Any) -> tuple[str, ...]:
    try:
        specs = json.loads(inputs) if isinstance(inputs, str) else None
    except (ValueError, RecursionError):
        specs = None
    if not isinstance(specs, list) or not specs:
        raise InvalidInputError("it has no signature: log it with signature=mlflow.models.infer_signature(data_frame)")
    names = [spec.get("name") if isinstance(spec, dict) and spec.get("type") != "tensor" else None for spec in specs]
    if not all(isinstance(name, str) for name in names):
        raise InvalidInputError("its signature names no columns: infer it from a data frame, not from an array")
    if len(set(names)) < len(names):
        raise InvalidInputError("its signature names a column twice")
    return tuple(map(str, names))


def _read_example(info: Mapping[str, Any]) -> str:
    if info.get("type") != "dataframe" or info.get("pandas_orient", "split") != "split":
        raise InvalidInputError("it has no input example of columns: log it with input_example=data_frame.head()")
    return _file_name(info.get("artifact_path"), "the input example")


def _read_classes(classes: Any) -> tuple[Any, ...]:
    if classes is None:
        return ()
    if not isinstance(classes, list) or not all(isinstance(one, str | int | bool) for one in classes):
        raise InvalidInputError("metadata['classes'] is no list of classes, in the order of the probabilities")
    return tuple(classes)
