import hashlib

import pytest
from millrace.errors import ArtifactNotFoundError
from millrace.triggers.trigger_events import with_version_id

from tests.fakes.memory_object_store import MemoryObjectStore

KEY = "incoming/churn/may.csv"


def upload_event(body: bytes, **changes: str) -> dict:
    etag = hashlib.md5(body, usedforsecurity=False).hexdigest()
    return {"source": "aws.s3", "detail": {"bucket": {"name": "b"}, "object": {"key": KEY, "etag": etag, **changes}}}


def test_the_version_with_the_events_content_is_named_even_when_a_newer_one_exists():
    store = MemoryObjectStore()
    first = store.upload(KEY, b"a,b\n1,2\n")
    store.upload(KEY, b"a,b\n3,4\n")

    event = with_version_id(upload_event(b"a,b\n1,2\n"), store)

    assert event["detail"]["object"]["version-id"] == first


def test_an_event_that_names_its_version_is_left_as_it_is():
    event = upload_event(b"x", **{"version-id": "v9"})
    assert with_version_id(event, MemoryObjectStore()) == event


def test_other_events_are_left_as_they_are():
    event = {"source": "millrace.schedule", "schedule": "weekly"}
    assert with_version_id(event, MemoryObjectStore()) is event


def test_content_that_is_gone_is_said_to_be_gone():
    with pytest.raises(ArtifactNotFoundError, match=r"may\.csv"):
        with_version_id(upload_event(b"x"), MemoryObjectStore())
