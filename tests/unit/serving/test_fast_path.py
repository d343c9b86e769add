"""The fast path answers as the general path does, byte for byte, or not at all.

``FUZZ_EXAMPLES=100000 pytest tests/unit/serving/test_fast_path.py`` compares as many random requests.
"""

import json
import os
import random
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import replace
from datetime import UTC, datetime
from io import StringIO
from types import SimpleNamespace
from typing import Any

import pytest
from millrace.key_scopes import KeyScopes
from millrace.routing import PlannedArm, RoutingPlan
from millrace.schema import ColumnRules, TableSchema
from millrace.serving import fast_path, handler
from millrace.serving.cache import ModelCache
from millrace.serving.handler import Endpoint, handle
from millrace.serving.regular_rows import RegularRowReader

from tests.serving_models import (
    CHURN_RECORD,
    MemoryModelSource,
    churn_calibration,
    churn_onnx,
    churn_schema,
    version_artifacts,
)

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "1200"))
NOW = datetime(2026, 5, 3, 14, 15, 0, 250, tzinfo=UTC)
DATATYPES = {"age": "FP64", "balance": "FP64", "active": "BOOL"}


EVENT: dict[str, Any] = {
    "resource": "/models/{model}/invocations",
    "httpMethod": "POST",
    "headers": {"Content-Type": "application/json"},
    "pathParameters": {"model": "binary"},
    "requestContext": {"requestId": "q-1"},
}


class World:
    """Models of every kind behind one endpoint, and both paths to them."""

    def __init__(self) -> None:
        self.id = "00000000-0000-4000-8000-000000000000"
        self.source = MemoryModelSource()
        for task in ("binary", "multiclass", "regression"):
            calibration = churn_calibration(task).to_document()
            artifacts = version_artifacts(churn_onnx(task), churn_schema(task), confidence=calibration)
            self.source.register(task, 1, artifacts)
        threshold = {"positive_class": "true", "value": 0.4}
        remark = version_artifacts(
            churn_onnx(remark=True), churn_schema(remark=True), threshold=threshold, capture={"sampling_rate": 0.5}
        )
        self.source.register("remark", 1, remark)
        self.source.register("ruled", 1, version_artifacts(churn_onnx(), ruled_schema()))
        self.source.register("released", 2, version_artifacts(churn_onnx(seed=1), churn_schema()))
        self.source.register("released", 1, version_artifacts(churn_onnx(), churn_schema(), threshold=threshold))
        plan = RoutingPlan("r-20261130T030000-0a1b2c3d", 0, 1, (PlannedArm(2, 0.5),))
        self.source.routing["released"] = plan.write()
        self.source.scopes["narrow"] = ["binary"]
        models = ModelCache(self.source, 1e9, lambda: 0.0, capacity=50, start=lambda work: work())
        keys = KeyScopes(self.source.key_models, 1e9, lambda: 0.0)
        plain = Endpoint(models, keys, 3, lambda: self.id)
        self.endpoints = [
            *[plain] * 5,
            replace(plain, captures=False),
            replace(plain, error_detail="reduced"),
            replace(plain, model_metrics=True),
        ]

    def answer(self, event: dict[str, Any], endpoint: Endpoint, usual: Callable[..., Any]) -> tuple[Any, list[str]]:
        """The response, and the lines of the log that are not the logger's."""
        handler.respond_fast = usual
        with redirect_stdout(StringIO()) as written:
            response = handle(event, lambda: endpoint, cold_start=False)
        return response, [line for line in written.getvalue().splitlines() if '"record":"millrace.capture"' in line]


def ruled_schema() -> TableSchema:
    """A schema with rules of the spec, sensitive columns, and a column that is centred."""
    changes: dict[str, dict[str, Any]] = {
        "age": {"rules": ColumnRules(minimum=20.0)},
        "balance": {"rules": ColumnRules(maximum=1e6, nullable=False), "centre": 100.0},
        "plan": {"rules": ColumnRules(allowed=("basic", "family"))},
        "city": {"sensitive": True},
        "subscribed": {"rules": ColumnRules(nullable=False, severity="warning")},
    }
    schema = churn_schema()
    return replace(schema, columns=tuple(replace(one, **changes.get(one.name, {})) for one in schema.columns))


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(handler, "respond_fast", fast_path.respond_fast)
    for module in (handler, fast_path):
        monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: 0.25))
        monkeypatch.setattr(module, "datetime", SimpleNamespace(now=lambda _zone: NOW))
    return World()


