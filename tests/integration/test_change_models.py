"""``change_models`` and ``request_approval``: the shipped handlers, and the shipped pipeline waiting for a person."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from millrace.aws import clients
from millrace.errors import InvalidInputError, ServiceUnavailableError
from millrace.layout import version_key
from millrace.registry.model_schedules import apply_schedules
from millrace.settings import ScheduleSettings, load_settings
from millrace.spec import ModelSpec
from moto import mock_aws
from moto.core import DEFAULT_ACCOUNT_ID
from moto.sns import sns_backends

from tests.integration.application import (
    MODELS_BUCKET,
    MONITORING_ARN,
    PIPELINE_NAME,
    REGION,
    Application,
    deploy,
)
from tests.integration.conftest import MOTO_CONFIG
from tests.limits import within
from tests.registered_versions import RegisteredVersions
from tests.registry_builders import MODEL, make_entry

EVENTS = Path(__file__).resolve().parents[2] / "events"
RUN_ID = "20260503T141500-0f3a9c2b7d1e"


def load_event(function: str, name: str) -> dict:
    return json.loads((EVENTS / function / f"{name}.json").read_text())


def names(function: str, prefix: str) -> list[str]:
    return sorted(path.stem for path in (EVENTS / function).glob(f"{prefix}*.json"))


class World(RegisteredVersions):
    """Three versions of a model in the application's own table and bucket."""

    def __init__(self, application: Application) -> None:
        self.application = application
        super().__init__(3, clients.registry(), clients.object_store(MODELS_BUCKET))

    def post(self, name: str, **body: object) -> tuple[int, dict]:
        event = load_event("change_models", name)
        if body:
            event["body"] = json.dumps(body)
        answer = self.application.call("change_models", event)
        return answer["statusCode"], json.loads(answer["body"])

    @property
    def published(self) -> list[str]:
        return [name for name, _ in self.application.published_events()]


