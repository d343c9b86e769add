import json
from copy import deepcopy
from datetime import UTC, datetime

import pytest
from millrace.entities import Source
from millrace.errors import InvalidInputError, InvalidNameError
from millrace.names import make_cause_id
from millrace.triggers.trigger_events import (
    RefusedUpload,
    RunEnded,
    ScheduleTrigger,
    TrainingTrigger,
    parse_event,
    read_run_request,
)

from tests.registry_builders import NOW

RUN_ID = "20260503T141500-0f3a9c2b7d1e"
UPLOAD = {
    "source": "aws.s3",
    "detail-type": "Object Created",
    "time": "2026-05-03T14:15:00Z",
    "detail": {
        "bucket": {"name": "data"},
        "object": {"key": "incoming/churn/may.csv", "size": 10, "version-id": "v7"},
        "requester": "123456789012",
    },
}
SCHEDULE = {"source": "millrace.schedule", "schedule": "weekly", "model": "churn", "time": "2026-05-03T14:00:00Z"}
FINISHED = {
    "source": "millrace",
    "detail-type": "TrainingFinished",
    "detail": {"model": "churn", "run_id": RUN_ID, "outcome": "failed", "error": "States.Timeout"},
}
STATUS = {
    "source": "aws.states",
    "detail-type": "Step Functions Execution Status Change",
    "detail": {
        "name": RUN_ID,
        "status": "TIMED_OUT",
        "input": json.dumps({"model": "churn", "run_id": RUN_ID}),
        "error": "States.Timeout",
        "cause": "Traceback: row 17 of alice@example.com",
    },
}


def upload_of(key):
    event = deepcopy(UPLOAD)
    event["detail"]["object"]["key"] = key
    return event


def test_an_upload_is_a_cause_that_names_the_very_bytes():
    trigger = parse_event(UPLOAD, NOW)
    assert isinstance(trigger, TrainingTrigger)
    cause = trigger.cause
    assert cause.source == Source("data", "incoming/churn/may.csv", "v7", datetime(2026, 5, 3, 14, 15, tzinfo=UTC))
    assert cause.cause_id == make_cause_id("upload", "data", "incoming/churn/may.csv", "v7")
    assert (cause.model, cause.kind, cause.occurred_at) == ("churn", "upload", cause.source.uploaded_at)
    assert trigger.actor == "123456789012"


def test_the_same_event_has_the_same_cause_and_another_version_another():
    again = {**deepcopy(UPLOAD), "id": "delivered-again"}
    other = deepcopy(UPLOAD)
    other["detail"]["object"]["version-id"] = "v8"
    first, second, third = (parse_event(event, NOW).cause.cause_id for event in (UPLOAD, again, other))
    assert first == second != third


def test_a_key_is_taken_as_it_is_because_eventbridge_does_not_encode_it():
    trigger = parse_event(upload_of("incoming/churn/my%20file+1.csv"), NOW)
    assert trigger.cause.source.key == "incoming/churn/my%20file+1.csv"


def test_an_upload_that_no_model_can_have_is_refused_not_raised():
    trigger = parse_event(upload_of("incoming/churn/my file.csv"), NOW)
    assert isinstance(trigger, RefusedUpload)
    assert trigger.source.key == "incoming/churn/my file.csv"
    assert "spaces" in trigger.refusal.reason


def test_a_schedule_asks_once_per_slot_and_model():
    trigger = parse_event(SCHEDULE, NOW)
    assert trigger == ScheduleTrigger("weekly", "churn", datetime(2026, 5, 3, 14, tzinfo=UTC))
    ids = {
        parse_event({**SCHEDULE, **changes}, NOW).for_model(model).cause.cause_id
        for changes, model in [({}, "churn"), ({}, "iris"), ({"time": "2026-05-10T14:00:00Z"}, "churn")]
    }
    assert len(ids) == 3
    assert trigger.for_model("churn") == parse_event(SCHEDULE, NOW).for_model("churn")
    assert "weekly" in trigger.for_model("churn").cause.reason


def test_a_slot_that_nobody_filled_in_is_this_minute():
    event = {**SCHEDULE, "time": "<aws.scheduler.scheduled-time>"}
    assert parse_event(event, NOW.replace(second=42)).slot == NOW


def test_a_schedule_may_ask_for_every_model():
    assert parse_event({**SCHEDULE, "model": "*"}, NOW).model == "*"


def test_the_pipeline_says_that_a_run_ended():
    ended = parse_event(FINISHED, NOW)
    assert ended == RunEnded("churn", RUN_ID, "the pipeline ended as failed: States.Timeout", "States.Timeout")


def test_a_stopped_execution_ends_its_run_without_repeating_what_its_cause_says():
    ended = parse_event(STATUS, NOW)
    assert (ended.model, ended.run_id) == ("churn", RUN_ID)
    assert ended.reason == "the pipeline's execution ended as TIMED_OUT: States.Timeout"


