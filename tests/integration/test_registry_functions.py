"""``request_training``, ``register_model`` and ``manage_models``: the shipped handlers, called with sample events."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import boto3
import pytest
from millrace.aws import clients
from millrace.captures.traffic import TrafficCounts, TrafficHour, record_traffic
from millrace.causes import AUTOMATIC_CAUSES, CAUSE_OF_EVENT, CAUSES, finding_cause_id
from millrace.entities import Cause
from millrace.errors import ArtifactNotFoundError, ConfigurationError, InvalidInputError, ServiceUnavailableError
from millrace.layout import evaluation_key, monitoring_item, monitoring_key, prepared_key, trial_key
from millrace.names import make_cause_id
from millrace.ports import Update
from millrace.registry.items import ModelKeys
from millrace.registry.store import Registry
from millrace.schema import Column, TableSchema
from millrace.spec import ModelSpec
from moto import mock_aws

from tests import schedule_environment
from tests.fakes.dynamodb_table import RUNS_TABLE_NAME, TABLE_NAME, create_table
from tests.integration.application import lambda_context, load_handler
from tests.registry_builders import (
    MODEL,
    NOW,
    later,
    make_cause,
    make_dataset,
    make_entry,
    make_evaluation,
    make_run,
    make_trial,
)

EVENTS = Path(__file__).resolve().parents[2] / "events"
RUN_ID = "20260503T141500-0f3a9c2b7d1e"
MONITORING_ARN = "arn:aws:states:eu-west-1:123456789012:stateMachine:millrace-monitoring"
PIPELINE_ARN = "arn:aws:states:eu-west-1:123456789012:stateMachine:millrace-training"
SCHEMA = TableSchema(
    (Column("age", "integer"), Column("churned", "boolean", role="target")), "binary", ("false", "true")
)


SAMPLES = Path(__file__).resolve().parents[1] / "samples" / "f0571cb"


def load_event(function: str, name: str) -> dict:
    return json.loads((EVENTS / function / f"{name}.json").read_text())


def names(function: str, prefix: str) -> list[str]:
    return sorted(path.stem for path in (EVENTS / function).glob(f"{prefix}*.json"))


@pytest.fixture
def call(isolated_from_aws: None, monkeypatch: pytest.MonkeyPatch) -> Iterator:
    """Call a function, JSON in and JSON out, in a world with a table, two buckets and a pipeline."""
    for name, value in {
        "REGISTRY_TABLE": TABLE_NAME,
        "RUNS_TABLE": RUNS_TABLE_NAME,
        "STACK_NAME": "millrace",
        "DATA_BUCKET": "millrace-data",
        "MODELS_BUCKET": "millrace-models",
        "TRAINING_PIPELINE_ARN": PIPELINE_ARN,
        "MONITORING_PIPELINE_ARN": MONITORING_ARN,
        **schedule_environment.ENVIRONMENT,
    }.items():
        monkeypatch.setenv(name, value)
    with mock_aws():
        create_table()
        schedule_environment.create_groups()
        for bucket in ("millrace-data", "millrace-models"):
            boto3.client("s3").create_bucket(
                Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
            )
        for pipeline in ("millrace-training", "millrace-monitoring"):
            boto3.client("stepfunctions").create_state_machine(
                name=pipeline,
                definition=json.dumps({"StartAt": "W", "States": {"W": {"Type": "Wait", "Seconds": 60, "End": True}}}),
                roleArn="arn:aws:iam::123456789012:role/states",
            )
        handlers: dict = {}

        def call_function(function: str, event: dict) -> dict:
            handler = handlers.setdefault(function, load_handler(function))
            return json.loads(json.dumps(handler(json.loads(json.dumps(event)), lambda_context(function))))

        yield call_function


@pytest.fixture
def registry(call):
    return clients.registry()


def read(call, name, function="manage_models", **changes) -> tuple[int, dict]:
    response = call(function, {**load_event(function, name), **changes})
    assert response["multiValueHeaders"]["Content-Type"] == ["application/json"]
    return response["statusCode"], json.loads(response["body"])


def executions() -> list[str]:
    found = boto3.client("stepfunctions").list_executions(stateMachineArn=PIPELINE_ARN)["executions"]
    return [execution["name"] for execution in found]


def start_run(registry) -> str:
    """Put the run that the sample events name into the registry."""
    cause = make_cause()
    registry.claim_cause(cause, replace(make_run(cause), run_id=RUN_ID), make_entry(cause.cause_id))
    return cause.cause_id


def evaluate(registry) -> None:
    """Bring the run as far as its evaluation."""
    models, data = clients.object_store("millrace-models"), clients.object_store("millrace-data")
    bodies = {"model.onnx": b"onnx", "estimator.skops": b"skops", "trial.json": b"{}"}
    for name, body in bodies.items():
        models.put(trial_key(MODEL, RUN_ID, "t1", name), body)
    registry.put_trials([make_trial("t1", RUN_ID, artifacts={"model.onnx": hashlib.sha256(b"onnx").hexdigest()})])
    evaluation = make_evaluation(RUN_ID)
    models.put(evaluation_key(MODEL, RUN_ID), json.dumps(evaluation).encode())
    data.put(prepared_key(MODEL, RUN_ID, "schema.json"), json.dumps(SCHEMA.to_dict()).encode())


#: A report that an early release stored.
REPORT = Path(__file__).parents[1] / "samples" / "f0571cb" / "monitoring" / "report.json"


class TestRequestTraining:
    def test_five_deliveries_of_an_upload_start_one_execution(self, call, registry):
        event = load_event("request_training", "valid_upload")
        results = [call("request_training", event)["results"][0] for _ in range(5)]
        assert [result["outcome"] for result in results] == ["started"] + ["duplicate"] * 4
        assert executions() == [results[0]["run_id"]]
        item = event["detail"]["object"]
        assert results[0]["cause_id"] == make_cause_id("upload", "millrace-data", item["key"], item["version-id"])

    def test_an_end_makes_room_for_what_waited(self, call, registry):
        start_run(registry)
        (waiting,) = call("request_training", load_event("request_training", "valid_success_marker"))["results"]
        # The registered run has no execution, so the first call has already started it under its name.
        assert (waiting["outcome"], executions()) == ("deferred", [RUN_ID])
        (finished,) = call("request_training", load_event("request_training", "valid_finished"))["results"]
        assert finished["released"]
        assert sorted(executions()) == sorted([RUN_ID, finished["follow_up_run_id"]])
        run = registry.get_run(MODEL, RUN_ID)
        reason = "the start of a.csv ended without a result (States.Timeout: out of time); it is tried once more"
        assert (run.status, run.reasons) == ("failed", (reason,))

    def test_an_execution_that_timed_out_fails_its_run(self, call, registry):
        start_run(registry)
        call("request_training", load_event("request_training", "valid_execution_timed_out"))
        assert registry.get_run(MODEL, RUN_ID).status == "failed"
        (again,) = set(executions()) - {RUN_ID}
        assert registry.get_state(MODEL).active_run_id == again

    def test_a_schedule_asks_every_model_and_skips_those_without_data(self, call, registry, monkeypatch):
        start_run(registry)
        event = load_event("request_training", "valid_schedule")
        monkeypatch.setattr("millrace.aws.pipeline.LambdaConcurrency.unreserved", lambda _: 1_000)
        following = call("request_training", event)
        assert (following["outcome"], following["after"], following["running"]) == ("done", MODEL, [])
        assert following["time"] == event["time"].replace("Z", "+00:00")
        (cause,) = [entry for entry in registry.list_ledger(MODEL) if entry.action == "trigger_skipped"]
        assert cause.details["kind"] == "schedule"
        registry.put_dataset(make_dataset("d1"))
        call("request_training", {**event, "time": "2026-05-10T14:00:00Z"})
        assert registry.get_state(MODEL).pending_causes == 1

    @pytest.mark.parametrize(
        "name", ["refused_key_with_spaces", "refused_key_with_dots", "refused_folder_marker", "refused_no_model"]
    )
    def test_a_refused_key_gets_a_readable_verdict_and_blocks_nobody(self, call, registry, name):
        event = load_event("request_training", name)
        for _ in range(2):
            assert call("request_training", event) == {"results": []}
        status, body = read(call, "valid_refused_uploads")
        assert status == 200
        (refused,) = body["refused"]
        assert refused["details"]["key"] == event["detail"]["object"]["key"]
        assert refused["reason"]
        assert "upload" in refused["details"]["remedy"]
        (result,) = call("request_training", load_event("request_training", "valid_upload"))["results"]
        assert result["outcome"] == "started"

    def test_an_event_that_is_no_trigger_is_a_fault(self, call):
        with pytest.raises(InvalidInputError):
            call("request_training", load_event("request_training", "refused_unknown_source"))

    def test_an_upload_without_a_version_that_is_gone_is_a_fault(self, call):
        with pytest.raises(ArtifactNotFoundError):
            call("request_training", load_event("request_training", "refused_vanished_upload"))

    def test_a_request_by_hand_is_accepted(self, call, registry):
        start_run(registry)
        registry.put_dataset(make_dataset("d1"))
        status, body = read(call, "valid_manual", "request_training")
        assert status == 202
        assert (body["outcome"], body["run_id"], len(body["cause_id"])) == ("deferred", None, 32)
        entry = next(entry for entry in registry.list_ledger(MODEL) if entry.action == "trigger_deferred")
        assert (entry.actor, entry.reason) == ("arn:aws:iam::123456789012:user/ann", "the prices changed")
        assert read(call, "valid_manual", "request_training")[1]["outcome"] == "duplicate"

    @pytest.mark.parametrize("event", [kind.event for kind in CAUSES.values() if kind.is_finding])
    def test_every_finding_of_monitoring_that_a_spec_follows_starts_a_run(self, call, registry, event):
        registry.put_dataset(make_dataset("d1"))
        registry.put_spec(MODEL, ModelSpec.parse({"retraining": {"causes": list(AUTOMATIC_CAUSES)}}))
        registry.set_schema_version(MODEL, 1)
        found = load_event("request_training", "valid_drift")
        found["detail"] |= {"findings": [{"verdict": "serving_health", "subject": "latency", "message": "slow"}]}
        [result] = call("request_training", found | {"detail-type": event})["results"]
        assert result["outcome"] == "started", result
        assert registry.get_run(MODEL, result["run_id"]).kind == CAUSE_OF_EVENT[event].name
        assert executions() == [result["run_id"]]

    def test_a_request_under_a_custom_domain_is_accepted(self, call, registry):
        start_run(registry)
        assert read(call, "valid_manual_custom_domain", "request_training")[0] == 202

    def test_a_request_for_a_model_nobody_knows_leaves_nothing_behind(self, call, registry):
        status, body = read(call, "valid_manual", "request_training")
        assert (status, body["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
        assert registry.list_ledger(MODEL) == []

    @pytest.mark.parametrize("name", ["refused_manual_body", "refused_manual_model_name"])
    def test_a_request_that_is_wrong_is_refused_with_what_is_wrong(self, call, registry, name):
        start_run(registry)
        status, body = read(call, name, "request_training")
        assert (status, body["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
        assert body["message"]

    def test_a_deployment_without_its_variables_names_them_all(self, call, monkeypatch):
        monkeypatch.delenv("TRAINING_PIPELINE_ARN")
        monkeypatch.delenv("REGISTRY_TABLE")
        clients.clear_clients()
        with pytest.raises(ConfigurationError, match="REGISTRY_TABLE, TRAINING_PIPELINE_ARN"):
            call("request_training", load_event("request_training", "valid_upload"))


class TestRegisterModel:
    def test_a_winner_becomes_a_version(self, call, registry):
        start_run(registry)
        evaluate(registry)
        event = load_event("register_model", "valid")
        for _ in range(2):
            assert call("register_model", event) == {"version": 1, "outcome": "promoted", "approval_seconds": 0}
        assert registry.list_unpublished() == []
        assert registry.get_state(MODEL).aliases == {"champion": 1}
        assert registry.get_run(MODEL, RUN_ID).status == "succeeded"

    @pytest.mark.parametrize("name", names("register_model", "refused"))
    def test_what_names_no_run_is_refused(self, call, name):
        with pytest.raises(InvalidInputError):
            call("register_model", load_event("register_model", name))


class TestMonitoring:
    def test_the_report_is_null_until_something_was_judged(self, call, registry):
        start_run(registry)
        status, body = read(call, "valid_monitoring")
        assert (status, body["report"]) == (200, None)
        store = clients.object_store("millrace-data")
        store.put(monitoring_key(MODEL, "reports/latest.json"), REPORT.read_bytes())
        report, stored = read(call, "valid_monitoring")[1]["report"], json.loads(REPORT.read_bytes())
        assert stored.keys() - report.keys() == set()
        assert (report["version"], report["findings"]) == (stored["version"], stored["findings"])
        assert body["page"] == "monitoring/churn/reports/latest.html"

    def test_what_was_done_about_an_incident_is_told_as_it_is_now(self, call, registry):
        start_run(registry)
        report = json.loads(REPORT.read_bytes())
        incident = report["incidents"][0] | {"incident_id": "i1", "alerts": 1, "resolved_at": None, "actions": []}
        over = {**incident, "event": "ModelStale", "resolved_at": "2026-05-03T15:00:00+00:00", "actions": ["a run"]}
        report["incidents"] = [incident, over]
        store = clients.object_store("millrace-data")
        store.put(monitoring_key(MODEL, "reports/latest.json"), json.dumps(report).encode())
        told = [one["actions"] for one in read(call, "valid_monitoring")[1]["report"]["incidents"]]
        assert told == [["requested a training run; not processed yet"], ["a run"]]
        cause = Cause(finding_cause_id("drift", MODEL, "i1", 1), MODEL, "drift", NOW, reason="age shifted")
        registry.skip_cause(cause, make_entry("skipped", refusal="too soon"))
        told = [one["actions"] for one in read(call, "valid_monitoring")[1]["report"]["incidents"]]
        assert told[0] == ["requested a training run: no run was started: too soon"]

    def test_a_look_is_started_and_can_be_followed(self, call, registry):
        start_run(registry)
        status, look = read(call, "valid_monitoring", "change_models")
        assert (status, look["status"]) == (200, "running")
        (execution,) = boto3.client("stepfunctions").list_executions(stateMachineArn=MONITORING_ARN)["executions"]
        assert execution["name"] == look["run"]
        path = {"model": MODEL, "run": look["run"]}
        followed = {"path": f"/models/{MODEL}/monitoring/{look['run']}", "pathParameters": path}
        assert read(call, "valid_monitoring_run", **followed) == (200, look)
        boto3.client("stepfunctions").stop_execution(executionArn=execution["executionArn"])
        assert read(call, "valid_monitoring_run", **followed)[1]["status"] == "failed"

    def test_a_look_that_nobody_took_and_a_model_that_is_not_there_are_404(self, call, registry):
        assert read(call, "valid_monitoring", "change_models")[0] == 404
        start_run(registry)
        assert read(call, "valid_monitoring_run")[0] == 404


class TestManageModels:
    @pytest.fixture
    def cause_id(self, call, registry):
        cause_id = start_run(registry)
        evaluate(registry)
        call("register_model", load_event("register_model", "valid"))
        return cause_id

    def test_models_tell_where_they_stand(self, call, cause_id):
        status, body = read(call, "valid_models")
        assert status == 200
        (state,) = body["models"]
        assert (state["model"], state["aliases"], state["active_run_id"]) == (MODEL, {"champion": 1}, RUN_ID)
        last_run = state.pop("last_run")
        assert (last_run["run_id"], last_run["status"]) == (RUN_ID, "succeeded")
        assert read(call, "valid_model") == (200, state)

    def test_overviews_have_what_the_console_shows(self, call, registry, cause_id):
        hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        counts = TrafficCounts(requests=7, statuses={"2xx": 6, "5xx": 1}, rows=9)
        record_traffic(registry.store, TrafficHour(model=MODEL, hour=hour, versions={1: counts}))
        item = {"monitored_at": NOW.isoformat(), "open_incidents": 2}
        registry.store.write(Update(monitoring_item(MODEL), item, conditions=()))
        status, body = read(call, "valid_overview")
        assert (status, body["next"]) == (200, None)
        (one,) = body["models"]
        assert (one["requests"], one["errors"]) == ([0] * 6 + [7], [0] * 6 + [1])
        assert (one["open_incidents"], one["aliases"], one["last_run"]["run_id"]) == (2, {"champion": 1}, RUN_ID)
        status, whole = read(call, "valid_model_overview")
        assert status == 200
        assert (whole["health"]["open_incidents"], whole["report"], whole["releases"]) == (2, None, [])
        assert [version["version"] for version in whole["versions"]] == [1]
        assert [hour["requests"] for hour in whole["hours"]] == [7]
        assert {entry["action"] for entry in whole["entries"]} >= {"model_registered", "model_promoted"}

    @pytest.mark.parametrize(
        ("name", "same"),
        [
            ("valid_custom_domain", "valid_model"),
            ("valid_custom_domain_models", "valid_models"),
            ("valid_no_stage", "valid_model"),
            ("valid_multi_value", "valid_history"),
        ],
    )
    def test_a_request_is_read_in_every_shape_that_aws_sends(self, call, cause_id, name, same):
        status, body = read(call, name)
        assert (status, body) == (200, read(call, same)[1])

    def test_versions_are_found_by_number_and_by_alias(self, call, cause_id):
        (listed,) = read(call, "valid_versions")[1]["versions"]
        status, version = read(call, "valid_version")
        assert status == 200
        (period,) = version["service"]["periods"]
        assert (period["action"], period["actor"], period["until"]) == ("model_promoted", "register_model", None)
        described = {**listed, "aliases": ["champion"], "schema": SCHEMA.to_dict(), "service": version["service"]}
        assert version == described
        assert read(call, "valid_champion") == (200, version)

    def test_a_versions_card_is_read_by_number_and_by_alias(self, call, cause_id):
        status, card = read(call, "valid_card")
        assert (status, card["version"]["version"], card["evaluation"]["decision"]) == (200, 1, "promote")
        path = f"/models/{MODEL}/versions/champion/card"
        assert read(call, "valid_card", path=path) == (200, card)
        status, body = read(call, "valid_card", path=f"/models/{MODEL}/versions/7/card")
        assert (status, body["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")

    def test_a_run_comes_with_its_trials_and_the_decision(self, call, cause_id):
        (listed,) = read(call, "valid_runs")[1]["runs"]
        status, body = read(call, "valid_run")
        assert status == 200
        assert body["run"] == listed
        assert [trial["trial_id"] for trial in body["trials"]] == ["t1"]
        assert body["evaluation"]["decision"] == "promote"

    def test_a_run_that_is_not_evaluated_yet_has_no_decision(self, call, registry):
        start_run(registry)
        status, body = read(call, "valid_run")
        assert (status, body["evaluation"], body["trials"]) == (200, None, [])

    def test_a_cause_tells_what_became_of_it(self, call, cause_id):
        status, body = read(call, "valid_cause", path=f"/models/{MODEL}/causes/{cause_id}")
        assert status == 200
        assert (body["cause_id"], body["status"], body["run_id"]) == (cause_id, "started", RUN_ID)
        assert body["source"]["key"] == "incoming/churn/a.csv"

    def test_what_served_at_a_moment_is_told_with_the_version(self, call, cause_id):
        status, moves = read(call, "valid_history")
        assert (status, [move["to_version"] for move in moves["moves"]]) == (200, [1])
        status, then = read(call, "valid_history_at", queryStringParameters={"at": "2999-05-03"})
        assert (status, then["version"]["version"], then["move"]) == (200, 1, moves["moves"][0])
        assert then["version"]["run_id"] == RUN_ID
        status, before = read(call, "valid_history_at")
        assert (status, before["version"], before["move"]) == (200, None, None)
        assert before["at"] == "2026-05-03T14:15:00+00:00"

    def test_what_is_no_moment_is_refused(self, call, cause_id):
        status, body = read(call, "refused_history_at")
        assert (status, body["fields"][0]["field"]) == (400, "at")

    def test_the_ledger_tells_the_story_newest_first(self, call, cause_id):
        status, body = read(call, "valid_ledger")
        assert status == 200
        assert body["entries"][-1]["action"] == "run_requested"
        assert {"model_registered", "model_promoted"} <= {entry["action"] for entry in body["entries"]}

    def test_without_refused_uploads_the_list_is_empty(self, call):
        assert read(call, "valid_refused_uploads") == (200, {"refused": []})
        assert read(call, "valid_models") == (200, {"models": [], "next": None})

    def test_costs_of_the_stack_and_of_a_model(self, call, registry, cause_id):
        counts = TrafficCounts(requests=1_000, rows=1_000, latency_us=5_000_000)
        hour = datetime(2026, 5, 3, 14, tzinfo=UTC)
        record_traffic(registry.store, TrafficHour(model=MODEL, hour=hour, versions={1: counts}))
        clients.object_store("millrace-data").put(f"captures/{MODEL}/2026/05/03/14/a.jsonl.gz", b"0" * 1_000)
        status, body = read(call, "valid_costs")
        assert (status, body["prices"]["region"], body["next"]) == (200, "us-east-1", None)
        assert [month["model"] for month in body["models"]] == [MODEL]
        status, body = read(call, "valid_costs_of_a_model")
        [month] = body["models"]
        assert (status, month["requests"], month["runs"]) == (200, 1_000, 1)
        assert month["usd"] == pytest.approx(sum(month[part]["usd"] for part in ("traffic", "monitoring", "training")))
        assert body["storage"]["lines"][0]["quantity"] > 0
        status, body = read(call, "refused_costs_month")
        assert (status, body["fields"][0]["field"]) == (400, "month")

    @pytest.mark.parametrize(
        ("name", "ledger"),
        [("valid_refused_uploads_verification", "_refused"), ("valid_keys_verification", "_keys")],
    )
    def test_the_ledgers_of_no_model_are_verified_too(self, call, registry, name, ledger):
        for number in range(3):
            registry.append_ledger(make_entry(f"e{number}", ledger, later(number)))
        status, body = read(call, name)
        assert (status, body["model"], body["entries"], body["is_intact"]) == (200, ledger, 3, True)

        key = ModelKeys(ledger).item("LEDGER", later(1), "e1")
        registry.store.write(Update(key, {"reason": "nobody knows"}))
        status, body = read(call, name)
        assert (body["is_intact"], [fault["kind"] for fault in body["faults"]]) == (False, ["changed"])

    @pytest.mark.parametrize(
        "name",
        sorted(
            set(names("manage_models", "valid"))
            - {"valid_models", "valid_custom_domain_models", "valid_spec_change", "valid_costs", "valid_overview"}
            - {"valid_refused_uploads", "valid_refused_uploads_verification", "valid_keys", "valid_keys_verification"}
        ),
    )
    def test_what_is_not_there_is_404(self, call, name):
        status, body = read(call, name)
        assert (status, body["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")

    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("refused_model_name", 400),
            ("refused_run_id", 400),
            ("refused_version", 404),
            ("refused_unknown_model", 404),
        ],
    )
    def test_what_cannot_be_is_refused_by_the_class_of_its_error(self, call, cause_id, name, expected):
        status, body = read(call, name)
        assert status == expected
        assert set(body) == {"error_code", "message"}

    @pytest.mark.parametrize(
        ("path", "expected"),
        [
            ("causes/" + "z" * 3000, 400),
            ("causes/" + "A" * 32, 400),
            ("versions/" + "9" * 5000, 404),
            ("versions/000000000000", 404),
        ],
        ids=lambda value: str(value)[:20],
    )
    def test_an_identifier_that_no_key_can_hold_is_not_our_fault(self, call, cause_id, path, expected):
        status, _ = read(call, "valid_version", path=f"/models/{MODEL}/{path}")
        assert status == expected

    def test_a_path_that_is_none_is_404_in_the_same_form(self, call):
        status, body = read(call, "valid_models", path="/nothing")
        assert (status, body) == (
            404,
            {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "there is no GET /nothing"},
        )

    def test_a_table_that_is_throttled_is_503_and_may_be_asked_again(self, call, monkeypatch):
        def throttle(*_):
            raise ServiceUnavailableError("DynamoDB is busy (ThrottlingException) in Query")

        monkeypatch.setattr(Registry, "find_states", throttle)
        status, body = read(call, "valid_models")
        assert (status, body["error_code"]) == (503, "TEMPORARILY_UNAVAILABLE")

    def test_a_wrong_deployment_is_500_without_detail(self, call, monkeypatch, caplog):
        monkeypatch.setenv("REGISTRY_TABLE", "secret-table-name")
        clients.clear_clients()
        status, body = read(call, "valid_models")
        assert (status, body["error_code"]) == (500, "INTERNAL_ERROR")
        assert "secret" not in json.dumps(body)
        assert [record.message for record in caplog.records if record.levelname == "ERROR"] == ["request failed"]

    def test_what_nobody_expected_is_500_without_detail(self, call, monkeypatch, caplog):
        monkeypatch.setattr(Registry, "find_states", lambda *_: 1 / 0)
        status, body = read(call, "valid_models")
        assert status == 500
        assert "division" not in json.dumps(body)
        assert [str(record.exc_info[1]) for record in caplog.records if record.exc_info] == ["division by zero"]
