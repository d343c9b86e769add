"""Whatever is sent to the management API, it is answered or refused: no caller can make a failure of the service.

The stores refuse what DynamoDB and S3 cannot hold. What predicts and takes ground truth is fuzzed by
``test_protocols.py`` and ``test_feedback_loop.py``.
"""

import base64
import gzip
import json
import os
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from millrace.aws import management
from millrace.layout import schema_key
from millrace.observability import logger

from tests import schedule_environment
from tests.fakes.memory_events import MemoryEvents
from tests.fakes.memory_monitoring import MemoryMonitoring
from tests.fakes.memory_object_store import MemoryObjectStore
from tests.fakes.memory_people import MemoryCallback
from tests.fakes.memory_pipeline import MemoryPipeline
from tests.fakes.memory_registry import MemoryRegistry
from tests.fakes.memory_schedules import MemorySchedules
from tests.integration.application import Handler, lambda_context, load_handler
from tests.registered_versions import RegisteredVersions
from tests.serving_models import churn_schema
from tests.template.template_file import functions

#: Requests that each test sends; more on demand.
FUZZ_EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "250"))
FUNCTIONS = {
    "ManageModelsFunction": "manage_models",
    "ChangeModelsFunction": "change_models",
    "RequestTrainingFunction": "request_training",
}
ROUTES = sorted(
    (FUNCTIONS[name], event["Properties"]["Method"], event["Properties"]["Path"])
    for name, function in functions().items()
    for event in function.get("Events", {}).values()
    if event["Type"] == "Api" and name in FUNCTIONS
)
ENVIRONMENT = {
    "DATA_BUCKET": "data",
    "MODELS_BUCKET": "models",
    "REGISTRY_TABLE": "registry",
    "RUNS_TABLE": "runs",
    "STACK_NAME": "millrace",
    "TRAINING_PIPELINE_ARN": "training",
    "MONITORING_PIPELINE_ARN": "monitoring",
    **schedule_environment.ENVIRONMENT,
}


class World:
    """The functions, beside a model with three versions and a schema, in memory."""

    def __init__(self) -> None:
        self.handlers: dict[str, Handler] = {}
        self.renew()

    def renew(self) -> None:
        """Begin anew: what is sent may delete the model."""
        self.registry, self.stores = MemoryRegistry(), {name: MemoryObjectStore(name) for name in ("data", "models")}
        RegisteredVersions(3, self.registry, self.stores["models"]).point("champion", 1)
        for number in (1, 2, 3):  # a version's schema is read too
            self.stores["models"].delete([f"churn/versions/{number}/signature.json"])
        self.registry.set_schema_version("churn", 1)
        self.stores["data"].put(schema_key("churn", 1), json.dumps(churn_schema().to_dict()).encode())


@pytest.fixture
def handlers(world: World) -> dict[str, Handler]:
    world.renew()
    return world.handlers


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    world = World()
    ports = {
        "registry": lambda: world.registry,
        "object_store": lambda name: world.stores[name],
        "schedules": lambda _: MemorySchedules(),
        "task_callback": MemoryCallback,
        "monitoring_pipeline": lambda _: MemoryMonitoring(),
        "training_pipeline": lambda _: MemoryPipeline(),
        "event_publisher": MemoryEvents,
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        for name, build in ports.items():
            patch.setattr(f"millrace.aws.clients.{name}", build)
            # Imported above: imported here, it would keep these for the tests of other files.
            patch.setattr(management, name, build, raising=False)
        patch.setattr(logger._logger, "handlers", [])  # thousands of lines that nobody reads
        world.handlers = {name: load_handler(name) for name in FUNCTIONS.values()}
        yield world


TEXTS = [
    "",
    "\ud800",
    "a\0b",
    "..",
    "%2e%2e",
    "churn",
    "_refused",
    "_keys",
    "champion",
    "1",
    "01",
    "9" * 30,
    "9" * 5_000,
    "²",
    "x" * 64,
    "x" * 3_000,
    "NaN",
    "20260503T141500-0f3a9c2b7d1e",
    "a" * 32,
    "ab12",
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-14:00",
    "2026-05-03",
    "\N{PILE OF POO}",
    "*",
    "churn\n",
    "rate(1 day)",
]
NUMBERS = [0, 1, -1, 2, 10**6, 2**32, 2**63, 2**64, 10**30, 10**400, -(10**400), 0.5, 1e-320, 1.7e308, float("inf")]
texts = st.sampled_from(TEXTS) | st.text(max_size=6)
scalars = texts | st.sampled_from([*NUMBERS, float("nan"), True, False, None])
#: A valid body of each route by the end of its path; a damaged one is more hostile than noise.
BODIES: dict[str, dict[str, Any]] = {
    "promote": {"version": 2, "reason": "x", "expected_champion": 1},
    "rollback": {"to": 1, "reason": "x", "expected_champion": 2},
    "retire": {"version": 3, "reason": "x"},
    "gc": {"reason": "x", "dry_run": True},
    "approval": {"decision": "approve", "reason": "x"},
    "{key_id}": {"models": ["churn", "*"], "reason": "x"},
    "runs": {"reason": "x"},
    "spec": {
        "spec": {
            "target": "churned",
            "seed": 3,
            "read": {"delimiter": ",", "encoding": "utf-8", "null_values": ["?"]},
            "columns": {"age": {"type": "integer", "minimum": 0, "maximum": 120, "pattern": "a+", "formats": ["%Y"]}},
            "checks": {"expressions": [{"name": "a", "expression": "age > 1", "severity": "warning"}]},
            "gate": {"floors": {"roc_auc": 0.5}},
            "monitoring": {"schedule": "rate(1 hour)"},
            "retraining": {"schedule": "rate(7 days)", "captured_days": 30, "cooldown_hours": 24},
            "approval": {"mode": "manual", "expires_after_hours": 24},
        },
        "expected_revision": 1,
    },
}
NAMES = sorted({name for body in BODIES.values() for name in [*body, *body.get("spec", {})]})
names = st.sampled_from(NAMES) | texts
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3), max_leaves=8
)
RAW = ["", "{", "null", "[]", '"x"', "9" * 5_000, "[" * 100_000, '{"a":' * 50_000, "\ud800", "\ufeff{}", " " * 100_000]
#: Parameters of paths that exist, or have the form of one.
PLACES = {"model": ["churn", "churn", "churn", "nobody"], "version": ["1", "champion"], "key_id": ["k1"]}
QUERIES = ["at", "alias", "version", "hours", "limit"]


