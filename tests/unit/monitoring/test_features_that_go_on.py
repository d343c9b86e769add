"""Streams of dates, counters, months and constants: what merely goes on is no fault, and no number is invented."""

import re
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from millrace.data.reference import describe_reference
from millrace.histograms.predictions import Traffic
from millrace.histograms.tables import Reference, count_in_bins
from millrace.monitoring.context import Baselines, MonitoredVersion
from millrace.monitoring.incidents import IncidentHistory, advance
from millrace.monitoring.rules import evaluate_traffic
from millrace.quantities import format_number, format_range
from millrace.schema import Column, TableSchema
from millrace.spec.data import ColumnSpec
from millrace.spec.monitoring import MonitoringSpec
from scipy.stats import spearmanr

SPEC = MonitoringSpec()
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
DAY = 86_400.0
EXPONENT = re.compile(r"\de[+-]?\d")


def make_schema(**types):
    features = tuple(Column(name, kind) for name, kind in types.items())
    target = Column("target", "category", role="target", categories=("no", "yes"))
    return TableSchema(columns=(*features, target), task="binary", classes=("no", "yes"))


def as_stored(columns, schema):
    types = {column.name: column.type for column in schema.features}
    return {
        name: values.astype("datetime64[s]") if types[name] == "datetime" else values.astype(np.float64)
        for name, values in columns.items()
    }


def train(columns, **types):
    schema = make_schema(**types)
    target = np.arange(len(next(iter(columns.values())))) % 2
    reference = Reference.build(describe_reference(schema, as_stored(columns, schema), target), schema)
    return schema, MonitoredVersion("binary", ("no", "yes"), reference)


def evaluate(trained, columns, baselines=None):
    schema, monitored = trained
    reference = monitored.reference
    rows = len(next(iter(columns.values())))
    counted = count_in_bins(as_stored(columns, schema), rows, reference.bins, reference.plan)
    return evaluate_traffic(Traffic(features=counted), monitored, SPEC, baselines or Baselines())


def breaches(findings):
    return {finding.key for finding in findings if finding.status == "breach"}


def at(days, rows, seed=0):
    """Seconds since 1970 of rows within the days after BEGIN."""
    draw = np.random.default_rng(seed)
    return BEGIN.timestamp() + DAY * draw.uniform(*days, rows)


def everything(days, rows, seed=0):
    """Columns that a clock moves, as they are at the times of the rows."""
    seconds = np.sort(at(days, rows, seed))
    elapsed = (seconds - BEGIN.timestamp()) / DAY
    timestamps = seconds.astype("datetime64[s]")
    return {
        "ordered_on": seconds,
        "counter": np.floor(elapsed * 40.0),
        "month": timestamps.astype("datetime64[M]").astype(int) % 12 + 1,
        "year": timestamps.astype("datetime64[Y]").astype(int) + 1970,
        "tenure": np.floor(np.random.default_rng(seed + 1).uniform(0, 300, rows) + elapsed / 30.0),
        "version": np.full(rows, 3.0),
    }


TYPES = {"ordered_on": "datetime"} | dict.fromkeys(("counter", "month", "year", "tenure", "version"), "integer")
TRAINED = train(everything((0, 181), 4_000), **TYPES)


@settings(max_examples=25, deadline=None)
@given(start=st.integers(182, 330), length=st.sampled_from([0.05, 1, 12]), seed=st.integers(0, 99))
def test_what_merely_goes_on_is_no_fault_of_the_data(start, length, seed):
    found = evaluate(TRAINED, everything((start, start + length), 400, seed))
    assert not [key for key in breaches(found) if key.startswith("data_quality")]
    assert not [key for key in breaches(found) if "ordered_on" in key]


@pytest.mark.parametrize("start", [30, 58.5, 150.7])
def test_a_date_within_the_range_of_training_has_no_correlation_either(start):
    found = evaluate(TRAINED, everything((start, start + 7), 400))
    assert not [key for key in breaches(found) if "ordered_on" in key]


def test_a_year_of_streams_opens_no_incident_of_data_quality():
    history, opened = IncidentHistory(), []
    for day in range(182, 360, 3):
        findings = evaluate(TRAINED, everything((day, day + 1), 400, day), Baselines(first=day == 182))
        begin = BEGIN + timedelta(days=day)
        window, repeat = (begin, begin + timedelta(days=1)), timedelta(days=1)
        history, steps = advance(history, findings, SPEC, model="m", version=1, window=window, repeat_after=repeat)
        opened += [step.incident.event for step in steps]
        assert "ordered_on" not in " ".join(key for one in history.incidents.values() for key in one.findings)
    assert "DataQualityDegraded" not in opened


def test_dates_are_said_to_be_left_out_and_their_gaps_are_found():
    trained = train({"ordered_on": at((0, 90), 2_000)}, ordered_on="datetime")
    later = at((400, 401), 400)
    [note] = [one for one in evaluate(trained, {"ordered_on": later}) if one.verdict == "feature_drift"]
    assert (note.subject, note.status) == ("every date", "unknown")
    assert "'ordered_on'" in note.message
    later = later.astype("datetime64[s]")
    later[:200] = np.datetime64("NaT")
    assert breaches(evaluate(trained, {"ordered_on": later})) == {"data_quality:ordered_on: missing"}


