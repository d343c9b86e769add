"""Serving health: each verdict with its threshold, its least sample and its persistence; what training mends of it."""

from datetime import timedelta
from itertools import pairwise

import pytest
from millrace.captures.traffic import TrafficCounts, TrafficHour, record_traffic
from millrace.monitoring.monitor import deliver_alerts
from millrace.monitoring.serving_health import RecordedServing, ServingCounts, find_serving_faults, find_staleness
from millrace.spec import ModelSpec
from millrace.spec.monitoring import ServingHealthRule, StalenessRule
from millrace.triggers.requests import handle_trigger
from millrace.triggers.trigger_events import parse_event

from tests.fakes.memory_pipeline import MemoryPipeline
from tests.fakes.memory_registry import MemoryRegistryStore
from tests.registry_builders import make_dataset
from tests.unit.monitoring.served import MODEL, START, Served
from tests.unit.monitoring.test_monitor import Channel, state_of

HEALTHY = {"errors": 0, "cold_starts": 10, "rows": 2_000, "refused_rows": 0, "latency_ms": 80.0}


def statuses(requests=1_000, watch=None, **counts):
    found = find_serving_faults(ServingCounts(requests, **{**HEALTHY, **counts}), watch or ServingHealthRule())
    return {finding.subject: finding.status for finding in found}


def test_what_is_in_order_is_said_to_be():
    assert statuses() == dict.fromkeys(["errors", "refused rows", "cold starts", "latency"], "ok")


@pytest.mark.parametrize(
    ("subject", "counts"),
    [
        ("errors", {"errors": 40}),
        ("cold starts", {"cold_starts": 400}),
        ("refused rows", {"refused_rows": 600}),
        ("latency", {"latency_ms": 1_001.0}),
    ],
)
def test_each_has_a_threshold_of_its_own(subject, counts):
    found = statuses(**counts)
    assert [name for name, status in found.items() if status == "breach"] == [subject]


def test_what_chance_alone_may_give_is_no_breach():
    # One in a hundred is allowed: three of 150 is twice as much, and happens by chance.
    assert statuses(requests=150, errors=3)["errors"] == "ok"
    assert statuses(requests=100, cold_starts=40)["cold starts"] == "ok"


def test_with_few_requests_nothing_is_known():
    assert statuses(requests=99, errors=99) == {"requests": "unknown"}
    assert statuses(requests=50, errors=50, watch=ServingHealthRule(min_rows=20))["errors"] == "breach"


def test_what_nobody_minds_or_counts_is_not_judged():
    watch = ServingHealthRule(max_cold_start_share=None, max_latency_ms=None, max_refused_share=None)
    assert statuses(watch=watch, cold_starts=1_000) == {"errors": "ok"}
    assert "latency" not in statuses(latency_ms=None)


class Metrics:
    """Stands for :class:`RecordedServing`: what each look finds."""

    def __init__(self, *found):
        self.found = list(found)

    def read(self, model, version, start, end):
        return ServingCounts(1_000, **{**HEALTHY, **self.found.pop(0)})


@pytest.mark.parametrize("fault", [{"errors": 200}, {"cold_starts": 700}])
def test_one_bad_look_tells_nobody_two_of_three_do_and_two_good_ones_end_it(fault):
    served, channel = Served(), Channel()
    metrics = Metrics(fault, {}, {}, fault, fault, {}, {})
    told = []
    for look in range(7):
        served.monitor(look, serving=metrics)
        deliver_alerts(MODEL, served.data, channel, channel)
        told.append(len(channel.events))
    assert told == [0, 0, 0, 0, 1, 1, 2]
    assert [event.detail_type for event in channel.events] == ["ServingDegraded", "IncidentResolved"]
    assert state_of(served).outbox == ()


@pytest.mark.parametrize(
    ("fault", "outcome", "words"),
    [
        (
            {"errors": 200, "cold_starts": 700},
            "skipped",
            "retraining may fix latency, not cold starts or errors",
        ),
        ({"errors": 200, "latency_ms": 3_000.0}, "started", ""),
    ],
)
def test_only_late_answers_start_a_run(fault, outcome, words):
    served, channel, pipeline = (
        Served(ModelSpec.parse({"retraining": {"causes": ["latency"]}})),
        Channel(),
        MemoryPipeline(),
    )
    served.registry.put_dataset(make_dataset("d1"))
    metrics = Metrics(fault, fault)
    for look in range(2):
        served.monitor(look, serving=metrics)
    deliver_alerts(MODEL, served.data, channel, channel)
    (event,) = channel.events
    document = {"source": "millrace", "detail-type": event.detail_type, "detail": event.detail}
    now = START + timedelta(hours=2)
    (result,) = handle_trigger(parse_event(document, now), registry=served.registry, pipeline=pipeline, now=now)
    assert result.outcome == outcome
    assert words in result.reason
    assert ("none: retraining may fix latency" in channel.messages[0][1]) == bool(words)


class TestRecordedServing:
    """Requests as they are recorded, by hour."""

    HOUR = timedelta(hours=1)

    def read(self, versions, start=START, end=START + HOUR, hour=START):
        store = MemoryRegistryStore()
        record_traffic(store, TrafficHour(model=MODEL, hour=hour, versions=versions))
        return RecordedServing(store).read(MODEL, 3, start, end)

    def test_a_version_s_requests_with_failures_whose_version_nobody_knows(self):
        served = TrafficCounts(
            requests=31,
            statuses={"2xx": 20, "4xx": 10, "5xx": 1},
            rows=250,
            refused_rows=50,
            cold_starts=3,
            latencies={24: 19, 39: 1},
            latency_us=1,
        )
        unknown = TrafficCounts(requests=9, statuses={"4xx": 5, "5xx": 4})
        found = self.read({3: served, 2: served, 0: unknown})
        assert found == ServingCounts(25, 5, 3, 250, 50, found.latency_ms)
        assert 64 <= found.latency_ms <= 76.2

    def test_of_a_version_without_requests_nothing_is_known(self):
        refused = TrafficCounts(requests=5, statuses={"4xx": 5})
        assert self.read({2: TrafficCounts(requests=1, statuses={"2xx": 1})}) is None
        assert self.read({3: refused}) is None

    def test_each_hour_counts_in_the_first_run_after_it(self):
        served = {3: TrafficCounts(requests=1, statuses={"2xx": 1})}
        runs = [START + timedelta(minutes=minutes) for minutes in (7, 9, 67, 127, 187)]
        found = [self.read(served, start, end, START) for start, end in pairwise(runs)]
        assert [counts is not None for counts in found] == [False, True, False, False]


def test_busy_traffic_is_written_without_an_exponent():
    [finding] = find_staleness(
        StalenessRule(max_model_age_days=None, max_data_age_days=None),
        START,
        trained_at=None,
        newest_data_at=None,
        last_row_at=START - timedelta(hours=30),
        requests_per_hour=12_345.0,
    )
    assert finding.status == "breach"
    assert "usual are 12,345 requests an hour" in finding.message
