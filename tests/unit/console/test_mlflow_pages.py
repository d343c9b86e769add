"""MLflow's pages in the console: where they are found, what they may load, which requests are signed and passed on."""

import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from botocore.exceptions import ClientError
from millrace_cli.api import ApiClient
from millrace_cli.console.app import ConsoleApp
from millrace_cli.console.guard import TOKEN, Guard
from millrace_cli.console.mlflow import installed_pages
from millrace_cli.console.mlflow.graphql import read_selection
from millrace_cli.console.mlflow.installed_pages import InstalledPages, find_pages
from millrace_cli.console.mlflow.pages_app import HOME, MlflowPagesApp
from millrace_cli.errors import RefusedError
from werkzeug.test import Client

from tests.fakes.http_handler import connect

HOST = "127.0.0.1:8765"
RUN = {
    "info": {
        "run_id": "r1",
        "run_uuid": "r1",
        "experiment_id": "7",
        "start_time": 1_700_000_000_000,
        "artifact_uri": "s3://models/mlflow/experiments/7/r1/artifacts",
    },
    "data": {"metrics": [{"key": "auc", "value": 0.9, "step": 3, "timestamp": 1_700_000_000_001}]},
    "inputs": {"dataset_inputs": [{"dataset": {"name": "train", "source_type": "s3"}}]},
}
GET_RUN = """query GetRun($data: MlflowGetRunInput!) @component(name: "MLflow.Run") { mlflowGetRun(input: $data) {
  apiError { code message __typename } run { info { runUuid startTime endTime } experiment { name tags { key } }
  modelVersions { name version } data { metrics { key value step } params { key } } inputs { datasetInputs { dataset {
  name sourceType profile } } modelInputs { modelId } } outputs { modelOutputs { step } } __typename } __typename } }"""


