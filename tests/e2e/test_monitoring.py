"""Monitoring on the deployed stack, under the roles of the template: a shift is told once, and asks for a run once."""

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import PATIENCE_SECONDS, DeployedStack, make_table, read_features

pytestmark = pytest.mark.e2e

MODEL = "watched"
#: One window of a few rows is enough to be told of, so that the test need not send hours of traffic.
QUICK = {"min_rows": 60, "breaches": 1, "windows": 1}
ROW_VERDICTS = ("data_quality", "skew", "feature_drift", "feature_change", "dependence", "prediction_drift")


def monitor(stack: DeployedStack) -> dict[str, Any]:
    """Run the pipeline for the one model; returns what came of it."""
    states = stack.client("stepfunctions")
    started = states.start_execution(
        stateMachineArn=stack.target.output("MonitoringPipelineArn"), input=json.dumps({"model": MODEL})
    )
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        found = states.describe_execution(executionArn=started["executionArn"])
        if found["status"] != "RUNNING":
            assert found["status"] == "SUCCEEDED", found
            (outcome,) = json.loads(found["output"])["monitored"]
            return dict(outcome)
        time.sleep(0.2)
    raise AssertionError("the monitoring pipeline is still running")


def captured_objects(stack: DeployedStack) -> int:
    prefix = f"captures/{MODEL}/"
    listed = stack.client("s3").list_objects_v2(Bucket=stack.target.output("DataBucketName"), Prefix=prefix)
    return int(listed["KeyCount"])


def wait_until(what: str, condition: Any) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.3)


def test_a_shift_is_told_once_and_asks_for_a_run(stack: DeployedStack, tmp_path: Path) -> None:
    table = make_table(tmp_path / "watched.csv", n_rows=400)
    assert stack.wait_for(stack.upload(MODEL, table)).status == "succeeded"
    spec = {"monitoring": dict.fromkeys(ROW_VERDICTS, QUICK)}
    stack.api.put(f"/models/{MODEL}/spec", {"spec": spec, "expected_revision": None, "reason": "a quick test"})
    assert monitor(stack) == {"model": MODEL, "outcome": "nothing_new"}

    rows = [row | {"age": 200} for row in read_features(table)[0][:120]]
    stack.api.post(f"/models/{MODEL}/invocations", {"dataframe_records": rows})
    wait_until("the rows are captured", lambda: captured_objects(stack) > 0)
    assert monitor(stack)["outcome"] == "judged"

    data = stack.target.output("DataBucketName")
    body = stack.client("s3").get_object(Bucket=data, Key=f"monitoring/{MODEL}/reports/latest.json")["Body"].read()
    report = json.loads(body)
    assert {incident["event"] for incident in report["incidents"]} >= {"DriftDetected", "DataQualityDegraded"}
    assert datetime.fromisoformat(report["made_at"]) <= datetime.now(UTC)

    # A run ended minutes ago, so the cooldown of retraining holds this one back; the ledger tells of it, once.
    def asked() -> list[dict[str, Any]]:
        entries = stack.api.get(f"/models/{MODEL}/ledger")["entries"]
        return [entry for entry in entries if entry["actor"] == "monitoring"]

    wait_until("the drift asks for a run", asked)
    assert monitor(stack)["outcome"] == "nothing_new"
    (entry,) = asked()
    assert entry["action"] == "trigger_skipped"
