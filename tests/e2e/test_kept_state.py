"""A local stack that keeps its state: after `down` and after kill -9 its models serve, and nothing is lost."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from millrace_cli.api import ApiClient
from millrace_cli.commands.local import LogReader, start
from millrace_cli.local import stack as local_stack
from millrace_cli.local.kept import KeptState
from millrace_cli.local.project import Project, require_project
from millrace_cli.target import local_target
from millrace_cli.upload import Upload

from tests.e2e.conftest import DeployedStack, make_table, port_from, read_features, wait_until

MODEL = "kept"


@pytest.fixture
def project() -> Iterator[Project]:
    project = Project(require_project().root, local_name="e2e-kept")
    local_stack.down(project, delete=True)  # what a killed session left
    yield project
    local_stack.down(project, delete=True)
    assert not KeptState.under(project.local_dir).exists


@contextmanager
def running(project: Project) -> Iterator[DeployedStack]:
    state = start(project, port_from(4700), keep=True).state
    target = local_target(state)
    with ApiClient.for_target(target) as api:
        yield DeployedStack(project, state, target, api)


def observe(stack: DeployedStack, table: Path) -> dict[str, Any]:
    """Return what must survive: the predictions, the registry, the ledger, the objects and the logs' lines."""
    rows, _ = read_features(table)
    s3, bucket = stack.client("s3"), stack.target.output("DataBucketName")
    reader = LogReader(stack.client("logs"), stack.client("cloudformation"), stack.target.stack)
    keys = [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]]
    return {
        "predictions": stack.api.post(f"/models/{MODEL}/invocations", {"dataframe_records": rows[:20]})["predictions"],
        "model": stack.api.get(f"/models/{MODEL}"),
        "ledger": stack.api.get(f"/models/{MODEL}/ledger"),
        "versions": stack.api.get(f"/models/{MODEL}/versions"),
        "datasets": {key for key in keys if not key.startswith("captures/")},
        "logs": [line.message for line in reader.read("RegisterModel")],
    }


def wait_until_saved(project: Project) -> None:
    """Wait for the second save from now on, which began after now: saves are rarer while the machine is busy."""
    saved = KeptState.under(project.local_dir).folder / "state" / "dynamodb.json"

    def saved_at() -> int | None:
        return saved.stat().st_mtime_ns if saved.exists() else None

    for _ in range(2):
        before = saved_at()
        wait_until("the state is saved", lambda: saved_at() not in (None, before), 0.05)  # noqa: B023 - called at once


def kill(stack: DeployedStack) -> None:
    os.kill(stack.state.pid, signal.SIGKILL)


def test_models_serve_after_a_stop_and_after_a_kill_which_loses_no_upload(project, tmp_path):
    table = make_table(tmp_path / "table.csv")
    with running(project) as stack:
        stack.search_little(MODEL)
        assert stack.wait_for(stack.upload(MODEL, table)).status == "succeeded"
        before = observe(stack, table)
        assert before["logs"]
    local_stack.down(project)

    with running(project) as stack:
        assert observe(stack, table) == before
        upload, interrupted = kill_during_a_run(stack, project, tmp_path)
    assert local_stack.live_state(project) is None

    with running(project) as stack:
        after = observe(stack, table)
        assert after["predictions"] == before["predictions"]
        assert after["versions"]["versions"][-1] == before["versions"]["versions"][-1]
        assert after["datasets"] >= before["datasets"]
        assert after["ledger"]["entries"][-len(before["ledger"]["entries"]) :] == before["ledger"]["entries"]
        assert stack.wait_for(upload).status == "succeeded"  # by a second run
        runs = {run["run_id"]: run for run in stack.api.get(f"/models/{MODEL}/runs")["runs"]}
        assert runs[interrupted]["status"] == "failed"
        assert "the local stack was stopped" in runs[interrupted]["reasons"][0]


def kill_during_a_run(stack: DeployedStack, project: Project, folder: Path) -> tuple[Upload, str]:
    """Kill the stack while its kept state has an active run; returns the run's upload and its id."""
    for number in range(10):  # until a run lasts longer than a save takes
        upload = stack.upload(MODEL, make_table(folder / f"{number}.csv", seed=20 + number))
        active = wait_until("a run", lambda: stack.api.get(f"/models/{MODEL}")["active_run_id"], 0.05)
        wait_until_saved(project)
        if stack.api.get(f"/models/{MODEL}")["active_run_id"] == active:
            break
    kill(stack)
    return upload, active
