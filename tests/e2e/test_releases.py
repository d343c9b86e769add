"""Releases on the deployed stack: shares by key, the schedule that evaluates, people's changes, a rollback.

A stage without a least time (``bake: 0m``) ends at the first evaluation with enough requests. Monitoring requests one
after each of its runs, so nothing here waits five minutes.
"""

import json
import time
from collections import Counter
from typing import Any

import pytest
from botocore.exceptions import ClientError
from millrace_cli.commands.monitor import run_monitoring

from tests.e2e.conftest import DeployedStack, wait_until
from tests.serving_models import CHURN_RECORD

pytestmark = pytest.mark.e2e

MODEL = "gradual"
REQUESTS = 24


class Releases:
    """A model with a champion and two candidates, of which version 3 cannot be loaded, and its callers."""

    def __init__(self, stack: DeployedStack) -> None:
        self.stack = stack
        self.callers = 0
        self.served: Counter[int] = Counter()
        stack.serve_churn(MODEL)
        stack.register_churn(MODEL, 2, seed=2)
        stack.register_churn(MODEL, 3, onnx=b"no model at all")

    def start(self, version: int, *steps: float) -> str:
        body = {"version": version, "strategy": "canary", "steps": steps, "bake": "0m", "min_requests": 10}
        started = self.stack.api.post(f"/models/{MODEL}/releases", {**body, "reason": "try it"})
        return str(started["release"]["release_id"])

    def change(self, action: str) -> Any:
        return self.stack.api.post(f"/models/{MODEL}/releases/active/{action}", {"reason": "by hand"})["release"]

    def read(self, release_id: str) -> Any:
        return self.stack.api.get(f"/models/{MODEL}/releases/{release_id}")

    def predict(self, requests: int = REQUESTS) -> Counter[int]:
        """Predict for callers with keys of their own, and count their answers by version; nobody sees an error."""
        served: Counter[int] = Counter()
        for _ in range(requests):
            self.callers += 1
            record = CHURN_RECORD | {"customer_id": f"C-{self.callers}"}
            answer = self.stack.api.post(f"/models/{MODEL}/invocations", {"dataframe_records": [record]})
            served[answer["model_version"]] += 1
        return served

    def predict_until(self, version: int) -> None:
        """Predict until a version is among those that answer: environments read the plan every five seconds."""
        wait_until(f"version {version} serves", lambda: self.predict(4)[version])

    def evaluate(self, release_id: str, *statuses: str, stage: int = 0) -> Any:
        """Predict and monitor until an evaluation has brought a release to a status, or past a stage."""

        def reached() -> Any:
            self.served += self.predict()
            run_monitoring(self.stack.api, MODEL, 0.2)
            found = self.read(release_id)
            return found if found["status"] != "running" or found["stage"] > stage else None

        found = wait_until(f"the release is {' or '.join(statuses)}", reached)
        assert found["status"] in (*statuses, "running"), found
        return found

    def find_schedule(self) -> Any:
        group = self.stack.resource("ReleaseSchedules")
        try:
            return self.stack.client("scheduler").get_schedule(GroupName=group, Name=MODEL)
        except ClientError as error:
            if error.response["Error"]["Code"] != "ResourceNotFoundException":
                raise
            return None


@pytest.fixture(scope="module")
def releases(stack: DeployedStack) -> Releases:
    return Releases(stack)


def test_a_canary_advances_and_its_schedule_completes_it(stack: DeployedStack, releases: Releases) -> None:
    release_id = releases.start(2, 40.0, 60.0)
    releases.predict_until(2)
    schedule = wait_until("the schedule exists", releases.find_schedule)
    advanced = releases.evaluate(release_id, "completed")
    assert (advanced["status"], advanced["stage"], advanced["weight"]) == ("running", 1, 0.6)
    assert set(releases.served) == {1, 2}

    # The same target and role as the schedule of every five minutes, which nobody waits for here.
    now = {name: schedule[name] for name in ("GroupName", "FlexibleTimeWindow", "Target")}
    once = {"ScheduleExpression": "at(2026-01-01T00:00:00)", "ActionAfterCompletion": "DELETE"}

    def completed() -> Any:
        # Requests of environments that still have the plan of the stage before count for that stage.
        releases.predict()
        stack.client("scheduler").create_schedule(Name=f"{MODEL}-now", **now, **once)
        wait_until("the schedule fired", lambda: not is_scheduled(stack, schedule["GroupName"], f"{MODEL}-now"))
        time.sleep(1.0)
        found = releases.read(release_id)
        return found if found["status"] == "completed" else None

    done = wait_until("the release is completed", completed)
    assert [change["action"] for change in done["changes"]] == [
        "release_started",
        "release_advanced",
        "model_promoted",
        "release_completed",
    ]
    assert done["changes"][-1]["actor"] == "evaluate_release"
    assert stack.api.get(f"/models/{MODEL}")["aliases"] == {"champion": 2}
    assert (
        stack.api.get(f"/models/{MODEL}/dora")["all"]["deployments"] == 1
    )  # of version 1, the test wrote no promotion


def is_scheduled(stack: DeployedStack, group: str, name: str) -> bool:
    return any(one["Name"] == name for one in stack.client("scheduler").list_schedules(GroupName=group)["Schedules"])


def test_people_pause_resume_and_abort(releases: Releases) -> None:
    release_id = releases.start(1, 50.0)
    assert releases.change("pause")["status"] == "paused"
    assert releases.change("resume")["status"] == "running"
    assert releases.change("abort")["status"] == "aborted"
    wait_until("the champion serves everything", lambda: set(releases.predict(8)) == {2})
    assert [change["action"] for change in releases.read(release_id)["changes"]] == [
        "release_started",
        "release_paused",
        "release_resumed",
        "release_aborted",
    ]


def test_a_candidate_that_cannot_be_loaded_is_rolled_back_and_no_caller_saw_it(
    stack: DeployedStack, releases: Releases
) -> None:
    release_id = releases.start(3, 50.0)
    releases.served.clear()
    ended = releases.evaluate(release_id, "rolled_back")
    assert set(releases.served) == {2}
    assert ended["status"] == "rolled_back", ended
    assert "the guard errors finds the candidate worse" in ended["decision"]
    assert stack.api.get(f"/models/{MODEL}")["aliases"]["champion"] == 2
    # The next evaluation finds nothing to do.
    schedule = releases.find_schedule()
    function, payload = schedule["Target"]["Arn"], schedule["Target"]["Input"]
    result = stack.client("lambda").invoke(FunctionName=function, Payload=payload)["Payload"].read()
    assert json.loads(result)["outcome"] == "idle"
    assert releases.find_schedule() is None