@pytest.mark.parametrize("first", [True, False])
def test_an_open_incident_about_a_date_ends(first):
    """A release that compared dates may have left one."""
    trained = train({"ordered_on": at((0, 90), 2_000), "x": np.arange(2_000) % 97}, ordered_on="datetime", x="number")
    now = {"ordered_on": at((400, 401), 400), "x": np.arange(400) % 97}
    findings = evaluate(trained, now)
    verdict = "skew" if first else "feature_drift"
    breach = next(one for one in findings if one.key == "feature_drift:x")
    stale = breach.__class__(verdict, "ordered_on", "breach", "mean 1.756e+09 → 1.778e+09")
    history, window = IncidentHistory(), (BEGIN, BEGIN)
    for found in ([stale], [stale], findings, findings):
        history, _ = advance(history, found, SPEC, model="m", version=1, window=window, repeat_after=timedelta(days=1))
    assert not history.open_incidents()


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("age", lambda rows: np.where(np.arange(rows) % 5, 40.0, -1.0)),  # a mark for missing values
        ("age", lambda rows: np.where(np.arange(rows) % 5, 40.0, 999.0)),
        ("age", lambda rows: np.where(np.arange(rows) % 5, 40.0, 130.0)),  # beyond, and not all of them
        ("age", lambda rows: np.full(rows, -1.0)),
        ("age", lambda rows: np.linspace(18, 90, rows) * 12.0),  # months for years
        ("age", lambda rows: np.where(np.arange(rows) % 2, -40.0, 140.0)),  # on both sides
    ],
)
def test_faults_are_still_found(name, values):
    trained = train({name: np.random.default_rng(0).integers(18, 91, 4_000)}, **{name: "integer"})
    assert breaches(evaluate(trained, {name: values(400)})) >= {f"data_quality:{name}: out of range"}


@pytest.mark.parametrize(
    ("known", "later"),
    [
        (["2026-04", "2026-05", "2026-06"], "2026-07"), (["2025", "2026"], "2027"), (["Q1", "Q2"], "Q3"),
        (["2026-Q1", "2026-Q2"], "2026-Q3"), (["Jan", "Feb", "Mar"], "Apr"), (["May 2026", "June 2026"], "July 2026"),
        (["2026-W01", "2026-W02"], "2026-W14"), (["2026-05-03", "2026-05-04"], "2026-07-01"),
    ],
)  # fmt: skip
def test_the_next_month_is_no_unseen_category(known, later):
    assert evaluate_categories(known, later) == set()


@pytest.mark.parametrize(("known", "later"), [(["Rome", "Oslo"], "2026-07"), (["2026-04", "2026-05"], "unknown")])
def test_another_category_is(known, later):
    assert evaluate_categories(known, later) == {"data_quality:period: unknown"}


def evaluate_categories(known, later):
    column = Column("period", "category", categories=tuple(known))
    schema = TableSchema(columns=(column, make_schema().columns[-1]), task="binary", classes=("no", "yes"))
    trained = {"period": np.resize(np.array(known), 2_000)}
    reference = Reference.build(describe_reference(schema, trained, np.arange(2_000) % 2), schema)
    counted = count_in_bins({"period": np.full(400, later, dtype=object)}, 400, reference.bins, reference.plan)
    monitored = MonitoredVersion("binary", ("no", "yes"), reference)
    found = evaluate_traffic(Traffic(features=counted), monitored, SPEC, Baselines())
    return {key for key in breaches(found) if key.startswith("data_quality")}


@pytest.mark.parametrize("measure", ["psi", "jensen_shannon", "kolmogorov_smirnov", "wasserstein"])
def test_what_goes_on_past_training_is_drift(measure):
    """Also where training had one value, or its maximum in most rows: what is beyond shares no bin with it."""
    spec = MonitoringSpec.model_validate({"feature_drift": {"measure": measure}})
    columns = {"year": np.full(2_000, 2_026), "grade": np.where(np.arange(2_000) % 20, 5, 4)}
    _, monitored = train(columns, year="integer", grade="integer")
    reference = monitored.reference
    now = {"year": np.full(400, 2_027.0), "grade": np.full(400, 6.0)}
    counted = count_in_bins(now, 400, reference.bins, reference.plan)
    found = evaluate_traffic(Traffic(features=counted), monitored, spec, Baselines())
    assert {"feature_drift:year", "feature_drift:grade"} <= breaches(found)
    assert not [key for key in breaches(found) if key.startswith("data_quality")]
    assert "mean 2026 → 2027" in " ".join(one.message for one in found)


