"""Batch scoring on the deployed stack, with the functions' own permissions: on arrival, and on request."""

import csv
import io
import time

import pytest
from millrace_cli.job_progress import follow_job
from millrace_cli.score_files import download_results, put_source
from rich.console import Console

from tests.e2e.conftest import PATIENCE_SECONDS
from tests.serving_models import CHURN_RECORD

pytestmark = pytest.mark.e2e

MODEL = "batches"
COLUMNS = ["customer_id", *CHURN_RECORD]


def table(first, n_rows):
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(CHURN_RECORD | {"customer_id": f"C-{first + number}"} for number in range(n_rows))
    return text.getvalue()


def ended(stack, job_id):
    *_, last = follow_job(stack.api, MODEL, job_id, poll_seconds=0.2, timeout_seconds=PATIENCE_SECONDS)
    return last.job


def test_files_are_scored_when_they_arrive_and_on_request(stack, tmp_path):
    stack.serve_churn(MODEL)
    s3, bucket = stack.client("s3"), stack.target.output("DataBucketName")
    s3.put_object(Bucket=bucket, Key=f"score/{MODEL}/may.csv", Body=table(0, 300).encode())
    folder = tmp_path / "june"
    folder.mkdir()
    for number in range(3):
        (folder / f"part {number}.csv").write_text(table(100 * number, 100), encoding="utf-8")

    key = put_source(s3, bucket, MODEL, str(folder), Console(quiet=True))
    requested = stack.api.post(f"/models/{MODEL}/batches", {"source": key, "format": "csv", "join": True})

    job = ended(stack, requested["job_id"])
    assert (job["status"], job["reasons"], job["summary"]["rows"]) == ("succeeded", [], 300)
    files = download_results(s3, bucket, job["destination"], tmp_path / "out", Console(quiet=True))
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert len(names) == files
    assert {"_SUCCESS", "errors.jsonl", "manifest.json"} < set(names)
    texts = [path.read_text(encoding="utf-8") for path in sorted((tmp_path / "out").glob("part-*.csv"))]
    rows = [row for text in texts for row in csv.DictReader(io.StringIO(text))]
    assert [row["customer_id"] for row in rows] == [f"C-{number}" for number in range(300)]
    deadline = time.monotonic() + PATIENCE_SECONDS
    while len(jobs := stack.api.get(f"/models/{MODEL}/batches")["batches"]) < 2 and time.monotonic() < deadline:
        time.sleep(0.2)
    arrived = ended(stack, next(one["job_id"] for one in jobs if one["kind"] == "upload"))
    assert (arrived["status"], arrived["summary"]["rows"]) == ("succeeded", 300)
    entries = stack.api.get(f"/models/{MODEL}/ledger")["entries"]
    scored = [entry["details"]["job_id"] for entry in entries if entry["action"] == "batch_scored"]
    assert {scored.count(one["job_id"]) for one in (job, arrived)} == {1}
