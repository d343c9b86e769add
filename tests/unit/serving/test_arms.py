"""Arms of an active release: who answers, what the line says, and that a failing candidate costs nothing."""

import json
import uuid
from dataclasses import replace
from typing import Any

import pytest
from millrace.captures.records import expand_line, find_line, find_request
from millrace.captures.traffic import TrafficCounts, count_arms
from millrace.key_scopes import KeyScopes
from millrace.releases.evidence import ArmCounts
from millrace.routing import PlannedArm, RoutingPlan
from millrace.serving import handler
from millrace.serving.arms import ActiveRelease, find_key
from millrace.serving.cache import ModelCache
from millrace.serving.handler import Endpoint, handle
from millrace.serving.model import load_version
from millrace.serving.protocols import MLFLOW, Protocol, mlflow
from millrace.serving.protocols.kserve_v1 import KSERVE_V1
from millrace.serving.protocols.open_inference import OPEN_INFERENCE
from millrace.serving.request import Request
from millrace.spec.release import TRAFFIC_GUARDS

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
    def send(
        record: dict[str, Any] | list[Any] | None = None, path: str = "", params: Any = None, **headers: str
    ) -> Reply:
        version = {"version": path} if path else {}
        records = record if isinstance(record, list) else [CHURN_RECORD if record is None else record]
        body = {"dataframe_records": records} | ({"params": params} if params else {})
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


def test_a_key_that_all_rows_have_is_the_request_s_and_several_are_not(predict, source):
    source.routing["churn"] = routing(0.5)
    for key in ("a", "b", "c", "d", "e", "f"):
        records = [{**CHURN_RECORD, "customer_id": key}] * 3
        assert predict(records)["model_version"] == predict(X_Millrace_Routing_Key=key)["model_version"]
    records = [{**CHURN_RECORD, "customer_id": key} for key in ("a", "b")]
    assert {predict(records)["model_version"] for _ in range(30)} == {1, 2}


SHAPES = {
    "dataframe_records": lambda key: {"dataframe_records": [{"customer_id": key}]},
    "dataframe_split": lambda key: {
        "dataframe_split": {"columns": ["age", "customer_id"], "data": [[4, key], [5, key]]}
    },
    "instances": lambda key: {"instances": [{"customer_id": key}]},
    "inputs": lambda key: {"inputs": {"customer_id": [key, key], "age": [1, 2]}},
    "one row of inputs": lambda key: {"inputs": {"customer_id": key, "age": 1}},
    "a matrix of one column": lambda key: {"inputs": {"customer_id": [[key], [key]], "age": [[1], [2]]}},
    "csv": lambda key: f"age,customer_id\n1,{key}\n2,{key}\n",
}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_key_column_is_found_in_every_shape_of_mlflow(shape):
    assert key_of(MLFLOW, SHAPES[shape]("C-7")) == "C-7"
    assert key_of(MLFLOW, SHAPES[shape]("7")) == "7"


def test_the_key_column_is_found_in_the_other_protocols():
    tensor = {"name": "customer_id", "datatype": "BYTES", "shape": [2], "data": ["C-7", "C-7"]}
    assert key_of(OPEN_INFERENCE, {"inputs": [tensor]}) == "C-7"
    number = {"name": "customer_id", "datatype": "INT64", "shape": [1, 1], "data": [[7]]}
    assert key_of(OPEN_INFERENCE, {"inputs": [number]}) == "7"
    assert key_of(KSERVE_V1, {"instances": [{"customer_id": 7.0}, {"customer_id": 7}]}) == "7"


def key_of(protocol: Protocol, body: Any) -> str | None:
    text, media_type = (body, "text/csv") if isinstance(body, str) else (json.dumps(body), "application/json")
    request = Request(text.encode(), {"content-type": media_type}, {"model": "churn"})
    contents = protocol.read(request, churn_schema(), 10)
    return find_key(request.headers, contents.parameters, "customer_id", contents.table.common_value)


def test_a_candidate_trained_on_other_values_costs_no_second_reading(predict, source, monkeypatch):
    columns = [replace(column, categories=(), minimum=None) for column in churn_schema().columns]
    schema = replace(churn_schema(), columns=tuple(columns))
    source.register("churn", 2, version_artifacts(churn_onnx(seed=1), schema))
    source.routing["churn"] = routing(1.0)
    readings, read = [], mlflow.read_object
    monkeypatch.setattr(mlflow, "read_object", lambda request: readings.append(1) or read(request))
    assert predict()["model_version"] == 2
    assert len(readings) == 1


