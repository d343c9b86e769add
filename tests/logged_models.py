"""Models as data scientists log them with ``mlflow.onnx.log_model``: the files that MLflow writes."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml
from millrace.contracts import CheckedModel, LoggedFile, LoggedModelCheck
from millrace.features import FeatureMatrix
from millrace.proposals.check import check_logged_model
from millrace.schema import TableSchema
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder

OPSET = {"": 17, "ai.onnx.ml": 3}


def fit_columns(features: FeatureMatrix, target: npt.NDArray[Any], *, is_regression: bool = False) -> Pipeline:
    """Fit what a notebook would fit: numbers imputed, categories one-hot, a linear model; columns by position.

    A regression imputes nothing: ONNX Runtime has no imputer of doubles.
    """
    numbers, strings = features.numbers.shape[1], features.strings.shape[1]
    matrix = as_columns(features)
    places = list(range(numbers + strings))
    encode = ColumnTransformer(
        [
            ("numbers", "passthrough" if is_regression else SimpleImputer(), places[:numbers]),
            ("strings", OneHotEncoder(handle_unknown="ignore"), places[numbers:]),
        ]
    )
    model = LinearRegression() if is_regression else LogisticRegression(max_iter=200)
    return Pipeline([("encode", encode), ("model", model)]).fit(matrix, target)


def as_columns(features: FeatureMatrix) -> npt.NDArray[Any]:
    return np.concatenate([features.numbers.astype(object), features.strings.astype(object)], axis=1)


def to_onnx(pipeline: Pipeline, schema: TableSchema, *, zipmap: bool = True, wide: bool = False) -> bytes:
    """Convert a pipeline as its author would: an input a column, of the column's name."""
    number = DoubleTensorType if wide else FloatTensorType
    inputs = [(name, number([None, 1])) for name in schema.number_names]
    inputs += [(name, StringTensorType([None, 1])) for name in schema.string_names]
    options = {} if schema.task == "regression" else {"zipmap": zipmap}
    model = convert_sklearn(pipeline, initial_types=inputs, options=options, target_opset=OPSET)
    return bytes(model.SerializeToString())


def example_of(features: FeatureMatrix, schema: TableSchema, rows: int = 5) -> dict[str, Any]:
    names = [*schema.number_names, *schema.string_names]
    data = [
        [None if isinstance(value, float) and np.isnan(value) else value for value in row]
        for row in as_columns(features.take(np.arange(rows))).tolist()
    ]
    return {"columns": names, "data": data}


def logged_files(onnx: bytes, columns: Sequence[str], example: Mapping[str, Any], **document: Any) -> dict[str, bytes]:
    """Return the files of a logged model; ``document`` replaces members of ``MLmodel``."""
    inputs = [{"type": "double", "name": name, "required": True} for name in columns]
    mlmodel = {
        "flavors": {
            "onnx": {"code": None, "data": "model.onnx", "onnx_version": "1.23.2"},
            "python_function": {"data": "model.onnx", "loader_module": "mlflow.onnx"},
        },
        "mlflow_version": "3.17.2",
        "saved_input_example_info": {
            "artifact_path": "input_example.json",
            "pandas_orient": "split",
            "type": "dataframe",
        },
        "signature": {"inputs": json.dumps(inputs), "outputs": '[{"type": "long", "required": true}]', "params": None},
    } | document
    return {
        "MLmodel": yaml.safe_dump(mlmodel, default_flow_style=False).encode(),
        "model.onnx": onnx,
        "input_example.json": json.dumps(example).encode(),
    }


def check(files: Mapping[str, bytes], schema: TableSchema, more_files: int = 0) -> tuple[CheckedModel, bytes]:
    """Check a logged model; returns the result, and the wrapped graph."""
    written: dict[str, bytes] = {}
    addresses = {**files, "schema": json.dumps(schema.to_dict()).encode()}
    request = LoggedModelCheck(
        files=[LoggedFile(name=name, size=len(body), url=name) for name, body in files.items()],
        more_files=more_files,
        schema_url="schema",
        target_url="target",
    )
    checked = check_logged_model(request, lambda url, _: addresses[url], lambda url, body: written.update({url: body}))
    return checked, written.get("target", b"")


def fit_churn(rows: Sequence[Mapping[str, Any]]) -> Pipeline:
    """Fit a linear model on two columns of labelled rows."""
    encode = ColumnTransformer([("age", SimpleImputer(), [0]), ("plan", OneHotEncoder(handle_unknown="ignore"), [1])])
    return Pipeline([("encode", encode), ("model", LogisticRegression())]).fit(
        churn_matrix(rows), [row["label"] for row in rows]
    )


def churn_matrix(rows: Sequence[Mapping[str, Any]]) -> Any:
    ages = [np.nan if row["age"] in ("", None) else float(row["age"]) for row in rows]
    return np.array([[age, row["plan"]] for age, row in zip(ages, rows, strict=True)], dtype=object)


def churn_files(pipeline: Pipeline, rows: Sequence[Mapping[str, Any]]) -> dict[str, bytes]:
    """Return that model as it is logged, with an example of a few rows."""
    inputs = [("age", FloatTensorType([None, 1])), ("plan", StringTensorType([None, 1]))]
    model = convert_sklearn(pipeline, initial_types=inputs, target_opset=OPSET)
    data = [[None if row["age"] == "" else row["age"], row["plan"]] for row in rows[:5]]
    return logged_files(model.SerializeToString(), ["age", "plan"], {"columns": ["age", "plan"], "data": data})
