"""The cost of a model without requests: every call that the shipped functions make in some days, scaled to a month."""

import inspect
import json
import math
from collections import Counter
from datetime import datetime, timedelta

import boto3
import pytest
from millrace.aws import clients
from millrace.captures.activity import list_activity, mark_activity
from millrace.cost.arithmetic import ASSUMED, HOURS_A_MONTH, calculate_idle_model, calculate_stack
from millrace.cost.prices import US_EAST_1
from millrace.settings import CostSettings
from millrace.spec import ModelSpec

from tests.integration.application import DATA_BUCKET, MODELS_BUCKET, MONITORING_ARN, Application
from tests.integration.executions import wait_for_execution
from tests.registry_builders import make_entry, make_version, point_alias
from tests.unit.monitoring.served import MODEL, START, Served

#: Prices of a call, or a unit: name in the list, and how many of it.
PRICES = {
    name: US_EAST_1[price].cost(number)
    for name, price, number in (
        ("s3.ListObjectsV2", "s3_write", 1),
        ("s3.PutObject", "s3_write", 1),
        ("s3.GetObject", "s3_read", 1),
        ("dynamodb.GetItem", "dynamodb_read", 1),
        ("dynamodb.Query", "dynamodb_read", 2),  # of up to 8 KB
        ("read unit", "dynamodb_read", 1),
        ("dynamodb.UpdateItem", "dynamodb_write", 1),
        ("dynamodb.DeleteItem", "dynamodb_write", 1),
        ("dynamodb.TransactWriteItems", "dynamodb_write", 8 * 2),  # of up to eight items
        ("events.PutEvents", "event", 1),
        ("sns.Publish", "event", 0.5),
        ("stepfunctions.StartExecution", "transition", 1),
        ("transition", "transition", 1),
        ("invocation", "lambda_request", 1),
        ("GB-second", "lambda_gb_second", 1),
        ("schedule", "schedule", 1),
    )
}
#: GB-seconds of an invocation, its cold start included: assumed, not measured on Lambda.
GB_SECONDS = {
    "find_due_models": ASSUMED.check_gb_seconds,
    "monitor_model": ASSUMED.monitoring_gb_seconds,
    "request_training": 2.0 * 0.25,
}
HOUR = timedelta(hours=1)
REQUEST = {"id": "e", "source": "millrace", "time": "2026-05-03T00:00:00Z"}


class Month:
    """A stack on moto whose clock a test moves, and the calls that its functions make."""

    def __init__(self, application: Application) -> None:
        self.application, self.now = application, START
        self.calls: Counter[str] = Counter()
        boto3.DEFAULT_SESSION.events.register("before-call", self._count)  # type: ignore[union-attr]  # moto's
        month = self

        class Clock(datetime):
            @classmethod
            def now(cls, tz=None):
                return month.now

        for name in ("find_due_models", "monitor_model"):
            inspect.unwrap(application.handlers[name]).__globals__["datetime"] = Clock

    def _count(self, model, **_):
        if getattr(self.application._caller, "name", None):
            self.calls[f"{model.service_model.service_name}.{model.name}"] += 1

    def pass_time(self, span: timedelta) -> tuple[float, int]:
        """Let the schedule fire whenever the model is due; return the USD of the model's runs and their number."""
        end, usd, runs = self.now + span, 0.0, 0
        while self.now < end:
            self.now = min(end, max(self.now + HOUR, self._due_at()))
            more, started = self.check()
            usd, runs = usd + more, runs + started
        return usd, runs

    def check(self) -> tuple[float, int]:
        """Let the schedule fire; return the USD of the model's runs and their number."""
        self.calls.clear()
        first, started_at = len(self.application.invocations), self.now
        found = self.application.call("find_due_models", {"scheduled_at": started_at.isoformat()})
        for number in range(found["executions"]):
            self._follow(f"due-{started_at:%Y%m%dT%H%M%S}-{number:03d}")
        for kind, detail in self.application.published_events():
            self.application.trigger({**REQUEST, "detail-type": kind, "detail": {**detail, "stack": "millrace"}})
        invoked = [name for name, _ in self.application.invocations[first:] if name != "find_due_models"]
        usd = sum(PRICES["invocation"] + GB_SECONDS[name] * PRICES["GB-second"] for name in invoked)
        return (usd + self.usd()) if found["executions"] else 0.0, invoked.count("monitor_model")

    def _follow(self, name: str) -> None:
        states, arn = (
            boto3.client("stepfunctions"),
            MONITORING_ARN.replace(":stateMachine:", ":execution:") + f":{name}",
        )
        assert wait_for_execution(arn)["status"] == "SUCCEEDED"
        pages = states.get_paginator("get_execution_history").paginate(executionArn=arn)
        events = [event["type"] for page in pages for event in page["events"]]
        self.calls["transition"] += sum(event.endswith("StateEntered") for event in events)

    def _due_at(self) -> datetime:
        """The next full hour at which the model is due."""
        (activity,) = list_activity(clients.registry_store())
        if activity.due_at is None or activity.is_active(activity.monitored_at or START):
            return self.now
        hours = math.ceil((activity.due_at - START) / HOUR)
        return START + hours * HOUR

    def usd(self) -> float:
        return sum(PRICES[call] * number for call, number in self.calls.items())


