"""`millrace export`: a version as an MLflow model."""

import hashlib
import json

import pytest
from millrace.layout import version_key
from millrace.manifest import Manifest
from millrace_cli.main import app
from typer.testing import CliRunner

from tests.fakes.fake_api import FakeApi, answer_commands
from tests.registry_builders import NOW, make_version
from tests.serving_models import churn_schema, version_artifacts


class Bucket:
    """The bucket of models, as S3's client has it."""

    def __init__(self):
        self.objects = {}

    def get_object(self, Bucket, Key):
        assert Bucket == "models-bucket"
        return {"Body": self, "key": self.read_next(Key)}

    def read_next(self, key):
        self.body = self.objects[key]

    def read(self):
        return self.body


class Stack:
    """The stack that commands find."""

    is_local = True

    def __init__(self, bucket):
        self.bucket = bucket

    def client(self, service):
        return self.bucket

    def output(self, name):
        return {"ModelsBucketName": "models-bucket"}[name]


@pytest.fixture
def bucket(monkeypatch):
    artifacts = version_artifacts(b"onnx", churn_schema())
    del artifacts["manifest.json"]
    manifest = Manifest.of(make_version(3), artifacts).write()
    bucket = Bucket()
    bucket.objects = {version_key("churn", 3, name): body for name, body in artifacts.items()}
    bucket.objects[version_key("churn", 3, "manifest.json")] = manifest
    version = {
        "model": "churn",
        "version": 3,
        "semantic_version": "1.0.3",
        "run_id": "r",
        "created_at": NOW.isoformat(),
        "manifest_sha256": hashlib.sha256(manifest).hexdigest(),
    }
    api = FakeApi({"/models/churn/versions/champion": [(200, version)]})
    answer_commands(monkeypatch, api, Stack(bucket))
    return bucket


def invoke(*arguments):
    return CliRunner().invoke(app, ["export", *map(str, arguments)])


def test_the_champion_becomes_a_directory_that_mlflow_loads(bucket, tmp_path):
    result = invoke("churn", "champion", "--to", "mlflow", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "mlflow.pyfunc.load_model" in result.stderr
    document = json.loads((tmp_path / "out" / "MLmodel").read_text())
    assert document["metadata"]["millrace"]["version"] == 3
    assert (tmp_path / "out" / "model.onnx").read_bytes() == b"onnx"


def test_a_directory_with_files_is_left_alone(bucket, tmp_path):
    (tmp_path / "mine").write_text("")
    result = invoke("churn", "champion", "--to", "mlflow", tmp_path)
    assert result.exit_code == 2
    assert "is not empty" in result.stderr


def test_a_damaged_version_is_not_exported(bucket, tmp_path):
    bucket.objects[version_key("churn", 3, "model.onnx")] = b"another"
    result = invoke("churn", "champion", "--to", "mlflow", tmp_path / "out")
    assert result.exit_code == 1
    assert "model.onnx of churn version 3 is not what was registered" in result.stderr
    assert not (tmp_path / "out").exists()
