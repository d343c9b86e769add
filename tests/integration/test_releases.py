"""A canary release from its start by the API to each end, through the real handlers on moto."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import boto3
import pytest
from millrace.aws.clients import object_store, registry
from millrace.entities import Release
from millrace.layout import schema_key, version_key
from millrace.manifest import Manifest
from millrace.ports import Update
from millrace.registry.items import ModelKeys, encode_value
from millrace.registry.release_changes import find_active_release
from millrace.releases.upkeep import collect_rewards
from millrace.serving.scoring import score
from millrace.spec import ModelSpec
from moto import mock_aws

from tests.gateway import make_event
from tests.integration.application import DATA_BUCKET, MODELS_BUCKET, Application, deploy
from tests.integration.test_captures import MODEL, deliver, entry, feedback, promote, sample
from tests.registry_builders import make_version
from tests.schedule_environment import ENVIRONMENT
from tests.serving_models import CHURN_RECORD, churn_onnx, churn_schema, sha256, version_artifacts

START = {"version": 2, "strategy": "canary", "steps": [40, 60], "bake": "5m", "min_requests": 10, "reason": "try it"}


def register(number: int) -> None:
    """Register a version whole, that no alias points to."""
    version = make_version(number, MODEL)
    artifacts = version_artifacts(churn_onnx(seed=number), churn_schema())
    artifacts["manifest.json"] = Manifest.of(version, artifacts, None).write()
    for name, body in artifacts.items():
        boto3.client("s3").put_object(Bucket=MODELS_BUCKET, Key=version_key(MODEL, number, name), Body=body)
    registry().put_version(replace(version, manifest_sha256=sha256(artifacts["manifest.json"])), entry(f"v{number}"))


@pytest.fixture
def application(isolated_from_aws: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Application]:
    with mock_aws():
        app = deploy(monkeypatch)
        registry().put_spec(MODEL, ModelSpec())
        promote(1)
        register(2)
        yield app
        assert app.denied == []


class World:
    """A model with a release, its callers and its clock."""

    def __init__(self, application: Application, capfd: pytest.CaptureFixture[str]) -> None:
        self.application = application
        self.capfd = capfd
        self.lines: list[str] = []
        self.served: list[tuple[str, int]] = []

    def start(self, **changes: Any) -> dict[str, Any]:
        path = f"/models/{MODEL}/releases"
        status, body = self.application.change(path, "/models/{model}/releases", {"model": MODEL}, START | changes)
        assert status == 200, body
        return dict(body["release"])

    def act(self, action: str) -> tuple[int, Any]:
        path, resource = f"/models/{MODEL}/releases/active/{action}", "/models/{model}/releases/{release_id}/{action}"
        parameters = {"model": MODEL, "release_id": "active", "action": action}
        return self.application.change(path, resource, parameters, {"reason": "by hand"})

    def predict(self, requests: int) -> None:
        """Let callers predict, each with a key of their own; nobody may see an error."""
        self.capfd.readouterr()
        for number in range(requests):
            body = {"dataframe_records": [CHURN_RECORD | {"customer_id": f"C-{len(self.served)}-{number}"}]}
            event = make_event("POST", f"/models/{MODEL}/invocations", json.dumps(body))
            response = self.application.handlers["predict"](event, None)
            assert response["statusCode"] == 200
            reply = json.loads(response["body"])
            self.served.append((response["headers"]["X-Millrace-Arm"], reply["model_version"]))
        self.lines += self.capfd.readouterr().out.splitlines()
        assert deliver(self.application, self.lines)["malformed"] == 0

    def later(self, minutes: int) -> None:
        """Move the present stage into the past."""
        release = self.release
        assert release is not None
        key = ModelKeys(MODEL).item("RELEASE", release.release_id)
        since = (release.stage_since or release.started_at) - timedelta(minutes=minutes)
        registry().store.write(Update(key, {"stage_since": encode_value(since)}))

    def tick(self, event: str = "valid_schedule") -> dict[str, Any]:
        return dict(self.application.call("evaluate_release", sample("evaluate_release", event)))

    @property
    def release(self) -> Release | None:
        return find_active_release(registry().get_state(MODEL), registry())

    @property
    def schedules(self) -> list[str]:
        found = boto3.client("scheduler").list_schedules(GroupName=ENVIRONMENT["RELEASE_SCHEDULE_GROUP"])
        return [one["Name"] for one in found["Schedules"]]


@pytest.fixture
def world(application: Application, capfd: pytest.CaptureFixture[str]) -> World:
    return World(application, capfd)


def test_a_canary_advances_on_its_traffic_and_becomes_the_champion(world):
    started = world.start()
    assert (started["baseline"], started["candidate"], started["weight"]) == (1, 2, 0.4)
    assert world.tick("valid_started")["outcome"] == "held"
    assert world.schedules == [MODEL]
    target = boto3.client("scheduler").get_schedule(GroupName=ENVIRONMENT["RELEASE_SCHEDULE_GROUP"], Name=MODEL)
    assert target["Target"]["Arn"].endswith(":function:evaluate_release")
    assert json.loads(target["Target"]["Input"])["model"] == MODEL

    world.predict(60)
    assert set(world.served) == {("champion", 1), ("candidate", 2)}
    assert world.tick()["outcome"] == "held"  # not long enough
    world.later(6)
    assert world.tick()["outcome"] == "advanced"
    world.predict(40)
    world.later(6)
    tick = world.tick()
    assert tick["outcome"] == "completed", tick
    assert registry().get_state(MODEL).aliases == {"champion": 2}
    assert world.tick()["outcome"] == "idle"
    assert world.schedules == []

    status, body = world.application.predict(MODEL, {"dataframe_records": [CHURN_RECORD]})
    assert (status, body["model_version"]) == (200, 2)
    _, described = world.application.get(f"/models/{MODEL}/releases", "/models/{model}/releases", {"model": MODEL})
    (release,) = described["releases"]
    assert (release["status"], release["release_id"]) == ("completed", started["release_id"])
    path = f"/models/{MODEL}/releases/{release['release_id']}"
    parameters = {"model": MODEL, "release_id": release["release_id"]}
    _, page = world.application.get(path, "/models/{model}/releases/{release_id}", parameters)
    assert [(change["action"], change["weight"]) for change in page["changes"]] == [
        ("release_started", None),
        ("release_advanced", 0.6),
        ("model_promoted", None),
        ("release_completed", None),
    ]
    assert page["changes_complete"]
    _, version = world.application.get(
        f"/models/{MODEL}/versions/2", "/models/{model}/versions/{version}", {"model": MODEL, "version": "2"}
    )
    ((period,), (of_version,)) = version["service"]["periods"], version["service"]["releases"]
    assert (period["release_id"], period["until"]) == (release["release_id"], None)
    assert (of_version["status"], period["actor"]) == ("completed", "evaluate_release")
    for route, named in (("/dora", {}), ("/models/{model}/dora", {"model": MODEL})):
        _, dora = world.application.get(route.format(**named), route, named)
        newest = dora["models"][0]["history"][-1]
        assert (newest["version"], newest["release_id"]) == (2, release["release_id"])
    names = [name for name, _ in world.application.published_events()]
    assert [name for name in names if name.startswith("Release")] == [
        "ReleaseStarted",
        "ReleaseAdvanced",
        "ReleaseCompleted",
    ]
    assert "ModelPromoted" in names
    assert registry().verify_ledger(MODEL).is_intact


def test_a_candidate_that_fails_is_rolled_back_and_no_caller_saw_it(world, monkeypatch):
    def fail(loaded: Any, *arguments: Any) -> Any:
        if loaded.version == 2:
            raise RuntimeError("broken")
        return score(loaded, *arguments)

    monkeypatch.setattr("millrace.serving.handler.score", fail)
    world.start()
    world.predict(60)
    assert {version for _, version in world.served} == {1}
    assert {arm for arm, _ in world.served} == {"champion", "candidate"}
    world.later(6)
    tick = world.tick()
    assert tick["outcome"] == "rolled_back"
    assert "the guard errors finds the candidate worse" in tick["reason"]
    assert registry().get_state(MODEL).aliases == {"champion": 1}
    (event,) = [detail for name, detail in world.application.published_events() if name == "ReleaseRolledBack"]
    assert (event["guard"], event["champion_bad"]) == ("errors", 0)
    assert event["candidate_bad"] == event["candidate_requests"] > 10
    status, body = world.application.predict(MODEL, {"dataframe_records": [CHURN_RECORD]})
    assert (status, body["model_version"]) == (200, 1)


def test_blue_green_loads_then_switches_and_returns_by_one_write(world):
    world.start(strategy="blue_green", steps=None)
    world.predict(20)
    assert set(world.served) == {("champion", 1)}
    world.later(6)
    assert world.tick()["outcome"] == "advanced"
    world.served.clear()
    world.predict(20)
    assert set(world.served) == {("candidate", 2)}
    assert registry().get_state(MODEL).aliases == {"champion": 1}
    assert world.act("abort")[1]["outcome"] == "aborted"
    assert registry().get_state(MODEL).aliases == {"champion": 1}


def test_an_ab_test_counts_outcomes_that_are_reported_in_time(world, application):
    body = json.dumps(churn_schema().to_dict()).encode()
    boto3.client("s3").put_object(Bucket=DATA_BUCKET, Key=schema_key(MODEL, 1), Body=body)
    registry().set_schema_version(MODEL, 1)
    started = world.start(strategy="ab_test", steps=None, reward="true", reward_after="1h")
    assert "a difference of 0.02 needs at most about 30,000 rewards" in started["decision"]
    world.predict(30)
    ids = [json.loads(line)["prediction_id"] for line in world.lines if '"row_ids"' in line]
    reports = [{"prediction_id": name, "outcome": "true"} for name in ids[:20]]
    status, reply = feedback(application, {"feedback": reports})
    assert status == 200, reply
    key = ModelKeys(MODEL).item("RELEASE", started["release_id"])
    begun = world.release.started_at - timedelta(hours=1)
    registry().store.write(Update(key, {"stage_since": encode_value(begun)}))
    collected = collect_rewards(
        MODEL, registry(), object_store(DATA_BUCKET), world.release.started_at + timedelta(hours=4)
    )
    assert (collected.count, collected.not_reported) == (30, 10)
    assert "held at 50 %: 30 rewards" in world.tick()["reason"]
    path, resource = f"/models/{MODEL}/releases/active", "/models/{model}/releases/{release_id}"
    _, described = application.get(path, resource, {"model": MODEL, "release_id": "active"})
    assert sum(arm["count"] for arm in described["rewards"]["arms"].values()) == 30


def test_people_pause_resume_and_abort(world):
    world.start()
    assert world.act("pause")[1]["outcome"] == "paused"
    world.predict(40)
    world.later(6)
    assert world.tick()["outcome"] == "held"
    assert world.act("resume")[1]["release"]["status"] == "running"
    status, body = world.application.change(
        f"/models/{MODEL}/releases", "/models/{model}/releases", {"model": MODEL}, START
    )
    assert (status, "is active; promote or abort it first" in body["message"]) == (409, True)
    assert world.act("abort")[1]["outcome"] == "aborted"
    assert world.act("abort")[0] == 404
    assert world.act("explode")[0] == 404
    assert world.tick()["outcome"] == "idle"


def test_a_release_that_does_not_exist_is_not_found(world):
    for release_id, status in (("active", 404), ("r-20261130T030000-0a1b2c3d", 404), ("x", 400)):
        parameters = {"model": MODEL, "release_id": release_id}
        path = f"/models/{MODEL}/releases/{release_id}"
        assert world.application.get(path, "/models/{model}/releases/{release_id}", parameters)[0] == status
