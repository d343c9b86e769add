"""Coverage of ground truth where the captures are too many to read while a caller waits."""

from collections import defaultdict
from datetime import timedelta

import pytest
from millrace.captures.joining import READERS, TooManyCapturesError, describe_coverage
from millrace.layout import captures_key
from millrace.monitoring.state import MonitoringState, OutcomeHistory, Segment, describe_kept_coverage, save_state
from millrace.ports import ListedObject

from tests.captured_rows import MODEL, NOON
from tests.fakes.memory_object_store import WRITTEN_AT, MemoryObjectStore

HOUR = timedelta(hours=1)
PAGE = 1_000


class ManyObjects(MemoryObjectStore):
    """A bucket with an object for each minute and log stream; counts the pages that are listed below each prefix."""

    def __init__(self, objects: int) -> None:
        super().__init__("data")
        minutes = (NOON + timedelta(minutes=number // 10) for number in range(objects))
        self.captured = [captures_key(MODEL, at, f"{at:%M}-{n % 10}") for n, at in enumerate(minutes)]
        self.pages, self.gets = defaultdict(int), 0

    def list(self, prefix):
        for number, key in enumerate(key for key in self.captured if key.startswith(prefix)):
            self.pages[prefix] = number // PAGE + 1
            yield ListedObject(key, 1_000, WRITTEN_AT)

    def get_with_etag(self, key):
        self.gets += 1
        return super().get_with_etag(key)

    def get(self, key, version_id=None):
        if key.startswith("captures/"):
            raise AssertionError("captures are read although they are too many")
        return super().get(key, version_id)


def segment(hour: int, rows: int, labelled: int) -> Segment:
    begin = NOON + hour * HOUR
    return Segment(begin=begin, end=begin + HOUR / 2, key=f"s{hour}", rows=rows, requests=rows, labelled=labelled)


def test_a_hundred_thousand_objects_take_at_most_twenty_calls_one_after_another():
    store = ManyObjects(100_000)  # of seven days
    segments = tuple(segment(hour, rows=600, labelled=150) for hour in range(7 * 24))
    save_state(MODEL, store, MonitoringState(version=3, outcomes=OutcomeHistory(segments=segments)), None)
    now = NOON + 7 * 24 * HOUR
    with pytest.raises(TooManyCapturesError, match="request fewer hours"):
        describe_coverage(MODEL, 7 * 24, store, now)
    document = describe_kept_coverage(MODEL, 7 * 24, store, now)
    assert (document["predictions"], document["labelled"], document["coverage"]) == (100_800, 25_200, 0.25)
    assert document["source"] == "monitoring"
    assert [day["predictions"] for day in document["days"]] == [7_200, *[14_400] * 6, 7_200]
    assert document["versions"] == [{"version": 3, "predictions": 100_800, "labelled": 25_200, "coverage": 0.25}]
    # As many prefixes as there are readers are listed at once, each page after the other.
    listed = sorted(store.pages.values(), reverse=True)
    rounds = sum(listed[::READERS])
    assert rounds + store.gets <= 20


def test_only_the_hours_asked_for_count_and_none_where_monitoring_read_nothing():
    store = MemoryObjectStore("data")
    assert describe_kept_coverage(MODEL, 24, store, NOON) is None
    segments = tuple(segment(hour, rows=10, labelled=hour) for hour in range(3))
    save_state(MODEL, store, MonitoringState(version=1, outcomes=OutcomeHistory(segments=segments)), None)
    document = describe_kept_coverage(MODEL, 1, store, NOON + 3 * HOUR)
    assert (document["predictions"], document["labelled"]) == (10, 2)
    assert describe_kept_coverage(MODEL, 1, store, NOON + 48 * HOUR) is None
