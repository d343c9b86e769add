"""Arms of an active release: who answers, what the line says, and that a failing candidate costs nothing."""

import json
import uuid
from typing import Any

import pytest
from millrace.captures.records import expand_line, find_line, find_request
from millrace.key_scopes import KeyScopes
from millrace.routing import PlannedArm, RoutingPlan
from millrace.serving import handler
from millrace.serving.cache import ModelCache
from millrace.serving.handler import Endpoint, handle

from tests.serving_models import CHURN_RECORD, MemoryModelSource, churn_onnx, churn_schema, version_artifacts

RELEASE = "r-20261130T030000-0a1b2c3d"


def routing(weight: float, version: int = 2, **changes: Any) -> str:
    return RoutingPlan(RELEASE, 0, 1, (PlannedArm(version, weight),), **changes).write()


@pytest.fixture
def source() -> MemoryModelSource:
    source = MemoryModelSource()
    source.register("churn", 2, version_artifacts(churn_onnx(seed=1), churn_schema()))
    source.register("churn", 1, version_artifacts(churn_onnx(), churn_schema()))
    return source


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def endpoint(source: MemoryModelSource, clock: Clock) -> Endpoint:
    models = ModelCache(source, 5.0, clock, start=lambda work: work())
    return Endpoint(models, KeyScopes(source.key_models, 30.0, clock), 10_000, lambda: str(uuid.uuid4()))


class Reply(dict[str, Any]):
    """A response's body, with its status, its headers and the line of the log."""

    status: int
    headers: dict[str, str]
    line: dict[str, Any]


@pytest.fixture
def predict(endpoint: Endpoint, capsys: pytest.CaptureFixture[str]) -> Any:
    def send(record: dict[str, Any] | None = None, path: str = "", params: Any = None, **headers: str) -> Reply:
        version = {"version": path} if path else {}
        body = {"dataframe_records": [CHURN_RECORD if record is None else record]} | (
            {"params": params} if params else {}
        )
        event = {
            "resource": "/models/{model}/versions/{version}/invocations" if path else "/models/{model}/invocations",
            "httpMethod": "POST",
            "headers": {name.replace("_", "-"): value for name, value in headers.items()},
            "pathParameters": {"model": "churn", **version},
            "requestContext": {"requestId": "q-1"},
            "body": json.dumps(body),
        }
        response = handle(event, lambda: endpoint, cold_start=False)
        reply = Reply(json.loads(response["body"]))
        reply.status, reply.headers = response["statusCode"], response["headers"]
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        reply.line = next(line for line in lines if line.get("record"))
        return reply

    return send


def test_without_a_release_nothing_is_said_of_one(predict):
    reply = predict()
    assert set(reply.headers) == {"Content-Type", "Cache-Control"}
    assert not {"release", "stage", "arm"} & reply.line.keys()


def test_replies_captures_and_counts_carry_version_arm_and_release(predict, source):
    source.routing["churn"] = routing(1.0)
    reply = predict()
    assert (reply["model_version"], reply.headers["X-Millrace-Arm"]) == (2, "candidate")
    assert reply.headers["X-Millrace-Release"] == RELEASE
    line = find_line(json.dumps(reply.line))
    (row,) = expand_line(line)
    assert (row.version, row.release, row.arm) == (2, RELEASE, "candidate")
    _, _, counted = find_request(line)
    assert (counted.version, counted.release, counted.stage, counted.arm) == (2, RELEASE, 0, "candidate")
    source.routing["churn"] = routing(0.0)


def test_no_share_is_no_request_and_the_champion_s_requests_say_so(predict, source):
    source.routing["churn"] = routing(0.0)
    replies = [predict() for _ in range(50)]
    assert {reply["model_version"] for reply in replies} == {1}
    assert {reply.headers["X-Millrace-Arm"] for reply in replies} == {"champion"}


@pytest.mark.parametrize("path", ["1", "2", "champion"])
def test_a_version_by_number_bypasses_the_release(predict, source, path):
    source.routing["churn"] = routing(1.0)
    reply = predict(path=path)
    assert reply["model_version"] == {"1": 1, "2": 2, "champion": 2}[path]
    assert ("X-Millrace-Arm" in reply.headers) == (path == "champion")


