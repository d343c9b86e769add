"""Batch jobs on moto: the shipped machine and handlers, from a file below ``score/`` to files of predictions."""

import csv
import gzip
import io
import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from millrace.aws.clients import registry, registry_store
from millrace.batch import finish_step
from millrace.batch.job_records import BatchRecord, get_job, run_again
from millrace.monitoring.due_models import find_due_models
from millrace.spec import ModelSpec
from moto import mock_aws

from tests.batch_jobs import churn_reference
from tests.integration.application import DATA_BUCKET, SCORING_ARN, Application, WorkerDiedError, deploy
from tests.integration.conftest import MOTO_CONFIG
from tests.integration.executions import wait_for_machine
from tests.integration.test_captures import MODEL, promote
from tests.integration.test_training_pipeline import dying
from tests.serving_models import CHURN_RECORD

COLUMNS = ["customer_id", *CHURN_RECORD]


def table(n_rows: int, seed: int = 1) -> bytes:
    generator = random.Random(seed)
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        CHURN_RECORD | {"customer_id": f"C-{number}", "age": generator.randint(18, 80)} for number in range(n_rows)
    )
    return buffer.getvalue().encode()


class Scoring:
    """A model with a champion, and its batch jobs."""

    def __init__(self, application: Application) -> None:
        self.application = application

    def arrive(self, name: str, body: bytes) -> list[dict[str, Any]]:
        """Put a file below ``score/`` and deliver its event; returns the jobs that it requested."""
        return self.deliver(self.application.put(f"score/{MODEL}/{name}", body))

    def deliver(self, event: Any) -> list[dict[str, Any]]:
        return list(self.application.call("request_scoring", event)["jobs"])

    def post(self, path: str, resource: str, parameters: dict[str, str], body: Any) -> tuple[int, Any]:
        event = {
            "resource": resource,
            "path": path,
            "httpMethod": "POST",
            "headers": {"Content-Type": "application/json"},
            "multiValueHeaders": {},
            "pathParameters": parameters,
            "requestContext": {"requestId": "r", "resourcePath": resource, "identity": {"userArn": "ann"}},
            "body": json.dumps(body),
            "isBase64Encoded": False,
        }
        response = self.application.call("request_scoring", event)
        return response["statusCode"], json.loads(response["body"])

    def request(self, **body: Any) -> tuple[int, Any]:
        return self.post(f"/models/{MODEL}/batches", "/models/{model}/batches", {"model": MODEL}, body)

    def act(self, job_id: str, action: str) -> tuple[int, Any]:
        path, resource = f"/models/{MODEL}/batches/{job_id}/{action}", f"/models/{{model}}/batches/{{job_id}}/{action}"
        return self.post(path, resource, {"model": MODEL, "job_id": job_id}, {"reason": "by hand"})

    def job(self, job_id: str) -> dict[str, Any]:
        parameters = {"model": MODEL, "job_id": job_id}
        resource = "/models/{model}/batches/{job_id}"
        status, body = self.application.get(f"/models/{MODEL}/batches/{job_id}", resource, parameters)
        assert status == 200, body
        return dict(body)

    def wait(self, job_id: str, seconds: float = 60.0) -> dict[str, Any]:
        """Wait until every execution has ended; returns the job."""
        wait_for_machine(SCORING_ARN, seconds)
        return self.job(job_id)

    def executions(self) -> list[str]:
        found = boto3.client("stepfunctions").list_executions(stateMachineArn=SCORING_ARN)["executions"]
        return sorted(execution["name"] for execution in found)

    def results(self, job: dict[str, Any]) -> list[str]:
        prefix = job["destination"]
        return [key.removeprefix(prefix) for key in self.application.keys(DATA_BUCKET, prefix)]

    def rows(self, job: dict[str, Any]) -> list[dict[str, str]]:
        names = [name for name in self.results(job) if name.startswith("part-")]
        bodies = [
            boto3.client("s3").get_object(Bucket=DATA_BUCKET, Key=job["destination"] + name)["Body"].read().decode()
            for name in names
        ]
        return [row for body in bodies for row in csv.DictReader(io.StringIO(body))]

    def actions(self) -> list[str]:
        return [one.action for one in registry().list_ledger(MODEL) if one.action.startswith("batch")]


