"""`millrace score` and `millrace batches`: what is sent where, what is refused before, and what a job's end shows."""

import json
import re
from collections import Counter

import pytest
from millrace_cli.errors import CliError
from millrace_cli.job_progress import JobProgress, follow_job
from millrace_cli.main import app
from typer.testing import CliRunner

from tests.fakes.fake_api import FakeApi, answer_commands

JOB = "b-20260503T141500-0f3a9c2b7d1e"
PATH = f"/models/churn/batches/{JOB}"


def job(status="succeeded", **changes):
    return {
        "model": "churn",
        "job_id": JOB,
        "status": status,
        "version": 7,
        "alias": "champion",
        "source": "score/churn/may/",
        "destination": f"scored/churn/{JOB}/",
        "requested_at": "2026-05-03T14:15:00+00:00",
        "reasons": [],
        "parts": 4,
        "rows": 1000,
        "scored_parts": 4,
        "is_finished": status in ("succeeded", "failed", "cancelled"),
        "summary": {
            "rows": 1000,
            "refused": 3,
            "refused_by_reason": {"age is no number": 2, "age is missing": 1},
            "predictions": {"rows": 997, "decisions": {"yes": 300, "no": 697}},
            "seconds": 0.5,
            "cost": {"usd": 0.0123},
        },
    } | changes


class FakeS3:
    """Two buckets; uploads and copies are instant."""

    def __init__(self):
        self.objects = {
            ("lake", "in/may/a.csv"): b"a",
            ("lake", "in/may/b c.csv"): b"b",
            ("lake", "in/may-old.csv"): b"x",
            ("data", f"scored/churn/{JOB}/part-00000.parquet"): b"p",
            ("data", f"scored/churn/{JOB}/_SUCCESS"): b"",
            ("data", f"scored/churn/{JOB}/manifest.json"): b"{}",
        }
        self.written = []

    def upload_file(self, path, bucket, key, Callback):
        with open(path, "rb") as file:
            self.objects[bucket, key] = file.read()
        self.written.append(f"{bucket}/{key}")
        Callback(len(self.objects[bucket, key]))

    def copy(self, source, bucket, key, Callback):
        self.objects[bucket, key] = self.objects[source["Bucket"], source["Key"]]
        self.written.append(f"{bucket}/{key}")
        Callback(1)

    def download_file(self, bucket, key, path, Callback):
        with open(path, "wb") as file:
            file.write(self.objects[bucket, key])
        Callback(1)

    def get_paginator(self, name):
        assert name == "list_objects_v2"
        return self

    def paginate(self, *, Bucket, Prefix):
        keys = sorted(key for bucket, key in self.objects if bucket == Bucket and key.startswith(Prefix))
        yield {"Contents": [{"Key": key, "Size": len(self.objects[Bucket, key])} for key in keys]}


class FakeTarget:
    poll_seconds = 0.0

    def __init__(self):
        self.s3 = FakeS3()

    def client(self, service):
        return self.s3

    def output(self, name):
        return "data"


class Commands:
    def __init__(self, monkeypatch, answers=None):
        first = job("queued", parts=None, scored_parts=0)
        running = [job("planning", parts=None, scored_parts=0), job("scoring", scored_parts=2), job()]
        self.api = FakeApi(
            {
                "/models/churn": [(200, {"model": "churn"})],
                "/models/churn/batches": [(202, first)],
                PATH: [(200, one) for one in running],
            }
            | (answers or {})
        )
        self.target = FakeTarget()
        answer_commands(monkeypatch, self.api, self.target)

    def run(self, *arguments):
        return CliRunner().invoke(app, [*map(str, arguments)], env={"COLUMNS": "200"})

    @property
    def bodies(self):
        return [json.loads(request.content) for request in self.api.requests if request.content]


@pytest.fixture
def commands(monkeypatch):
    return Commands(monkeypatch)


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "may 2026.csv"
    path.write_text("a\n1\n", encoding="utf-8")
    return path


