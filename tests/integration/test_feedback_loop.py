"""Whatever clients send, what is accepted can be captured, joined and trained on, and nothing makes the API fail."""

import contextlib
import io
import json
import os
from base64 import b64encode
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from millrace.captures.delivery import LogBatch, LogEvent, deliver
from millrace.captures.feedback import MAX_RECORDS
from millrace.data.captured import find_captured_rows
from millrace.data.prepare import prepare
from millrace.data.typed_table import stored_column
from millrace.entities import KeyScope
from millrace.layout import schema_key
from millrace.observability import logger
from millrace.schema import Task
from millrace.spec import ModelSpec

from tests.fakes.memory_object_store import MemoryObjectStore
from tests.fakes.memory_registry import MemoryRegistry, MemoryRegistryStore
from tests.gateway import call, memory_handler
from tests.integration.application import Handler, lambda_context, load_handler
from tests.registry_builders import make_entry
from tests.serving_models import CHURN_RECORD, churn_schema

MODEL = "churn"
#: Requests that the fuzz test sends; more on demand.
FUZZ_EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "200"))
SPEC = ModelSpec.parse({"retraining": {"captured_rows": True}})


class Loop:
    """``predict`` and ``record_feedback`` beside a bucket and a registry in memory."""

    def __init__(self, task: Task, predict: Handler, record: Handler, registry: MemoryRegistry) -> None:
        self.schema = churn_schema(task, remark=True)
        self.predict, self.record, self.registry = predict, record, registry
        self.empty()

    def empty(self) -> None:
        self.store = MemoryObjectStore("data")
        self.store.put(schema_key(MODEL, 1), json.dumps(self.schema.to_dict()).encode())

    def capture(self, body: str) -> tuple[int, Any]:
        """Predict, and deliver what was printed."""
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            status, reply = call(self.predict, "POST", f"/models/{MODEL}/invocations", body)
        events = tuple(LogEvent(str(n), line) for n, line in enumerate(printed.getvalue().splitlines()))
        delivery = deliver([LogBatch("s", events)], self.store, MemoryRegistryStore(), datetime.now(UTC))
        assert not delivery.malformed
        assert (status == 200) == bool(sum(delivery.delivered.values()))
        return status, reply

    def report(self, body: Any, **changes: Any) -> tuple[int, dict[str, Any]]:
        text = body if isinstance(body, str | None) else json.dumps(body)
        event = {
            "resource": "/models/{model}/feedback",
            "path": f"/models/{MODEL}/feedback",
            "httpMethod": "POST",
            "headers": {"Content-Type": "application/json"},
            "pathParameters": {"model": MODEL},
            "queryStringParameters": None,
            "requestContext": {"requestId": "r", "resourcePath": "/models/{model}/feedback", "httpMethod": "POST"},
            "body": text,
            "isBase64Encoded": False,
        } | changes
        response = self.record(event, lambda_context("record_feedback"))
        return response["statusCode"], json.loads(response["body"])


@contextlib.contextmanager
def loop_of(task: Task) -> Iterator[Loop]:
    registry = MemoryRegistry()
    registry.put_spec(MODEL, SPEC)
    registry.set_schema_version(MODEL, 1)
    with memory_handler(task, remark=True) as predict, pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATA_BUCKET", "data")
        patch.setenv("RUNS_TABLE", "runs")
        patch.setattr("millrace.aws.clients.registry", lambda *_: registry)
        patch.setattr("millrace.aws.clients.registry_store", lambda: registry.store)
        patch.setattr("millrace.aws.clients.object_store", lambda _: loop.store)
        patch.setattr(logger._logger, "handlers", [])  # hundreds of lines that nobody reads
        loop = Loop(task, predict, load_handler("record_feedback"), registry)
        yield loop


@pytest.fixture(scope="module", params=["binary", "regression"])
def loop(request: pytest.FixtureRequest) -> Iterator[Loop]:
    with loop_of(request.param) as loop:
        yield loop


# -- what is accepted can be trained on --------------------------------------------------------------------------------
#: What no table holds, or not as it was sent.
ODD = [
    "\ud800",
    "\udfff\ud800",
    "a\0",
    "\0",
    "\u2028",
    "\N{PILE OF POO}",
    "NaN",
    "1e400",
    "x" * 257,
    10**400,
    -(10**30),
    2**63,
    2**64,
    -(2**63) - 1,
    1.7e308,
    -1.7e308,
    3.5e38,
    5e-324,
    -0.0,
    float("nan"),
    float("inf"),
    True,
    None,
    [],
    {},
]
anything = st.sampled_from(ODD) | st.text(max_size=5) | st.integers() | st.floats()
changed = st.dictionaries(st.sampled_from(["customer_id", "age", "balance", "city", "remark", "signed_up"]), anything)
records = changed.map(lambda changes: CHURN_RECORD | {"customer_id": "C-1", "remark": "late"} | changes)
reports = st.fixed_dictionaries(
    {
        "row_id": anything,
        "outcome": st.sampled_from([True, "true", 1, "1.0", 0.5]) | anything,
        "observed_at": st.none()
        | st.datetimes().map(datetime.isoformat)
        | st.sampled_from(["0001-01-01", "9999-12-31"]),
    }
)
LOOP = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@LOOP
@given(rows=st.lists(records, min_size=1, max_size=3), report=reports, partial=st.booleans())
@example([CHURN_RECORD | {"customer_id": "\ud800"}], {"row_id": "\ud800", "outcome": True}, False)
@example([CHURN_RECORD | {"customer_id": 2**64}], {"row_id": 2**64, "outcome": 1.7e308}, False)
@example([CHURN_RECORD | {"customer_id": "a\0"}], {"row_id": "a", "outcome": 1, "observed_at": "0001-01-01"}, False)
def test_whatever_is_accepted_can_be_captured_joined_and_trained_on(loop, rows, report, partial):
    loop.empty()
    options = {"params": {"on_error": "partial"}} if partial else {}
    status, reply = loop.capture(json.dumps({"dataframe_records": [*rows, CHURN_RECORD], **options}))
    assert status in (200, 400)
    status, captured = loop.capture(json.dumps({"dataframe_records": [CHURN_RECORD | {"customer_id": "C-2"}]}))
    assert status == 200
    good = {"prediction_id": captured["prediction_id"], "outcome": 1}
    sent = [report, good]
    if "prediction_id" in reply:
        names = [f"{reply['prediction_id']}-{row}" for row in range(len(rows) + 1)]
        sent += [{"prediction_id": name, "outcome": report["outcome"]} for name in names]
    assert good in [each for each in sent if loop.report(each)[0] == 200]
    now = datetime.now(UTC) + timedelta(minutes=1)
    found = find_captured_rows(MODEL, loop.schema, SPEC, loop.store, now)
    assert found.obstacle == ""
    assert found.counts["malformed"] == 0
    table = found.table
    assert table is not None
    stored = pa.table({column.name: stored_column(table, column) for column in loop.schema.columns})
    pq.write_table(stored, io.BytesIO())
    prepared = prepare(loop.schema, [table], SPEC)
    assert sum(part.used for part in prepared.contributions) >= 1
    for body in prepared.documents().values():
        assert body
    assert loop.report(None, httpMethod="GET")[0] == 200


