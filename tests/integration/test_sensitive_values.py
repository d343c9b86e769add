"""Canaries in sensitive columns, features and targets: no value of theirs is in anything that people read.

Predictions alone name the classes of a sensitive target, and hold the values of a number: they are asked for.
"""

import csv
import gzip
import io
import json
import random
import re
from datetime import UTC, date, datetime, timedelta
from typing import Any

import boto3
import httpx
import pytest
from millrace.aws.clients import registry
from millrace.captures.records import CapturedRow
from millrace.layout import captures_key
from millrace.management.read_routes import ROUTES
from millrace.observability import logger
from millrace.spec import ModelSpec
from millrace_cli.api import ApiClient
from millrace_cli.main import app
from typer.testing import CliRunner

from tests.fakes.fake_api import answer_commands
from tests.fakes.http_handler import connect
from tests.gateway import make_event
from tests.integration.application import (
    DATA_BUCKET,
    MODELS_BUCKET,
    MONITORING_ARN,
    Application,
    lambda_context,
)
from tests.integration.executions import wait_for_execution

MODEL = "canary"
FAITHS = ["zoroastrian", "mandaean", "yazidi"]
#: Any number, date or string of the sensitive columns has one of these forms; hashes, sizes and measured times do not.
CANARIES = re.compile(
    r"(?<![\w.])(?:7,?331,?1\d\d(?!\w)|7\.33\d*(?:e| ?M)|1953-\d\d|-5[0-2]\d{7}\b)|(?:jul|aug)[a-z]* 1953"
    r"|zoroast|mandae|yazid|iswealthy|ispoor|ssn-",
    re.IGNORECASE,
)
SPEC = {
    "id_column": "ssn",
    "sensitive_groups": ["faith"],
    "columns": {
        "ssn": {"sensitive": True},
        "faith": {"sensitive": True, "allowed": FAITHS},
        "salary": {"sensitive": True, "minimum": 7_331_100, "maximum": 7_331_199},
        "born": {"sensitive": True, "minimum": -536_000_000},
        "rich": {"sensitive": True},
    },
    "evaluation": {"costs": {"false_negative": 3.0}},
    "checks": {"expressions": [{"name": "sane", "expression": "age >= 0 or salary < 7331150", "severity": "warning"}]},
}
#: Documents that a model needs, or the data itself: their readers may see rows.
DATA = re.compile(
    r"^(incoming|captures|feedback|schemas)/"
    r"|\.(parquet|npz|npy|onnx|skops|csv|gz)$"
    r"|/(profile|reference|prediction_profile|signature|confidence)\.json$"
    r"|^prepared/|/runs/.*/(model|preprocessing|preview)"
    r"|^quarantine/.*/original/|/quarantined?[^/]*\.jsonl"
)