class Stack:
    """MLflow's API and the buckets of a stack; ``answers`` are responses by method and path."""

    def __init__(self, folder: Path, *, allows_actions: bool = False) -> None:
        (folder / "static" / "js").mkdir(parents=True, exist_ok=True)
        (folder / "index.html").write_text("<html><head><title>MLflow</title></head></html>", encoding="utf-8")
        (folder / "static" / "js" / "main.js").write_text("start()", encoding="utf-8")
        (folder.parent / "secret.txt").write_text("secret", encoding="utf-8")
        self.answers: dict[str, Any] = {
            "GET runs/get": {"run": RUN},
            "GET experiments/get": {"experiment": {"experiment_id": "7", "name": "Study"}},
            "GET model-versions/search": {"model_versions": [{"name": "m", "version": "1"}]},
            "POST runs/search": {"runs": [RUN]},
            "POST runs/delete": {},
            "DELETE model-versions/delete": {},
            "GET model-versions/get-download-uri": {"artifact_uri": "s3://models/m/versions/1/mlflow"},
            "GET logged-models/m-1": {"model": {"info": {"artifact_uri": "s3://other/place"}}},
            "GET metrics/get-history-bulk-interval": {"metrics": [{"run_id": "r1", "step": 1, "value": 2.0}]},
        }
        self.requests: list[httpx.Request] = []
        self.objects = {"mlflow/experiments/7/r1/artifacts/page.html": b"<script>steal()</script>"}
        self.guard = Guard(8765, HOME)
        target: Any = SimpleNamespace(
            stack="s", region="r", is_local=True, output=lambda _: "models", client=lambda _: self
        )
        api = ApiClient(connect(self._respond))
        pages = MlflowPagesApp(InstalledPages(folder, "3.17.2"), api, target, self.guard, allows_actions)
        self.browser = Client(ConsoleApp(target, api, self.guard, allows_actions, mlflow=pages))
        self.opened = self.get(self.guard.make_address().removeprefix(f"http://{HOST}"))

    def _respond(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        key = f"{request.method} {request.url.path.removeprefix('/mlflow/api/2.0/mlflow/')}"
        if key not in self.answers:
            error = {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such run"}
            return httpx.Response(404, json=error)
        return httpx.Response(200, json=self.answers[key])

    def get_object(self, Bucket: str, Key: str) -> Any:  # boto3's names
        if Key not in self.objects:
            raise ClientError({"Error": {"Code": "NoSuchKey"}}, "GetObject")
        body = SimpleNamespace(iter_chunks=lambda size: iter(io.BytesIO(self.objects[Key]).readlines(size)))
        return {"Body": body, "ContentLength": len(self.objects[Key])}

    def get(self, path: str, host: str = HOST) -> Any:
        return self.browser.get(path, base_url=f"http://{host}/")

    def send(self, method: str, path: str, body: Any = None, origin: str | None = f"http://{HOST}") -> Any:
        headers = {"Origin": origin} if origin else {}
        return self.browser.open(path, method=method, base_url=f"http://{HOST}/", json=body or {}, headers=headers)

    def query(self, query: str, **variables: Any) -> Any:
        return self.send("POST", "/mlflow/graphql", {"query": query, "variables": {"data": variables}}).get_json()


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    return Stack(tmp_path / "build")


# -- the pages --------------------------------------------------------------------------------------------------------
def test_the_address_opens_mlflow_s_pages_and_the_console_leads_to_them(stack):
    assert (stack.opened.status_code, stack.opened.headers["Location"]) == (303, "/mlflow/")
    assert b'<script src="/static/mlflow.js">' in stack.get("/mlflow/").data
    assert "machine_learning" in stack.get("/static/mlflow.js").text
    script = stack.get("/mlflow/static-files/static/js/main.js")
    assert (script.data, script.mimetype) == (b"start()", "text/javascript")
    assert stack.get("/mlflow").headers["Location"].endswith("/mlflow/")
    assert 'href="/mlflow/"' in stack.get("/upload").text


def test_pages_may_run_no_code_but_their_files_and_reach_nothing_else(stack):
    for path in ("/mlflow/", "/mlflow/static-files/static/js/main.js"):
        policy = stack.get(path).headers["Content-Security-Policy"]
        assert "default-src 'none'; script-src 'self'; " in policy
        assert "connect-src 'self'" in policy
        assert "unsafe-eval" not in policy
        assert "frame-ancestors 'none'" in policy


@pytest.mark.parametrize(
    "path", ["../secret.txt", "static/../../secret.txt", "/etc/passwd", "%2e%2e/secret.txt", "no.js"]
)
def test_no_other_file_is_served(stack, path):
    assert stack.get(f"/mlflow/static-files/{path}").status_code == 404


def test_without_the_session_and_from_other_names_nothing_is_served(stack):
    paths = ("/mlflow/", "/mlflow/ajax-api/2.0/mlflow/runs/get", "/mlflow/get-artifact?run_uuid=r1&path=page.html")
    for path in paths:
        assert stack.get(path, host="evil.test").status_code == 403
    assert stack.get(f"/mlflow/?{TOKEN}=x").status_code == 200  # the session that is open
    stack.browser = Client(stack.browser.application)
    assert [stack.get(path).status_code for path in paths] == [403] * 3
    assert stack.requests == []


# -- requests ---------------------------------------------------------------------------------------------------------
def test_reads_are_passed_on_with_their_query_as_signatures_want_it(stack):
    found = stack.get("/mlflow/ajax-api/2.0/mlflow/model-versions/search?filter=name%3D'a+b'&order_by=x&order_by=y")
    assert found.get_json() == stack.answers["GET model-versions/search"]
    assert stack.requests[0].url.raw_path.endswith(
        b"/mlflow/api/2.0/mlflow/model-versions/search?filter=name%3D%27a%20b%27&order_by=x&order_by=y"
    )
    assert stack.send("POST", "/mlflow/ajax-api/2.0/mlflow/runs/search", {"filter": ""}).status_code == 200
    assert json.loads(stack.requests[1].content) == {"filter": ""}


@pytest.mark.parametrize(
    ("method", "endpoint"), [("POST", "runs/delete"), ("DELETE", "model-versions/delete"), ("PATCH", "runs/search")]
)
def test_a_read_only_console_changes_nothing(stack, method, endpoint):
    refused = stack.send(method, f"/mlflow/ajax-api/2.0/mlflow/{endpoint}")
    assert (refused.status_code, refused.get_json()["error_code"]) == (403, "PERMISSION_DENIED")
    assert "--allow-actions" in refused.get_json()["message"]
    assert stack.requests == []


def test_with_actions_changes_are_passed_on_unless_another_site_sends_them(tmp_path):
    stack = Stack(tmp_path / "build", allows_actions=True)
    path = "/mlflow/ajax-api/2.0/mlflow/runs/delete"
    for origin in ("http://evil.test", "null", None, "http://127.0.0.1:9999"):
        assert stack.send("POST", path, {"run_id": "r1"}, origin=origin).status_code == 403
    assert stack.requests == []
    assert stack.send("POST", path, {"run_id": "r1"}).status_code == 200
    assert stack.send("DELETE", "/mlflow/ajax-api/2.0/mlflow/model-versions/delete").status_code == 200


@pytest.mark.parametrize(
    "path",
    ["ajax-api/2.0/mlflow/users/current", "ajax-api/3.0/mlflow/ui-telemetry", "ajax-api/2.0/mlflow/runs/../../x", "x"],
)
def test_what_the_stack_does_not_serve_is_not_asked_of_it(stack, path):
    found = stack.get(f"/mlflow/{path}")
    assert (found.status_code, found.get_json()["error_code"]) == (404, "ENDPOINT_NOT_FOUND")
    assert stack.requests == []


def test_addresses_that_s3_signs_do_not_exist_so_that_pages_read_artifacts_here(stack):
    path = "/mlflow/ajax-api/2.0/mlflow/artifacts/presigned-download-url"
    assert stack.send("POST", path, {"run_id": "r1"}).status_code == 404


def test_the_gateway_has_no_endpoints_which_is_no_error(stack):
    assert stack.get("/mlflow/ajax-api/2.0/mlflow/gateway-proxy?gateway_path=x").get_json() == {"endpoints": []}


def test_errors_of_the_api_are_passed_on(stack):
    stack.answers.clear()
    found = stack.get("/mlflow/ajax-api/2.0/mlflow/runs/get?run_id=x")
    assert (found.status_code, found.get_json()["message"]) == (404, "no such run")


# -- GraphQL ----------------------------------------------------------------------------------------------------------
def test_a_run_has_what_its_query_selects_and_nothing_is_missing(stack):
    found = stack.query(GET_RUN, runId="r1")["data"]["mlflowGetRun"]
    assert found["apiError"] is None
    assert found["run"] == {
        "__typename": "Mlflow",
        "info": {"runUuid": "r1", "startTime": "1700000000000", "endTime": None},
        "experiment": {"name": "Study", "tags": []},
        "modelVersions": [{"name": "m", "version": "1"}],
        "data": {"metrics": [{"key": "auc", "value": 0.9, "step": "3"}], "params": []},
        "inputs": {
            "datasetInputs": [{"dataset": {"name": "train", "sourceType": "s3", "profile": None}}],
            "modelInputs": [],
        },
        "outputs": {"modelOutputs": []},
    }


def test_the_other_queries(stack):
    experiment = "query E { mlflowGetExperiment(input: $input) { experiment { name experimentId } } }"
    found = stack.query(experiment, experimentId="7")["data"]
    assert found == {"mlflowGetExperiment": {"experiment": {"name": "Study", "experimentId": "7"}}}
    runs = "query S { mlflowSearchRuns(input: $data) { runs { info { runUuid } } } }"
    assert stack.query(runs, experimentIds=["7"])["data"] == {
        "mlflowSearchRuns": {"runs": [{"info": {"runUuid": "r1"}}]}
    }
    history = "query H { mlflowGetMetricHistoryBulkInterval(input: $data) { metrics { runId step value } } }"
    found = stack.query(history, runIds=["r1", "r2"], metricKey="auc", startStep=None)["data"]
    assert found == {"mlflowGetMetricHistoryBulkInterval": {"metrics": [{"runId": "r1", "step": "1", "value": 2.0}]}}
    assert stack.requests[-1].url.query == b"run_ids=r1&run_ids=r2&metric_key=auc"


def test_what_the_api_refuses_is_the_query_s_error_and_another_query_is_refused(stack):
    stack.answers.clear()
    found = stack.query(GET_RUN, runId="x")["data"]["mlflowGetRun"]
    assert found["apiError"] == {
        "code": "RESOURCE_DOES_NOT_EXIST",
        "message": "no such run",
        "__typename": "Mlflow",
    }
    assert found["run"] is None
    assert "no query" in stack.send("POST", "/mlflow/graphql", ["not", "an object"]).get_json()["message"]
    for query in ("mutation M { deleteEverything }", "", "query {", "{ __schema { types { name } } }"):
        assert "no query" in stack.query(query)["message"]


def test_selections_leave_out_arguments_and_directives():
    found = read_selection(
        'query A($x: B!) @c(name: "d") { one(input: $x) { two @include(if: $y) three { four } } five }'
    )
    assert found == {"one": {"two": None, "three": {"four": None}}, "five": None}


# -- artifacts --------------------------------------------------------------------------------------------------------
def test_an_artifact_is_saved_and_never_runs_as_a_page(stack):
    found = stack.get("/mlflow/get-artifact?run_uuid=r1&path=page.html")
    assert found.data == b"<script>steal()</script>"
    assert (found.mimetype, found.headers["Content-Disposition"]) == ("application/octet-stream", "attachment")
    assert found.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
    assert found.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("get-artifact?run_uuid=r1&path=nothing", 404),
        ("get-artifact?run_uuid=r1&path=../../secret", 400),
        ("get-artifact?run_uuid=r1", 400),
        ("get-artifact?run_uuid=r1&path=/etc/passwd", 400),
        ("model-versions/get-artifact?path=MLmodel&name=m&version=1", 404),
        ("ajax-api/2.0/mlflow/logged-models/m-1/artifacts/files?artifact_file_path=x", 400),
    ],
)
def test_only_artifacts_of_the_bucket_of_models_are_read(stack, path, status):
    found = stack.get(f"/mlflow/{path}")
    assert found.status_code == status
    assert found.get_json()["message"]


