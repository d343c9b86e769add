"""Intervals and prediction sets in every protocol, through the real handler."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from millrace.schema import Task

from tests.gateway import call, memory_handler
from tests.integration.application import Handler
from tests.integration.test_protocols import INFER, INVOCATIONS, JSON_SHAPES, KSERVE_V1, Rows, as_csv, records
from tests.serving_models import CHURN_RECORD, churn_calibration, churn_schema

CSV = {"Content-Type": "text/csv"}
ROWS = [CHURN_RECORD, CHURN_RECORD | {"age": 70, "plan": "premium", "balance": None}, CHURN_RECORD | {"age": 20}]
THRESHOLD = {"positive_class": "true", "value": 0.3}


@pytest.fixture(scope="module", params=["binary", "multiclass", "regression", "threshold"])
def served(request: pytest.FixtureRequest) -> Iterator[tuple[Handler, Task]]:
    task = "binary" if request.param == "threshold" else request.param
    with memory_handler(task, threshold=THRESHOLD if request.param == "threshold" else None) as handler:
        yield handler, task


@pytest.fixture(scope="module")
def handler() -> Iterator[Handler]:
    with memory_handler() as handler:
        yield handler


def options_of(path: str) -> str:
    return "params" if path.endswith("invocations") else "parameters"


def bounds_of(reply: dict[str, Any]) -> tuple[float, list[Any]]:
    """Return the level of a reply, and each row's interval or set, in whatever protocol."""
    if "outputs" not in reply:
        return reply["interval"], reply.get("intervals") or reply["sets"]
    outputs = {output["name"]: output for output in reply["outputs"]}
    level = reply["parameters"]["interval"]
    if "prediction_set" in outputs:
        assert outputs["prediction_set"]["datatype"] == "BYTES"
        return level, [None if row is None else json.loads(row) for row in outputs["prediction_set"]["data"]]
    assert outputs["interval_low"]["datatype"] == outputs["interval_high"]["datatype"] == "FP64"
    ends = zip(outputs["interval_low"]["data"], outputs["interval_high"]["data"], strict=True)
    return level, [None if low is None else [low, high] for low, high in ends]


def expected_bounds(task: Task, predictions: list[Any], level: float) -> list[Any]:
    """Return what the calibration says of a reply's predictions, one array at a time."""
    calibration = churn_calibration(task)
    if task == "regression":
        return np.stack(calibration.intervals(predictions, level), axis=1).tolist()
    schema = churn_schema(task)
    shares = np.array([list(row["probabilities"].values()) for row in predictions])
    sets = calibration.sets(shares, level)
    labels = [schema.label(index) for index in range(len(schema.classes))]
    for inside, row in zip(sets, predictions, strict=True):
        inside[labels.index(row["decision"])] = True
    ranked = np.argsort(-shares, axis=1, kind="stable")
    return [[labels[i] for i in order if inside[i]] for order, inside in zip(ranked, sets, strict=True)]


@settings(max_examples=15, deadline=None)
@given(rows=st.lists(records, min_size=1, max_size=4), level=st.floats(0.5, 0.99) | st.sampled_from([0.5, 0.9, 0.99]))
@example(rows=ROWS, level=0.9)
def test_every_protocol_has_the_bounds_of_the_calibration(served, rows, level):
    handler, task = served
    status, reply = call(handler, "POST", f"{INVOCATIONS}?interval={level:.17f}", as_csv(rows), **CSV)
    assert status == 200, reply
    expected = (level, expected_bounds(task, reply["predictions"], level))
    assert bounds_of(reply) == expected
    if task != "regression":
        assert all(row["decision"] in own for row, own in zip(reply["predictions"], reply["sets"], strict=True))
        assert all(row["label"] == own[0] for row, own in zip(reply["predictions"], reply["sets"], strict=True))
    for shape, (path, write) in JSON_SHAPES.items():
        document = write(rows)
        name = options_of(path)
        in_body = document | {name: document.get(name, {}) | {"interval": level}}
        for address, body in ((path, in_body), (f"{path}?interval={level:.17f}", document)):
            status, reply = call(handler, "POST", address, body)
            assert status == 200, (shape, reply)
            assert bounds_of(reply) == expected, shape


def _call_alone(path: str, document: Any, **signature: object) -> dict[str, Any]:
    with memory_handler(**signature) as handler:
        status, reply = call(handler, "POST", path, document)
        assert status == 200, reply
        return reply


