"""Captured predictions and feedback on the deployed stack: nothing is lost, nothing is there twice."""

import base64
import gzip
import json
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from millrace.aws.object_store import S3ObjectStore
from millrace.captures.joining import join_window
from millrace.captures.window import ReadReport, iterate_rows, read_window

from tests.e2e.conftest import PATIENCE_SECONDS, DeployedStack, make_table, read_features
from tests.limits import within

pytestmark = pytest.mark.e2e

MODEL = "swap"
HOUR = timedelta(hours=1)


class Traffic:
    """Asks for predictions and reports outcomes, and remembers both."""

    def __init__(self, stack: DeployedStack, rows: list[dict[str, Any]]) -> None:
        self.stack = stack
        self.rows = rows
        self.versions: dict[str, int] = {}
        self.outcomes: dict[str, str] = {}
        self.failures: list[Exception] = []

    def ask(self, n_rows: int) -> None:
        """Ask for predictions, and report the outcome of every second one at once."""
        reply = self.stack.api.post(f"/models/{MODEL}/invocations", {"dataframe_records": self.rows[:n_rows]})
        names = [f"{reply['prediction_id']}-{row}" for row in range(n_rows)]
        self.versions |= dict.fromkeys(names, reply["model_version"])
        self.report(dict(zip(names[::2], "01" * n_rows, strict=False)))

    def report(self, outcomes: dict[str, str]) -> None:
        """Send outcomes; what was answered is durable."""
        reports = [{"prediction_id": name, "outcome": outcome} for name, outcome in outcomes.items()]
        receipt = self.stack.api.post(f"/models/{MODEL}/feedback", {"feedback": reports})
        assert receipt["received"] == len(outcomes)
        self.outcomes |= outcomes

    def keep_asking(self, stop: threading.Event) -> None:
        """Ask until told to stop; every kind of failure counts."""
        while not stop.is_set():
            try:
                self.ask(2)
            except Exception as error:  # noqa: BLE001 - it is looked at by the test
                self.failures.append(error)
            stop.wait(0.1)


@pytest.fixture(scope="module")
def traffic(stack: DeployedStack, tmp_path_factory: pytest.TempPathFactory) -> Traffic:
    """Predictions and feedback sent before, during and after a new version took over."""
    folder: Path = tmp_path_factory.mktemp("tables")
    table = make_table(folder / "first.csv")
    stack.replace_champions(MODEL)
    assert stack.wait_for(stack.upload(MODEL, table)).status == "succeeded"
    traffic = Traffic(stack, read_features(table)[0])
    for n_rows in (1, 3, 120):
        traffic.ask(n_rows)
    stop = threading.Event()
    asking = threading.Thread(target=traffic.keep_asking, args=(stop,))
    asking.start()
    try:
        snapshot = stack.wait_for(stack.upload(MODEL, make_table(folder / "more.csv", n_rows=600, seed=9)))
        champion = stack.api.get(f"/models/{MODEL}")["aliases"]["champion"]
        for _ in within(PATIENCE_SECONDS, pause=0.2):
            if traffic.failures or list(traffic.versions.values())[-1] == champion:
                break
    finally:
        stop.set()
        asking.join()
    assert snapshot.status == "succeeded"
    for n_rows in (1, 3, 120):
        traffic.ask(n_rows)
    # Late, corrected and repeated: all of it holds as it was said last.
    traffic.report({name: "1" for name, outcome in list(traffic.outcomes.items())[:40] if outcome == "0"})
    traffic.report(dict(list(traffic.outcomes.items())[-100:]))
    return traffic


def data_store(stack: DeployedStack) -> S3ObjectStore:
    return S3ObjectStore(stack.client("s3"), stack.target.output("DataBucketName"))


def captured_ids(stack: DeployedStack, expected: int) -> Counter[str]:
    """Every prediction id as it lies in the bucket, once so many are there."""
    now = datetime.now(UTC)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        report = ReadReport()
        found = Counter(
            row.prediction_id for row in iterate_rows(data_store(stack), MODEL, now - HOUR, now + HOUR, report)
        )
        assert report.complete, report
        if len(found) >= expected or time.monotonic() > deadline:
            return found
        time.sleep(0.5)