@pytest.mark.parametrize(
    ("code", "status"), [("NoSuchKey", 404), ("AccessDenied", 404), ("SlowDown", 502), ("ExpiredToken", 502)]
)
def test_an_artifact_that_s3_does_not_return_is_there_or_not_by_its_error(stack, monkeypatch, code, status):
    def refuse(**_: Any) -> None:
        raise ClientError({"Error": {"Code": code, "Message": "so says S3"}}, "GetObject")

    monkeypatch.setattr(stack, "get_object", refuse)
    found = stack.get("/mlflow/get-artifact?run_uuid=r1&path=page.html")
    assert found.status_code == status
    assert "so says S3" in found.get_json()["message"]


@pytest.mark.parametrize(
    "body",
    [
        {"query": "{" * 3_000},
        {"query": GET_RUN, "variables": [1]},
        {"query": GET_RUN, "variables": "abc"},
        {"query": GET_RUN, "variables": {"data": "r1"}},
        {"query": "{ mlflowGetRun }"},
        [],
    ],
)
def test_no_query_is_a_fault_of_the_console(stack, body):
    found = stack.send("POST", "/mlflow/graphql", body)
    assert found.status_code in (200, 400, 502)
    assert found.is_json


def test_what_no_page_sends_is_refused_in_mlflows_form(stack):
    for found in (
        stack.get("/mlflow/static-files/a%00b.js"),
        stack.get(f"/mlflow/ajax-api/2.0/mlflow/runs/get?run_id={'x' * 70_000}"),
        stack.send("POST", "/mlflow/graphql", {"query": "x" * 6_000_001}),
    ):
        assert found.status_code in (400, 404, 413)
        assert found.get_json()["message"]


