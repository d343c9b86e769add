"""The calls of a monitoring run, and those that its cost is calculated from."""

from collections import Counter

import pytest
from millrace.cost.arithmetic import ASSUMED

from tests.unit.monitoring.served import Served

READS = ("get", "get_with_etag", "head")
WRITES = ("put", "put_if_unchanged", "list")


def count_calls(monkeypatch, served):
    calls = Counter()

    def count(owner, name, kind):
        original = getattr(owner, name)

        def call(*arguments, **options):
            calls[kind] += 1
            return original(*arguments, **options)

        monkeypatch.setattr(owner, name, call)

    for store in (served.data, served.models):
        for name in READS:
            count(store, name, "monitoring_reads")
        for name in WRITES:
            count(store, name, "monitoring_writes")
    for name in ("get", "query"):
        count(served.registry.store.store, name, "monitoring_item_reads")
    return calls


def test_an_hour_with_requests_takes_the_calls_that_are_assumed(monkeypatch):
    served = Served()
    for hour in range(3):
        served.capture(hour)
        served.monitor(hour + 1)
    calls = count_calls(monkeypatch, served)
    served.capture(3, feedback=True)
    served.monitor(4)
    assumed = {name: getattr(ASSUMED, name) for name in calls}
    assert dict(calls) == pytest.approx(assumed, rel=0.25)