class TestScore:
    def test_a_file_is_put_into_a_folder_of_its_own_and_then_requested(self, commands, table):
        result = commands.run(
            "score", "churn", table, "--alias", "challenger", "--join", "--explain", "--format", "csv"
        )

        assert result.exit_code == 0, result.output
        [written] = commands.target.s3.written
        assert re.fullmatch(r"data/score/churn/may-2026-\d{8}T\d{6}-[0-9a-f]{6}/may-2026\.csv", written)
        [body] = commands.bodies
        assert body.pop("request_id")
        expected = {"alias": "challenger", "join": True, "explain": True, "format": "csv", "reason": ""}
        assert body == expected | {"source": written.removeprefix("data/")}
        assert "2 of 4 parts, about 500 of 1,000 rows" in result.output
        assert "1,000 rows, 3 refused, 2,000 rows a second of computing, about 0.0123 USD" in result.output
        assert re.search(r"2 +age is no number", result.output)
        assert re.search(r"yes +300 +30\.1%", result.output)
        assert f"results: s3://data/scored/churn/{JOB}/" in result.output

    def test_a_folder_is_requested_whole_and_its_results_downloaded(self, commands, table, tmp_path):
        (tmp_path / "_ignored.csv").write_text("a\n", encoding="utf-8")
        out = tmp_path / "out" / "scored"
        result = commands.run("score", "churn", tmp_path, "--output", out)
        assert result.exit_code == 0, result.output
        assert commands.bodies[0]["source"].endswith("/")
        assert len(commands.target.s3.written) == 1
        assert sorted(path.name for path in out.iterdir()) == ["_SUCCESS", "manifest.json", "part-00000.parquet"]

    def test_objects_of_another_bucket_are_copied_there_and_back_with_the_callers_rights(self, commands):
        result = commands.run("score", "churn", "s3://lake/in/may/", "--to", "s3://lake/out")
        assert result.exit_code == 0, result.output
        copied, back = commands.target.s3.written[:2], commands.target.s3.written[2:]
        assert [key.rpartition("/")[2] for key in copied] == ["a.csv", "b-c.csv"]
        assert back == ["lake/out/manifest.json", "lake/out/part-00000.parquet", "lake/out/_SUCCESS"]

    def test_what_is_in_the_drop_zone_already_is_scored_where_it_is(self, commands):
        commands.run("score", "churn", "s3://data/score/churn/may/", "--no-wait")
        assert commands.target.s3.written == []
        assert commands.bodies[0]["source"] == "score/churn/may/"

    @pytest.mark.parametrize(
        ("arguments", "why"),
        [
            (["nowhere.csv"], "nowhere.csv does not exist"),
            (["s3:///key"], "is no address in S3"),
            (["s3://lake/none/"], "there is nothing at s3://lake/none/"),
            (["s3://lake/in/may"], "end it with a slash: s3://lake/in/may/"),
            (["s3://lake/in/may/", "--version", "1", "--alias", "champion"], "exclude each other"),
            (["s3://lake/in/may/", "--no-wait", "--output", "x"], "need the job to end"),
            (["s3://lake/in/may/", "--to", "s3://data/score/churn/x/"], "would be scored in turn"),
        ],
    )
    def test_it_is_refused_before_anything_is_requested(self, commands, arguments, why):
        result = commands.run("score", "churn", *arguments)
        assert result.exit_code == 2, result.output
        assert why in result.output
        assert commands.bodies == []
        assert commands.target.s3.written == []

    @pytest.mark.parametrize(("name", "why"), [("empty.csv", "is empty"), ("folder", "has no files")])
    def test_nothing_is_refused_too(self, commands, tmp_path, name, why):
        path = tmp_path / name
        path.mkdir() if name == "folder" else path.touch()
        result = commands.run("score", "churn", path)
        assert (result.exit_code, why in result.output) == (2, True)

    def test_a_job_that_fails_lists_its_reasons_and_downloads_nothing(self, monkeypatch, table, tmp_path):
        failed = job("failed", reasons=["part 1: b.csv: the file is torn"], summary={})
        commands = Commands(monkeypatch, {PATH: [(200, failed)]})
        result = commands.run("score", "churn", table, "--output", tmp_path / "out")
        assert result.exit_code == 1
        assert "part 1: b.csv: the file is torn" in result.output
        assert not (tmp_path / "out").exists()

    def test_an_unknown_model_is_reported_before_the_upload(self, monkeypatch, table):
        commands = Commands(monkeypatch, {"/models/churn": [(404, {"message": "there is no model called 'churn'"})]})
        result = commands.run("score", "churn", table)
        assert result.exit_code == 1
        assert commands.target.s3.written == []