def test_a_routing_key_is_sticky_wherever_it_stands(predict, source):
    source.routing["churn"] = routing(0.5)
    for key in ("a", "b", "c", "d", "e", "f"):
        ways = [
            predict(X_Millrace_Routing_Key=key),
            predict(params={"routing_key": key}),
            predict({**CHURN_RECORD, "customer_id": key}),
        ]
        assert len({reply["model_version"] for reply in ways * 2}) == 1
    assert {predict(X_Millrace_Routing_Key=str(key))["model_version"] for key in range(20)} == {1, 2}
    assert {predict()["model_version"] for _ in range(30)} == {1, 2}


def test_the_same_number_is_the_same_key_in_every_form(predict, source):
    source.routing["churn"] = routing(0.5, key_column="age")
    for age in range(20, 40):
        found = {predict({**CHURN_RECORD, "age": form})["model_version"] for form in (age, float(age), str(age))}
        assert len(found) == 1


class TestACandidateThatFails:
    @pytest.fixture(autouse=True)
    def everything_goes_to_it(self, source: MemoryModelSource) -> None:
        source.routing["churn"] = routing(1.0)

    def check(self, reply: Reply, fallback: str) -> None:
        assert (reply.status, reply["model_version"]) == (200, 1)
        assert reply.headers["X-Millrace-Arm"] == reply.line["arm"] == "candidate"
        assert (reply.line["version"], reply.line["fallback"]) == (1, fallback)

    def test_it_is_not_there(self, predict, source):
        source.routing["churn"] = routing(1.0, version=9)
        self.check(predict(), "not_loaded")

    def test_it_is_damaged(self, predict, source, clock):
        source.versions["churn", 2]["model.onnx"] = b"damaged"
        self.check(predict(), "not_loaded")
        reads = source.reads.count("model.onnx")
        clock.now += 6
        self.check(predict(), "not_loaded")
        assert source.reads.count("model.onnx") == reads  # damage does not go away

    def test_it_raises(self, predict, endpoint, monkeypatch):
        fail_in_version(endpoint, 2, monkeypatch)
        self.check(predict(), "error")

    def test_it_predicts_no_finite_number(self, predict, endpoint, monkeypatch):
        monkeypatch.setattr("millrace.serving.arms._has_gaps", lambda prediction: prediction.loaded.version == 2)
        self.check(predict(), "not_finite")

    def test_it_alone_refuses_the_request(self, predict, source):
        schema = churn_schema(remark=True)
        source.register("churn", 2, version_artifacts(churn_onnx(remark=True), schema), alias="challenger")
        record = {name: value for name, value in CHURN_RECORD.items() if name != "remark"}
        reply = predict({**record, "remark": 7})
        self.check(reply, "refused")

    def test_a_request_that_the_champion_refuses_too_is_the_caller_s(self, predict):
        reply = predict({**CHURN_RECORD, "age": "forty"})
        assert (reply.status, reply.line["status"], reply.line["arm"]) == (400, 400, "candidate")

    def test_both_fail(self, predict, endpoint, monkeypatch):
        fail_in_version(endpoint, None, monkeypatch)
        reply = predict()
        assert (reply.status, reply.line["status"], reply.line["arm"]) == (500, 500, "candidate")


def fail_in_version(endpoint: Endpoint, version: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = handler.score

    def score(loaded: Any, *arguments: Any) -> Any:
        if version in (None, loaded.version):
            raise RuntimeError("the model is broken")
        return whole(loaded, *arguments)

    monkeypatch.setattr(handler, "score", score)


def test_the_end_of_a_release_is_in_effect_after_the_refresh_and_nothing_is_loaded_again(predict, source, clock):
    source.routing["churn"] = routing(1.0)
    assert predict()["model_version"] == 2
    loads = source.reads.count("model.onnx")
    source.routing.clear()
    clock.now += 5.1
    assert predict()["model_version"] == 1
    source.routing["churn"] = routing(1.0)
    clock.now += 5.1
    assert predict()["model_version"] == 2
    source.routing.clear()
    source.aliases["churn", "champion"] = 2
    clock.now += 5.1
    assert predict()["model_version"] == 2
    assert source.reads.count("model.onnx") == loads + 1


def test_a_plan_for_another_champion_routes_nothing(predict, source):
    source.routing["churn"] = RoutingPlan(RELEASE, 0, 3, (PlannedArm(2, 1.0),)).write()
    assert predict()["model_version"] == 1


def test_a_plan_that_cannot_be_read_routes_nothing(predict, source):
    source.routing["churn"] = "{"
    assert predict()["model_version"] == 1
