"""A replay of captured requests from the API to its report, through the real handlers on moto."""

import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from millrace.aws.clients import object_store, registry
from millrace.layout import replay_key, schema_key
from millrace.spec import ModelSpec
from moto import mock_aws

from tests.integration.application import DATA_BUCKET, Application, deploy
from tests.integration.test_captures import MODEL, deliver, feedback, promote
from tests.integration.test_releases import register
from tests.serving_models import CHURN_RECORD, churn_schema

PATH, RESOURCE = f"/models/{MODEL}/replays", "/models/{model}/replays"


@pytest.fixture
def application(isolated_from_aws: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Application]:
    with mock_aws():
        app = deploy(monkeypatch)
        registry().put_spec(MODEL, ModelSpec())
        body = json.dumps(churn_schema().to_dict()).encode()
        boto3.client("s3").put_object(Bucket=DATA_BUCKET, Key=schema_key(MODEL, 1), Body=body)
        registry().set_schema_version(MODEL, 1)
        promote(1)
        register(2)
        yield app
        assert app.denied == []


def predict(application: Application, capfd: pytest.CaptureFixture[str], requests: int) -> list[str]:
    """Let callers predict, one row or three at a time; return the ids of the rows."""
    capfd.readouterr()
    found = []
    for number in range(requests):
        record = CHURN_RECORD | {"age": 18 + number % 60, "city": ["Oslo", "Lima", "Atlantis", None][number % 4]}
        rows = [record | {"customer_id": f"C-{number}-{row}"} for row in range(1 if number % 2 else 3)]
        status, reply = application.predict(MODEL, {"dataframe_records": rows})
        assert status == 200
        found += [f"{reply['prediction_id']}-{row}" for row in range(len(rows))]
    deliver(application, capfd.readouterr().out.splitlines())
    return found


def start(application: Application, **body: Any) -> dict[str, Any]:
    status, reply = application.change(PATH, RESOURCE, {"model": MODEL}, {"version": 2} | body)
    assert status == 202, reply
    return dict(reply["replay"])


def follow(application: Application) -> None:
    """Deliver what was published to the function that it is for, until nothing more is."""
    while due := [detail for kind, detail in application.published_events() if kind == "ReplayDue"]:
        for detail in due:
            application.call("replay_captures", {"detail": detail})


def get(application: Application, replay_id: str) -> dict[str, Any]:
    path, resource = f"{PATH}/{replay_id}", f"{RESOURCE}/{{replay_id}}"
    status, reply = application.get(path, resource, {"model": MODEL, "replay_id": replay_id})
    assert status == 200, reply
    return dict(reply["replay"])


def test_a_replay_from_its_request_to_its_report(application, capfd):
    ids = predict(application, capfd, 40)
    status, _ = feedback(application, {"feedback": [{"prediction_id": name, "outcome": "true"} for name in ids[:50]]})
    assert status == 200
    requested = start(application, since="1d")
    assert get(application, requested["replay_id"])["status"] == "requested"
    follow(application)
    report = get(application, requested["replay_id"])
    assert report["status"] == "succeeded", report["reason"]
    assert (report["counts"]["rows"], report["counts"]["replayed"], report["labelled"]) == (80, 80, 50)
    assert (report["self_test"]["compared"], report["self_test"]["different"]) == (80, 0)
    assert report["self_test"]["equal"] == 80
    page = object_store(DATA_BUCKET).get(replay_key(MODEL, requested["replay_id"], "report.html")).decode()
    assert "Replay of captured requests" in page
    status, listed = application.get(PATH, RESOURCE, {"model": MODEL})
    assert status == 200
    assert [one["replay_id"] for one in listed["replays"]] == [requested["replay_id"]]
