import json

import pytest
from millrace.observability import write_metrics


def test_a_line_is_a_log_entry_and_metrics_at_once(capsys):
    metrics = {"Rows": (3, "Count"), "Latency": (1.5, "Milliseconds")}
    write_metrics(metrics, {"model": "churn"}, 1_700_000_000.25, {"request_id": "r", "model": "overruled"})
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line) == {
        "level": "FATAL",
        "timestamp": "2023-11-14T22:13:20.250+00:00",
        "_aws": {
            "Timestamp": 1_700_000_000_250,
            "CloudWatchMetrics": [
                {
                    "Namespace": "Millrace",
                    "Dimensions": [["model"]],
                    "Metrics": [{"Name": "Rows", "Unit": "Count"}, {"Name": "Latency", "Unit": "Milliseconds"}],
                }
            ],
        },
        "model": "churn",
        "request_id": "r",
        "Rows": 3,
        "Latency": 1.5,
    }


def test_a_value_that_is_no_number_is_not_written():
    with pytest.raises(ValueError, match="finite"):
        write_metrics({"Rows": (float("nan"), "Count")}, {}, 0.0)
