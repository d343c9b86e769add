"""Metrics, captures and errors reach CloudWatch at every ``LogLevel`` of the stack."""

import json
from typing import get_args

import pytest
from millrace import observability
from millrace.aws import rest_api, tracking

from tests.gateway import call, memory_handler
from tests.integration.application import PROJECT, function_names, lambda_context, load_handler
from tests.log_filter import LogLevel, line_level, passing_lines

EVENTS = PROJECT / "events"
INVOCATIONS = "/models/churn/invocations"


@pytest.fixture(params=get_args(LogLevel))
def log_level(request, monkeypatch) -> LogLevel:
    """Set the stack's log level in the environment, as the template does, for loggers that are built next."""
    monkeypatch.setenv("POWERTOOLS_LOG_LEVEL", request.param)
    return request.param


def build_logger(monkeypatch, service: str) -> None:
    monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", service)
    monkeypatch.delitem(vars(observability), "logger", raising=False)
    for module in (rest_api, tracking):
        monkeypatch.setattr(module, "logger", observability.logger)


def test_the_filter_is_lambdas():
    timestamp = '"timestamp": "2024-11-02T16:51:31.587199Z"'
    assert line_level('{"level": "debug", "msg": "my debug log", ' + timestamp + "}") == "DEBUG"
    assert line_level('{"level": "WARNING", ' + timestamp + "}") == "INFO"
    assert line_level('{"level": "ERROR", "timestamp": "2026-11-29 14:25:31,320+0000"}') == "INFO"
    assert line_level('{"log_level": "ERROR", ' + timestamp + "}") == "INFO"
    assert line_level("plain text") == "INFO"


@pytest.mark.parametrize("function", sorted({*function_names()} - {"predict", "forward_captures"}))
def test_an_invocation_that_fails_is_logged_by_its_own_name(
    function, log_level, monkeypatch, capsys, isolated_from_aws
):
    build_logger(monkeypatch, f"{function}-{log_level}")
    event = json.loads(min((EVENTS / function).glob("valid*.json")).read_text())
    if function == "check_logged_model":  # which has no settings
        event["schema_url"] = "http://bucket/schema.json"
    handler = load_handler(function)
    try:
        response = handler(event, lambda_context(function))  # no setting is set
    except Exception:  # noqa: BLE001 - the pipeline's states fail, and the API returns a response
        response = {"statusCode": 500}
    assert response["statusCode"] == 500
    output = capsys.readouterr().out
    lines = [json.loads(line) for line in passing_lines(output, log_level)]
    error, *_ = [line for line in lines if line["level"] == "ERROR"]
    assert (error["service"], error["function_name"]) == (f"{function}-{log_level}", function)
    assert "ConfigurationError" in error["exception"]
    assert [line for line in lines if "_aws" in line] or "httpMethod" not in event


def test_every_line_of_a_level_passes_at_that_level(log_level, monkeypatch, capsys):
    build_logger(monkeypatch, f"levels-{log_level}")
    for write in (observability.logger.warning, observability.logger.error, observability.logger.critical):
        write("a line")
    expected = ["WARN", "ERROR", "FATAL"] if log_level != "ERROR" else ["ERROR", "FATAL"]
    lines = passing_lines(capsys.readouterr().out, log_level)
    assert [json.loads(line)["level"] for line in lines] == expected


def test_metrics_and_captures_of_requests_pass_at_every_level(log_level, monkeypatch, capsys):
    build_logger(monkeypatch, f"predict-{log_level}")
    row = json.loads((EVENTS / "predict" / "valid_records.json").read_text())["body"]
    monkeypatch.setenv("MODEL_METRICS", "true")
    with memory_handler() as handler:
        assert call(handler, "POST", INVOCATIONS, row)[0] == 200
        assert call(handler, "POST", INVOCATIONS, "[")[0] == 400
        monkeypatch.setattr("millrace.serving.handler.success_response", lambda *_: 1 / 0)
        assert call(handler, "POST", INVOCATIONS, row)[0] == 500
    lines = [json.loads(line) for line in passing_lines(capsys.readouterr().out, log_level)]
    measured = {
        definition["Name"]
        for line in lines
        if "_aws" in line
        for definition in line["_aws"]["CloudWatchMetrics"][0]["Metrics"]
    }
    assert {"PredictionLatency", "PredictedRows", "RefusedRequests", "FailedRequests"} <= measured
    assert [line for line in lines if line.get("record") == "millrace.capture"]
    assert [line["exception_name"] for line in lines if line["level"] == "ERROR"] == ["ZeroDivisionError"]
