"""MLflow's own pages in headless Chromium, from MLflow's wheel, on the console and the shipped API."""

import json
import os
import ssl
import subprocess
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import httpx
import pytest
from millrace_cli.api import ApiClient
from millrace_cli.console.mlflow.installed_pages import find_pages
from millrace_cli.console.server import make_console
from millrace_cli.http_client import HttpClient

from tests.clients.conversations import SCRIPTS, TOOLS
from tests.integration.application import MODELS_BUCKET
from tests.mlflow_server import mlflow_on_moto

BROWSER, WHEEL = (TOOLS / name / "bin" / "python" for name in ("browser", "mlflow_pages"))
#: A folder for pictures of the pages, to look at them.
PICTURES = os.environ.get("MLFLOW_PICTURES")
HOSTILE = "<script>document.title = 'hacked'</script><h1>A report</h1>"


def fill(url: str) -> dict[str, str]:
    """Log a run with a history and artifacts, and register a version of it; return their ids."""

    def post(path: str, **body: Any) -> Any:
        reply = httpx.post(f"{url}/api/2.0/mlflow/{path}", json=body, trust_env=False, timeout=60)
        return reply.raise_for_status().json()

    experiment = post("experiments/create", name="Churn study")["experiment_id"]
    run = post("runs/create", experiment_id=experiment, run_name="third try", start_time=1_790_000_000_000)["run"]
    identity = run["info"]["run_id"]
    values = [{"key": "loss", "value": 1 / (step + 1), "step": step, "timestamp": step} for step in range(50)]
    post("runs/log-batch", run_id=identity, metrics=values, params=[{"key": "depth", "value": "4"}], tags=[])
    root = run["info"]["artifact_uri"].removeprefix(f"s3://{MODELS_BUCKET}/")
    for name, text in (("report.html", HOSTILE), ("notes.txt", "what was tried")):
        boto3.client("s3").put_object(Bucket=MODELS_BUCKET, Key=f"{root}/{name}", Body=text.encode())
    post("registered-models/create", name="by-hand", description=HOSTILE)
    source = f"{run['info']['artifact_uri']}/model"
    post("model-versions/create", name="by-hand", source=source, run_id=identity)
    post("registered-models/alias", name="by-hand", alias="tried", version="1")
    return {"experiment": experiment, "run": identity}


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    if not Path("/usr/bin/chromium").exists():
        pytest.skip("there is no Chromium: apt-get install chromium")
    for tool in (BROWSER, WHEEL):
        if not tool.exists():
            pytest.skip(f"{tool} is not there: make tools")
    with mlflow_on_moto() as (url, _):
        ids = fill(url)
        of_run = "/mlflow/#/experiments/{experiment}/runs/{run}".format(**ids)
        pages = {
            "experiments": ("/mlflow/#/experiments", ["Churn study", "Model training"], []),
            "runs": ("/mlflow/#/experiments/{experiment}/runs".format(**ids), ["third try"], []),
            "run": (of_run, ["third try", "0.02", "depth", "by-hand"], []),
            "metrics": (f"{of_run}/model-metrics", ["loss", "Step"], []),
            "artifact": (f"{of_run}/artifacts/notes.txt", ["what was tried"], []),
            "report": (f"{of_run}/artifacts/report.html", [], ["A report"]),
            "models": ("/mlflow/#/models", ["by-hand"], []),
            "version": ("/mlflow/#/models/by-hand/versions/1", ["Version 1", "third try"], []),
        }
        stage = url.removesuffix("/mlflow")
        target: Any = SimpleNamespace(
            stack="millrace",
            region="eu-west-1",
            is_local=True,
            output=lambda _: MODELS_BUCKET,
            client=boto3.client,
        )
        client = HttpClient.connect(stage, ssl.create_default_context(), uses_proxies=False)
        server, guard = make_console(target, ApiClient(client), 0, allows_actions=False, pages=find_pages(WHEEL))
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        tour = tmp_path_factory.mktemp("tour") / "tour.json"
        tour.write_text(
            json.dumps({"address": guard.make_address(), "pages": pages, "folder": PICTURES}), encoding="utf-8"
        )
        script = SCRIPTS / "tour_mlflow_pages.py"
        try:
            ran = subprocess.run([BROWSER, script, tour], capture_output=True, text=True, check=False, timeout=500)
        finally:
            server.shutdown()
            thread.join()
            server.server_close()
            client.close()
    assert ran.returncode == 0, ran.stderr[-3000:]
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


def test_every_page_shows_what_was_logged_and_loads_nothing_that_its_policy_refuses(seen):
    for name, page in seen.items():
        assert page["missing"] == [], (name, page)
        assert page["title"] != "hacked"
        refused = [line for line in page["said"] if "Content Security Policy" in line or line.startswith("error: ")]
        assert [line for line in refused if name != "report"] == [], name


def test_scripts_of_a_logged_page_do_not_run(seen):
    assert any("Content Security Policy" in line for line in seen["report"]["said"])
