import json

import pytest
from millrace.names import make_cause_id
from millrace_cli.commands import train as train_command
from millrace_cli.errors import RefusedError
from millrace_cli.main import app
from millrace_cli.run_progress import Snapshot
from millrace_cli.upload import check_upload, upload_table
from typer.testing import CliRunner

from tests.fakes.fake_api import FakeApi, answer_commands


class FakeS3:
    def __init__(self):
        self.objects = {}

    def put_object(self, *, Bucket, Key, Body, Metadata):  # noqa: N803  # boto3's own names
        self.objects[Bucket, Key] = (Body if isinstance(Body, bytes) else Body.read(), Metadata)
        return {"VersionId": "v1"}


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
        ("running", "awaiting_approval", 0),
    ],
)
def test_train_ends_as_its_run_did(monkeypatch, table, status, stage, exit_code):
    class FakeTarget:
        def client(self, service):
            return FakeS3()

        def output(self, name):
            return "data"

    snapshot = Snapshot(
        "churn", "started", run_id="r", run={"status": status, "stage": stage, "reasons": ["because of this"]}
    )
    answer_commands(monkeypatch, FakeApi({}), FakeTarget())
    monkeypatch.setattr(train_command, "watch_uploads", lambda *_: {"churn": snapshot})

    result = CliRunner().invoke(app, ["train", "churn", str(table)])

    assert result.exit_code == exit_code
    assert "because of this" in result.stdout
    assert ("awaiting approval" in result.stdout) == (stage == "awaiting_approval")
    assert ("millrace approve churn r" in result.stderr) == (stage == "awaiting_approval")