@pytest.fixture
def scoring(isolated_from_aws: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scoring]:
    with mock_aws(config=MOTO_CONFIG):
        application = deploy(monkeypatch)
        registry().put_spec(MODEL, ModelSpec.parse({"scoring": {"format": "csv"}}))
        promote(1)
        yield Scoring(application)
        assert application.denied == []


def test_a_file_that_arrives_is_scored_once_however_often_its_event_is_delivered(scoring: Scoring) -> None:
    registry().put_spec(MODEL, ModelSpec.parse({"scoring": {"format": "csv", "explain": True}}))
    event = scoring.application.put(f"score/{MODEL}/may.csv", table(50))
    [job] = scoring.deliver(event)
    [again] = scoring.deliver(event)

    ended = scoring.wait(job["job_id"])

    assert again["job_id"] == job["job_id"]
    assert scoring.executions() == [job["job_id"]]
    assert (ended["status"], ended["reasons"], ended["version"], ended["alias"]) == ("succeeded", [], 1, "champion")
    assert (ended["summary"]["rows"], ended["parts"], ended["scored_parts"]) == (50, 1, 1)
    assert scoring.results(ended) == ["_SUCCESS", "errors.jsonl", "manifest.json", "part-00000.csv"]
    assert len(scoring.rows(ended)) == 50
    assert all(float(row["base_value"]) and float(row["explanation_age"]) for row in scoring.rows(ended))
    assert scoring.actions() == ["batch_scored", "batch_requested"]
    [(name, detail)] = scoring.application.published_events()
    assert (name, detail["job_id"], detail["rows"]) == ("BatchScored", job["job_id"], 50)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut files into parts of some twenty rows."""
    monkeypatch.setattr("millrace.batch.job_planning.PART_BYTES", 1_000)
    monkeypatch.setattr("millrace.batch.object_bytes.STREAMED_BYTES", 500)


def with_faults(scoring: Scoring, *faults: tuple[int, Exception]) -> list[int]:
    """Let the worker of each part die once, in the order of its calls; returns the parts that were called."""
    shipped, left, called = scoring.application.handlers["score_part"], list(faults), []

    def handler(event: Any, context: Any) -> Any:
        called.append(event["part"]["part"])
        for fault in left:
            if fault[0] == called[-1]:
                left.remove(fault)
                raise fault[1]
        return shipped(event, context)

    scoring.application.handlers["score_part"] = handler
    return called


def test_a_worker_that_dies_is_missed_by_the_last_step_and_a_retry_scores_its_part_alone(
    scoring: Scoring, small_parts: None
) -> None:
    called = with_faults(scoring, (1, WorkerDiedError("killed")))
    [job] = scoring.arrive("may.csv", table(100))

    failed = scoring.wait(job["job_id"])

    parts = failed["parts"]
    assert parts > 3
    assert failed["status"] == "failed"
    assert failed["scored_parts"] == parts - 1
    assert "1 of" in failed["reasons"][0]
    assert "_SUCCESS" not in scoring.results(failed)
    assert sorted(called) == list(range(parts))
    receipts = scoring.application.keys(DATA_BUCKET, f"jobs/{job['job_id']}/receipts/")
    written = {key: boto3.client("s3").head_object(Bucket=DATA_BUCKET, Key=key)["VersionId"] for key in receipts}

    status, again = scoring.act(job["job_id"], "retry")
    ended = scoring.wait(job["job_id"])

    assert (status, again["attempt"], ended["status"], ended["reasons"]) == (202, 2, "succeeded", [])
    assert scoring.executions() == [job["job_id"], f"{job['job_id']}-2"]
    assert [row["row"] for row in scoring.rows(ended)] == [str(number) for number in range(1, 101)]
    kept = {key: boto3.client("s3").head_object(Bucket=DATA_BUCKET, Key=key)["VersionId"] for key in receipts}
    assert kept == written
    assert scoring.actions() == ["batch_scored", "batch_requested", "batch_failed", "batch_requested"]
    assert scoring.act(job["job_id"], "retry")[0] == 409


def test_a_damaged_file_of_a_folder_is_named_and_a_plan_that_crashes_ends_its_job(
    scoring: Scoring, small_parts: None
) -> None:
    for name, body in (
        ("a.csv", table(20)),
        ("b.csv.gz", gzip.compress(table(40, seed=2))[:-40]),
        ("c.csv", table(20)),
    ):
        assert scoring.arrive(f"may/{name}", body) == []
    [job] = scoring.arrive("may/_SUCCESS", b"")

    failed = scoring.wait(job["job_id"])

    assert failed["status"] == "failed"
    assert "b.csv.gz" in " ".join(failed["reasons"])
    assert "_SUCCESS" not in scoring.results(failed)
    assert [name for name, _ in scoring.application.published_events()] == ["BatchFailed"]

    # A worker that dies while it reads the files.
    scoring.application.handlers["plan_scoring"] = dying
    [job] = scoring.arrive("may.csv", table(20))

    failed = scoring.wait(job["job_id"])

    assert failed["status"] == "failed"
    assert "the files could not be read: out of memory or time, or a crash" in failed["reasons"][0]
    assert "WorkerDiedError" in failed["reasons"][0]


def test_a_file_that_one_call_has_no_time_to_read_is_planned_by_several(
    scoring: Scoring, small_parts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every call is late after one range, as with hundreds of gigabytes."""
    monkeypatch.setattr("millrace.batch.plan_step._RESERVED_SECONDS", 1e9)
    outcomes = []
    handler = scoring.application.handlers["plan_scoring"]
    scoring.application.handlers["plan_scoring"] = lambda *call: outcomes.append(handler(*call)) or outcomes[-1]
    [requested] = scoring.arrive("large.csv", table(50))
    job = scoring.wait(requested["job_id"])
    assert job["status"] == "succeeded", job["reasons"]
    assert [one["outcome"] for one in outcomes] == ["planning"] * (len(outcomes) - 1) + ["planned"]
    assert len(outcomes) > 2
    assert job["rows"] == 50
    assert [row["row"] for row in scoring.rows(job)] == [str(number) for number in range(1, 51)]


