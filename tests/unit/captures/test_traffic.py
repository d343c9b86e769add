from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from millrace.captures.records import CountedRequest
from millrace.captures.traffic import (
    TrafficCounts,
    TrafficHour,
    add_counts,
    count_arms,
    count_difference,
    count_requests,
    read_traffic,
    record_traffic,
)

from tests.fakes.memory_registry import MemoryRegistryStore

HOUR = datetime(2026, 11, 29, 22, tzinfo=UTC)


def count(status: int = 200, latency_ms: float = 0.0, **changes) -> TrafficCounts:
    """Return the counts of one request."""
    empty = {"rows": 0, "refused_rows": 0, "cold_start": False}
    request = CountedRequest(request="r", version=2, status=status, latency_ms=latency_ms, **(empty | changes))
    return count_requests([request])[2]


def make_hour(requests: int = 1, hour: datetime = HOUR, **changes) -> TrafficHour:
    counts = add_counts([count(200, 12.5, rows=3)] * requests)
    return TrafficHour(**{"model": "churn", "hour": hour, "versions": {2: counts}} | changes)


def test_what_is_recorded_is_read():
    store = MemoryRegistryStore()
    versions = {
        0: count(503, 2.0),
        2: count(200, 3.25, rows=10, refused_rows=4, cold_start=True) + count(422),
    }
    assert record_traffic(store, make_hour(versions=versions))
    (found,) = read_traffic(store, "churn", HOUR, HOUR + timedelta(hours=1))
    assert found == make_hour(versions=versions)
    assert (found.total.requests, found.total.errors, found.total.refused, found.total.cold_starts) == (3, 1, 1, 1)
    assert found.versions[2].mean_latency_ms == pytest.approx(3.25)


def test_bad_events_of_a_candidate_are_counted_by_group_of_keys():
    def of(number: int, status: int = 200, latency_ms: float = 1.0, **more) -> CountedRequest:
        about = {"release": "r", "stage": 1, "arm": "candidate", **more}
        return CountedRequest(str(number), 2, status, latency_ms, 1, 0, False, **about)

    requests = [
        of(1, 500, group=256),
        of(2, 500, group=256),
        of(3, fallback="not_finite", group=9),
        of(4, fallback="error", group=9),  # the champion answered it, so it is not the caller's
        of(5, 400, group=9),
        of(6, latency_ms=100.0, group=41),
        of(7, latency_ms=100.0),  # of an earlier release
    ]
    store = MemoryRegistryStore()
    record_traffic(store, make_hour(arms=count_arms(requests)))
    (found,) = read_traffic(store, "churn", HOUR, HOUR + timedelta(hours=1))
    counts = found.arms["r/1/candidate"]
    assert counts.groups == {"5xx": {256: 2}, "not_finite": {9: 1}}
    assert counts.slower_by_group(50.0) == {9: 1}
    assert counts.slower_by_group(0.1) == {9: 3}
    assert sum(counts.latencies.values()) == 4
    twice = counts + counts
    assert (twice.groups, twice.slower_by_group(50.0)) == ({"5xx": {256: 4}, "not_finite": {9: 2}}, {9: 2})
    since = count_difference(twice, counts)
    assert (since.groups, since.latency_groups) == (counts.groups, counts.latency_groups)
    assert count_difference(counts, counts).groups == {}
    assert count_requests(requests)[2].groups == {}


def test_counts_of_an_hour_never_fall():
    store = MemoryRegistryStore()
    assert [record_traffic(store, make_hour(n)) for n in (2, 5, 3, 5)] == [True, True, False, False]
    assert read_traffic(store, "churn", HOUR, HOUR + timedelta(minutes=1))[0].total.requests == 5


def test_the_hours_that_a_span_touches():
    store = MemoryRegistryStore()
    for hours in range(-2, 3):
        record_traffic(store, make_hour(hour=HOUR + timedelta(hours=hours)))
    record_traffic(store, make_hour(model="other"))

    def read(since: float, until: float) -> list[int]:
        found = read_traffic(store, "churn", HOUR + timedelta(hours=since), HOUR + timedelta(hours=until))
        return [(one.hour - HOUR) // timedelta(hours=1) for one in found]

    assert read(0, 1) == [0]
    assert read(-0.5, 1.5) == [-1, 0, 1]
    assert read(0.5, 0.5) == [0]
    assert read(-9, 9) == [-2, -1, 0, 1, 2]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0.3, 30_000), min_size=1, max_size=50), st.sampled_from([0.05, 0.5, 0.95, 0.99]))
def test_a_quantile_is_at_most_a_bin_off(latencies, share):
    counts = add_counts(count(200, one) for one in latencies)
    exact = sorted(latencies)[max(0, -int(-share * len(latencies) // 1) - 1)]
    assert exact / 1.2 <= counts.latency_quantile(share) <= exact * 1.2
    assert counts.mean_latency_ms == pytest.approx(sum(latencies) / len(latencies), abs=0.001)


@pytest.mark.parametrize("latency", [0.0, 0.01, 1e9])
def test_latencies_beyond_the_bins_count_in_the_outer_ones(latency):
    assert count(200, latency).latency_quantile(0.5) is not None


def test_failed_requests_have_no_latency():
    failed = count(500, 9_000.0)
    assert (failed.latency_quantile(0.5), failed.mean_latency_ms, failed.errors) == (None, None, 1)
