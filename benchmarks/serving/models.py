"""The models that are compared: one table of 14 mixed columns, two scikit-learn pipelines, each also as ONNX.

The pipelines take pandas frames, as people write them. What Millrace serves is its own pipeline of the same steps and
parameters, fitted on the same rows and exported; :func:`prepare` asserts that both say the same.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
from millrace.features import FeatureMatrix
from millrace.schema import Column, TableSchema
from millrace.training.candidates import get_candidate
from millrace.training.export import export_onnx
from millrace.training.preprocessing import FeatureTable
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

NUMBERS = [f"number_{index}" for index in range(9)]
WORDS = [f"word_{index}" for index in range(5)]
COLUMNS = NUMBERS + WORDS
KINDS = ("logistic_regression", "hist_gradient_boosting")
ROWS = 10_000
#: One value in twenty is missing, as is usual.
MISSING_SHARE = 0.05


def make_table(rows: int, seed: int) -> pd.DataFrame:
    """Return nine numbers and five words of 3 to 30 values a row, and a label that follows from some of them."""
    rng = np.random.default_rng(seed)
    table: dict[str, Any] = {}
    for index, name in enumerate(NUMBERS):
        values = rng.normal(index, 1 + index, rows).astype(np.float32).astype(np.float64)
        values[rng.random(rows) < MISSING_SHARE] = np.nan
        table[name] = np.round(values) if index % 3 == 0 else values
    for index, name in enumerate(WORDS):
        values = rng.integers(0, (3, 5, 8, 15, 30)[index], rows)
        table[name] = np.array([f"value {value}" for value in values], dtype=object)
    signal = (
        np.nan_to_num(table["number_0"]) + (table["word_0"] == "value 1") * 2 - np.nan_to_num(table["number_2"]) / 3
    )
    table["label"] = (signal + rng.normal(0, 1, rows) > 0).astype(int)
    return pd.DataFrame(table)


def frame_pipeline(kind: str) -> Pipeline:
    """Return an unfitted pipeline that takes a frame of :data:`COLUMNS`."""
    if kind == "logistic_regression":
        numbers: Any = Pipeline([("impute", SimpleImputer(strategy="median")), ("scale", StandardScaler())])
        words: Any = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
        estimator: Any = LogisticRegression(max_iter=2_000, tol=1e-8)
    else:
        numbers = "passthrough"
        words = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
        estimator = HistGradientBoostingClassifier(random_state=0)
    columns = ColumnTransformer([("numbers", numbers, NUMBERS), ("words", words, WORDS)])
    return Pipeline([("columns", columns), ("estimator", estimator)])


def millrace_onnx(kind: str, table: pd.DataFrame, target: Any) -> bytes:
    """Fit Millrace's pipeline of the same steps and export it."""
    features = matrices(table)
    parameters = {"max_iter": 2_000, "tol": 1e-8} if kind == "logistic_regression" else {}
    pipeline = get_candidate(kind, "binary").build("binary", features, parameters, 0)
    pipeline.fit(FeatureTable(features), target)
    return export_onnx(pipeline, features, "binary")


def matrices(table: pd.DataFrame) -> FeatureMatrix:
    """Return a frame as Millrace's two matrices."""
    return FeatureMatrix(table[NUMBERS].to_numpy(np.float32), table[WORDS].to_numpy(np.str_))


def schema() -> TableSchema:
    """Return the schema that the model is registered under."""
    columns = [Column(name, "number", nullable=True) for name in NUMBERS]
    columns += [
        Column(name, "category", categories=tuple(sorted(f"value {value}" for value in range(count))))
        for name, count in zip(WORDS, (3, 5, 8, 15, 30), strict=True)
    ]
    return TableSchema((*columns, Column("label", "integer", "target")), "binary", ("0", "1"))


def open_session(onnx: bytes) -> Any:
    """Return a session of a graph with the options that the handler uses."""
    from millrace.serving.model import OnnxModel

    return OnnxModel.load(onnx, schema()).session


def write_version(folder: Path, onnx: bytes, table: TableSchema | None = None, **signature: object) -> None:
    """Write a version's artifacts as they are registered; ``signature`` holds further members of its signature."""
    document = {"schema": (table or schema()).to_dict(), **signature}
    artifacts = {"model.onnx": onnx, "signature.json": json.dumps(document).encode()}
    hashes = {name: {"sha256": hashlib.sha256(body).hexdigest()} for name, body in artifacts.items()}
    artifacts["manifest.json"] = json.dumps({"artifacts": hashes}).encode()
    for name, body in artifacts.items():
        (folder / name).write_bytes(body)


def prepare(work: Path) -> None:
    """Write every model, and the requests, into ``work/<kind>``."""
    train, asked = make_table(20_000, 0), make_table(ROWS, 1)
    target = train.pop("label").to_numpy()
    asked.pop("label")
    for kind in KINDS:
        folder = work / kind
        folder.mkdir(parents=True, exist_ok=True)
        pipeline = frame_pipeline(kind).fit(train, target)
        joblib.dump(pipeline, folder / "pipeline.joblib")
        write_version(folder, millrace_onnx(kind, train, target))
        expected = pipeline.predict_proba(asked)[:, 1]
        (folder / "expected.json").write_text(json.dumps(expected.tolist()))
        train.head(50).to_json(folder / "example.json", orient="records")
        rows = [[None if value != value else value for value in row] for row in asked.to_numpy(object).tolist()]  # noqa: PLR0124 - NaN
        for name, some in (("one", rows[:1]), ("many", rows)):
            (folder / f"{name}.json").write_text(json.dumps({"dataframe_split": {"columns": COLUMNS, "data": some}}))
            records = [dict(zip(COLUMNS, row, strict=True)) for row in some]
            (folder / f"{name}_records.json").write_text(json.dumps({"rows": records}))