def test_files_that_cannot_be_scored_fail_in_words_before_anything_is_scored(scoring: Scoring) -> None:
    called, finish, reached = with_faults(scoring), scoring.application.handlers["finish_scoring"], {}

    def handler(event: Any, context: Any) -> Any:
        reached[event["job_id"]] = scoring.job(event["job_id"])["status"]
        return finish(event, context)

    scoring.application.handlers["finish_scoring"] = handler
    jobs = {}
    # One after the other: moto copies its table for a transaction, and fails when an execution writes to it meanwhile.
    for name, body in (
        ("empty.csv", b""),
        ("header.csv", table(0)),
        ("columns.csv", b"customer_id,colour\nC-1,red\n"),
        ("picture.png", b"\x89PNG\r\n\x1a\n0000"),
    ):
        jobs[name] = scoring.arrive(name, body)[0]["job_id"]
        scoring.wait(jobs[name])
    for name in ("nothing/", "gone.csv"):
        jobs[name] = scoring.request(source=f"score/{MODEL}/{name}", request_id=f"request {name}")[1]["job_id"]
        scoring.wait(jobs[name])

    ended = {name: scoring.job(job_id) for name, job_id in jobs.items()}
    assert {name: reached[job_id] for name, job_id in jobs.items()} == dict.fromkeys(jobs, "planning")
    assert {job["status"] for job in ended.values()} == {"failed"}
    reasons = {name: " ".join(job["reasons"]) for name, job in ended.items()}
    assert "empty" in reasons["empty.csv"]
    assert "rows" in reasons["header.csv"]
    assert "plan" in reasons["columns.csv"]
    assert "image" in reasons["picture.png"]
    assert "there is no file below" in reasons["nothing/"]
    assert "is not there (any more)" in reasons["gone.csv"]
    assert called == []


