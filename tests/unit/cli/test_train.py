import json
from collections import Counter
from pathlib import Path

import pytest
from millrace.names import make_cause_id
from millrace_cli import run_progress
from millrace_cli.commands import train as train_command
from millrace_cli.errors import RefusedError
from millrace_cli.main import app
from millrace_cli.run_progress import Snapshot
from millrace_cli.upload import check_upload, upload_table
from typer.testing import CliRunner

from tests.fakes.fake_api import FakeApi, answer_commands

NO_MODEL: dict = {}
SPEC_PATH = "/models/churn/spec"
KNOWN_MODEL = {"/models/churn/schema": [(200, {"columns": [{"name": "churned", "role": "target"}]})]}


class FakeTarget:
    poll_seconds = 0.0

    def __init__(self):
        self.s3 = FakeS3()

    def client(self, service):
        return self.s3

    def output(self, name):
        return "data"


def run_train(monkeypatch, answers, *arguments):
    """Upload without waiting; returns the result, the uploaded objects' metadata and the requests with a body."""
    api, target = FakeApi(answers), FakeTarget()
    answer_commands(monkeypatch, api, target)
    result = CliRunner().invoke(app, ["train", "churn", *map(str, arguments), "--no-wait"])
    metadata = [metadata for _, metadata in target.s3.objects.values()]
    return result, metadata, [json.loads(request.content) for request in api.requests if request.content]


class FakeS3:
    def __init__(self):
        self.objects = {}
        self.versions = Counter()

    def put_object(self, *, Bucket, Key, Body, Metadata):
        self.objects[Bucket, Key] = (Body if isinstance(Body, bytes) else Body.read(), Metadata)
        self.versions[Key] += 1
        return {"VersionId": f"v{self.versions[Key]}"}


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "churn.csv"
    path.write_text("a,churned\n1,yes\n", encoding="utf-8")
    return path


def test_an_upload_has_the_id_that_its_event_will_have(table):
    s3 = FakeS3()

    upload = upload_table(s3, "data", "churn", table, target="churned")

    assert s3.objects["data", "incoming/churn/churn.csv"] == (b"a,churned\n1,yes\n", {"target": "churned"})
    assert upload.cause_id == make_cause_id("upload", "data", "incoming/churn/churn.csv", "v1")


def test_a_forced_upload_says_so_in_its_metadata(table):
    s3 = FakeS3()

    upload_table(s3, "data", "churn", table, force=True)

    assert s3.objects["data", "incoming/churn/churn.csv"][1] == {"force": "true"}


def test_a_run_with_nothing_new_to_learn_names_the_command_that_trains_anyway():
    run = {"status": "skipped", "stage": "finished", "run_id": "r2", "reasons": ["nothing new to learn"]}
    snapshot = Snapshot("churn", "started", run_id="r2", run=run)

    assert (
        train_command.next_command(snapshot, Path("churn.csv"), "left")
        == "millrace train churn churn.csv --target left --force"
    )


@pytest.mark.parametrize(("quarantined", "command"), [(0, "predict"), (3, "score")])
def test_after_a_run_the_file_is_predicted_and_one_with_bad_rows_by_a_batch_job(quarantined, command):
    run = {"status": "succeeded", "stage": "finished", "run_id": "r2", "version": 2}
    snapshot = Snapshot("churn", "started", "r2", run=run, training_data={"quarantined_rows": quarantined})

    assert train_command.next_command(snapshot, Path("churn.csv"), "left") == f"millrace {command} churn churn.csv"


