"""Explanations in every dialect, through the real handler."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.gateway import call, make_event, memory_handler
from tests.integration.application import Handler, lambda_context, load_handler
from tests.serving_models import (
    CHURN_RECORD,
    MemoryModelSource,
    churn_background,
    churn_onnx,
    churn_schema,
    version_artifacts,
)

INVOCATIONS = "/models/churn/invocations"
NAMES = [column.name for column in churn_schema().features]
ROWS = [CHURN_RECORD, CHURN_RECORD | {"age": 70, "plan": "premium", "balance": None}]


@pytest.fixture(params=["binary", "multiclass", "regression"])
def task_handler(request: pytest.FixtureRequest) -> Iterator[Handler]:
    with memory_handler(request.param) as handler:
        yield handler


@pytest.fixture
def handler() -> Iterator[Handler]:
    with memory_handler() as handler:
        yield handler


def ask(handler: Handler, document: Any, query: dict[str, str] | None = None) -> tuple[int, Any]:
    event = make_event("POST", INVOCATIONS, json.dumps(document)) | {"queryStringParameters": query}
    response = handler(event, lambda_context("predict"))
    return response["statusCode"], json.loads(response["body"])


def test_attributions_and_base_value_sum_to_what_was_predicted(task_handler):
    status, reply = ask(task_handler, {"dataframe_records": ROWS, "params": {"explain": True}})
    assert status == 200
    for told, prediction in zip(reply["explanations"], reply["predictions"], strict=True):
        if told["output"] == "value":
            expected = prediction
        else:
            expected = prediction["probabilities"][str(told["label"]).lower()]
            assert told["label"] in (True, prediction["label"])
        assert told["prediction"] == expected
        assert told["base_value"] + sum(told["attributions"].values()) == pytest.approx(expected, abs=1e-6)
        assert list(told["attributions"]) == list(told["standard_errors"]) == NAMES
        assert told["attributions"]["age"] != 0.0


def test_every_dialect_and_the_query_give_the_same_explanation(handler):
    _, expected = ask(handler, {"dataframe_records": ROWS, "params": {"explain": True}})
    _, by_query = ask(handler, {"dataframe_records": ROWS}, {"explain": "true"})
    _, alone = ask(handler, {"dataframe_records": ROWS[1:]}, {"explain": "True"})
    _, v1 = call(handler, "POST", "/v1/models/churn:predict", {"instances": ROWS, "parameters": {"explain": True}})
    assert by_query["explanations"] == v1["explanations"] == expected["explanations"]
    assert alone["explanations"] == expected["explanations"][1:]
    inputs = [{"name": name, "shape": [2], "datatype": "BYTES", "data": [row[name] for row in ROWS]} for name in NAMES]
    for tensor in inputs:
        tensor["datatype"] = {"age": "INT64", "balance": "FP64", "active": "BOOL"}.get(tensor["name"], "BYTES")
    document = {"inputs": inputs, "outputs": [{"name": "label"}], "parameters": {"explain": True}}
    status, v2 = call(handler, "POST", "/v2/models/churn/infer", document)
    assert status == 200
    outputs = {output["name"]: output for output in v2["outputs"]}
    assert list(outputs) == ["label", "explained_label", "base_value", "attributions", "standard_errors"]
    assert outputs["attributions"]["shape"] == [2, len(NAMES)]
    assert outputs["attributions"]["parameters"]["features"] == ",".join(NAMES)
    assert outputs["attributions"]["data"] == [
        value for told in expected["explanations"] for value in told["attributions"].values()
    ]
    assert outputs["base_value"]["data"] == [told["base_value"] for told in expected["explanations"]]


def test_bad_rows_have_none_and_the_others_theirs(handler):
    rows = [ROWS[0] | {"age": "old"}, ROWS[1]]
    params = {"explain": True, "on_error": "partial"}
    status, reply = ask(handler, {"dataframe_records": rows, "params": params})
    _, expected = ask(handler, {"dataframe_records": ROWS[1:], "params": {"explain": True}})
    assert status == 200
    assert reply["explanations"] == [None, *expected["explanations"]]


def test_without_being_asked_nothing_is_explained(handler):
    for params in ({}, {"explain": False}, {"explain": "false"}):
        assert "explanations" not in ask(handler, {"dataframe_records": ROWS, "params": params})[1]


@pytest.mark.parametrize("explain", ["perhaps", 1, None, [], {}])
def test_explain_is_true_or_false(handler, explain):
    status, reply = ask(handler, {"dataframe_records": ROWS, "params": {"explain": explain}})
    assert status == 400
    assert reply["fields"] == [{"field": "explain", "message": "expects true or false"}]


def test_what_would_cost_too_much_is_refused_with_a_number(handler, monkeypatch):
    monkeypatch.setattr("millrace.serving.explain.MAX_EVALUATIONS", 1_500)
    status, reply = ask(handler, {"dataframe_records": ROWS * 3, "params": {"explain": True}})
    assert status == 400
    assert "send at most 2 rows" in reply["message"]
    assert ask(handler, {"dataframe_records": ROWS, "params": {"explain": True}})[0] == 200


def serve(monkeypatch: pytest.MonkeyPatch, artifacts: dict[str, bytes]) -> tuple[Handler, MemoryModelSource]:
    source = MemoryModelSource()
    source.register("churn", 1, artifacts)
    monkeypatch.setenv("REGISTRY_TABLE", "registry")
    monkeypatch.setenv("MODELS_BUCKET", "models")
    monkeypatch.setattr("millrace.aws.serving_source.aws_model_source", lambda *_: source)
    return load_handler("predict"), source


def test_a_version_of_an_older_release_predicts_and_says_why_it_cannot_explain(monkeypatch):
    handler, _ = serve(monkeypatch, version_artifacts(churn_onnx(), churn_schema()))
    assert ask(handler, {"dataframe_records": ROWS})[0] == 200
    status, reply = ask(handler, {"dataframe_records": ROWS, "params": {"explain": True}})
    assert status == 400
    assert "train it again" in reply["message"]


def test_the_background_is_read_when_it_is_needed_and_then_kept_and_must_be_what_was_registered(monkeypatch):
    artifacts = version_artifacts(churn_onnx(), churn_schema(), churn_background())
    handler, source = serve(monkeypatch, artifacts)
    assert ask(handler, {"dataframe_records": ROWS})[0] == 200
    assert "background.npz" not in source.reads
    for _ in range(2):
        assert ask(handler, {"dataframe_records": ROWS, "params": {"explain": True}})[0] == 200
    assert source.reads.count("background.npz") == 1
    handler, source = serve(monkeypatch, artifacts)
    source.versions["churn", 1]["background.npz"] = churn_background(13)
    status, reply = ask(handler, {"dataframe_records": ROWS, "params": {"explain": True}})
    assert status == 500
    assert "background" not in json.dumps(reply)
    assert ask(handler, {"dataframe_records": ROWS})[0] == 200