@pytest.fixture
def world(isolated_from_aws: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with mock_aws(config=MOTO_CONFIG):
        yield World(deploy(monkeypatch))


def test_promotion_rollback_and_retirement_are_done_recorded_and_told(world):
    world.point("champion", 1)
    assert world.post("valid_promote") == (
        200,
        {"model": MODEL, "outcome": "promoted", "from_version": 1, "to_version": 2, "passed_over": []},
    )
    assert world.post("valid_promote")[1]["outcome"] == "already"
    status, rolled = world.post("valid_rollback")
    assert (status, rolled["outcome"], rolled["to_version"]) == (200, "rolled_back", 1)
    assert world.post("valid_rollback")[1]["outcome"] == "already"
    assert world.post("valid_retire", version=2, reason="worse")[1]["outcome"] == "retired"
    assert world.actions[:3] == ["model_retired", "model_rolled_back", "model_promoted"]
    entry = world.registry.list_ledger(MODEL)[1]
    assert (entry.actor, entry.reason) == ("arn:aws:iam::123456789012:user/ann", "complaints since noon")
    assert world.published == ["ModelPromoted", "ModelRolledBack", "ModelRetired"]


@pytest.mark.parametrize("name", ["valid_custom_domain", "valid_body_binary"])
def test_a_request_is_read_in_every_shape_that_aws_sends(world, name):
    world.point("champion", 1)
    assert world.post(name)[0] == 200
    assert world.registry.list_ledger(MODEL)[0].actor == "arn:aws:sts::123456789012:assumed-role/analyst/ann"


def test_what_cannot_be_done_is_a_conflict_that_says_why(world):
    world.point("champion", 1)
    status, body = world.post("valid_retire")
    assert (status, body["error_code"], body["message"]) == (
        409,
        "RESOURCE_CONFLICT",
        "version 1 of 'churn' is in use: it is the champion",
    )
    assert world.post("valid_rollback")[0] == 409
    assert world.post("valid_promote", version=9, reason="x")[0] == 404
    assert world.post("valid_approve")[0] == 404
    assert world.published == []


def test_what_was_deleted_can_be_recovered_from_the_versioned_bucket(world):
    world.post("valid_retire", version=3, reason="worse")
    status, told = world.post("valid_gc")
    assert (status, told["objects"], told["dry_run"]) == (200, 0, True)
    clients.object_store(MODELS_BUCKET).delete([version_key(MODEL, 3, "model.onnx")])
    found = boto3.client("s3").list_object_versions(Bucket=MODELS_BUCKET, Prefix=version_key(MODEL, 3, "model.onnx"))
    (kept,) = found["Versions"]
    store = clients.object_store(MODELS_BUCKET)
    assert store.get(version_key(MODEL, 3, "model.onnx"), kept["VersionId"]) == b"onnx3"


@pytest.mark.parametrize("name", names("change_models", "refused"))
def test_a_request_that_is_wrong_changes_nothing(world, name):
    status, body = world.post(name)
    assert (status, body["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert world.aliases == {}


def test_what_is_done_is_told_later_when_the_bus_is_busy(world, monkeypatch, caplog):
    def busy(*_):
        raise ServiceUnavailableError("EventBridge is busy")

    with monkeypatch.context() as patched:
        patched.setattr("millrace.aws.events.EventBridgePublisher.publish", busy)
        assert world.post("valid_promote")[0] == 200
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == ["events wait in the outbox"]
    assert world.aliases == {"champion": 2}
    world.post("valid_promote")
    assert world.published == ["ModelPromoted"]


class TestKeyScopes:
    def test_a_key_is_scoped_recorded_and_listed(self, world):
        status, scope = world.post("valid_key_scope")
        assert (status, scope["key_id"], scope["models"]) == (200, "a1b2c3d4e5", [MODEL])
        status, body = world.application.get("/keys", "/keys", {})
        assert (status, body["keys"]) == (200, [scope])
        (entry,) = body["ledger"]
        assert (entry["action"], entry["reason"], entry["details"]) == (
            "key_scoped",
            "the web shop",
            {"key_id": "a1b2c3d4e5", "models": [MODEL]},
        )
        assert world.application.get("/keys/verification", "/keys/verification", {})[1]["is_intact"]
        assert world.published == []

    @pytest.mark.parametrize(
        ("models", "expected", "action"),
        [(["*"], ["*"], "key_scoped"), ([], [], "key_revoked"), ([MODEL, MODEL], [MODEL], "key_scoped")],
    )
    def test_every_model_no_model_or_one_twice(self, world, models, expected, action):
        assert world.post("valid_key_scope", models=models, reason="x")[1]["models"] == expected
        assert world.registry.list_ledger("_keys")[0].action == action

    @pytest.mark.parametrize(
        ("body", "expected"),
        [
            ({"models": ["nobody"], "reason": "x"}, 404),
            ({"models": ["churn", "../x"], "reason": "x"}, 400),
            ({"models": [""], "reason": "x"}, 400),
            ({"models": ["_keys"], "reason": "x"}, 400),
            ({"models": [1], "reason": "x"}, 400),
            ({"models": ["churn"] * 101, "reason": "x"}, 400),
            ({"models": ["churn"]}, 400),
            ({"models": None, "reason": "x"}, 400),
        ],
        ids=lambda value: str(value)[:40],
    )
    def test_what_is_no_scope_changes_nothing(self, world, body, expected):
        assert world.post("valid_key_scope", **body)[0] == expected
        assert world.registry.list_key_scopes() == []

    def test_a_deleted_model_is_none(self, world):
        world.post("valid_delete")
        assert world.post("valid_key_scope")[0] == 404


class TestDeletion:
    @staticmethod
    def heard(world) -> dict:
        """Deliver what was published about the deletion, as the bus's rule would."""
        (detail,) = [detail for name, detail in world.application.published_events() if name == "ModelDeleted"]
        return world.application.call(
            "request_training", {"source": "millrace", "detail-type": "ModelDeleted", "detail": detail}
        )

    def test_it_stops_serving_and_leaves_no_schedule(self, world):
        world.point("champion", 1)
        schedules = clients.schedules(load_settings(ScheduleSettings))
        spec = ModelSpec.parse({"retraining": {"schedule": "rate(7 days)"}, "monitoring": {"schedule": "rate(1 hour)"}})
        world.registry.put_spec(MODEL, spec, make_entry("spec"))
        apply_schedules(MODEL, spec, schedules)
        assert len(boto3.client("scheduler").list_schedules()["Schedules"]) == 2

        status, deletion = world.post("valid_delete")
        assert (status, deletion["outcome"], deletion["from_version"]) == (200, "deleted", 1)
        assert (deletion["retired"], deletion["stopped_run"]) == ([1, 2, 3], world.first_run_id)
        assert boto3.client("scheduler").list_schedules()["Schedules"] == []
        looks = boto3.client("stepfunctions").list_executions(stateMachineArn=MONITORING_ARN)["executions"]
        assert len(looks) == 1
        assert world.application.get("/models", "/models", {}) == (200, {"models": [], "next": None})
        status, state = world.application.get(f"/models/{MODEL}", "/models/{model}", {"model": MODEL})
        assert (status, state["aliases"], state["deleted_at"]) == (200, {}, deletion["deleted_at"])
        status, ledger = world.application.get(f"/models/{MODEL}/ledger", "/models/{model}/ledger", {"model": MODEL})
        deleted = next(entry for entry in ledger["entries"] if entry["action"] == "model_deleted")
        assert (deleted["actor"], deleted["reason"]) == (
            "arn:aws:iam::123456789012:user/ann",
            "nobody needs it any more",
        )
        assert world.post("valid_delete")[1]["outcome"] == "already"
        assert world.post("valid_promote")[0] == 404

    def test_the_run_that_goes_on_is_stopped(self, world):
        clients.training_pipeline(boto3_pipeline_arn()).start(MODEL, world.first_run_id)
        stopped = threading.Event()
        world.application.handlers["validate_dataset"] = lambda *_: stopped.wait(60) and {"outcome": "accepted"}
        assert world.post("valid_delete")[0] == 200
        assert self.heard(world) == {"results": []}
        stopped.set()
        # moto's interpreter may have been in the midst of a state; it goes no further than the run's refusal.
        assert world.application.wait_until_quiet()[world.first_run_id] in {"ABORTED", "FAILED"}
        run = world.registry.get_run(MODEL, world.first_run_id)
        assert run.status == "failed"
        assert "was deleted" in run.reasons[0]
        assert world.registry.get_state(MODEL).active_run_id is None
        assert self.ask_for_a_run(world)[0] == 404

    @staticmethod
    def ask_for_a_run(world) -> tuple[int, dict]:
        answer = world.application.call("request_training", load_event("request_training", "valid_manual"))
        return answer["statusCode"], json.loads(answer["body"])

    def test_a_deletion_that_half_failed_is_told_and_finished_by_the_next(self, world, monkeypatch):
        def busy(*_):
            raise ServiceUnavailableError("EventBridge Scheduler is busy")

        with monkeypatch.context() as patched:
            patched.setattr("millrace.aws.schedules.EventBridgeSchedules.get", busy)
            assert world.post("valid_delete")[0] == 503
        assert world.published[0] == "ModelDeleted"
        status, deletion = world.post("valid_delete")
        assert (status, deletion["outcome"]) == (200, "already")


class TestApproval:
    @pytest.fixture
    def run_id(self, world, monkeypatch):
        """A run whose training is over and whose version waits for a person, in the shipped state machine."""
        return self.start(world, approval_seconds=3_600)

    @staticmethod
    def start(world, approval_seconds):
        def register(event, _):
            world.register(4, outcome="awaiting_approval", run_id=event["run_id"])
            world.point("challenger", 4)
            world.registry.update_run(MODEL, event["run_id"], version=4, status="running", stage="awaiting_approval")
            return {"version": 4, "outcome": "awaiting_approval", "approval_seconds": approval_seconds}

        world.point("champion", 1)
        world.application.handlers |= {
            "validate_dataset": lambda *_: {"outcome": "accepted"},
            "plan_training": lambda *_: {"lanes": [], "last_round": True},
            "evaluate_candidates": lambda *_: {"decision": "promote"},
            "register_model": register,
        }
        clients.training_pipeline(boto3_pipeline_arn()).start(MODEL, world.first_run_id)
        for _ in within(60, pause=0.05):
            if sent_messages():
                break
        return world.first_run_id

    @staticmethod
    def answer(world, run_id, decision):
        parameters = {"model": MODEL, "run_id": run_id}
        path = f"/models/{MODEL}/runs/{run_id}/approval"
        body = {"decision": decision, "reason": "card read"}
        return world.application.change(path, "/models/{model}/runs/{run_id}/approval", parameters, body)

    @staticmethod
    def shown(world, run_id):
        parameters = {"model": MODEL, "run_id": run_id}
        path = f"/models/{MODEL}/runs/{run_id}/approval"
        return world.application.get(path, "/models/{model}/runs/{run_id}/approval", parameters)

    def test_approved_the_pipeline_goes_on_and_the_version_serves(self, world, run_id):
        status, waiting = self.shown(world, run_id)
        assert (status, waiting["status"]) == (200, "pending")
        token = world.registry.get_approval(MODEL, run_id).task_token
        assert token not in json.dumps(waiting)
        (message,) = sent_messages()
        assert f"millrace approve churn {run_id}" in message
        assert token not in message

        assert self.answer(world, run_id, "approve")[1]["outcome"] == "approved"
        assert world.application.wait_until_quiet()[run_id] == "SUCCEEDED"
        assert world.aliases == {"champion": 4}
        assert world.registry.get_run(MODEL, run_id).status == "succeeded"
        assert world.registry.get_state(MODEL).active_run_id is None
        assert world.published == ["ApprovalRequested", "ModelPromoted"]
        assert self.answer(world, run_id, "approve")[1]["outcome"] == "already"
        assert self.answer(world, run_id, "reject")[0] == 409

    def test_rejected_the_pipeline_ends_without_an_alarm(self, world, run_id):
        assert self.answer(world, run_id, "reject")[0] == 200
        assert world.application.wait_until_quiet()[run_id] == "SUCCEEDED"
        assert world.aliases == {"champion": 1}
        assert world.registry.get_run(MODEL, run_id).status == "rejected"
        assert world.published == ["ApprovalRequested", "ApprovalRejected"]

    def test_a_wait_that_nobody_answers_ends_visibly_and_lets_the_next_run_start(self, world):
        run_id = self.start(world, approval_seconds=2)
        assert world.application.wait_until_quiet()[run_id] == "SUCCEEDED"
        run = world.registry.get_run(MODEL, run_id)
        assert (run.status, run.summary["outcome"]) == ("succeeded", "kept as challenger: approval expired")
        assert world.registry.get_state(MODEL).active_run_id is None
        assert world.aliases == {"champion": 1, "challenger": 4}
        assert world.published == ["ApprovalRequested", "ApprovalExpired"]

    @pytest.mark.parametrize("name", names("request_approval", "refused"))
    def test_what_names_no_run_is_refused(self, world, name):
        with pytest.raises(InvalidInputError):
            world.application.call("request_approval", load_event("request_approval", name))


def boto3_pipeline_arn() -> str:
    machines = boto3.client("stepfunctions").list_state_machines()["stateMachines"]
    [arn] = [machine["stateMachineArn"] for machine in machines if machine["name"] == PIPELINE_NAME]
    return str(arn)


def sent_messages() -> list[str]:
    topics = sns_backends[DEFAULT_ACCOUNT_ID][REGION].topics.values()
    return [message for topic in topics for _, message, *_ in topic.sent_notifications]