def test_a_range_that_the_user_states_holds_for_whatever_goes_on():
    columns = everything((0, 181), 4_000)
    schema = make_schema(month="integer", ordered_on="datetime")
    limits = {"month": 6.0, "ordered_on": BEGIN.timestamp() + 200 * DAY}
    rules = {name: ColumnSpec(maximum=limit) for name, limit in limits.items()}
    ruled = tuple(
        Column(one.name, one.type, rules=rules[one.name]) if one.name in rules else one for one in schema.columns
    )
    schema = TableSchema(columns=ruled, task="binary", classes=("no", "yes"))
    kept = {name: columns[name] for name in rules}
    document = describe_reference(schema, as_stored(kept, schema), np.arange(4_000) % 2)
    trained = schema, MonitoredVersion("binary", ("no", "yes"), Reference.build(document, schema))
    later = everything((210, 211), 400)
    found = evaluate(trained, {name: later[name] for name in rules})
    assert breaches(found) >= {"data_quality:month: out of range", "data_quality:ordered_on: out of range"}
    message = next(one.message for one in found if one.key == "data_quality:ordered_on: out of range")
    assert "valid are at most 2026-07-20, requests have 2026-07-30" in message


@settings(max_examples=60, deadline=None)
@given(
    move=st.floats(-6.0, 6.0),
    width=st.sampled_from([0.001, 0.02, 0.2, 1.0, 3.0]),
    noise=st.sampled_from([-0.1, 0.0, 0.1, 1.0]),
    rows=st.sampled_from([300, 1_000]),
    seed=st.integers(0, 999),
)
def test_a_changed_correlation_is_true_or_not_said(move, width, noise, rows, seed):
    def make(draw, size, center, spread):
        x = center + spread * draw.normal(size=size)
        return {
            "x": 500.0 + 100.0 * x,
            "y": np.sign(noise or 1) * 30.0 * x + 30.0 * noise * spread * draw.normal(size=size),
        }

    trained = train(make(np.random.default_rng(1), 4_000, 0.0, 1.0), x="number", y="number")
    columns = make(np.random.default_rng(seed), rows, move, width)
    truth = spearmanr(columns["x"], columns["y"]).statistic
    for finding in evaluate(trained, columns):
        if finding.verdict == "dependence" and finding.status == "breach":
            assert abs(finding.details["now"] - truth) < 0.15


def test_correlations_beyond_the_range_of_training_are_not_known():
    """Hourly bike rentals: a row number and a date, of which July lies beyond what January to June had."""
    columns = everything((0, 181), 4_000)
    trained = train(
        {"instant": columns["counter"], "dteday": columns["ordered_on"]}, instant="integer", dteday="datetime"
    )
    later = everything((182, 212), 744, 3)
    found = evaluate(trained, {"instant": later["counter"], "dteday": later["ordered_on"]})
    [note] = [one for one in found if one.verdict == "dependence"]
    assert (note.subject, note.status) == ("unknown pairs", "unknown")
    assert "'dteday', 'instant'" in note.message


@pytest.mark.parametrize("constant", [11.0, 3.0, 900.0])
@pytest.mark.parametrize("missing", [0, 80])
def test_a_constant_has_no_correlation(constant, missing):
    draw = np.random.default_rng(0)
    x = draw.integers(0, 12, 4_000).astype(float)
    trained = train({"x": x, "y": 2.0 * x + draw.normal(size=4_000)}, x="integer", y="number")
    now = {"x": np.full(400, constant), "y": draw.normal(22.0, 1.0, 400)}
    now["x"][:missing], now["y"][:missing] = np.nan, 5.0
    assert not [key for key in breaches(evaluate(trained, now)) if key.startswith("dependence")]


def test_no_message_writes_an_exponent():
    amounts = np.random.default_rng(0).integers(1_000_000, 9_000_000, 4_000)
    columns = everything((0, 181), 4_000) | {"amount": amounts, "fee": amounts * 1e-9}
    trained = train(columns, **TYPES, amount="integer", fee="number")
    later = everything((300, 310), 400) | {"amount": np.full(400, 1.5e12), "fee": np.full(400, 7e-4)}
    for finding in evaluate(trained, later):
        assert not EXPONENT.search(finding.message), finding.message
    assert breaches(evaluate(trained, later)) >= {"data_quality:amount: out of range", "data_quality:fee: out of range"}


@pytest.mark.parametrize(
    ("value", "written"),
    [(3.0, "3"), (2_026.0, "2026"), (1.309e9, "1,309,000,000"), (0.00012345, "0.0001234"), (-12.5, "-12.5"),
     (0.0, "0"), (1e18, "1e+18"), (45_678.9, "45,679"), (999.96, "1000")],
)  # fmt: skip
def test_numbers_are_written_plainly(value, written):
    assert format_number(value) == written


def test_ranges_are_written_for_people():
    assert format_range(3.0, 3.0) == "3 only"
    assert format_range(-np.inf, 5.0) == "at most 5"
    assert format_range(0.0, np.inf) == "at least 0"
    assert format_range(BEGIN.timestamp(), BEGIN.timestamp() + 40 * DAY, is_date=True) == "2026-01-01 to 2026-02-10"
    assert format_number(1e30, is_date=True) == "1e+30"