class TestBatches:
    def test_jobs_are_listed_and_one_is_shown(self, monkeypatch):
        commands = Commands(monkeypatch, {"/models/churn/batches": [(200, {"batches": [job(), job("failed")]})]})
        listed = commands.run("batches", "churn").output
        assert Counter(re.findall(r"succeeded|failed", listed)) == {"succeeded": 1, "failed": 1}
        commands = Commands(monkeypatch, {PATH: [(200, job())]})
        assert "succeeded, version 7 (champion)" in commands.run("batches", "churn", JOB).output

    def test_a_model_without_jobs_names_the_command(self, monkeypatch):
        commands = Commands(monkeypatch, {"/models/churn/batches": [(200, {"batches": []})]})
        assert "start one: millrace score churn FILE" in commands.run("batches", "churn").output

    def test_cancel_retry_and_download(self, monkeypatch, tmp_path):
        cancelled = job("cancelled", reasons=["cancelled: wrong month"])
        answers = {f"{PATH}/cancel": [(200, cancelled)], f"{PATH}/retry": [(202, job("queued"))]}
        commands = Commands(monkeypatch, answers)
        stopped = commands.run("batches", "cancel", "churn", JOB, "--reason", "wrong month")
        assert "is cancelled; cancelled: wrong month" in stopped.output
        assert commands.bodies == [{"reason": "wrong month"}]
        assert commands.run("batches", "retry", "churn", JOB).exit_code == 0
        assert commands.run("batches", "download", "churn", JOB, tmp_path / "out").exit_code == 0
        assert (tmp_path / "out" / "part-00000.parquet").read_bytes() == b"p"
        commands = Commands(monkeypatch, {PATH: [(200, cancelled)]})
        refused = commands.run("batches", "download", "churn", JOB, tmp_path / "none")
        assert (refused.exit_code, "has no complete results" in refused.output) == (2, True)


def test_the_rest_of_a_job_follows_from_its_parts():
    shown = JobProgress(job("scoring", scored_parts=1), seconds=10.0).describe()
    assert shown == "1 of 4 parts, about 250 of 1,000 rows, 25 rows/s, about 30 s left"
    assert JobProgress(job("scoring", rows=None, scored_parts=0), 10.0).describe() == "0 of 4 parts"
    assert JobProgress(job("planning", parts=None, rows=None), 0.0).describe() == "reading the files"
    counted = JobProgress(job("planning", parts=None, rows=12_000_000), 0.0).describe()
    assert counted == "reading the files, 12,000,000 rows so far"


def test_a_job_that_takes_too_long_goes_on():
    api, clock = FakeApi({PATH: [(200, job("scoring"))]}).client(), iter(range(0, 1000, 30))
    with pytest.raises(CliError, match="it goes on"):
        list(
            follow_job(
                api,
                "churn",
                JOB,
                poll_seconds=1.0,
                timeout_seconds=60,
                sleep=lambda _: None,
                clock=lambda: float(next(clock)),
            )
        )