def test_a_set_holds_a_decision_that_it_would_not_hold_by_itself():
    rows = [CHURN_RECORD | {"age": age, "plan": "basic", "active": False} for age in range(18, 80)]
    alone, decided = (
        _call_alone(f"{INVOCATIONS}?interval=0.5", {"instances": rows}, threshold=threshold)
        for threshold in (None, THRESHOLD | {"value": 0.01})
    )
    joined = [own for own, both in zip(alone["sets"], decided["sets"], strict=True) if own != both]
    assert joined
    assert set(map(tuple, joined)) == {(False,)}
    assert all(row["decision"] in own for row, own in zip(decided["predictions"], decided["sets"], strict=True))
    single = [own[0] == row["decision"] for row, own in zip(decided["predictions"], decided["sets"], strict=True)
              if len(own) == 1]  # fmt: skip
    assert all(single)


@pytest.mark.parametrize("shape", [*JSON_SHAPES, "csv"])
def test_without_the_option_a_reply_is_as_it_was(served, shape):
    """A version without a calibration, as of an older release, has the same bytes."""
    handler, task = served
    path, write = JSON_SHAPES.get(shape, (INVOCATIONS, as_csv))
    headers = CSV if shape == "csv" else {}
    threshold = THRESHOLD if task == "binary" else None
    _, reply = call(handler, "POST", path, write(ROWS), **headers)
    assert not {"interval", "intervals", "sets"} & (reply.keys() | reply.get("parameters", {}).keys())
    with memory_handler(task, threshold=threshold, confidence=None) as older:
        _, before = call(older, "POST", path, write(ROWS), **headers)
    for each in (reply, before):
        each.pop("prediction_id", None)
        each.pop("id", None)
        each.get("parameters", {}).pop("prediction_id", None)
        for row in each.get("predictions", ()):
            if isinstance(row, dict):
                row.pop("decision")  # the fixture's threshold
        each["outputs"] = [output for output in each.get("outputs", ()) if output["name"] != "decision"]
    assert json.dumps(reply) == json.dumps(before)


RANGE = "expects a number from 0.5 to 0.99, such as 0.9"


@pytest.mark.parametrize(
    ("level", "message"),
    [
        (True, RANGE),
        (None, RANGE),
        ("", RANGE),
        ("high", RANGE),
        ("nan", RANGE),
        ("1e-1", RANGE),
        ("0_9", RANGE),
        ("\u0660.\u0669", RANGE),
        ([0.9], RANGE),
        ({}, RANGE),
        (0.49, RANGE),
        (1, RANGE),
        (-0.9, RANGE),
        (10**400, RANGE),
        (0.995, RANGE),
        (90, f"{RANGE}: 90 % is 0.9"),
        ("95", f"{RANGE}: 95 % is 0.95"),
    ],
)
def test_a_level_that_is_none_is_refused_with_its_remedy(handler, level, message):
    expected = [{"field": "interval", "message": message}]
    status, reply = call(handler, "POST", INVOCATIONS, {"instances": ROWS, "params": {"interval": level}})
    assert (status, reply["fields"]) == (400, expected)
    for path, write in ((KSERVE_V1, JSON_SHAPES["KServe v1 of objects"][1]), (INFER, JSON_SHAPES["tensors, flat"][1])):
        document = write(ROWS)
        status, reply = call(handler, "POST", path, document | {"parameters": {"interval": level}})
        assert (status, reply["error"]) == (400, f"interval {message}")
    if isinstance(level, str) and level.isascii():
        status, reply = call(handler, "POST", f"{INVOCATIONS}?interval={level}", as_csv(ROWS), **CSV)
        assert (status, reply["fields"]) == (400, expected)


@pytest.mark.parametrize(
    ("confidence", "level", "message"),
    [
        (None, 0.9, "is not known: version 1 of churn was registered without calibration rows; train a new version"),
        (
            churn_calibration("binary", 60).to_document(),
            0.99,
            "expects at most 0.983: version 1 of churn has 60 calibration rows; more of them allow more",
        ),
        (
            {"format": 99, "method": "label"},
            0.9,
            (
                "is not known: the calibration of version 1 of churn cannot be read "
                "(confidence of format 99 and method label is unknown); train a new version"
            ),
        ),
        (
            churn_calibration("regression").to_document(),
            0.9,
            (
                "is not known: the calibration of version 1 of churn cannot be read "
                "(confidence of method absolute_residual is not for a binary task); train a new version"
            ),
        ),
    ],
    ids=["older release", "few rows", "later format", "another task"],
)
def test_a_version_that_cannot_says_why_and_predicts_all_the_same(confidence, level, message):
    with memory_handler(confidence=confidence) as handler:
        for _ in range(2):
            for path, write in JSON_SHAPES.values():
                status, reply = call(handler, "POST", f"{path}?interval={level}", write(ROWS))
                assert status == 400
                assert f"interval {message}" in (reply.get("message") or reply["error"])
        assert call(handler, "POST", INVOCATIONS, {"instances": ROWS})[0] == 200
        if confidence and confidence.get("rows") == 60:
            assert call(handler, "POST", f"{INVOCATIONS}?interval=0.983", {"instances": ROWS})[0] == 200