def test_a_job_that_is_cancelled_while_it_runs_stays_cancelled(scoring: Scoring, small_parts: None) -> None:
    shipped = scoring.application.handlers["score_part"]

    def cancelling(event: Any, context: Any) -> Any:
        if event["part"]["part"] == 1:
            assert scoring.act(event["job_id"], "cancel")[0] == 200
        return shipped(event, context)

    scoring.application.handlers["score_part"] = cancelling
    [job] = scoring.arrive("may.csv", table(100))

    ended = scoring.wait(job["job_id"])

    assert (ended["status"], ended["reasons"]) == ("cancelled", ["cancelled: by hand"])
    # What the execution that was stopped still does changes nothing of the next attempt.
    queued = run_again(get_job(MODEL, job["job_id"], registry_store()), registry_store())
    late = {"model": MODEL, "job_id": job["job_id"], "execution": job["job_id"]}
    assert scoring.application.call("plan_scoring", late)["outcome"] == "ended"
    assert scoring.application.call("finish_scoring", late)["outcome"] == "failed"
    assert get_job(MODEL, job["job_id"], registry_store()) == queued
    assert "_SUCCESS" not in scoring.results(ended)
    assert scoring.actions() == ["batch_cancelled", "batch_requested"]


def test_a_captured_job_is_monitored_apart_from_requests(scoring: Scoring, small_parts: None) -> None:
    promote(2, churn_reference())
    _, job = scoring.request(source=arrived(scoring, "night/a.csv", table(300)), capture="batch")
    ended = scoring.wait(job["job_id"])
    assert (ended["status"], ended["reasons"], ended["capture"]) == ("succeeded", [], "batch")
    assert ended["summary"]["captured"] == 300
    assert find_due_models(registry_store(), datetime.now(UTC)).names == (MODEL,)

    verdict = scoring.application.call("monitor_model", {"model": MODEL, "round": 0})

    assert (verdict["outcome"], verdict["rows"]) == ("nothing_new", 0)
    path = f"/models/{MODEL}/monitoring"
    status, body = scoring.application.get(path, "/models/{model}/monitoring", {"model": MODEL})
    assert status == 200
    [window] = body["batch"]["jobs"]
    assert (window["job_id"], window["version"], window["rows"]) == (job["job_id"], 2, 300)
    # The made-up ages are not those of training.
    assert "feature_drift:age" in window["breaches"]
    assert not scoring.application.keys(DATA_BUCKET, "captures/")


def test_monitoring_hears_of_a_captured_job_before_the_job_ends(
    scoring: Scoring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step that fails between the two is repeated, and the repetition finds an ended job."""
    promote(2, churn_reference())
    due, end_job = [], finish_step.end_job

    def end(*arguments: Any, **options: Any) -> BatchRecord:
        due.append(find_due_models(registry_store(), datetime.now(UTC)).names)
        return end_job(*arguments, **options)

    monkeypatch.setattr(finish_step, "end_job", end)
    _, job = scoring.request(source=arrived(scoring, "night/b.csv", table(30)), capture="batch")
    assert scoring.wait(job["job_id"])["status"] == "succeeded"
    assert due == [(MODEL,)]


def arrived(scoring: Scoring, name: str, body: bytes) -> str:
    """Put a file into a folder, which starts nothing; returns its key."""
    assert scoring.arrive(name, body) == []
    return f"score/{MODEL}/{name}"
