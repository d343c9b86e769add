import json
import math
import threading
from datetime import timedelta

import pytest
from millrace.captures import joining
from millrace.captures.delivery import LogBatch, LogEvent, deliver
from millrace.captures.joining import TooManyCapturesError, describe_coverage, read_hours
from millrace.errors import ArtifactNotFoundError, InvalidInputError
from millrace.layout import captures_key

from tests.captured_rows import MODEL, NOON, make_feedback, make_row, store_feedback, store_rows
from tests.fakes.memory_object_store import MemoryObjectStore
from tests.fakes.memory_registry import MemoryRegistryStore
from tests.unit.captures.test_delivery import make_line

DAY, HOUR = timedelta(days=1), timedelta(hours=1)


def test_coverage_is_counted_by_day_and_version():
    store = MemoryObjectStore("data")
    rows = [make_row(number, version=1 + number // 2, predicted_at=NOON + DAY * (number // 2)) for number in range(4)]
    store_rows(store, rows)
    later = NOON + 2 * DAY
    store_feedback(store, [make_feedback(number, received_at=later) for number in (0, 1, 2, 9)])
    document = describe_coverage(MODEL, 72, store, NOON + 3 * DAY)
    assert (document["predictions"], document["labelled"], document["coverage"]) == (4, 3, 0.75)
    assert document["days"] == [
        {"day": "2026-05-03", "predictions": 2, "labelled": 2, "coverage": 1.0},
        {"day": "2026-05-04", "predictions": 2, "labelled": 1, "coverage": 0.5},
    ]
    assert [(part["version"], part["labelled"]) for part in document["versions"]] == [(1, 2), (2, 1)]
    assert (document["feedback"]["records"], document["feedback"]["unmatched"]) == (4, 1)
    assert document["captures"]["kept_share"] == 1.0


def test_without_predictions_there_is_none():
    document = describe_coverage(MODEL, 1, MemoryObjectStore("data"), NOON)
    assert (document["predictions"], document["coverage"], document["days"]) == (0, None, [])


def test_what_cannot_be_read_while_a_caller_waits_is_refused(monkeypatch):
    monkeypatch.setattr(joining, "MAX_BYTES", 100)
    store = MemoryObjectStore("data")
    store_rows(store, [make_row(0)])
    with pytest.raises(InvalidInputError, match="request fewer hours"):
        describe_coverage(MODEL, 24, store, NOON + DAY / 2)


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "many", "", "100000", "\u00b2"])
def test_hours_are_a_whole_number_that_can_be_read(text):
    with pytest.raises(InvalidInputError):
        read_hours(text)
    assert (read_hours(None), read_hours("24")) == (168, 24)


class CountedStore(MemoryObjectStore):
    """Counts its calls; the first ones wait for each other, as calls that are made at once can."""

    def __init__(self, inner: MemoryObjectStore, at_once: int) -> None:
        super().__init__("data")
        self.inner = inner
        self.calls = {"list": 0, "get": 0}
        self.barrier = threading.Barrier(at_once, timeout=60)
        self.lock = threading.Lock()

    def _call(self, kind: str) -> None:
        with self.lock:
            self.calls[kind] += 1
            waits = self.calls[kind] <= self.barrier.parties
        if waits:
            self.barrier.wait()

    def list(self, prefix):
        self._call("list")
        return self.inner.list(prefix)

    def get(self, key, version_id=None):
        self._call("get")
        return self.inner.get(key, version_id)

    def rounds(self, at_once: int) -> int:
        return sum(math.ceil(calls / at_once) for calls in self.calls.values())


def test_a_month_of_predictions_takes_no_more_than_twenty_calls_one_after_another():
    """What took an object for each minute of each stream, 100,000 in all, takes one an hour, read many at once."""
    hours = 744
    store = MemoryObjectStore("data")
    times = [NOON + timedelta(minutes=30, hours=number // 3) for number in range(3 * hours)]
    rows = [make_row(number, predicted_at=timestamp) for number, timestamp in enumerate(times)]
    events = []
    for row in rows:
        line = make_line(0, prediction_id=row.prediction_id.removesuffix("-0"), timestamp=row.predicted_at.isoformat())
        events.append(LogEvent(row.prediction_id, json.dumps(line)))
    delivered = deliver([LogBatch("s", tuple(events))], store, MemoryRegistryStore(), NOON, lambda _: None)
    assert delivered.delivered == {MODEL: len(rows)}
    store_feedback(store, [make_feedback(0, received_at=NOON + DAY), make_feedback(9, received_at=NOON + 2 * DAY)])
    counted = CountedStore(store, at_once=32)
    document = describe_coverage(MODEL, hours, counted, NOON + timedelta(hours=hours))
    assert (document["predictions"], document["labelled"]) == (len(rows), 2)
    assert document["captures"]["objects"] == hours
    assert counted.rounds(joining.READERS) <= 20


def test_as_many_objects_as_are_read_take_no_more_than_twenty_calls_one_after_another():
    store = MemoryObjectStore("data")
    for number in range(joining.MAX_OBJECTS):
        store_rows(store, [make_row(number, predicted_at=NOON + timedelta(minutes=number))], name=f"{number}")
    counted = CountedStore(store, at_once=16)
    assert describe_coverage(MODEL, 24, counted, NOON + DAY)["predictions"] == joining.MAX_OBJECTS
    assert counted.rounds(joining.READERS) <= 20


def test_the_hours_before_those_requested_are_not_listed():
    store = MemoryObjectStore("data")
    for number in range(5_000):  # five pages, earlier on the same day
        store.put(captures_key(MODEL, NOON, f"{number:05}"), b"", "application/gzip")
    store_rows(store, [make_row(1, predicted_at=NOON + 3 * HOUR)])
    assert describe_coverage(MODEL, 1, store, NOON + 3.5 * HOUR)["predictions"] == 1
    with pytest.raises(TooManyCapturesError, match="4000 objects or more"):
        describe_coverage(MODEL, 72, store, NOON + 3.5 * HOUR)


def test_too_many_objects_are_refused_rather_than_read_until_the_time_is_up(monkeypatch):
    monkeypatch.setattr(joining, "MAX_OBJECTS", 5)
    store = MemoryObjectStore("data")
    for number in range(6):
        store_rows(store, [make_row(number)], name=str(number))
    with pytest.raises(InvalidInputError, match=r"in 6 objects.*request fewer hours"):
        describe_coverage(MODEL, 24, store, NOON + DAY / 2)


def test_an_object_that_expires_meanwhile_is_left_out():
    class Expiring(MemoryObjectStore):
        def get(self, key, version_id=None):
            raise ArtifactNotFoundError(key)

    store = Expiring("data")
    store_rows(store, [make_row(0)])
    assert describe_coverage(MODEL, 24, store, NOON + DAY / 2)["predictions"] == 0