# -- where the pages are ----------------------------------------------------------------------------------------------
def make_environment(folder: Path, *, has_pages: bool = True) -> Path:
    """Write an environment with MLflow, whose Python is this one with another path; return its Python."""
    package = folder / "lib" / "mlflow"
    build = package / "server" / "js" / "build"
    build.mkdir(parents=True)
    (package / "__init__.py").write_text("raise AssertionError('it was imported')", encoding="utf-8")
    (package / "version.py").write_text('VERSION = "3.17.2"\n', encoding="utf-8")
    if has_pages:
        (build / "index.html").write_text("<html></html>", encoding="utf-8")
    python = folder / "bin" / "python"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{folder / "lib"}" exec "{sys.executable}" "$@"\n', encoding="utf-8")
    python.chmod(0o755)
    return python


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    """Leave no environment but those that a test names."""
    monkeypatch.setattr(installed_pages.importlib.util, "find_spec", lambda _: None)
    for variable in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        monkeypatch.delenv(variable, raising=False)
    (tmp_path / "mlflow").mkdir()  # of the user's project, in the working directory
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    return monkeypatch.setenv


@pytest.mark.skipif(os.name == "nt", reason="the interpreter of the test is a shell script")
@pytest.mark.parametrize("way", ["named", "VIRTUAL_ENV", "CONDA_PREFIX", "mlflow", "python3"])
def test_mlflow_is_found_in_another_environment_and_not_imported(nowhere, tmp_path, way):
    python = make_environment(tmp_path / "env")
    if way in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        nowhere(way, str(tmp_path / "env"))
    elif way in ("mlflow", "python3"):
        (tmp_path / "bin").mkdir()
        script = python if way == "python3" else python.with_name("mlflow")
        if way == "mlflow":
            script.write_text("#!/bin/sh\n", encoding="utf-8")
            script.chmod(0o755)
        (tmp_path / "bin" / way).symlink_to(script)
        nowhere("PATH", f"{tmp_path / 'bin'}:/bin:/usr/bin")
    found = find_pages(python if way == "named" else None)
    assert found == InstalledPages(tmp_path / "env" / "lib" / "mlflow" / "server" / "js" / "build", "3.17.2")


@pytest.mark.usefixtures("nowhere")
def test_without_mlflow_the_remedy_is_to_install_it(tmp_path):
    with pytest.raises(RefusedError, match="no MLflow is installed") as refused:
        find_pages()
    assert refused.value.hint.startswith("install it: pip install mlflow; or name the Python")
    with pytest.raises(RefusedError, match="has no MLflow") as refused:
        find_pages(Path(sys.executable))
    assert refused.value.hint == f"install it: {sys.executable} -m pip install mlflow"


@pytest.mark.parametrize("python", ["no-python", ".", "/etc/passwd", "/bin/false"])
def test_what_is_no_python_is_said_to_be_none(tmp_path, python):
    with pytest.raises(RefusedError, match="is no Python that runs"):
        find_pages(tmp_path / python)


@pytest.mark.usefixtures("nowhere")
def test_mlflow_skinny_has_no_pages(tmp_path):
    python = make_environment(tmp_path / "env", has_pages=False)
    with pytest.raises(RefusedError, match="mlflow-skinny leaves them out") as refused:
        find_pages(python)
    assert refused.value.hint == f"install the whole of it there: {python} -m pip install mlflow"