USUAL: dict[str, list[Any]] = {
    "age": [18, 41, 80, 41.0],
    "balance": [120.5, 7, -0.5, 0.1, 1e-7, 3e38],
    "active": [True, False, 1, 0],
    "subscribed": ["yes", "no", True, "true"],
    "plan": ["basic", "family"],
    "city": ["Lima", "Oslo", "Zürich"],
    "signed_up": ["2024-02-03T10:00:00Z", "2024-02-03", "03.02.2024"],
    "remark": ["was late", "paid at once", "é: {x}"],
}
UNUSUAL: list[Any] = [
    None,
    True,
    -0.0,
    17,
    80.5,
    41.5,
    1e39,
    2**70,
    -(2**63),
    "",
    " yes ",
    "NA",
    "41",
    "gold",
    [],
    [1],
    {},
]
UNUSUAL += ["a\ud800", "x" * 1_001, "Yes", {"a": 1}, "premium", "x" * 5_001, "ﬁ", "\0", 0.1 + 0.2]


class Dice(random.Random):
    """A generator whose rare events are rarer where it is calm: most requests are then usual but for one thing."""

    calm = 1.0

    def happens(self, share: float) -> bool:
        return self.random() < share * self.calm


def random_record(rng: Dice, model: str) -> dict[str, Any]:
    names = [*CHURN_RECORD, *(["remark"] if model == "remark" else [])]
    record = {name: rng.choice(USUAL[name]) for name in names}
    if rng.happens(0.3):
        record[rng.choice(names)] = None
    if rng.happens(0.25):
        record[rng.choice(names)] = rng.choice(UNUSUAL)
    if rng.happens(0.05):
        del record[rng.choice(names)]
    if rng.happens(0.2):
        record["customer_id"] = rng.choice(["C-7", 7, 7.0, None, True, 2**64, "x" * 300, " C-8 ", [1]])
    if rng.happens(0.05):
        record[rng.choice(["comment", "churned", "unknown", "Age"])] = rng.choice(["a", 1, None, {"b": {}}])
    return record


def random_body(rng: Dice, model: str, protocol: str) -> Any:
    records = [random_record(rng, model) for _ in range(rng.choice([1] * 20 + [0, 2, 3, 4]))]
    first = records[0] if records else {}
    lists = [list(record.values()) for record in records]
    columns = {name: [record.get(name) for record in records] for name in first}
    options: Any = {}
    if rng.happens(0.3):
        choices = [{"interval": 0.9}, {"interval": "0.8"}, {"interval": 7}, {"routing_key": "k"}, {"routing_key": [1]}]
        choices += [{}, None, {"on_error": "partial"}, {"explain": True}, {"other": 1}, [], "", 0, {"interval": True}]
        options = rng.choice(choices)
    if protocol == "open_inference":
        tensors = [
            {"name": name, "datatype": DATATYPES.get(name, "BYTES"), "shape": [len(values)], "data": values}
            for name, values in columns.items()
        ]
        if tensors and rng.happens(0.2):
            changes: list[dict[str, Any]] = [{"shape": shape} for shape in ([1, 1], [True], [2], [], "1")]
            changes += [{"datatype": "INT64"}, {"datatype": "FP8"}, {"data": [[1]]}, {"data": "a"}]
            change = rng.choice([*changes, {"name": 7}, {"parameters": {}}])
            rng.choice(tensors).update(change)
        document: dict[str, Any] = {"inputs": tensors}
        for key, values in (
            ("id", ["q", "", None, 7]),
            (
                "outputs",
                [[{"name": "label"}], [{"name": "value"}], [], None, {}, [{"name": 1}], [{"name": "label"}] * 2],
            ),
            ("parameters", [options]),
            ("extra", [1, {"a": 1}]),
        ):
            if rng.happens(0.2):
                document[key] = rng.choice(values)
        return document
    shapes: dict[str, Any] = {
        "instances": rng.choice([records] * 5 + [lists] * 5 + [columns]),  # columns are refused there
        "inputs": rng.choice([records, lists, columns, first]),
        "dataframe_records": records,
        "dataframe_split": {"columns": list(first), "data": lists},
    }
    names = ["instances"] if protocol == "kserve_v1" and not rng.happens(0.1) else list(shapes)
    document = {
        name: shapes[name] for name in ([rng.choice(names)] if not rng.happens(0.02) else rng.sample(names, 1) * 2)
    }
    if "dataframe_split" in document and rng.happens(0.1):
        split = document["dataframe_split"]
        split |= rng.choice([{"index": [0]}, {"columns": "ab"}, {"columns": [*first][:-1]}, {"data": {}}, {"rows": 1}])
    if options != {} or rng.happens(0.1):
        document["parameters" if protocol == "kserve_v1" else "params"] = options
    if rng.happens(0.03):
        document[rng.choice(["signature_name", "extra"])] = rng.choice(["a", {"b": 1}])
    return document