def test_a_sixteenth_of_the_keys_is_marked_unless_the_column_is_sensitive(predict, source):
    source.routing["churn"] = routing(0.5)
    lines = [predict(X_Millrace_Routing_Key=str(number)).line for number in range(64)]
    assert 0 < sum("key" in line for line in lines) < 16
    assert {line["arm"] for line in lines if "group" in line} == {"candidate"}
    assert len({line["group"] for line in lines if line["arm"] == "candidate"}) > 16
    columns = tuple(replace(one, sensitive=one.name == "customer_id") for one in churn_schema().columns)
    schema = replace(churn_schema(), columns=columns)
    source.register("secret", 2, version_artifacts(churn_onnx(seed=1), schema))
    source.register("secret", 1, version_artifacts(churn_onnx(), schema))
    active = ActiveRelease.of(RoutingPlan.read(routing(0.5)), {}, load_version(source, "secret", 1))
    assert not active.marks_keys
    assert not any(active.find_arm(str(number))[1] for number in range(64))


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
        reply = predict()
        self.check(reply, "not_loaded")
        assert counts_of(reply.line).unloaded == 1

    def test_an_environment_that_cannot_load_it_says_so_before_it_serves(self, predict, source):
        source.routing["churn"] = routing(0.0, version=9)
        reply = predict()
        assert (reply["model_version"], counts_of(reply.line).unloaded) == (1, 1)
        source.routing["churn"] = routing(0.0)

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
        whole = handler.score

        def score(loaded: Any, *arguments: Any) -> Any:
            broken = replace(loaded, onnx=Broken(loaded.onnx)) if loaded.version == 2 else loaded
            return whole(broken, *arguments)

        monkeypatch.setattr(handler, "score", score)
        self.check(predict(), "not_finite")

    def test_it_alone_refuses_the_request(self, predict, source):
        register_with_remark(source)
        record = {name: value for name, value in CHURN_RECORD.items() if name != "remark"}
        reply = predict({**record, "remark": 7})
        self.check(reply, "refused")

    def test_it_alone_leaves_out_rows(self, predict, source):
        source.register(
            "churn", 2, version_artifacts(churn_onnx(remark=True), churn_schema(remark=True)), alias="challenger"
        )
        records = [{**CHURN_RECORD, "remark": remark} for remark in (7, "late")]
        reply = predict(records, params={"on_error": "partial"})
        self.check(reply, "refused")
        assert "errors" not in reply
        assert len(reply["predictions"]) == 2

    def test_rows_that_both_leave_out_are_the_caller_s(self, predict, source):
        source.register(
            "churn", 2, version_artifacts(churn_onnx(remark=True), churn_schema(remark=True)), alias="challenger"
        )
        records = [{**CHURN_RECORD, "remark": "late", "age": age} for age in ("forty", 40)]
        reply = predict(records, params={"on_error": "partial"})
        assert (reply["model_version"], reply.line["refused_rows"]) == (2, 1)
        assert "fallback" not in reply.line

    def test_a_request_that_the_champion_refuses_too_is_the_caller_s(self, predict):
        reply = predict({**CHURN_RECORD, "age": "forty"})
        assert (reply.status, reply.line["status"], reply.line["arm"]) == (400, 400, "candidate")
        counts = ArmCounts(candidate=counts_of(reply.line))
        assert counts.requests == 0
        assert all(events_of(counts, guard) == (0, 0) for guard in TRAFFIC_GUARDS)

    @pytest.mark.parametrize("version", [2, 9])
    def test_both_fail_and_that_counts_once(self, predict, endpoint, source, monkeypatch, version):
        source.routing["churn"] = routing(1.0, version=version)
        fail_in_version(endpoint, None, monkeypatch)
        reply = predict()
        assert (reply.status, reply.line["status"], reply.line["arm"]) == (500, 500, "candidate")
        counts = ArmCounts(candidate=counts_of(reply.line))
        assert counts.requests == 1
        assert [events_of(counts, guard)[1] for guard in TRAFFIC_GUARDS] == [1, 0, 0, 0]


def register_with_remark(source: MemoryModelSource) -> None:
    """Register a candidate that reads one more column than the champion."""
    artifacts = version_artifacts(churn_onnx(remark=True), churn_schema(remark=True))
    source.register("churn", 2, artifacts, alias="challenger")


def counts_of(line: dict[str, Any]) -> TrafficCounts:
    found = find_request(find_line(json.dumps(line)) or {})
    assert found is not None
    return next(iter(count_arms([found[2]]).values()))


def events_of(counts: ArmCounts, guard: Any) -> tuple[int, int]:
    events = counts.bad_events(guard, 1e6)
    return events.champion_bad, events.candidate_bad


class Broken:
    """A model whose predictions are not finite."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def run(self, features: Any) -> Any:
        return self.model.run(features) * float("nan")


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
