"""The loop closes by itself, under the roles of the template: a shift is told once, exactly one run follows it, its
version serves, and when the cause is gone the incident is over. Schedules fire, follow the spec, and go with
the model."""

import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from millrace_cli.commands.monitor import run_monitoring
from millrace_cli.errors import ApiError
from millrace_cli.timeline import build_timeline

from tests.e2e.conftest import PATIENCE_SECONDS, DeployedStack, make_table, read_features, wait_until

pytestmark = pytest.mark.e2e

MODEL = "watched"
#: Windows of a few rows are enough to be told of, so that the test need not send hours of traffic.
QUICK = {"min_rows": 60, "breaches": 1, "windows": 1}
ROW_VERDICTS = ("data_quality", "skew", "feature_drift", "feature_change", "dependence", "prediction_drift")
#: Findings of one window are closer together than this, so that they start one run.
COOLDOWN_SECONDS = 3.6
SPEC = {
    "monitoring": {**dict.fromkeys(ROW_VERDICTS, QUICK), "staleness": {"enabled": False}},
    "retraining": {"cooldown_hours": COOLDOWN_SECONDS / 3_600, "captured_rows": True},
    "training": {"trials": 2},
    "gate": {"margin": 0.5},  # eighty rows of a holdout cannot show that less than 0.02 is lost
}


class Watched:
    """The model under test: traffic, looks, and what came of them."""

    def __init__(self, stack: DeployedStack, rows: list[dict[str, Any]]) -> None:
        self.stack, self.rows = stack, rows
        self.windows = 0

    def serve(self, rows: list[dict[str, Any]], version: int) -> str:
        """Ask for predictions, and wait until they are captured; returns the response's id."""
        before = self.captured()
        reply = self.stack.api.post(f"/models/{MODEL}/invocations", {"dataframe_records": rows})
        assert reply["model_version"] == version
        wait_until("the rows are captured", lambda: self.captured() != before)
        return str(reply["prediction_id"])

    def report(self, prediction_id: str, rows: int) -> None:
        """Report ground truth of the first rows of a response: without a new row there is nothing new to learn."""
        reports = [{"prediction_id": f"{prediction_id}-{row}", "outcome": "1"} for row in range(rows)]
        self.stack.api.post(f"/models/{MODEL}/feedback", {"feedback": reports})

    def captured(self) -> dict[str, int]:
        listed = self.stack.client("s3").list_objects_v2(Bucket=self.bucket, Prefix=f"captures/{MODEL}/")
        return {found["Key"]: found["Size"] for found in listed.get("Contents", [])}

    def look(self) -> dict[str, Any]:
        """Look at once, as `millrace monitor --now` does; returns the incidents by event."""
        run_monitoring(self.stack.api, MODEL, 0.2, PATIENCE_SECONDS)
        report = self.stack.api.get(f"/models/{MODEL}/monitoring")["report"]
        return {incident["event"]: incident for incident in report["incidents"]}

    def runs(self, kind: str) -> list[dict[str, Any]]:
        runs = self.stack.api.get(f"/models/{MODEL}/runs")["runs"]
        return [run for run in runs if run["kind"] == kind]

    @property
    def bucket(self) -> str:
        return self.stack.target.output("DataBucketName")


@pytest.fixture(scope="module")
def watched(stack: DeployedStack, tmp_path_factory: pytest.TempPathFactory) -> Watched:
    table = make_table(tmp_path_factory.mktemp("watched") / "watched.csv", n_rows=400)
    stack.api.put(f"/models/{MODEL}/spec", {"spec": SPEC, "reason": "a quick test"})
    assert stack.wait_for(stack.upload(MODEL, table)).status == "succeeded"
    time.sleep(COOLDOWN_SECONDS)  # the upload's run may have been quicker
    return Watched(stack, read_features(table)[0])