@pytest.mark.parametrize(
    ("event", "words"),
    [
        ({}, "no trigger"),
        ({"source": "aws.s3", "detail-type": "Object Deleted"}, "no trigger"),
        ({key: value for key, value in UPLOAD.items() if key != "time"}, "time"),
        ({**UPLOAD, "time": "yesterday"}, "ISO 8601"),
        ({**UPLOAD, "detail": {"bucket": {"name": "data"}, "object": {"key": "incoming/a/b"}}}, "version-id"),
        ({**UPLOAD, "detail": "text"}, "detail"),
        ({**UPLOAD, "detail": None}, "detail"),
        ({**SCHEDULE, "time": "soon"}, "ISO 8601"),
        ({"source": "millrace.schedule", "time": "2026-05-03T14:00:00Z"}, "model"),
        ({**FINISHED, "detail": {"model": "churn"}}, "outcome"),
        ({**STATUS, "detail": {**STATUS["detail"], "input": "no json"}}, "not JSON"),
        ({**STATUS, "detail": {**STATUS["detail"], "input": "{}"}}, "model"),
        ({**STATUS, "detail": {**STATUS["detail"], "input": None}}, "detail"),
    ],
)
def test_an_event_that_is_none_of_these_is_refused_with_what_is_wrong(event, words):
    with pytest.raises(InvalidInputError, match=words):
        parse_event(event, NOW)


@pytest.mark.parametrize(
    "event", [{**SCHEDULE, "model": "../etc"}, {**FINISHED, "detail": {**FINISHED["detail"], "model": "a b"}}]
)
def test_a_model_that_cannot_exist_is_refused(event):
    with pytest.raises(InvalidNameError):
        parse_event(event, NOW)


def request(body=None, **context):
    return {"body": body, "requestContext": {"requestId": "r1", **context}}


def test_a_request_by_hand_says_who_and_why():
    event = request('{"reason": "new prices"}', identity={"userArn": "arn:aws:iam::123456789012:user/ann"})
    trigger = read_run_request("churn", event, NOW)
    assert (trigger.actor, trigger.cause.reason) == ("arn:aws:iam::123456789012:user/ann", "new prices")
    assert (trigger.cause.kind, trigger.cause.source, trigger.cause.occurred_at) == ("manual", None, NOW)


def test_a_request_needs_no_body_and_is_the_same_only_under_the_same_id():
    first, again = (read_run_request("churn", request(body), NOW) for body in (None, ""))
    other = read_run_request("churn", request(requestId="r2"), NOW)
    assert first.cause == again.cause
    assert first.cause.cause_id != other.cause.cause_id
    assert first.actor == "api"


@pytest.mark.parametrize(
    "body", ["{", "[]", '"text"', '{"reason": 5}', '{"raisin": "x"}', json.dumps({"reason": "x" * 1001})]
)
def test_a_body_that_is_no_request_is_refused(body):
    with pytest.raises(InvalidInputError):
        read_run_request("churn", request(body), NOW)


def test_a_body_in_base64_is_read():
    event = {**request("eyJyZWFzb24iOiAieCJ9"), "isBase64Encoded": True}
    assert read_run_request("churn", event, NOW).cause.reason == "x"
    with pytest.raises(InvalidInputError):
        read_run_request("churn", {**event, "body": "&&&"}, NOW)


FINDING = {
    "source": "millrace",
    "detail-type": "DriftDetected",
    "detail": {
        "model": "churn",
        "incident_id": "drift-1",
        "occurred_at": "2026-05-03T14:15:00+00:00",
        "reason": "age shifted",
    },
}


class TestFindings:
    @pytest.mark.parametrize(
        ("detail_type", "kind"),
        [
            ("DriftDetected", "drift"),
            ("QualityDegraded", "quality"),
            ("ModelStale", "staleness"),
            ("ServingDegraded", "latency"),
        ],
    )
    def test_what_monitoring_finds_is_a_cause(self, detail_type, kind):
        trigger = parse_event({**FINDING, "detail-type": detail_type}, NOW)
        assert isinstance(trigger, TrainingTrigger)
        assert (trigger.cause.kind, trigger.cause.model, trigger.cause.reason) == (kind, "churn", "age shifted")
        assert trigger.actor == "monitoring"

    def test_an_incident_is_one_cause_and_one_more_each_time_it_asks_again(self):
        def cause_id(**changes):
            return parse_event({**FINDING, "detail": {**FINDING["detail"], **changes}}, NOW).cause.cause_id

        assert cause_id() == cause_id(occurred_at="2026-05-04T00:00:00+00:00", reason="other words")
        assert len({cause_id(), cause_id(request=2), cause_id(incident_id="drift-2"), cause_id(model="x")}) == 4

    def test_an_incident_that_runs_do_not_end_is_followed_less_and_less_often(self):
        def refusal(request):
            return parse_event({**FINDING, "detail": {**FINDING["detail"], "request": request}}, NOW).refusal

        assert [request for request in range(1, 40) if refusal(request) is None] == [1, 2, 4, 8, 16, 32]
        assert refusal(3).startswith("this is request 3 of an incident that persists, and training follows requests 1,")

    def test_broken_data_is_no_cause(self):
        with pytest.raises(InvalidInputError, match="no trigger"):
            parse_event({**FINDING, "detail-type": "DataQualityDegraded"}, NOW)

    @pytest.mark.parametrize("field", ["model", "incident_id", "occurred_at", "reason"])
    def test_a_finding_that_lacks_something_names_it(self, field):
        detail = {name: value for name, value in FINDING["detail"].items() if name != field}
        with pytest.raises(InvalidInputError, match=field):
            parse_event({**FINDING, "detail": detail}, NOW)