@pytest.fixture
def month(application: Application) -> Month:
    """A champion, on a stack that does nothing else."""
    month = Month(application)  # before any client is built: a client keeps the hooks that its session has then
    served, registry = Served(), clients.registry()
    for bucket, objects in ((MODELS_BUCKET, served.models), (DATA_BUCKET, served.data)):
        for listed in objects.list(""):
            boto3.client("s3").put_object(Bucket=bucket, Key=listed.key, Body=objects.get(listed.key))
    registry.put_spec(MODEL, ModelSpec(), make_entry("spec", MODEL, START))
    registry.put_version(make_version(1, MODEL), make_entry("v1", MODEL, START))
    point_alias(registry, "champion", 1, MODEL, START)
    return month


def items_bytes() -> int:
    """The size of what the hourly check reads of one model."""
    items = [item for name in ("millrace-runs", "millrace-registry") for item in scan(name) if is_read(item)]
    return len(json.dumps(items))


def scan(name):
    return boto3.client("dynamodb").scan(TableName=name)["Items"]


def is_read(item):
    return item["pk"]["S"] in ("MONITORING", "MODELS")


def a_month_of(month: Month, span: timedelta) -> tuple[float, int]:
    """Scale a span's cost of the model, with its share of what each hourly check reads."""
    usd, runs = month.pass_time(span)
    return usd * HOURS_A_MONTH * HOUR / span + items_bytes() / 4_096 * PRICES["read unit"] * HOURS_A_MONTH, runs


def test_a_check_with_nothing_due_makes_three_queries_and_starts_nothing(month: Month):
    month.pass_time(2 * HOUR)
    month.now += HOUR
    assert month.check() == (0.0, 0)
    assert month.calls == {"dynamodb.Query": 3}
    a_check = PRICES["schedule"] + PRICES["invocation"] + GB_SECONDS["find_due_models"] * PRICES["GB-second"]

    usd = HOURS_A_MONTH * (a_check + month.usd())
    assert usd <= 0.01, "USD a month of the stack, whatever its models"
    # Those of the README and of `millrace cost`.
    lines = calculate_stack(CostSettings(), US_EAST_1).lines
    assert usd == pytest.approx(sum(line.usd for line in lines if line.name.startswith("hourly check")), rel=0.05)


def test_a_model_at_rest_costs_at_most_a_cent_a_month(month: Month):
    month.pass_time(30 * HOUR)
    usd, runs = a_month_of(month, timedelta(days=14))
    assert runs == 2

    assert usd <= 0.01
    assert usd == pytest.approx(calculate_idle_model(US_EAST_1).usd, rel=0.1)


def test_a_model_whose_requests_ended_costs_at_most_three_cents_a_month(month: Month):
    """It is reported as stale, and its event is published again after each cooldown."""
    served = Served()
    served.capture(0)
    for listed in served.data.list("captures/"):
        boto3.client("s3").put_object(Bucket=DATA_BUCKET, Key=listed.key, Body=served.data.get(listed.key))
    mark_activity(clients.registry_store(), [MODEL], "traffic", START, {})
    month.pass_time(54 * HOUR)
    assert month.application.read(DATA_BUCKET, f"monitoring/{MODEL}/reports/latest.json")["incidents"]
    usd, runs = a_month_of(month, timedelta(days=2))
    assert runs == 2

    assert usd <= 0.03
