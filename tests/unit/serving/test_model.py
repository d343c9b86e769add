import json
from datetime import UTC, datetime

import pytest
from millrace.errors import ArtifactIntegrityError, ArtifactNotFoundError, VersionNotFoundError
from millrace.serving.model import CaptureRules, Threshold, load_version

from tests.serving_models import MemoryModelSource, churn_onnx, churn_schema, sha256, version_artifacts


@pytest.fixture
def source() -> MemoryModelSource:
    source = MemoryModelSource()
    source.register("churn", 3, version_artifacts(churn_onnx(), churn_schema()))
    return source


def test_a_version_is_loaded_with_its_schema_and_labels(source):
    loaded = load_version(source, "churn", 3)
    assert (loaded.model, loaded.version) == ("churn", 3)
    assert loaded.schema == churn_schema()
    assert loaded.labels == (False, True)
    assert loaded.capture == CaptureRules(1.0, 1_000)


@pytest.mark.parametrize("name", ["manifest.json", "signature.json", "model.onnx"])
def test_one_changed_byte_is_found(source, name):
    body = bytearray(source.versions["churn", 3][name])
    body[len(body) // 2] ^= 1
    source.versions["churn", 3][name] = bytes(body)
    with pytest.raises(ArtifactIntegrityError, match=f"{name} of churn version 3 is not what was registered"):
        load_version(source, "churn", 3)


@pytest.mark.parametrize("name", ["manifest.json", "signature.json", "model.onnx"])
def test_a_missing_artifact_is_named(source, name):
    del source.versions["churn", 3][name]
    with pytest.raises(ArtifactNotFoundError, match=name):
        load_version(source, "churn", 3)


def test_an_unknown_version_is_not_found(source):
    with pytest.raises(VersionNotFoundError):
        load_version(source, "churn", 4)


def test_threshold_capture_rules_and_time_of_registration_are_read(source):
    artifacts = source.versions["churn", 3]
    signature = json.dumps(
        {
            **json.loads(artifacts["signature.json"]),
            "threshold": {"positive_class": "true", "value": 0.3},
            "capture": {"sampling_rate": 0.25, "max_rows": 10},
        }
    )
    manifest = json.loads(artifacts["manifest.json"]) | {"created_at": "2026-05-03T12:00:00+00:00"}
    manifest["artifacts"]["signature.json"]["sha256"] = sha256(signature.encode())
    source.register(
        "churn", 3, artifacts | {"signature.json": signature.encode(), "manifest.json": json.dumps(manifest).encode()}
    )
    loaded = load_version(source, "churn", 3)
    assert loaded.threshold == Threshold(1, 0.3)
    assert loaded.capture == CaptureRules(0.25, 10)
    assert loaded.created_at == datetime(2026, 5, 3, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "threshold",
    [{"positive_class": "maybe", "value": 0.3}, {"value": 1}, 0.5, {"positive_class": "true", "value": "x"}],
)
def test_a_threshold_that_is_none_is_damage(source, threshold):
    artifacts = source.versions["churn", 3]
    signature = json.dumps({**json.loads(artifacts["signature.json"]), "threshold": threshold}).encode()
    manifest = json.loads(artifacts["manifest.json"])
    manifest["artifacts"]["signature.json"]["sha256"] = sha256(signature)
    source.register(
        "churn", 3, artifacts | {"signature.json": signature, "manifest.json": json.dumps(manifest).encode()}
    )
    with pytest.raises(ArtifactIntegrityError):
        load_version(source, "churn", 3)


@pytest.mark.parametrize("manifest", [b"no json", b"[]", b"{}", b'{"artifacts": {"model.onnx": {}}}'])
def test_a_manifest_that_names_no_artifacts_is_damaged(source, manifest):
    source.register("churn", 3, source.versions["churn", 3] | {"manifest.json": manifest})
    with pytest.raises(ArtifactIntegrityError, match="names no model and signature"):
        load_version(source, "churn", 3)


@pytest.mark.parametrize("signature", [b"no json", b"{}", b'{"schema": {"columns": [{"kind": 1}]}}'])
def test_a_signature_without_a_schema_is_damaged(source, signature):
    artifacts = source.versions["churn", 3] | {"signature.json": signature}
    manifest = json.loads(artifacts["manifest.json"])
    manifest["artifacts"]["signature.json"]["sha256"] = sha256(signature)
    source.register("churn", 3, artifacts | {"manifest.json": json.dumps(manifest).encode()})
    with pytest.raises(ArtifactIntegrityError, match="holds no schema"):
        load_version(source, "churn", 3)


@pytest.mark.parametrize("body", [b"", b"no graph", churn_onnx()[:-40]])
def test_a_model_that_onnx_runtime_cannot_open_is_damage(source, body):
    """Serving then falls back to an earlier version, as for any damage, and an evaluation compares with none."""
    source.register("churn", 3, version_artifacts(body, churn_schema()))
    with pytest.raises(ArtifactIntegrityError, match="cannot be opened by ONNX Runtime"):
        load_version(source, "churn", 3)
