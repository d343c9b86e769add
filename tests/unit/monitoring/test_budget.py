"""Budgets: from the cost of a month to one incident, and its end."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from millrace.captures.traffic import TrafficCounts, TrafficHour, record_traffic
from millrace.cost.statement import ModelMonth
from millrace.monitoring.monitor import deliver_alerts
from millrace.monitoring.report import MonitoringReport
from millrace.monitoring.serving_health import find_overspending
from millrace.spec import ModelSpec

from tests.unit.monitoring.served import MODEL, START, Served
from tests.unit.monitoring.test_monitor import Channel

#: Hours from START to the end of its month.
JUNE = (datetime(2026, 6, 1, tzinfo=UTC) - START) / timedelta(hours=1)
#: Staleness has incidents of its own.
QUIET = {"monitoring": {"staleness": {"enabled": False}}}


def make_spec(**budget):
    return ModelSpec.parse({"budget": budget, **QUIET} if budget else QUIET)


def spend(served, hour, requests):
    """Requests that cost about 4.35 USD a million."""
    counts = TrafficCounts(requests=requests, rows=requests, latency_us=requests * 5_000)
    hour = START + timedelta(hours=hour)
    record_traffic(served.registry.store, TrafficHour(model=MODEL, hour=hour, versions={1: counts}))


def events(served, channel, hour):
    before = len(channel.events)
    served.monitor(hour)
    deliver_alerts(MODEL, served.data, channel, channel)
    return [event.detail_type for event in channel.events[before:]]


def test_each_limit_is_reported_once_and_a_new_month_resolves_both():
    served, channel = Served(make_spec(usd_a_month=4.6)), Channel()
    spend(served, 0, 400_000)
    assert events(served, channel, 1) == []
    spend(served, 1, 500_000)
    assert events(served, channel, 2) == ["BudgetAtRisk"]
    assert events(served, channel, 3) == []
    spend(served, 3, 300_000)
    assert events(served, channel, 4) == ["BudgetExceeded"]
    assert events(served, channel, 5) == []
    assert events(served, channel, JUNE) == ["IncidentResolved", "IncidentResolved"]
    subjects = [subject for subject, _ in channel.messages]
    assert subjects[:2] == ["[open] churn: budget nearly spent", "[open] churn: budget spent"]
    text = channel.messages[1][1]
    assert re.search(r"2026-05 has cost \d\.\d\d USD so far, 1\d\d% of the budget of 4\.60", text)
    assert "Captured rows" not in text
    assert "millrace cost" in text


def test_a_model_without_a_budget_is_unaffected():
    served, channel = Served(make_spec()), Channel()
    spend(served, 0, 100_000_000)
    assert events(served, channel, 1) == []
    served.capture(1)
    served.monitor(2)
    report = MonitoringReport.read(served.data.get("monitoring/churn/reports/latest.json"))
    assert not {"budget", "budget_warning"} & {verdict.verdict for verdict in report.verdicts}


@pytest.mark.parametrize("after", [{"usd_a_month": 50.0}, {}], ids=["raised", "removed"])
def test_another_budget_ends_the_incident(after):
    served, channel = Served(make_spec(usd_a_month=1.0)), Channel()
    spend(served, 0, 1_000_000)
    assert events(served, channel, 1) == ["BudgetExceeded", "BudgetAtRisk"]
    served.registry.put_spec(MODEL, make_spec(**after))
    assert events(served, channel, 2) == ["IncidentResolved", "IncidentResolved"]


def month(usd, *, days=10.0, forecast=None):
    empty = (None,) * 4
    return ModelMonth("churn", "2026-05", 1, 0, *empty, usd, forecast, days, is_complete=True, is_deleted=False)


@pytest.mark.parametrize(
    ("usd", "days", "forecast", "status"),
    [
        (15.9, 10.0, 15.9, ("ok", "ok")),
        (16.0, 10.0, None, ("ok", "breach")),
        (20.0, 10.0, 60.0, ("breach", "breach")),
        (9.0, 10.0, 27.0, ("ok", "breach")),  # at this rate
        (9.0, 6.9, 40.0, ("ok", "ok")),  # a week has every weekday
    ],
)
def test_limits(usd, days, forecast, status):
    found = find_overspending(month(usd, days=days, forecast=forecast), make_spec(usd_a_month=20.0))
    assert tuple(finding.status for finding in found) == status


def test_a_held_back_retraining_is_part_of_the_message():
    [budget, _] = find_overspending(month(30.0), make_spec(usd_a_month=20.0, hold_retraining=True))
    assert budget.message == (
        "2026-05 has cost 30.00 USD so far, 150% of the budget of 20.00; automatic runs are held back until it ends"
    )
    [within, _] = find_overspending(month(3.0), make_spec(usd_a_month=20.0, hold_retraining=True))
    assert "held back" not in within.message


def test_rules_can_be_turned_off_or_moved():
    spec = ModelSpec.parse(
        {"budget": 20, "monitoring": {"budget": {"enabled": False}, "budget_warning": {"threshold": 0.5}}}
    )
    [warning] = find_overspending(month(10.0), spec)
    assert (warning.verdict, warning.status, warning.threshold) == ("budget_warning", "breach", 0.5)


def test_a_budget_is_checked_once_a_day():
    midnight = START + timedelta(days=1)
    for budget, is_early in (({"usd_a_month": 20.0}, True), ({}, False)):
        outcome = Served(make_spec(**budget)).monitor(1, is_active=False)
        assert (outcome.next_check_at == midnight) == is_early