def test_bad_rows_have_none_and_the_others_theirs(served):
    handler, _ = served
    bad, long = [ROWS[0] | {"age": "old"}, *ROWS[1:]], "x" * 2_000
    for path, write in JSON_SHAPES.values():
        _, expected = call(handler, "POST", f"{path}?interval=0.8", write(ROWS[1:]))
        document = write(bad)
        for tensor in document.get("inputs", ()) if path.startswith("/v2") else ():
            if tensor["name"] == "plan":  # a tensor has one type, so the row is bad by its length
                tensor["data"][0] = [long] if isinstance(tensor["data"][0], list) else long
            elif tensor["name"] == "age":
                tensor["data"][0] = [41] if isinstance(tensor["data"][0], list) else 41
        status, reply = call(handler, "POST", f"{path}?interval=0.8&on_error=partial", document)
        assert status == 200, reply
        assert bounds_of(reply) == (0.8, [None, *bounds_of(expected)[1]])


def test_with_explanations_both_are_there(served):
    handler, _ = served
    query = "?interval=0.9&explain=true"
    _, reply = call(handler, "POST", INVOCATIONS + query, {"instances": ROWS})
    _, alone = call(handler, "POST", f"{INVOCATIONS}?explain=true", {"instances": ROWS})
    assert reply["explanations"] == alone["explanations"]
    assert len(bounds_of(reply)[1]) == len(ROWS)
    _, tensors = call(handler, "POST", INFER + query, JSON_SHAPES["tensors, flat"][1](ROWS))
    names = [output["name"] for output in tensors["outputs"]]
    assert names.index("attributions") > max(names.index(name) for name in names if "interval" in name or "set" in name)
    assert bounds_of(tensors) == bounds_of(reply)


def test_tensors_of_bounds_can_be_named_among_the_outputs(served):
    handler, task = served
    own = ["interval_low", "interval_high"] if task == "regression" else ["prediction_set"]
    document = JSON_SHAPES["tensors, flat"][1](ROWS)
    for named in ([own[0]], own[::-1]):
        wanted = document | {"outputs": [{"name": name} for name in named]}
        _, reply = call(handler, "POST", f"{INFER}?interval=0.9", wanted)
        names = [output["name"] for output in reply["outputs"]]
        assert names == [*named, *(name for name in own if name not in named)]
        status, reply = call(handler, "POST", INFER, wanted)
        assert status == 400
        assert "outputs[0].name expects one of" in reply["error"]


def test_the_document_says_which_levels_the_version_has(served):
    handler, task = served
    _, document = call(handler, "GET", "/models/churn/openapi.json")
    for path, operations in document["paths"].items():
        if "post" in operations:
            (level,) = (one for one in operations["post"]["parameters"] if one["name"] == "interval")
            assert (level["in"], level["schema"]["minimum"], level["schema"]["maximum"]) == ("query", 0.5, 0.99), path
    schemas = document["components"]["schemas"]
    for schema in (*schemas["Invocation"]["oneOf"], schemas["Instances"], schemas["InferenceRequest"]):
        options = schema["properties"].get("params") or schema["properties"]["parameters"]
        assert options["properties"]["interval"]["type"] == "number"
    own = "intervals" if task == "regression" else "sets"
    assert {"interval", own} <= schemas["Predictions"]["properties"].keys()
    with memory_handler(task, confidence=None) as older:
        assert '"in": "query"' in (text := json.dumps(call(older, "GET", "/models/churn/openapi.json")[1]))
        assert text.count('"name": "interval"') == 0


def test_captured_lines_are_those_without_the_option(served, capsys):
    handler, _ = served
    lines = []
    for query in ("", "?interval=0.9"):
        call(handler, "POST", INVOCATIONS + query, {"instances": ROWS})
        line = json.loads(capsys.readouterr().out.splitlines()[-1])
        lines.append(
            {key: line[key] for key in line.keys() - {"prediction_id", "timestamp", "latency_ms", "cold_start"}}
        )
    assert lines[0] == lines[1]
    assert "cells" in lines[0]


def rows_of(count: int) -> Rows:
    return [CHURN_RECORD | {"age": 18 + row % 60} for row in range(count)]


@pytest.mark.parametrize("count", [1, 16, 17, 1_025])
def test_many_rows_have_the_bounds_of_each(served, count):
    handler, task = served
    _, reply = call(handler, "POST", f"{INVOCATIONS}?interval=0.9", {"instances": rows_of(count)})
    assert bounds_of(reply) == (0.9, expected_bounds(task, reply["predictions"], 0.9))