def test_a_folder_goes_up_file_by_file_and_then_the_manifest_that_names_them(tmp_path):
    folder = tmp_path / "may"
    (folder / "b").mkdir(parents=True)
    for name in ("part-1.csv", "part-0.csv", "b/part-2.csv", "_SUCCESS", ".part-0.csv.crc"):
        (folder / name).write_text("a,churned\n1,yes\n", encoding="utf-8")
    s3 = FakeS3()

    upload = upload_table(s3, "data", "churn", folder, target="churned")

    keys = [key.removeprefix("incoming/churn/may/") for _, key in s3.objects]
    assert keys == ["b/part-2.csv", "part-0.csv", "part-1.csv", "manifest.json"]
    body, metadata = s3.objects["data", upload.key]
    assert (upload.key, metadata) == ("incoming/churn/may/manifest.json", {"target": "churned"})
    assert upload.cause_id == make_cause_id("upload", "data", upload.key, "v1")
    assert json.loads(body)["entries"][1] == {
        "url": "s3://data/incoming/churn/may/part-0.csv",
        "mandatory": True,
        "version_id": "v1",
        "meta": {"content_length": 16},
    }


@pytest.mark.parametrize(
    ("model", "name"),
    [("../x", "churn.csv"), ("churn", "none.csv"), ("churn", "folder"), ("churn", "e"), ("churn", "m")],
)
def test_what_cannot_be_a_table_is_refused_before_it_is_sent(table, model, name):
    (table.parent / "e").touch()
    (table.parent / "folder" / "_temporary").mkdir(parents=True)
    (table.parent / "folder" / "_temporary" / "part-0.csv").touch()
    (table.parent / "m").mkdir()
    (table.parent / "m" / "manifest.json").write_text("{}", encoding="utf-8")

    with pytest.raises(RefusedError):
        check_upload(model, table.parent / name)


def test_a_refused_file_ends_with_exit_code_2_and_one_sentence():
    result = CliRunner().invoke(app, ["train", "churn", "nowhere.csv"])

    assert result.exit_code == 2
    assert "nowhere.csv does not exist" in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("status", "stage", "exit_code"),
    [
        ("succeeded", "finished", 0),
        ("failed", "finished", 1),
        ("rejected", "finished", 2),
        ("skipped", "finished", 0),
        ("running", "awaiting_approval", 0),
    ],
)
def test_train_ends_as_its_run_did(monkeypatch, table, status, stage, exit_code):
    snapshot = Snapshot(
        "churn", "started", run_id="r", run={"status": status, "stage": stage, "reasons": ["because of this"]}
    )
    answer_commands(monkeypatch, FakeApi({}), FakeTarget())
    monkeypatch.setattr(train_command, "watch_uploads", lambda *_: {"churn": snapshot})

    result = CliRunner().invoke(app, ["train", "churn", str(table), "--target", "churned"])

    assert result.exit_code == exit_code
    assert "because of this" in result.stdout
    assert ("awaiting approval" in result.stdout) == (stage == "awaiting_approval")
    assert ("millrace approve churn r" in result.stderr) == (stage == "awaiting_approval")


def test_a_first_upload_that_the_stack_never_sees_is_uploaded_again_and_says_why(monkeypatch, table):
    run_id = "20260503T141500-0f3a9c2b7d1e"
    first, second = (make_cause_id("upload", "data", "incoming/churn/churn.csv", version) for version in ("v1", "v2"))
    api, target = FakeApi({}), FakeTarget()
    # The event of the second version arrives; nobody sees that of the first.
    api.answers[f"/models/churn/causes/{second}"] = [(200, {"status": "started", "run_id": run_id})]
    run = {"run_id": run_id, "status": "succeeded", "stage": "finished", "reasons": []}
    api.answers[f"/models/churn/runs/{run_id}"] = [(200, {"run": run})]
    answer_commands(monkeypatch, api, target)
    monkeypatch.setattr(run_progress, "_UPLOAD_AGAIN_SECONDS", (0.0,))

    result = CliRunner().invoke(app, ["train", "churn", str(table), "--target", "churned", "--task", "binary"])

    assert result.exit_code == 0, result.output
    assert target.s3.versions == {"incoming/churn/churn.csv": 2}
    assert target.s3.objects["data", "incoming/churn/churn.csv"][1] == {"target": "churned", "task": "binary"}
    assert "uploaded again; S3 sends no events of a new stack's bucket for about five minutes" in result.stderr
    assert f"/models/churn/causes/{first}" in [request.url.path for request in api.requests]


