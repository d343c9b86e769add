"""A version as an MLflow model: its files, and the loader inside, which predicts as the endpoint."""

import ast
import hashlib
import importlib
import json
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import millrace
import numpy as np
import pandas as pd
import pytest
from millrace.exports.loader import plain_value
from millrace.exports.mlflow_model import LOADER_MODULES, ONNX_RUNTIME_VERSION, loader_files

from tests.exported_models import ROWS, exported_files, served_predictions, write_files
from tests.template.template_file import ROOT


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Load a directory as MLflow does: its code goes to the front of the path."""

    def load_files(files):
        directory = write_files(files, tmp_path / "exported")
        flavor = json.loads(files["MLmodel"])["flavors"]["python_function"]
        monkeypatch.setattr(sys, "path", [str(directory / flavor["code"]), *sys.path])
        return importlib.import_module(flavor["loader_module"])._load_pyfunc(str(directory))

    yield load_files
    for name in [name for name in sys.modules if name.startswith("millrace_model_")]:
        del sys.modules[name]


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_the_loader_inside_predicts_as_the_endpoint(load, task):
    signature = {"threshold": {"positive_class": "true", "value": 0.7}} if task == "binary" else {}
    found = load(exported_files(task, **signature)).predict(pd.DataFrame(ROWS, index=[5, 6, 7]))
    expected = served_predictions(task, **signature)
    if task == "regression":
        assert found.tolist() == expected
    else:
        assert found.to_dict("records") == expected
        assert list(found.index) == [5, 6, 7]


def test_rows_that_the_endpoint_refuses_are_refused_with_its_words(load):
    function = load(exported_files("binary"))
    with pytest.raises(
        Exception, match=r"the rows have 1 bad field: row 1: active: expects true or false, got another"
    ):
        function.predict(pd.DataFrame(ROWS).assign(active=[True, "maybe", False]))
    with pytest.raises(Exception, match="no rows"):
        function.predict(pd.DataFrame(ROWS)[:0])


def test_a_model_that_was_changed_is_not_loaded(load):
    files = exported_files("binary")
    with pytest.raises(Exception, match=r"model.onnx of churn version 3 is not what was registered"):
        load(files | {"model.onnx": files["model.onnx"] + b"\0"})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        (float("nan"), None),
        (pd.NA, None),
        (pd.NaT, None),
        (np.datetime64("NaT"), None),
        (np.int64(3), 3),
        (np.float32(0.5), 0.5),
        (np.bool_(True), True),
        (Decimal("1.5"), 1.5),
        (pd.Timestamp("2024-02-03T10:00Z"), "2024-02-03T10:00:00+00:00"),
        (datetime(2024, 2, 3, tzinfo=UTC).date(), "2024-02-03"),
        ("NaN", "NaN"),
    ],
)
def test_values_of_a_data_frame_become_those_of_a_request(value, expected):
    found = plain_value(value)
    assert found == expected
    assert type(found) is type(expected)


def test_the_manifest_has_the_hash_of_every_other_file():
    files = exported_files("binary")
    manifest = json.loads(files["manifest.json"])
    assert {name: entry["sha256"] for name, entry in manifest["artifacts"].items()} == {
        name: hashlib.sha256(body).hexdigest() for name, body in files.items() if name != "manifest.json"
    }
    assert not [name for name in files if name.endswith((".pkl", ".pickle", ".skops"))]


def test_the_signature_names_the_columns_and_the_metadata_their_types():
    document = json.loads(exported_files("binary")["MLmodel"])
    inputs = json.loads(document["signature"]["inputs"])
    assert [column["name"] for column in inputs if not column["required"]] == [
        "balance", "subscribed", "city", "signed_up", "remark",
    ]  # fmt: skip
    assert document["metadata"]["millrace"]["columns"]["signed_up"] == "datetime"
    assert "flavors" in document
    assert list(document["flavors"]) == ["python_function"]


def test_no_classes_and_categories_are_in_what_people_read():
    for name, body in exported_files("multiclass").items():
        if name in ("MLmodel", "requirements.txt", "python_env.yaml"):
            assert b"premium" not in body


def test_the_copied_modules_import_nothing_that_is_not_copied():
    library = Path(millrace.__file__).parent
    for name in LOADER_MODULES:
        tree = ast.parse((library / f"{name.replace('.', '/')}.py").read_text(encoding="utf-8"))
        later = {
            id(inner)
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.If)
            for inner in ast.walk(node)
        }
        for node in ast.walk(tree):
            if (
                isinstance(node, ast.ImportFrom)
                and id(node) not in later
                and (node.module or "").startswith("millrace.")
            ):
                assert node.module.removeprefix("millrace.") in LOADER_MODULES, f"{name} imports {node.module}"
    package, files = loader_files()
    assert all(b"import millrace\n" not in body and b"from millrace." not in body for body in files.values())
    assert all(name.startswith(f"code/{package}/") for name in files)


def test_the_runtime_that_is_asked_for_is_the_one_that_serves():
    lock = (ROOT / "requirements" / "layers.txt").read_text(encoding="utf-8")
    assert f"onnxruntime=={ONNX_RUNTIME_VERSION} " in lock
