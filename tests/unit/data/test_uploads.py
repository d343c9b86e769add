"""What a folder's marker or manifest stands for: exactly which bytes, or what is wrong."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from millrace.data.read import DEFAULT_LIMITS, UploadLimits
from millrace.data.uploads import Upload, find_upload
from millrace.entities import Source

from tests.fakes.memory_object_store import MemoryObjectStore

NOON = datetime(2026, 5, 3, 12, tzinfo=UTC)
FOLDER = "incoming/churn/may/"


@pytest.fixture
def store() -> MemoryObjectStore:
    return MemoryObjectStore()


def put(store: MemoryObjectStore, name: str, body: bytes = b"a,label\n1,0\n", minute: int = 0, **metadata: str) -> str:
    return store.upload(FOLDER + name, body, metadata, NOON + timedelta(minutes=minute))


def found(store: MemoryObjectStore, name: str, limits: UploadLimits = DEFAULT_LIMITS) -> Upload:
    version = store.head(FOLDER + name).version_id
    return find_upload(Source("bucket", FOLDER + name, version, NOON), store, limits)


def manifest(*entries: object) -> bytes:
    return json.dumps({"entries": [{"url": entry} if isinstance(entry, str) else entry for entry in entries]}).encode()


def checks(upload: Upload) -> list[tuple[str, str]]:
    return [(finding.severity, finding.check) for finding in upload.findings]


def test_a_file_is_an_upload_of_its_own(store):
    store.upload("incoming/churn/may.csv", b"x", {"Target": "label"})
    upload = find_upload(Source("bucket", "incoming/churn/may.csv", "v1", NOON), store, DEFAULT_LIMITS)
    assert [(file.name, file.version_id) for file in upload.files] == [("may.csv", "v1")]
    assert (upload.folder, upload.metadata, upload.findings) == (None, {"target": "label"}, ())


def test_a_marker_stands_for_the_folder_in_the_order_of_names(store):
    for name in (
        "part-1.csv",
        "b/part-0.csv",
        "part-0.csv",
        "_committed_1",
        ".part-0.csv.crc",
        "_temporary/0/part-9.csv",
    ):
        put(store, name)
    put(store, "_SUCCESS", b"", 1, target="label")
    upload = found(store, "_SUCCESS")
    assert [file.name for file in upload.files] == ["b/part-0.csv", "part-0.csv", "part-1.csv"]
    assert (upload.folder, upload.metadata, upload.findings) == (FOLDER, {"target": "label"}, ())


def test_a_marker_pins_the_versions_of_its_moment(store):
    put(store, "part-0.csv", b"old", 0)
    put(store, "part-1.csv", b"gone before", 0)
    store.delete([FOLDER + "part-1.csv"], NOON + timedelta(minutes=1))
    put(store, "_SUCCESS", b"", 2)
    put(store, "part-0.csv", b"new", 3)
    put(store, "part-2.csv", b"late", 3)
    upload = found(store, "_SUCCESS")
    assert [(file.name, file.version_id, file.size) for file in upload.files] == [("part-0.csv", "v1", 3)]
    assert checks(upload) == [("warning", "changed_file")]
    assert "'part-0.csv', 'part-2.csv' changed after the marker" in upload.findings[0].message


def test_a_file_that_was_deleted_after_the_marker_is_still_what_it_was(store):
    put(store, "part-0.csv", b"abc")
    put(store, "_SUCCESS", b"", 1)
    store.delete([FOLDER + "part-0.csv"], NOON + timedelta(minutes=2))
    assert [file.version_id for file in found(store, "_SUCCESS").files] == ["v1"]


def test_times_that_are_told_to_the_second_do_not_lose_a_file(store, monkeypatch):
    store.upload(FOLDER + "part-0.csv", b"abc", {}, NOON + timedelta(milliseconds=300))
    store.upload(FOLDER + "_SUCCESS", b"", {}, NOON + timedelta(milliseconds=800))
    head = store.head
    monkeypatch.setattr(store, "head", lambda *key: replace(head(*key), last_modified=NOON))
    upload = found(store, "_SUCCESS")
    assert [file.name for file in upload.files] == ["part-0.csv"]
    assert upload.findings == ()


def test_an_empty_folder_is_told(store):
    put(store, "_SUCCESS", b"")
    assert checks(found(store, "_SUCCESS")) == [("error", "no_files")]


def test_a_manifest_names_its_files_and_no_others(store):
    put(store, "old.csv")
    version = put(store, "part-1.csv", b"12345")
    put(store, "part-1.csv", b"changed", 1)
    put(store, "part-0.csv", b"12345")
    entries = (
        {"url": f"s3://bucket/{FOLDER}part-1.csv", "version_id": version, "meta": {"content_length": 5}},
        {"url": "part-0.csv", "mandatory": True, "meta": {"content_length": 5, "record_count": 2}},
        {"url": "perhaps.csv", "mandatory": False},
    )
    put(store, "manifest.json", manifest(*entries), 2)
    upload = found(store, "manifest.json")
    assert [(file.name, file.version_id) for file in upload.files] == [("part-0.csv", "v1"), ("part-1.csv", version)]
    assert checks(upload) == [("warning", "missing_file")]


@pytest.mark.parametrize(
    ("body", "check", "told"),
    [
        (manifest("part-0.csv", "part-7.csv"), "missing_file", "'part-7.csv', which the manifest names, is not there"),
        (manifest({"url": "part-0.csv", "meta": {"content_length": 99}}), "changed_file", "the manifest says 99"),
        (manifest("part-0.csv", "part-0.csv"), "manifest", "names 'part-0.csv' twice"),
        (manifest("../other/part-0.csv"), "manifest", "outside its folder"),
        (manifest("s3://elsewhere/incoming/churn/may/part-0.csv"), "manifest", "outside its folder"),
        (manifest("s3://bucket/incoming/iris/part-0.csv"), "manifest", "outside its folder"),
        (manifest(), "manifest", "the manifest is invalid"),
        (b"not json", "manifest", "the manifest is invalid"),
        (b"[]", "manifest", "the manifest is invalid"),
        (manifest({"url": "no.csv", "mandatory": False}), "missing_file", "optional"),
        (b" " * 1_000_001, "manifest", "1,000,000 bytes"),
    ],
)
def test_what_is_wrong_with_a_manifest_is_told(store, body, check, told):
    put(store, "part-0.csv")
    put(store, "manifest", body, 1)
    upload = found(store, "manifest")
    assert upload.findings[0].check == check
    assert told in upload.findings[0].message


def test_partition_folders_would_lose_a_column(store):
    put(store, "day=2026-05-01/part-0.csv")
    put(store, "_SUCCESS", b"", 1)
    upload = found(store, "_SUCCESS")
    assert checks(upload) == [("error", "partitions")]
    assert upload.findings[0].column == "day"


def test_files_are_measured_together(store):
    for number in range(3):
        put(store, f"part-{number}.csv", b"x" * 400_000)
    put(store, "_SUCCESS", b"", 1)
    assert checks(found(store, "_SUCCESS", UploadLimits(max_bytes=1_000_000))) == [("error", "too_large")]


def test_a_folder_of_very_many_files_is_told(store):
    for number in range(501):
        put(store, f"part-{number}.csv", b"")
    put(store, "_SUCCESS", b"", 1)
    assert checks(found(store, "_SUCCESS")) == [("error", "too_many_files")]