@st.composite
def bodies(draw: st.DrawFn, resource: str) -> str:
    """Draw a valid body with one part of it replaced by anything or taken away, or anything at all."""
    document = json.loads(json.dumps(BODIES.get(resource.rsplit("/", 1)[1], {"reason": "x"})))
    part = document
    while isinstance(part, dict | list) and part:
        place = draw(st.sampled_from(sorted(part)) if isinstance(part, dict) else st.integers(0, len(part) - 1))
        if not isinstance(part[place], dict | list) or draw(st.booleans()):
            part[place] = draw(anything)
            break
        part = part[place]
    body = draw(st.just(json.dumps(document)) | anything.map(json.dumps) | st.sampled_from(RAW))
    encoding = draw(st.sampled_from(["text", "text", "text", "base64", "gzip", "broken"]))
    if encoding == "text":
        return body
    packed = body.encode(errors="replace")
    return {
        "base64": "base64:" + base64.b64encode(packed).decode(),
        "gzip": "base64:" + base64.b64encode(gzip.compress(packed)).decode(),
        "broken": "base64:" + body,
    }[encoding]


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    function, method, resource = draw(st.sampled_from(ROUTES))
    parameters = {
        name: draw(st.sampled_from(PLACES.get(name, ["20260503T141500-0f3a9c2b7d1e", "a" * 32, "ab12"])) | texts)
        for name in re.findall(r"{(\w+)}", resource)
    }
    body = draw(bodies(resource)) if method != "GET" else None
    return function, make_request(
        method, resource, parameters, draw(st.dictionaries(st.sampled_from(QUERIES), texts)), body
    )


def make_request(method: str, resource: str, parameters: Any, query: Any = None, body: str | None = None) -> Any:
    is_binary = (body or "").startswith("base64:")
    return {
        "resource": resource,
        "path": re.sub(r"{(\w+)}", lambda match: parameters[match[1]], resource),
        "httpMethod": method,
        "headers": {"Content-Type": "application/json"},
        "multiValueHeaders": {},
        "queryStringParameters": query or None,
        "multiValueQueryStringParameters": {name: [value] for name, value in (query or {}).items()} or None,
        "pathParameters": parameters or None,
        "requestContext": {"requestId": "r", "resourcePath": resource, "httpMethod": method, "stage": "v1"},
        "body": (body or "").removeprefix("base64:") if is_binary else body,
        "isBase64Encoded": is_binary,
    }


HISTORY, SCHEMA = "/models/{model}/history", "/models/{model}/schema"
CHURN = {"model": "churn"}
FUZZED = settings(max_examples=FUZZ_EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@FUZZED
@given(request=requests())
@example(("manage_models", make_request("GET", HISTORY, CHURN, {"alias": "\ud800"})))
@example(("manage_models", make_request("GET", HISTORY, CHURN, {"alias": "9" * 5_000})))
@example(("manage_models", make_request("GET", HISTORY, CHURN, {"alias": "é" * 150, "at": "2026-05-03"})))
@example(("manage_models", make_request("GET", SCHEMA, CHURN, {"version": "9" * 5_000})))
@example(("change_models", make_request("POST", "/models/{model}/promote", CHURN, None, '{"reason": "\\ud800"}')))
def test_whatever_is_sent_it_is_answered_or_refused(world, request):
    function, event = request
    if world.registry.get_state("churn").deleted_at:
        world.renew()
    response = world.handlers[function](event, lambda_context(function))
    reply = json.loads(response["body"])
    assert 200 <= response["statusCode"] < 500, reply
    if response["statusCode"] >= 400:
        assert set(reply) <= {"error_code", "message", "fields"}


def test_the_requests_get_through_to_what_they_are_for(handlers):
    """The model exists, and its documents are read: else nothing is fuzzed but the refusal of its name."""
    found = {
        resource: handlers[function](make_request(method, resource, CHURN), lambda_context(function))["statusCode"]
        for function, method, resource in ROUTES
        if method == "GET" and re.findall(r"{(\w+)}", resource) == ["model"]
    }
    assert set(found.values()) == {200}, found


@pytest.mark.parametrize(
    ("version", "expected"),
    [("1", 200), ("champion", 200), ("01", 404), ("001", 404), ("+1", 404), (" 1", 404), ("\u0661", 404), ("%31", 404)],
)
@pytest.mark.parametrize("resource", ["/models/{model}/versions/{version}", "/models/{model}/versions/{version}/card"])
def test_a_version_has_one_path(handlers, resource, version, expected):
    """A policy that names version 1 holds for every path that is answered with it."""
    event = make_request("GET", resource, {**CHURN, "version": version})
    response = handlers["manage_models"](event, lambda_context("manage_models"))
    found = response["statusCode"] == 200 or "has no model card" in response["body"]
    assert found == (expected == 200), response["body"]
