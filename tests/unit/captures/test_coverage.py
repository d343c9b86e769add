from datetime import timedelta

import pytest
from millrace.captures import joining
from millrace.captures.joining import describe_coverage, read_hours
from millrace.errors import InvalidInputError

from tests.captured_rows import MODEL, NOON, make_feedback, make_row, store_feedback, store_rows
from tests.fakes.memory_object_store import MemoryObjectStore

DAY = timedelta(days=1)


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