def make_rows(n_rows: int, seed: int) -> list[dict[str, Any]]:
    draw = random.Random(seed)
    rows = []
    for number in range(n_rows):
        age = draw.randint(18, 80)
        salary = 7_331_100 + min(99, max(0, age + draw.randint(-25, 25)))
        rows.append(
            {
                "ssn": f"ssn-{seed}-{number}",
                "age": age,
                "faith": draw.choice(FAITHS),
                "salary": salary,
                "born": str(date(1953, 7, 1) + timedelta(days=draw.randint(0, 60))),
                "rich": "iswealthy" if age + draw.gauss(0, 8) > 49 else "ispoor",
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


#: The parts of a reply that are the prediction.
PREDICTED = re.compile(
    r'"(?:label|decision)": ?"[^"]*"|"probabilities": ?\{[^}]*\}|"predictions": ?\[[\d., nul]*\]'
    r'|"(?:prediction|base_value)": ?[\d.]+|"attributions": ?\{[^}]*\}'
)


def predictions(application: Application, target: str) -> dict[str, str]:
    """Return what callers read of good and bad requests and feedback, and of the description of the model."""
    whole = make_rows(1, 9)[0]
    row = {name: value for name, value in whole.items() if name != target}
    bad_rows = [bad for bad in BAD if target not in bad]
    path = f"/models/{MODEL}/invocations"
    less = {name: row[name] for name in ("age", "faith", "rich") if name in row}
    asked = {"good": [row] * 30, "few": [row], "less": [less]}
    asked |= {f"bad {n}": [row | bad] for n, bad in enumerate(bad_rows)}
    asked |= {f"null {name}": [row | {name: None}] for name in row}
    for name in {"faith", "salary", "born", "rich"} & row.keys():
        asked |= {f"odd {name} {odd}": [row | {name: odd}] for odd in ({}, 7_331_100.5, "1953")}
    replies = {name: call(application, "POST", path, {"dataframe_records": rows}) for name, rows in asked.items()}
    partial = asked if target == "label" else {"bad 0": asked["bad 0"]}
    replies |= {
        f"partial {name}": call(application, "POST", f"{path}?on_error=partial", {"dataframe_records": [row, *rows]})
        for name, rows in partial.items()
    }
    replies["explained"] = call(application, "POST", f"{path}?explain=true", {"dataframe_records": [row]})
    assert '"predictions"' in replies["good"], replies["good"]
    if target != "label":
        replies = {name: PREDICTED.sub("", body) for name, body in replies.items()}
    replies["openapi"] = call(application, "GET", f"/models/{MODEL}/openapi.json")
    replies["metadata"] = call(application, "GET", f"/v2/models/{MODEL}")
    return replies | feedback(application, whole[target])


def feedback(application: Application, good: Any) -> dict[str, str]:
    """Return the replies to reports of ground truth, right and wrong, and the coverage."""
    replies = {}
    for outcome in (good, "yazidism", "7331 1xx", None, 0.5, {}, [good]):
        replies[f"feedback {outcome}"] = report(application, {"prediction_id": "p", "outcome": outcome})
    assert '"error_code"' in replies["feedback {}"], replies
    return replies | {"coverage": report(application, None)}


def report(application: Application, body: Any) -> str:
    method, resource = "GET" if body is None else "POST", "/models/{model}/feedback"
    event = {
        "resource": resource,
        "path": f"/models/{MODEL}/feedback",
        "httpMethod": method,
        "headers": {"Content-Type": "application/json"},
        "queryStringParameters": None,
        "pathParameters": {"model": MODEL},
        "requestContext": {"requestId": "r", "resourcePath": resource, "httpMethod": method},
        "body": None if body is None else json.dumps(body),
        "isBase64Encoded": False,
    }
    return str(application.handlers["record_feedback"](event, lambda_context("record_feedback"))["body"])


def capture(target: str) -> None:
    """Store captured rows whose predictions differ from those on the holdout, and whose ages do from training."""
    version = registry().get_state(MODEL).aliases["champion"]
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=2)
    predicted: dict[str, Any] = {"value": 7_331_171.0}
    if target != "salary":
        names = ("0", "1") if target == "label" else ("ispoor", "iswealthy")
        predicted = {"label": names[1], "probabilities": {names[0]: 0.01, names[1]: 0.99}}
    lines = [
        CapturedRow(
            prediction_id=f"p-{number}",
            request_id="r",
            request_rows=1,
            predicted_at=hour + timedelta(seconds=number),
            model=MODEL,
            version=version,
            protocol="mlflow",
            row_id=None,
            sampling_rate=1.0,
            features={"age": float(70 + number % 10), **({} if target == "label" else {"label": 1})},
            unknown=(),
            omitted=0,
            prediction=predicted,
        ).to_line()
        for number in range(300)
    ]
    body = gzip.compress("\n".join(lines).encode())
    boto3.client("s3").put_object(Bucket=DATA_BUCKET, Key=captures_key(MODEL, hour, "c"), Body=body)


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


class Bridge:
    """The management API behind the client of the command line."""

    def __init__(self, application: Application) -> None:
        self.application = application
        self.routes = [(route.path, re.compile(re.sub(r"<(\w+)>", r"(?P<\1>[^/]+)", route.path))) for route in ROUTES]

    def __call__(self, request: httpx.Request) -> httpx.Response:
        for path, pattern in self.routes:
            if found := pattern.fullmatch(request.url.path):
                resource = path.replace("<", "{").replace(">", "}")
                query = dict(request.url.params)
                status, body = self.application.get(request.url.path, resource, found.groupdict(), query)
                return httpx.Response(status, json=body)
        body = report(self.application, None) if request.url.path.endswith("/feedback") else "{}"
        return httpx.Response(200, text=body, headers={"Content-Type": "application/json"})

    def client(self) -> ApiClient:
        return ApiClient(connect(self), lambda _: None)


def commands(application: Application, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Return what the commands print that read."""
    answer_commands(monkeypatch, Bridge(application))
    monkeypatch.setenv("COLUMNS", "200")
    known = registry()
    runs, datasets = known.list_runs(MODEL), known.list_datasets(MODEL)
    ids = [each.dataset_id for each in datasets]
    asked = [
        *(["models"], ["models", MODEL], ["runs", MODEL], *(["runs", MODEL, run.run_id] for run in runs)),
        *(["data", "list", MODEL], ["data", "show", MODEL, ids[0]], ["data", "diff", MODEL, *ids[:2]]),
        *(["monitor", MODEL], ["why", MODEL], ["history", MODEL], ["uploads", "refused"], ["feedback", MODEL]),
        ["card", MODEL, "-f", "md", "-o", "-"],
    ]
    printed = {}
    for arguments in asked:
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, (arguments, result.output)
        printed[f"millrace {' '.join(arguments[:2])}"] = result.output
    return printed


def documents(application: Application) -> dict[str, str]:
    """Return every stored document that is for people."""
    found = {}
    for bucket in (DATA_BUCKET, MODELS_BUCKET):
        for key in application.keys(bucket):
            if not DATA.search(key):
                found[key] = boto3.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read().decode()
    return found


@pytest.mark.parametrize("target", ["label", "rich", "salary"])
def test_no_value_of_a_sensitive_column_is_in_what_people_read(target, application, capfd, monkeypatch):
    log = io.StringIO()
    monkeypatch.setattr(logger.registered_handler, "stream", log)
    candidate = "ridge" if target == "salary" else "logistic_regression"
    spec = SPEC | {"target": target, "candidates": [candidate], "training": {"trials": 1, "folds": 1}}
    registry().put_spec(MODEL, ModelSpec.parse(spec))
    rows = make_rows(300, 1)
    application.upload(MODEL, "one.csv", as_csv(rows + [rows[n] | bad for n, bad in enumerate(BAD)]))
    application.upload(MODEL, "two.csv", as_csv(make_rows(200, 2) + [rows[0] | {"born": "1953"}] * 3))
    # Rejected: most of its rows are bad.
    application.upload(MODEL, "bad.csv", as_csv([row | BAD[n % 8] for n, row in enumerate(make_rows(100, 3))]))
    assert set(application.wait_until_quiet(120).values()) <= {"SUCCEEDED", "FAILED"}
    read = {f"reply: {name}": body for name, body in predictions(application, target).items()}
    printed = capfd.readouterr().out
    if target == "label":  # else the captured rows have the predictions
        read["standard output of predictions"] = printed
    capture(target)
    states = boto3.client("stepfunctions")
    asked = json.dumps({"model": MODEL})
    started = states.start_execution(stateMachineArn=MONITORING_ARN, name="once", input=asked)
    wait_for_execution(started["executionArn"])
    described = descriptions(application)
    stored = documents(application)
    for name in ("card.html", "card.md", "card.json", "report.html", "validation.json", "evaluation.json"):
        assert any(key.endswith(name) for key in stored), name
    drifted = "predicted value" if target == "salary" else "predicted label"
    assert any(drifted in text for key, text in stored.items() if "monitoring" in key), sorted(stored)
    read |= described | stored | commands(application, monkeypatch)
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
