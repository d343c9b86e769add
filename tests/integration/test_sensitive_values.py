"""Canaries in sensitive columns: no value of theirs is in anything that people read."""

import csv
import io
import json
import random
import re
from datetime import date, timedelta
from typing import Any

import boto3
from millrace.aws.clients import registry
from millrace.management.read_routes import ROUTES
from millrace.observability import logger
from millrace.spec import ModelSpec

from tests.gateway import make_event
from tests.integration.application import (
    DATA_BUCKET,
    MODELS_BUCKET,
    MONITORING_ARN,
    Application,
    lambda_context,
)
from tests.limits import within

MODEL = "canary"
FAITHS = ["zoroastrian", "mandaean", "yazidi"]
#: Any number, date or string of the sensitive columns has one of these forms; hashes, sizes and measured times do not.
CANARIES = re.compile(
    r"(?<![\w.])(?:7,?331,?1\d\d(?!\w)|7\.33\d*(?:e| ?M)|1953-\d\d|-5[0-2]\d{7}\b)|(?:jul|aug)[a-z]* 1953"
    r"|zoroast|mandae|yazid|iswealthy|ispoor|ssn-",
    re.IGNORECASE,
)
SPEC = {
    "target": "label",
    "id_column": "ssn",
    "sensitive_groups": ["faith"],
    "columns": {
        "ssn": {"sensitive": True},
        "faith": {"sensitive": True, "allowed": FAITHS},
        "salary": {"sensitive": True, "minimum": 7_331_100, "maximum": 7_331_199},
        "born": {"sensitive": True, "minimum": -536_000_000},
        "rich": {"sensitive": True},
    },
    "checks": {"expressions": [{"name": "sane", "expression": "age >= 0 or salary < 7331150", "severity": "warning"}]},
}
#: Documents that a model needs, or the data itself: their readers may see rows.
DATA = re.compile(
    r"^(incoming|captures|feedback|schemas)/"
    r"|\.(parquet|npz|npy|onnx|skops|csv|gz)$"
    r"|/(profile|reference|prediction_profile|signature)\.json$"
    r"|^prepared/|/runs/.*/(model|preprocessing|preview)"
    r"|^quarantine/.*/original/|/quarantined?[^/]*\.jsonl"
)


def make_rows(n_rows: int, seed: int) -> list[dict[str, Any]]:
    draw = random.Random(seed)
    rows = []
    for number in range(n_rows):
        age, salary = draw.randint(18, 80), 7_331_100 + draw.randint(0, 99)
        rows.append(
            {
                "ssn": f"ssn-{seed}-{number}",
                "age": age,
                "faith": draw.choice(FAITHS),
                "salary": salary,
                "born": str(date(1953, 7, 1) + timedelta(days=draw.randint(0, 60))),
                "rich": draw.choice(["iswealthy", "ispoor"]),
                "label": int((age - 49) / 12 + (salary - 7_331_150) / 30 + draw.gauss(0, 0.6) > 0),
            }
        )
    return rows


#: Rows that the checks find fault with.
BAD = [
    {"faith": "yazidi "},
    {"faith": "yazidism"},
    {"salary": "7331 1xx"},
    {"salary": 7_331_199_999},
    {"born": "1953-13-45"},
    {"born": "1952-01-01"},
    {"rich": "iswealthyish"},
    {"ssn": "ssn-1-1"},
    {"age": -1},
]


def as_csv(rows: list[dict[str, Any]]) -> bytes:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue().encode()


def call(application: Application, method: str, path: str, body: Any = None) -> str:
    event = make_event(method, path, None if body is None else json.dumps(body))
    event["requestContext"]["requestId"] = "r"
    return str(application.handlers["predict"](event, lambda_context("predict"))["body"])


