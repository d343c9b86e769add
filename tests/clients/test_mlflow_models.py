"""MLflow's stock client with what Millrace gives it: exported versions, and the plugin that signs."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.clients.conversations import TOOLS, run
from tests.exported_models import ROWS, exported_files, served_predictions, write_files
from tests.mlflow_plugin import FOLDER, plugin_path
from tests.mlflow_server import client_environment, mlflow_on_moto
from tests.template.template_file import ROOT

PYTHON = TOOLS / "clients" / "bin" / "python"
THRESHOLD = {"threshold": {"positive_class": "true", "value": 0.7}}


def test_a_stock_client_loads_exported_versions_and_predicts_as_the_endpoint(tmp_path: Path) -> None:
    """Two versions in one process, neither of which needs a plugin, an ONNX flavour or this project."""
    binary = write_files(exported_files("binary", **THRESHOLD), tmp_path / "binary")
    regression = write_files(exported_files("regression"), tmp_path / "regression")
    found = run("load_mlflow.py", json.dumps(ROWS), str(binary), str(regression))
    assert found["flavors"] == [["python_function"]] * 2
    expected = [served_predictions("binary", **THRESHOLD), served_predictions("regression")]
    assert found["from_rows"] == expected
    assert "age" in found["absent"]
    assert "row 0: plan: expects a string, got a number" in found["wrong"]
    assert found["from_typed"] == expected


def test_a_stock_client_keeps_models_of_its_own() -> None:
    with mlflow_on_moto() as (tracking, storage):
        found = run("tour_registry.py", **client_environment(tracking, storage))
    refused = {name: code for name, code in found.items() if isinstance(code, str) and code.isupper()}
    assert refused == {
        "create twice": "RESOURCE_ALREADY_EXISTS",
        "local version": "INVALID_PARAMETER_VALUE",
        "reserved alias": "INVALID_PARAMETER_VALUE",
        "unknown alias": "INVALID_PARAMETER_VALUE",
        "bad filter": "INVALID_PARAMETER_VALUE",
        "deleted version": "RESOURCE_DOES_NOT_EXIST",
        "deleted": "RESOURCE_DOES_NOT_EXIST",
    }
    expected = {
        "search by default": ["m one"],
        "by alias": "2",
        "aliases": {"best": "2"},
        "archive": "Production",
        "latest": {"Archived": "1", "Production": "2"},
        "tags": {"k": "v"},
        "place": True,
        "search": ["1"],
        "two orders": ["2", "1"],
        "copy": "1",
        "by pattern": ["m 2", "m one"],
    }
    assert {name: found[name] for name in expected} == expected


def test_the_plugin_signs_what_a_server_can_verify(tmp_path: Path) -> None:
    if not PYTHON.exists():
        pytest.skip("the clients are not installed; `make tools` does it")
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", str(ROOT)), "NO_PROXY": "127.0.0.1"}
    environment["PYTHONPATH"] = plugin_path(tmp_path)
    command = [str(PYTHON), "-m", "unittest", "discover", str(FOLDER / "tests")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-8_000:]
