from datetime import UTC, datetime, timedelta

import pytest
from millrace.captures.activity import list_activity, mark_activity

from tests.fakes.memory_registry import MemoryRegistryStore

NOW = datetime(2026, 5, 3, 10, 20, tzinfo=UTC)
HOUR = timedelta(hours=1)


class Counting(MemoryRegistryStore):
    writes = 0

    def write(self, change):
        self.writes += 1
        return super().write(change)


@pytest.fixture
def store():
    return Counting()


def active(store, since):
    return [activity.model for activity in list_activity(store) if activity.is_active(since)]


def test_an_environment_writes_once_a_model_kind_and_hour(store):
    memory = {}
    for minutes in (0, 5, 39):
        mark_activity(store, ["churn", "price", "churn"], "traffic", NOW + timedelta(minutes=minutes), memory)
    assert store.writes == 2
    mark_activity(store, ["churn"], "feedback", NOW, memory)
    mark_activity(store, ["churn"], "traffic", NOW + HOUR, memory)
    assert store.writes == 4


@pytest.mark.parametrize("kind", ["traffic", "feedback"])
def test_a_model_is_active_until_a_run_began_after_its_hour(store, kind):
    mark_activity(store, ["churn"], kind, NOW, {})
    begun_in_the_hour, begun_after_it = NOW + timedelta(minutes=39), NOW.replace(minute=7) + HOUR
    assert active(store, NOW - HOUR) == ["churn"]
    assert active(store, begun_in_the_hour) == ["churn"], "more may have come later in that hour"
    assert active(store, begun_after_it) == []


def test_a_slow_environment_does_not_set_the_hour_back(store):
    mark_activity(store, ["churn"], "traffic", NOW + HOUR, {})
    mark_activity(store, ["churn"], "traffic", NOW, {})
    (activity,) = list_activity(store)
    assert activity.traffic_until == NOW.replace(hour=12, minute=0)


def test_a_failed_write_is_tried_again(store, monkeypatch):
    memory = {}
    with monkeypatch.context() as patch:
        patch.setattr(store, "transact", lambda changes: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            mark_activity(store, ["churn"], "traffic", NOW, memory)
    mark_activity(store, ["churn"], "traffic", NOW, memory)
    assert active(store, NOW) == ["churn"]


def test_both_kinds_are_in_one_item(store):
    mark_activity(store, ["churn", "price"], "traffic", NOW, {})
    mark_activity(store, ["churn"], "feedback", NOW + HOUR, {})
    found = {one.model: (one.traffic_until, one.feedback_until) for one in list_activity(store)}
    assert found == {
        "churn": (NOW.replace(hour=11, minute=0), NOW.replace(hour=12, minute=0)),
        "price": (NOW.replace(hour=11, minute=0), None),
    }
