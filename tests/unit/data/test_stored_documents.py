"""Documents that the release before wrote are read, and what is written is read again."""

import json
from pathlib import Path

import pytest
from millrace.data.dataset_documents import DatasetManifest, DatasetProfile, PreparedManifest, ValidationDocument

SAMPLES = Path(__file__).parents[2] / "samples" / "f0571cb"
DOCUMENTS = {
    "dataset_manifest.json": DatasetManifest,
    "dataset_profile.json": DatasetProfile,
    "dataset_validation.json": ValidationDocument,
    "prepared_manifest.json": PreparedManifest,
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_fact_of_the_release_before_is_read(name):
    stored = json.loads((SAMPLES / name).read_text(encoding="utf-8"))
    document = DOCUMENTS[name].read(stored)
    written = json.loads(document.write())
    versions = {"format_version", "manifest_version", "profile_version"}
    known = {key: value for key, value in stored.items() if key not in versions}
    assert {key: value for key, value in written.items() if key not in versions} == known
    assert DOCUMENTS[name].read(document.write()) == document


def test_a_profile_is_typed():
    profile = DatasetProfile.read((SAMPLES / "dataset_profile.json").read_bytes())
    age = profile.column("age")
    assert sum(age.bins.counts) + age.missing == profile.rows
    assert profile.column("plan").top[0].count > 0
    assert profile.column("nothing") is None
