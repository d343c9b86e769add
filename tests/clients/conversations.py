"""Conversations of other people's clients with a server, and what has to come of them.

The clients want packages that contradict ours, so each runs in the environment that ``make tools`` gives them.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import millrace
import pytest

from tests.rounding import rounded
from tests.serving_models import CHURN_RECORD
from tests.template.template_file import ROOT

TOOLS = ROOT / ".millrace" / "tools"
SCRIPTS = Path(__file__).with_name("scripts")


def run(script: str, *arguments: str, tool: str = "clients", seconds: int = 300, **variables: str) -> dict[str, Any]:
    """Run a client; without one the test is skipped on a laptop, and fails where everything must run."""
    python = TOOLS / tool / "bin" / "python"
    if not python.exists():
        if os.environ.get("CI") == "true":
            pytest.fail("the clients are not installed; `make tools` does it")
        pytest.skip("the clients are not installed; `make tools` does it")
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", str(ROOT)), "NO_PROXY": "127.0.0.1"}
    environment |= variables
    done = subprocess.run(
        [str(python), str(SCRIPTS / script), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
    )
    assert done.returncode == 0, done.stderr[-8_000:]
    return dict(json.loads(done.stdout.splitlines()[-1]))


def talk_with_kserve(url: str, model: str, expected: dict[str, Any]) -> None:
    """KServe's client understands both protocols; ``expected`` is the prediction of ``CHURN_RECORD``."""
    found = run("ask_kserve.py", url, json.dumps(CHURN_RECORD), model)
    assert [found[key] for key in ("live", "ready", "model_ready", "live_v1", "model_ready_v1")] == [True] * 5
    assert found["unknown_model_ready"] is False
    assert found["id"] == "r-1"
    assert found["label"] == [expected["label"]]
    assert found["probabilities"] == found["from_numpy"] == [list(expected["probabilities"].values())]
    assert found["outputs"] == ["probabilities"]
    assert found["predictions_v1"] == [expected]
    assert found["refusal"] == "the rows have 1 bad field: age is missing, '400 Bad Request' "


def talk_with_triton(url: str, model: str, expected: dict[str, Any]) -> None:
    """Triton's client understands JSON."""
    found = run("ask_triton.py", url, json.dumps(CHURN_RECORD), model)
    assert [found[key] for key in ("live", "ready", "model_ready", "version_ready")] == [True] * 4
    assert found["unknown_model_ready"] is False
    assert (found["server"], found["inputs"]) == ("millrace", list(CHURN_RECORD))
    assert found["id"] == "r-1"
    assert found["label"] == [expected["label"]]
    assert found["probabilities"] == [list(expected["probabilities"].values())]
    assert found["outputs"] == ["probabilities"]
    assert found["missing"] == "balance 1 value missing"
    assert found["refusal"] == ["400", "the rows have 1 bad field: age is missing"]


def talk_with_mlflow(url: str, model: str, expected: dict[str, Any]) -> None:
    """MLflow's client understands every shape that it writes."""
    found = run("ask_mlflow.py", url, json.dumps(CHURN_RECORD), model)
    assert found["version"] == millrace.__version__
    assert found["columns"] == ["label", "probabilities", "decision"]
    assert found["from_list"] == found["from_array"] == [expected]
    assert rounded(found["from_frame"][:1]) == rounded([expected])
    assert len(found["from_frame"]) == 2
    assert "error code 400" in found["refusal"]
    assert '"field": "age"' in found["refusal"]


def send_what_the_document_makes(url: str, model: str, examples: int) -> int:
    """Send what schemathesis makes of the OpenAPI document; returns how many requests that were."""
    tried = run("fuzz_openapi.py", url, str(examples), model)
    assert len(tried) == 6
    return sum(tried.values())