def random_text(rng: Dice, document: Any) -> str:
    text = json.dumps(document, ensure_ascii=rng.random() < 0.5)
    damage = rng.random() / rng.calm
    if damage < 0.02:
        text = text.replace('": ', '" :', rng.choice([1, 99]))
    elif damage < 0.04:
        text = text.replace('"age"', '"plan"')
    elif damage < 0.06:
        text = text.replace('"age":', '"age": 1, "age" :').replace('"name":', '"name": "x", "name":', 1)
    elif damage < 0.08:
        text = rng.choice(["\ufeff" + text, text[:-1], text + " ", "[]", "", "null", text.replace("41", "NaN"), "{}"])
    return text


def random_event(rng: Dice) -> tuple[str, dict[str, Any]]:
    model = rng.choice(["binary", "multiclass", "regression", "remark", "ruled", "released"])
    protocol = rng.choice(["mlflow", "mlflow", "kserve_v1", "open_inference"])
    named = rng.choice([model] * 40 + ["nobody", "bin%61ry", "a b", ""])
    path: dict[str, str] = {"model": named}
    resource = "/models/{model}/invocations"
    if protocol == "kserve_v1":
        resource = "/v1/models/{model_action}"
        path = {"model_action": named + rng.choice([":predict"] * 20 + ["", ":explain", "%3Apredict", ":predict:"])}
    elif protocol == "open_inference":
        resource = "/v2/models/{model}/infer"
    if protocol != "kserve_v1" and rng.happens(0.1):
        path["version"] = rng.choice(["1", "champion", "2", "01", "%31", "9"])
        resource = resource.replace("{model}", "{model}/versions/{version}")
    headers: dict[str, Any] = {"Content-Type": "application/json"}
    if rng.happens(0.15):
        headers |= rng.choice(
            [
                {"X-Millrace-Routing-Key": "caller"},
                {"Content-Encoding": "gzip"},
                {"Content-Type": "text/csv"},
                {"Content-Type": "Application/JSON; charset=UTF-8"},
                {"Content-Type": "application/json; charset=latin-1"},
                {"content-type": "text/plain"},
                {"Inference-Header-Content-Length": "7"},
                {"X-Millrace-Routing-Key": ""},
            ]
        )
    query = rng.choice([None] * 12 + [{"interval": "0.9"}, {"explain": "true"}, {"on_error": "partial"}, {"a": "b"}])
    body: Any = random_text(rng, random_body(rng, model, protocol))
    encoded = rng.happens(0.02)
    if encoded:
        body = b64encode(body.encode("utf-8", "replace")).decode()
    identity = rng.choice([{}] * 20 + [{"apiKeyId": "narrow"}, {"apiKeyId": "free"}])
    event = {
        "resource": resource,
        "httpMethod": "POST",
        "headers": headers if not rng.happens(0.05) else None,
        "queryStringParameters": query,
        "pathParameters": path,
        "requestContext": {"requestId": "q-1", "identity": identity},
        "isBase64Encoded": encoded,
        "body": body,
    }
    return protocol, event


def test_both_paths_answer_random_requests_alike(world):
    rng = Dice(19)
    answered, asked = Counter[str](), Counter[str]()
    for number in range(EXAMPLES):
        rng.calm = rng.choice([1.0, 0.15])
        protocol, event = random_event(rng)
        endpoint = rng.choice(world.endpoints)
        world.id = f"{rng.getrandbits(32):08x}-0000-4000-8000-{number:012d}"
        used = []

        def usual(*arguments: Any, used: list[bool] = used) -> Any:
            response = fast_path.respond_fast(*arguments)
            used.append(True)
            return response

        expected = world.answer(event, endpoint, lambda *_: 1 / 0)
        found = world.answer(event, endpoint, usual)
        assert found == expected, event
        kind = f"{protocol}, {event['pathParameters'].get('model', '').replace('nobody', '')}"
        asked[kind] += 1
        answered[kind] += len(used)
    assert sum(answered.values()) > 0.3 * EXAMPLES
    assert all(answered[f"open_inference, {model}"] for model in ("binary", "multiclass", "regression", "remark"))
    assert all(answered[f"mlflow, {model}"] for model in ("binary", "multiclass", "regression", "ruled", "released"))
    assert answered["kserve_v1, "]


def test_longer_body_than_any_regular_row_has_is_the_general_paths(world):
    body = json.dumps({"dataframe_records": [CHURN_RECORD]})
    loaded = world.endpoints[0].models.get("binary")
    longest = loaded.built(RegularRowReader).max_characters
    answered: list[dict[str, Any]] = []

    def usual(*arguments: Any) -> Any:
        answered.append(fast_path.respond_fast(*arguments))
        return answered[-1]

    for characters, answers in ((longest, 1), (longest + 1, 1), (longest, 2)):
        event = {**EVENT, "body": body + " " * (characters - len(body))}
        response, _ = world.answer(event, world.endpoints[0], usual)
        assert (response["statusCode"], len(answered)) == (200, answers)