def test_a_shift_closes_the_loop_and_its_end_ends_the_incident(watched: Watched) -> None:
    watched.report(watched.serve([row | {"age": 200} for row in watched.rows[:120]], version=1), rows=5)
    incidents = watched.look()
    assert incidents["DriftDetected"]["resolved_at"] is None
    assert any("age" in key for key in incidents["DriftDetected"]["troubles"])

    (run,) = wait_until("the drift starts a run", lambda: watched.runs("drift"))
    state = wait_until(
        "its version serves",
        lambda: (found := watched.stack.api.get(f"/models/{MODEL}"))["active_run_id"] is None and found,
    )
    assert state["aliases"]["champion"] == 2

    for _ in range(3):
        wait_until("version 2 answers", lambda: answers(watched) == 2)
        watched.serve(watched.rows, version=2)
        incidents = watched.look()
    assert incidents["DriftDetected"]["resolved_at"] is not None
    assert len(watched.runs("drift")) == 1

    entries = watched.stack.api.get(f"/models/{MODEL}/ledger")["entries"]
    (event,) = [event for event in build_timeline(entries, [run]) if event.kind == "drift"]
    assert "age" in event.happened
    *_, moved, resolved = event.consequences
    assert (moved, resolved.split()[0]) == ("champion moved from version 1 to version 2", "resolved")


def answers(watched: Watched) -> int:
    reply = watched.stack.api.post(f"/models/{MODEL}/invocations", {"dataframe_records": watched.rows[:1]})
    return int(reply["model_version"])


def test_a_schedule_fires_and_follows_the_spec(watched: Watched) -> None:
    scheduler, stack = watched.stack.client("scheduler"), watched.stack
    soon = datetime.now(UTC) + timedelta(seconds=2)
    said = {"schedule": f"at({soon:%Y-%m-%dT%H:%M:%S})", **SPEC["retraining"]}
    answer = stack.api.put(f"/models/{MODEL}/spec", {"spec": {**SPEC, "retraining": said}})
    assert len(answer["schedules"]) == 1
    group = stack.resource("RetrainingSchedules")
    kept = scheduler.get_schedule(GroupName=group, Name=MODEL)
    assert json.loads(kept["Target"]["Input"])["model"] == MODEL
    (run,) = wait_until("the schedule starts a run", lambda: watched.runs("schedule"))
    assert run["model"] == MODEL
    stack.api.put(f"/models/{MODEL}/spec", {"spec": SPEC})
    assert scheduler.list_schedules(GroupName=group)["Schedules"] == []
    wait_until("the run ends", lambda: stack.api.get(f"/models/{MODEL}")["active_run_id"] is None)


def test_a_deleted_model_stops_serving_and_leaves_no_schedule(watched: Watched) -> None:
    scheduler, stack = watched.stack.client("scheduler"), watched.stack
    groups = [stack.resource(name) for name in ("RetrainingSchedules", "MonitoringSchedules")]

    def scheduled() -> list[str]:
        found = [scheduler.list_schedules(GroupName=group)["Schedules"] for group in groups]
        return [schedule["Name"] for listed in found for schedule in listed]

    far_off = {"retraining": {"schedule": "rate(30 days)"}, "monitoring": {"schedule": "rate(30 days)"}}
    stack.api.put(f"/models/{MODEL}/spec", {"spec": far_off})
    assert scheduled() == [MODEL, MODEL]
    deletion = stack.api.delete(f"/models/{MODEL}", {"reason": "seen enough"})
    assert (deletion["outcome"], scheduled()) == ("deleted", [])

    def refused() -> bool:
        try:
            answers(watched)
        except ApiError as error:
            return error.status == httpx.codes.NOT_FOUND
        return False

    wait_until("nothing serves any more", refused)
    assert MODEL not in [state["model"] for state in stack.api.get("/models")["models"]]
    timeline = build_timeline(stack.api.get(f"/models/{MODEL}/ledger")["entries"], [])
    assert ("model_deleted", "seen enough") in [(event.kind, event.happened) for event in timeline]
    assert stack.api.delete(f"/models/{MODEL}", {"reason": "again"})["outcome"] == "already"
