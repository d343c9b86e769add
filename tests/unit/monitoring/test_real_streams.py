"""Streams of real bike rentals: hours and weekdays in which nothing changes, and a shift among them.

``tests/samples/bike`` has every fourth day of ``hour.csv`` (Fanaee-T and Gama 2014, CC BY 4.0).
``benchmarks/monitoring/real_streams.py`` runs streams of all rows, and longer ones.
"""

import csv
import gzip
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import numpy as np
from millrace.data.reference import describe_reference
from millrace.histograms.predictions import Traffic
from millrace.histograms.tables import Reference, count_in_bins
from millrace.monitoring.context import MonitorContext, MonitoredVersion
from millrace.monitoring.incidents import IncidentHistory, advance
from millrace.monitoring.state import OpenWindow, TrafficHistory
from millrace.monitoring.windows import add_traffic, close_traffic_window
from millrace.schema import Column, TableSchema
from millrace.spec import ModelSpec

from tests.fakes.memory_object_store import MemoryObjectStore

SAMPLE = Path(__file__).parents[2] / "samples" / "bike" / "hours.csv.gz"
MONDAY = datetime(2026, 1, 5, tzinfo=UTC)
HOUR = timedelta(hours=1)
FEATURES = ("hr", "weekday", "workingday", "temp", "hum")
WEEKLY_RULES = {name: {"enabled": False} for name in ("estimated_quality", "live_quality", "staleness")}


@cache
def bike():
    rows = list(csv.DictReader(gzip.decompress(SAMPLE.read_bytes()).decode().splitlines()))
    dates = np.array([row["dteday"] for row in rows], dtype="datetime64[D]")
    columns = {name: np.array([float(row[name]) for row in rows]) for name in FEATURES}
    columns["dteday"] = dates.astype("datetime64[us]")
    slots = (dates.astype(np.int64) + 3) % 7 * 24 + columns["hr"].astype(np.int64)
    return columns, [np.flatnonzero(slots == slot) for slot in range(168)]


@cache
def monitored():
    columns, _ = bike()
    features = (Column(name, "datetime" if name == "dteday" else "number") for name in columns)
    target = Column("target", "category", role="target", categories=("no", "yes"))
    schema = TableSchema(columns=(*features, target), task="binary", classes=("no", "yes"))
    rows = np.sort(np.random.default_rng(0).permutation(len(columns["hr"]))[:3_000])
    document = describe_reference(schema, {name: values[rows] for name, values in columns.items()}, rows % 2)
    return schema, MonitoredVersion("binary", ("no", "yes"), Reference.build(document, schema))


def run(days, *, rate=20, shift=lambda _: 0.0, missed=(), watch=lambda _hour, _findings: None):
    """Draw each hour's rows from all of that weekday and hour; return incidents' steps, in hours, and the state.

    In ``missed`` hours nothing monitors.
    """
    (schema, version), (columns, slots) = monitored(), bike()
    reference, store = version.reference, MemoryObjectStore("data")
    history, incidents, steps, draw = TrafficHistory(), IncidentHistory(), [], np.random.default_rng(3)
    spec = ModelSpec.parse({"monitoring": WEEKLY_RULES})
    for hour in range(24 * days):
        chosen = draw.choice(slots[hour % 168], rate)
        now = {name: values[chosen] for name, values in columns.items()}
        now["hum"] = now["hum"] + shift(hour)
        traffic = Traffic(features=count_in_bins(now, rate, reference.bins, reference.plan))
        since = MONDAY + hour * HOUR
        piece = OpenWindow(traffic=traffic, begin=since, end=since + HOUR - timedelta(seconds=1))
        history = add_traffic(history, piece, version)
        if hour in missed:
            continue
        context = MonitorContext("bike", spec, 1, schema, version, "", store, since + HOUR, str(hour))
        history, found = close_traffic_window(context, history)
        if found is None:
            continue
        watch(hour, found.findings)
        incidents, transitions = advance(
            incidents,
            found.findings,
            spec.monitoring,
            model="bike",
            version=1,
            window=(found.begin, since + HOUR),
            repeat_after=24 * HOUR,
            begun_at=history.begun_at,
        )
        steps += [(hour, one.step) for one in transitions if one.step != "persists"]
    return steps, incidents, history


def test_hours_and_weekdays_are_no_drift_from_the_first_window_on():
    steps, incidents, history = run(10)
    assert not [key for one in incidents.incidents.values() for key in one.findings if key.endswith(("hr", "day"))]
    assert not incidents.open_incidents()
    assert {"hr", "weekday", "workingday"} == {name for name, share in history.clock_shares.items() if share >= 0.5}
    assert not [hour for hour, step in steps if step == "opened" and hour > 24 * 7]
    assert len(history.totals) == 24 * 10, "hours are kept apart, also in windows of ten hours"
    assert history.begun_at == MONDAY


def test_a_shift_among_hours_and_weekdays_is_one_incident_that_lasts():
    steps, incidents, _ = run(14, shift=lambda hour: 0.2 * (hour >= 24 * 8))
    after = [(hour, step) for hour, step in steps if hour >= 24 * 8]
    assert [step for _, step in after] == ["opened"]
    assert after[0][0] < 24 * 10
    (incident,) = incidents.open_incidents()
    assert "feature_drift:hum" in incident.findings


def test_missed_runs_after_the_first_week_do_not_begin_it_again():
    """The rows of a week ago were read with those of later hours, so that no week ends there."""
    waiting = []

    def watch(hour, findings):
        waiting.extend(hour for one in findings if "follow the clock" in one.message)

    steps, incidents, history = run(17, missed={24 * 8 + hour for hour in range(48) if hour % 3}, watch=watch)
    assert max(waiting) < 24 * 7
    assert not [hour for hour, step in steps if step == "opened" and hour > 24 * 7]
    assert not incidents.open_incidents()
    assert history.period_seen == "week"
    assert not history.skewed