def test_predictions_and_feedback_around_a_swap_are_all_found_joined_exactly_once(
    stack: DeployedStack, traffic: Traffic
) -> None:
    found = captured_ids(stack, len(traffic.versions))
    now = datetime.now(UTC)
    window = read_window(data_store(stack), MODEL, now - HOUR, now + HOUR)
    joined = join_window(data_store(stack), window, now + HOUR)

    assert traffic.failures == []
    assert set(traffic.versions.values()) == {1, 2}
    assert found == Counter(dict.fromkeys(traffic.versions, 1))
    assert dict(zip(window.prediction_ids, window.versions.tolist(), strict=True)) == traffic.versions
    outcomes = dict(zip(window.prediction_ids, joined.outcomes, strict=True))
    assert {name: outcome for name, outcome in outcomes.items() if outcome is not None} == traffic.outcomes
    assert joined.report.unmatched == 0
    coverage = stack.api.get(f"/models/{MODEL}/feedback", {"hours": "2"})
    assert (coverage["predictions"], coverage["labelled"]) == (len(traffic.versions), len(traffic.outcomes))
    assert [part["version"] for part in coverage["versions"]] == [1, 2]


def test_what_the_log_delivers_again_is_there_already(stack: DeployedStack, traffic: Traffic) -> None:
    before = captured_ids(stack, len(traffic.versions))
    logs, group = stack.client("logs"), stack.resource("PredictLogGroup")
    pages = logs.get_paginator("filter_log_events").paginate(logGroupName=group)
    by_stream: dict[str, list[dict[str, Any]]] = {}
    for page in pages:
        for event in page["events"]:
            if "millrace.capture" in event["message"] and f'"{MODEL}"' in event["message"]:
                by_stream.setdefault(event["logStreamName"], []).append(event)
    delivered = repeated = 0
    for stream, events in by_stream.items():
        for part in (events[1::2], events):
            again = [{"id": f"again-{n}", "timestamp": 0, "message": event["message"]} for n, event in enumerate(part)]
            document = {"messageType": "DATA_MESSAGE", "logGroup": group, "logStream": stream, "logEvents": again}
            data = base64.b64encode(gzip.compress(json.dumps(document).encode())).decode()
            answer = stack.client("lambda").invoke(
                FunctionName=stack.resource("DeliverCapturesFunction"),
                Payload=json.dumps({"awslogs": {"data": data}}).encode(),
            )
            payload = json.loads(answer["Payload"].read())
            assert "FunctionError" not in answer, payload
            delivered += sum(payload["delivered"].values())
            repeated += payload["repeated"]

    assert delivered == 0
    assert repeated >= len(traffic.versions)
    assert captured_ids(stack, len(traffic.versions)) == before


def test_captured_requests_are_replayed_through_the_version_before(stack: DeployedStack, traffic: Traffic) -> None:
    captured_ids(stack, len(traffic.versions))
    replay = stack.api.post(f"/models/{MODEL}/replays", {"version": 1, "since": "1h"})["replay"]
    for _ in within(PATIENCE_SECONDS, pause=0.5):
        document = stack.api.get(f"/models/{MODEL}/replays/{replay['replay_id']}")
        if (replay := document["replay"])["status"] not in ("requested", "running"):
            break
    assert replay["status"] == "succeeded", replay
    assert (replay["baseline"], replay["candidate"]) == (2, 1)
    assert (replay["counts"]["replayed"], replay["labelled"]) == (len(traffic.versions), len(traffic.outcomes))
    tested = replay["self_test"]
    assert tested["equal"] == tested["compared"] == sum(version == 2 for version in traffic.versions.values())
    assert {one["metric"] for one in replay["metrics"]} >= {"accuracy", "log_loss"}
    assert all((one["value"] is None) == bool(one["reason"]) for one in replay["estimates"])
    assert b"Replay of captured requests" in data_store(stack).get(document["page"])


def test_a_prediction_is_explained(stack: DeployedStack, traffic: Traffic) -> None:
    reply = stack.api.post(
        f"/models/{MODEL}/invocations", {"dataframe_records": traffic.rows[:1], "params": {"explain": True}}
    )
    (told,) = reply["explanations"]
    assert told["base_value"] + sum(told["attributions"].values()) == pytest.approx(told["prediction"], abs=1e-5)
