"""A folder of files through S3's own events: one dataset, shown, compared and explained by `millrace data`."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from millrace.names import make_cause_id
from millrace_cli.main import app
from millrace_cli.upload import Upload
from typer.testing import CliRunner

from tests.e2e.conftest import DeployedStack, make_table

pytestmark = pytest.mark.e2e
MODEL = "parts"


def divide(table: Path, folder: Path, parts: int = 3) -> Path:
    """Write a table's rows into several files with the same header."""
    header, *rows = table.read_text(encoding="utf-8").splitlines(keepends=True)
    folder.mkdir()
    for part in range(parts):
        body = "".join(rows[part * len(rows) // parts : (part + 1) * len(rows) // parts])
        (folder / f"part-{part}.csv").write_text(header + body, encoding="utf-8")
    return folder


def data(stack: DeployedStack, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Any:
    """Run a `millrace data` command against the stack and return its JSON."""
    monkeypatch.setattr("millrace_cli.options.find_target", lambda *_: stack.target)
    result = CliRunner().invoke(app, ["data", *arguments, "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_folder_becomes_one_dataset(stack: DeployedStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = make_table(tmp_path / "whole.csv")
    stack.search_little(MODEL)
    upload = stack.upload(MODEL, divide(table, tmp_path / "may"))

    snapshot = stack.wait_for(upload)

    assert snapshot.status == "succeeded", snapshot
    # Each file was an event of its own, and none of them started a run.
    assert len(stack.api.get(f"/models/{MODEL}/runs")["runs"]) == 1
    told = [*stack.api.get(f"/models/{MODEL}/ledger")["entries"], *stack.api.get("/uploads/refused")["refused"]]
    assert any(entry["action"] == "upload_waiting" and f"/{MODEL}/may/" in entry["reason"] for entry in told)
    (listed,) = data(stack, monkeypatch, "list", MODEL)["datasets"]
    shown = data(stack, monkeypatch, "show", MODEL, listed["dataset_id"][:8])
    files = shown["manifest"]["source"]["files"]
    assert [file["key"].rsplit("/", 1)[1] for file in files] == ["part-0.csv", "part-1.csv", "part-2.csv"]
    assert all(file["version_id"] for file in files)
    with table.open(encoding="utf-8", newline="") as file:
        assert shown["dataset"]["rows"] == sum(1 for _ in csv.reader(file)) - 1
    assert data(stack, monkeypatch, "schema", MODEL)["version"] == 1


def test_a_marker_finishes_a_folder_and_datasets_are_compared(
    stack: DeployedStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3, bucket = stack.client("s3"), stack.target.output("DataBucketName")
    for part in divide(make_table(tmp_path / "june.csv", seed=2), tmp_path / "june").iterdir():
        s3.put_object(Bucket=bucket, Key=f"incoming/{MODEL}/june/{part.name}", Body=part.read_bytes())
    key = f"incoming/{MODEL}/june/_SUCCESS"
    version = s3.put_object(Bucket=bucket, Key=key, Body=b"")["VersionId"]

    stack.wait_for(Upload(MODEL, bucket, key, version, make_cause_id("upload", bucket, key, version)))

    later, earlier = data(stack, monkeypatch, "list", MODEL)["datasets"]
    assert later["source"]["key"].endswith("/june/_SUCCESS")
    difference = data(stack, monkeypatch, "diff", MODEL, earlier["dataset_id"][:8], later["dataset_id"][:8])
    assert difference["volume"]["rows"] == [200, 200]