def test_a_misspelt_target_is_refused_before_the_upload_with_a_command_that_works(monkeypatch, table):
    result, uploaded, _ = run_train(monkeypatch, NO_MODEL, table, "--target", "Chruned")

    assert result.exit_code == 2
    assert uploaded == []
    assert "did you mean 'churned'?" in result.stderr
    assert f"fix: millrace train churn {table} --target churned" in result.stderr


@pytest.mark.parametrize(
    ("answers", "arguments", "message"),
    [
        (NO_MODEL, [], "the column to predict is not known"),
        (NO_MODEL, ["--target", "churned", "--ignore", "b"], "has no column 'b'"),
        (NO_MODEL, ["--target", "churned", "--id-column", "customer"], "has no column 'customer'"),
        (KNOWN_MODEL, ["--target", "a"], "churn predicts 'churned', not 'a'"),
        ({SPEC_PATH: [(200, {"spec": {"target": "a"}})]}, ["--target", "churned"], "names the target 'a'"),
        ({SPEC_PATH: [(200, {"spec": {"target": "b"}})]}, [], "has no column 'b'"),
    ],
)
def test_options_that_contradict_the_file_or_the_model_are_refused_before_the_upload(
    monkeypatch, table, answers, arguments, message
):
    result, uploaded, changes = run_train(monkeypatch, answers, table, *arguments)

    assert result.exit_code == 2
    assert message in result.stderr
    assert (uploaded, changes) == ([], [])


def test_columns_to_leave_out_and_the_id_column_are_recorded_in_the_spec(monkeypatch, table):
    table.write_text("a,b,churned\n1,x,yes\n", encoding="utf-8")
    answers = {SPEC_PATH: [(200, {"spec": {"seed": 3, "columns": {"x": {"role": "ignored"}}}, "changes": []})]}
    arguments = ["--target", "churned", "--ignore", "b", "--id-column", "a", "--schema", "replace"]

    result, uploaded, changes = run_train(monkeypatch, answers, table, *arguments)

    assert result.exit_code == 0, result.output
    assert uploaded == [{"target": "churned", "schema": "replace"}]
    assert [change["spec"] for change in changes] == [
        {"seed": 3, "columns": {"x": {"role": "ignored"}, "b": {"role": "ignored"}}, "id_column": "a"}
    ]


def test_a_target_that_metadata_cannot_hold_is_recorded_in_the_spec(monkeypatch, table):
    table.write_text("a,gekündigt\n1,ja\n", encoding="utf-8")
    answers = {SPEC_PATH: [(200, {"spec": {}, "changes": []})]}

    result, uploaded, changes = run_train(monkeypatch, answers, table, "--target", "gekündigt", "--task", "binary")

    assert result.exit_code == 0, result.output
    assert uploaded == [{"task": "binary"}]
    assert [change["spec"] for change in changes] == [{"target": "gekündigt"}]


def test_the_model_s_own_target_needs_no_option(monkeypatch, table):
    assert run_train(monkeypatch, KNOWN_MODEL, table)[0].exit_code == 0
    assert run_train(monkeypatch, KNOWN_MODEL, table, "--target", "a", "--schema", "replace")[0].exit_code == 0


@pytest.mark.parametrize("delimiter", ["^", "~"])
def test_a_delimiter_that_only_the_spec_names_is_not_refused(monkeypatch, table, delimiter):
    table.write_text(f"a{delimiter}churned\n1{delimiter}yes\n", encoding="utf-8")

    assert run_train(monkeypatch, NO_MODEL, table, "--target", "churned")[0].exit_code == 0