def predictions(application: Application) -> dict[str, str]:
    """Return what callers read of good and bad requests, and of the description of the model."""
    row = {name: value for name, value in make_rows(1, 9)[0].items() if name != "label"}
    path = f"/models/{MODEL}/invocations"
    asked = {"good": [row] * 30, "few": [row], "less": [{name: row[name] for name in ("age", "faith", "rich")}]}
    asked |= {f"bad {n}": [row | bad] for n, bad in enumerate(BAD)}
    asked |= {f"null {name}": [row | {name: None}] for name in row}
    for name in ("faith", "salary", "born", "rich"):
        asked |= {f"odd {name} {odd}": [row | {name: odd}] for odd in ({}, 7_331_100.5, "1953")}
    replies = {name: call(application, "POST", path, {"dataframe_records": rows}) for name, rows in asked.items()}
    replies |= {
        f"partial {name}": call(application, "POST", f"{path}?on_error=partial", {"dataframe_records": [row, *rows]})
        for name, rows in asked.items()
    }
    replies["explained"] = call(application, "POST", f"{path}?explain=true", {"dataframe_records": [row]})
    replies["openapi"] = call(application, "GET", f"/models/{MODEL}/openapi.json")
    replies["metadata"] = call(application, "GET", f"/v2/models/{MODEL}")
    return replies


def descriptions(application: Application) -> dict[str, str]:
    """Return every description of the management API, except the spec, which says what its author wrote."""
    known = registry()
    datasets = [each.dataset_id for each in known.list_datasets(MODEL)]
    values = {"model": MODEL, "version": "1", "run_id": known.list_runs(MODEL)[0].run_id}
    values |= {"dataset_id": datasets[0], "other_id": datasets[1]}
    found = {}
    for route in ROUTES:
        resource = route.path.replace("<", "{").replace(">", "}")
        names = re.findall(r"{(\w+)}", resource)
        if route.method == "GET" and not resource.endswith("/spec") and set(names) <= values.keys():
            parameters = {name: values[name] for name in names}
            status, body = application.get(resource.format(**parameters), resource, parameters)
            assert status == 200 or resource.endswith("/approval"), (resource, body)
            found[resource] = json.dumps(body)
    assert len(found) > 12
    return found


def documents(application: Application) -> dict[str, str]:
    """Return every stored document that is for people."""
    found = {}
    for bucket in (DATA_BUCKET, MODELS_BUCKET):
        for key in application.keys(bucket):
            if not DATA.search(key):
                found[key] = boto3.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read().decode()
    return found


def test_no_value_of_a_sensitive_column_is_in_what_people_read(application, capfd, monkeypatch):
    log = io.StringIO()
    monkeypatch.setattr(logger.registered_handler, "stream", log)
    registry().put_spec(MODEL, ModelSpec.parse(SPEC))
    rows = make_rows(300, 1)
    application.upload(MODEL, "one.csv", as_csv(rows + [rows[n] | bad for n, bad in enumerate(BAD)]))
    application.upload(MODEL, "two.csv", as_csv(make_rows(200, 2) + [rows[0] | {"born": "1953"}] * 3))
    # Rejected: most of its rows are bad.
    application.upload(MODEL, "bad.csv", as_csv([row | BAD[n % 8] for n, row in enumerate(make_rows(100, 3))]))
    assert set(application.wait_until_quiet(120).values()) <= {"SUCCEEDED", "FAILED"}
    read = {f"reply: {name}": body for name, body in predictions(application).items()}
    states = boto3.client("stepfunctions")
    started = states.start_execution(stateMachineArn=MONITORING_ARN, name="once", input="{}")
    for _ in within(120):
        if states.describe_execution(executionArn=started["executionArn"])["status"] != "RUNNING":
            break
    described = descriptions(application)
    stored = documents(application)
    for name in ("card.html", "card.md", "card.json", "report.html", "validation.json", "evaluation.json"):
        assert any(key.endswith(name) for key in stored), name
    read |= described | stored
    read |= {f"event {n}": json.dumps(event) for n, event in enumerate(application.published_events())}
    read |= {"log": log.getvalue(), "standard output": capfd.readouterr().out}
    read["work item"] = json.dumps([each for _, each in application.invocations if "body" not in each])
    found = {name: sorted(set(CANARIES.findall(text))) for name, text in read.items() if CANARIES.search(text)}
    assert found == {}


def test_canaries_are_found_in_every_form():
    for text in (
        "7331148.41",
        "7,331,100",
        "7.3311e+06",
        "7.33 M",
        "1953-07-14",
        "July 1953",
        "-520819200.0",
        "Yazidi",
    ):
        assert CANARIES.search(text), text
    for text in ("0.19531", "17331100", "0.0019530", "a1953-07", "size 1953"):
        assert not CANARIES.search(text), text
