"""The notebook of the documentation, run by MLflow's stock client with two environment variables of Millrace's."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

from millrace.aws.clients import object_store, registry
from millrace.exports.mlflow_model import mlflow_files
from millrace.layout import mlflow_key, version_key
from millrace.manifest import Manifest

from tests.clients.conversations import run
from tests.gateway import make_event as make_prediction_event
from tests.integration.application import MODELS_BUCKET, lambda_context, load_handler
from tests.integration.loopback_aws import requests_to_moto
from tests.mlflow_plugin import plugin_path
from tests.mlflow_server import PREFIX, MlflowAdapter, client_environment, mlflow_on_moto
from tests.registered_versions import RegisteredVersions
from tests.registry_builders import MODEL, make_entry, make_version
from tests.rounding import rounded
from tests.serving_models import churn_onnx, churn_schema, version_artifacts
from tests.template.template_file import ROOT

NOTEBOOK = ROOT / "docs" / "mlflow-notebook.ipynb"


class StackAdapter(MlflowAdapter):
    """MLflow's API, and the endpoint of predictions beside it, as one API has them."""

    def _answer(self) -> None:
        if self.path.startswith(PREFIX):
            super()._answer()
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        event = make_prediction_event(self.command, self.path.removeprefix("/v1"), body, dict(self.headers))
        response = load_handler("predict")(event, lambda_context("predict"))
        self._send(response["statusCode"], response["headers"], response["body"].encode())

    do_GET = do_POST = do_PATCH = do_DELETE = do_PUT = _answer


def register_two_versions() -> RegisteredVersions:
    """Register two models that can predict, of which the first serves."""
    world = RegisteredVersions(0, registry(), object_store(MODELS_BUCKET))
    for number in (1, 2):
        artifacts = version_artifacts(churn_onnx(seed=number), churn_schema())
        del artifacts["manifest.json"]
        version = make_version(number)
        manifest = Manifest.of(version, artifacts, None).write()
        files = mlflow_files(
            artifacts["signature.json"],
            artifacts["model.onnx"],
            model=MODEL,
            version=number,
            created_at=version.created_at,
            metadata={},
        )
        stored = {version_key(MODEL, number, name): body for name, body in artifacts.items()}
        stored |= {mlflow_key(MODEL, number, name): body for name, body in files.items()}
        for key, body in (stored | {version_key(MODEL, number, "manifest.json"): manifest}).items():
            world.models.put(key, body)
        version = replace(version, manifest_sha256=hashlib.sha256(manifest).hexdigest())
        world.registry.put_version(version, make_entry(f"version-{number}-registered"))
    world.point("champion", 1)
    return world


def test_the_notebook_trains_registers_promotes_and_predicts(tmp_path: Path) -> None:
    with mlflow_on_moto(StackAdapter) as (tracking, storage), requests_to_moto():
        world = register_two_versions()
        environment = client_environment(tracking, storage)
        environment |= {"MLFLOW_TRACKING_AUTH": "millrace", "PYTHONPATH": plugin_path(tmp_path)}
        found = run("run_notebook.py", str(NOTEBOOK), **environment)
        assert world.aliases == {"champion": 2}
        assert world.actions[0] == "model_promoted"
        assert world.registry.list_ledger("_mlflow")[0].details["alias"] == "best"
    assert found["logged"] == 1
    assert rounded(found["by_hand"]) == rounded(found["estimator"])
    assert found["champion"] == found["reply"]["model_version"] == 2
    assert found["predictions"] == found["reply"]["predictions"]


def test_the_notebook_names_no_other_environment_variable() -> None:
    text = NOTEBOOK.read_text(encoding="utf-8")
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    code = "".join(line for cell in cells for line in cell["source"])
    assert "environ" not in code
    assert all(not cell["outputs"] for cell in cells)
