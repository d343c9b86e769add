"""Other people's clients, unmodified, against the real handler behind HTTP on this machine.

They want packages that contradict ours, so each runs in the environment that ``make tools`` gives them.
"""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import millrace
import pytest

from tests.gateway import call, memory_handler, serve
from tests.serving_models import CHURN_RECORD
from tests.template.template_file import ROOT

PYTHON = ROOT / ".millrace" / "tools" / "clients" / "bin" / "python"
SCRIPTS = Path(__file__).with_name("scripts")
#: Requests of each kind and operation; more on demand.
EXAMPLES = os.environ.get("FUZZ_EXAMPLES", "40")


@pytest.fixture(scope="module")
def endpoint() -> Iterator[tuple[str, dict[str, Any]]]:
    """The address, and the prediction of one row as MLflow's dialect has it."""
    with memory_handler() as handler, serve(handler) as url:
        _, reply = call(handler, "POST", "/models/churn/invocations", {"dataframe_records": [CHURN_RECORD]})
        yield url, reply["predictions"][0]


def run(script: str, *arguments: str) -> dict[str, Any]:
    """Run a client; without one the test is skipped on a laptop, and fails where everything must run."""
    if not PYTHON.exists():
        if os.environ.get("CI") == "true":
            pytest.fail("the clients are not installed; `make tools` does it")
        pytest.skip("the clients are not installed; `make tools` does it")
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", str(ROOT)), "NO_PROXY": "127.0.0.1"}
    done = subprocess.run(  # noqa: S603 - the project's own scripts
        [str(PYTHON), str(SCRIPTS / script), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-8_000:]
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_kserves_client_understands_the_answers(endpoint):
    url, expected = endpoint
    found = run("ask_kserve.py", url, json.dumps(CHURN_RECORD))
    assert [found[key] for key in ("live", "ready", "model_ready", "live_v1", "model_ready_v1")] == [True] * 5
    assert found["unknown_model_ready"] is False
    assert found["id"] == "r-1"
    assert found["label"] == [expected["label"]]
    assert found["probabilities"] == found["from_numpy"] == [list(expected["probabilities"].values())]
    assert found["outputs"] == ["probabilities"]
    assert found["predictions_v1"] == [expected]
    assert found["refusal"] == "the rows have 1 bad field: age is missing, '400 Bad Request' "


def test_tritons_client_understands_the_answers_in_json(endpoint):
    url, expected = endpoint
    found = run("ask_triton.py", url, json.dumps(CHURN_RECORD))
    assert [found[key] for key in ("live", "ready", "model_ready", "version_ready")] == [True] * 4
    assert found["unknown_model_ready"] is False
    assert (found["server"], found["inputs"]) == ("millrace", list(CHURN_RECORD))
    assert found["id"] == "r-1"
    assert found["label"] == [expected["label"]]
    assert found["probabilities"] == [list(expected["probabilities"].values())]
    assert found["outputs"] == ["probabilities"]
    assert found["missing"] == "balance 1 value missing"
    assert found["refusal"] == ["400", "the rows have 1 bad field: age is missing"]


def test_mlflows_client_understands_the_answers(endpoint):
    url, expected = endpoint
    found = run("ask_mlflow.py", url, json.dumps(CHURN_RECORD))
    assert found["version"] == millrace.__version__
    assert found["columns"] == ["label", "probabilities", "decision"]
    assert found["from_frame"][:1] == found["from_list"] == found["from_array"] == [expected]
    assert len(found["from_frame"]) == 2
    assert "error code 400" in found["refusal"]
    assert '"field": "age"' in found["refusal"]


def test_the_endpoint_keeps_what_its_openapi_document_promises(endpoint):
    url, _ = endpoint
    tried = run("fuzz_openapi.py", url, EXAMPLES)
    assert len(tried) == 6
    assert sum(tried.values()) > 250