# -- whatever is sent --------------------------------------------------------------------------------------------------
KEYS = ["feedback", "prediction_id", "row_id", "customer_id", "outcome", "churned", "value", "observed_at"]
VALID = [{"prediction_id": "p-0", "outcome": True}, {"row_id": 7, "outcome": 0, "observed_at": "2026-05-01"}]
documents = st.recursive(
    anything | st.datetimes().map(datetime.isoformat),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=4), inner),
    max_leaves=10,
)


@st.composite
def damaged(draw: st.DrawFn) -> Any:
    """Draw a valid request with one of its parts replaced or taken away."""
    document = {"feedback": json.loads(json.dumps(VALID))}
    report = draw(st.sampled_from(document["feedback"]))
    place = draw(st.sampled_from(KEYS))
    if draw(st.integers(0, 3)):
        report[place] = draw(documents)
    else:
        report.pop(place, None)
    return document if draw(st.booleans()) else report


bodies = st.one_of(
    damaged().map(json.dumps),
    documents.map(json.dumps),
    st.text(max_size=40),
    st.sampled_from(["[" * 100_000, '{"feedback":' * 50_000, "9" * 5_000, '{"outcome":' + "9" * 4_000 + "}", "NaN"]),
)
FUZZED = settings(max_examples=FUZZ_EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def check(response: tuple[int, dict[str, Any]]) -> None:
    status, reply = response
    assert 200 <= status < 500, reply
    assert status == 200 or set(reply) <= {"error_code", "message", "fields"}


@FUZZED
@given(body=bodies, encoding=st.sampled_from(["text", "text", "text", "base64", "broken", "bytes"]))
@example(json.dumps({"prediction_id": "x", "outcome": 10**400}), "text")
@example(json.dumps({"feedback": [{}] * (MAX_RECORDS + 1)}), "text")
def test_whatever_feedback_is_sent_it_is_stored_or_refused(loop, body, encoding):
    if encoding == "text":
        return check(loop.report(body))
    encoded = {
        "base64": b64encode(body.encode(errors="replace")).decode(),
        "broken": body,
        "bytes": b64encode(body.encode("utf-16", errors="replace")).decode(),
    }
    return check(loop.report(encoded[encoding], isBase64Encoded=True))


@pytest.mark.parametrize(
    ("models", "expected"), [(None, 200), (("*",), 200), ((MODEL,), 200), (("orders",), 403), ((), 403)]
)
def test_ground_truth_comes_by_keys_of_the_model_alone(loop, models, expected):
    loop.empty()
    if models is not None:
        entry = make_entry(f"scope {models}", "_keys")
        loop.registry.put_key_scope(KeyScope("k1", models, datetime.now(UTC), "ann"), entry)
    key = "k1" if models is not None else "k2"
    identity = {"requestContext": {"requestId": "r", "identity": {"apiKeyId": key, "userArn": None}}}
    status, body = loop.report({"row_id": 1, "outcome": 1}, **identity)
    assert status == expected, body
    if status == 403:
        assert body["message"] == f"the API key is not for the model {MODEL!r}: ask for a key that is"
        assert not list(loop.store.list("feedback/"))
        assert loop.report({"row_id": 1, "outcome": 1})[0] == 200, "signed requests are as they were"


texts = st.text(max_size=8) | st.sampled_from(["9" * 5_000, "٣", "²", "-1", "1.0", " 24", "24", "\ud800", "0", "745"])


@settings(max_examples=100, deadline=None)
@given(hours=st.none() | texts, model=st.sampled_from([MODEL]) | texts, method=st.sampled_from(["GET", "POST"]))
@example("9" * 5_000, MODEL, "GET")
def test_whatever_is_asked_it_is_answered_or_refused(loop, hours, model, method):
    query = None if hours is None else {"hours": hours, "more": hours}
    changes = {"queryStringParameters": query, "pathParameters": {"model": model}, "path": f"/models/{model}/feedback"}
    check(loop.report(json.dumps({"row_id": 1, "outcome": 1}), httpMethod=method, **changes))
