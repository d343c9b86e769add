"""Columns that give the target away are found, whatever the relation; columns that do not are left alone."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from millrace.data.leakage import column_line
from millrace.data.prepare import prepare
from millrace.data.validation import ValidationResult, validate_upload
from millrace.spec import ModelSpec

N = 400
RNG = np.random.default_rng(11)
LABEL = RNG.permutation(np.arange(N) % 2)
THREE = RNG.permutation(np.repeat(["a", "b", "c"], [200, 150, 50]))
AMOUNT = RNG.normal(100, 30, N).round(2)
X, Y = RNG.normal(size=N).round(2), RNG.normal(size=N).round(2)
DAYS = pd.Timestamp("2026-01-01") + pd.to_timedelta(RNG.integers(0, 300, N), "D")


def validated(frame: pd.DataFrame, **spec: Any) -> ValidationResult:
    return validate_upload(
        frame.to_csv(index=False).encode(), "t.csv", ModelSpec.parse({"target": "y", **spec}), {}, None
    )


def leaks(frame: pd.DataFrame, check: str = "leakage", **spec: Any) -> list[str]:
    found = validated(frame, **spec)
    assert found.accepted, found.reasons
    return [finding.column for finding in found.findings if finding.check == check]


def table(target: Any, **columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"x": X, "z": Y, **columns, "y": target})


POSITIVE = LABEL == 1
LEAKS = {
    "status of five": table(
        LABEL, leak=np.where(POSITIVE, RNG.choice(["closed", "lost"], N), RNG.choice(["new", "trial", "active"], N))
    ),
    "status of three": table(LABEL, leak=np.where(POSITIVE, "closed", RNG.choice(["new", "trial"], N))),
    "status of three classes": table(THREE, leak=[f"{label}{i % 4}" for i, label in enumerate(THREE)]),
    "boolean": table(LABEL, leak=np.where(POSITIVE, "no", "yes")),
    "categories in pairs": table(LABEL, leak=[f"{label}-{i % 60}" for i, label in enumerate(LABEL)]),
    "unordered codes": table(LABEL, leak=np.where(POSITIVE, RNG.choice([2, 5, 9], N), RNG.choice([1, 3, 7, 11], N))),
    "unordered codes of three classes": table(
        THREE, leak=[{"a": (1, 6), "b": (2, 9), "c": (4, 7)}[c][i % 2] for i, c in enumerate(THREE)]
    ),
    "number": table(LABEL, leak=(LABEL * 3.5 + RNG.uniform(0, 1, N)).round(3)),
    "falling number": table(LABEL, leak=(-LABEL * 3.5 + RNG.uniform(0, 1, N)).round(3)),
    "ranges of three classes": table(
        THREE, leak=(pd.Series(THREE).map({"a": 10, "b": 30, "c": 20}) + RNG.uniform(0, 5, N)).round(3)
    ),
    "date filled for positives": table(LABEL, leak=np.where(POSITIVE, DAYS.astype(str), "")),
    "number filled for positives": table(LABEL, leak=pd.Series(AMOUNT).where(POSITIVE)),
    "number filled for negatives": table(LABEL, leak=pd.Series(AMOUNT).where(~POSITIVE)),
    "category filled for positives": table(LABEL, leak=np.where(POSITIVE, RNG.choice(["x", "y", "z"], N), "")),
    "text filled for positives": table(
        LABEL, leak=[f"we are sorry that you left us {i}" if label else "" for i, label in enumerate(LABEL)]
    ),
    "filled for one of three classes": table(THREE, leak=pd.Series(AMOUNT).where(THREE == "c")),
    "filled for some of a rare class": table(np.where(RNG.random(N) < 0.25, "yes", "no")).assign(
        leak=lambda f: pd.Series(AMOUNT).where((f["y"] == "yes") & (RNG.random(N) < 0.7))
    ),
    "category that decides where it is filled": table(
        LABEL, leak=np.where(RNG.random(N) < 0.4, "", np.where(POSITIVE, RNG.choice(["p", "q"], N), "r"))
    ),
    "codes that decide where they are filled": table(
        LABEL,
        leak=pd.Series(np.where(POSITIVE, RNG.choice([2, 5], N), RNG.choice([1, 3, 7], N))).where(RNG.random(N) < 0.6),
    ),
    "copy of an amount": table(AMOUNT, leak=AMOUNT * 1.19),
    "code that fixes the amount": table(
        np.array([3.5, 80.25, 41.0, 17.5])[np.arange(N) % 4], leak=np.array([11, 7, 9, 3])[np.arange(N) % 4]
    ),
    "name that fixes the amount": table(
        np.round(np.linspace(5, 900, 40)[np.arange(N) % 40] ** 1.3, 2), leak=[f"p{i % 40}" for i in range(N)]
    ),
}


@pytest.mark.parametrize("kind", sorted(LEAKS))
def test_a_column_that_gives_the_target_away_is_found(kind):
    assert leaks(LEAKS[kind]) == ["leak"]


@pytest.mark.parametrize("rows", [120, 200, 1_000, 5_000])
@pytest.mark.parametrize("states", [3, 5, 9])
def test_a_status_is_found_in_any_number_of_rows(rows, states):
    generator = np.random.default_rng(rows + states)
    label = generator.permutation(np.arange(rows) % 2)
    status = [f"s{2 * generator.integers(0, (states + 1 - value) // 2) + value}" for value in label]
    assert leaks(pd.DataFrame({"x": generator.normal(size=rows), "status": status, "y": label})) == ["status"]


FIRST, SECOND, THIRD = (RNG.integers(0, 500, N) for _ in range(3))
START = pd.Timestamp("2026-01-01") + pd.to_timedelta(RNG.integers(0, 300, N), "D")
END = START + pd.to_timedelta(RNG.integers(1, 90, N), "D")
COMBINATIONS = {
    "sum": table(FIRST + SECOND, p=FIRST, q=SECOND),
    "rounded sum beside an estimate of it": table(
        np.round(FIRST * 1.013 + SECOND * 1.013), p=FIRST, q=SECOND, r=FIRST + SECOND + RNG.integers(-30, 30, N)
    ),
    "sum of three": table(FIRST + SECOND + THIRD, p=FIRST, q=SECOND, r=THIRD),
    "difference": table(FIRST - SECOND, p=FIRST, q=SECOND),
    "sum and difference": table(FIRST + SECOND - THIRD, p=FIRST, q=SECOND, r=THIRD),
    "rounded sum": table((FIRST * 1.013 + SECOND * 1.013).round(0), p=FIRST, q=SECOND),
    "mean": table((FIRST + SECOND) / 2, p=FIRST, q=SECOND),
    "linear formula": table(3 * FIRST - 2 * SECOND + 7, p=FIRST, q=SECOND),
    "duration": table((END - START).days, p=START.astype(str), q=END.astype(str)),
    "duration in hours": table((END - START).days * 24.0, p=START.astype(str), q=END.astype(str)),
    "sign of a difference": table((FIRST > SECOND).astype(int), p=FIRST, q=SECOND),
    "a sum past a limit": table((FIRST + SECOND > 480).astype(int), p=FIRST, q=SECOND),
    "late": table(
        np.where(START + pd.Timedelta("45D") < END, "late", "in time"), p=START.astype(str), q=END.astype(str)
    ),
    "distance": table((np.abs(FIRST - SECOND) > 150).astype(int), p=FIRST, q=SECOND),
}


@pytest.mark.parametrize("kind", sorted(COMBINATIONS))
def test_a_sum_or_difference_that_gives_the_target_away_is_found(kind):
    (finding,) = [finding for finding in validated(COMBINATIONS[kind]).findings if finding.check == "leakage"]
    names = [name for name in ("p", "q", "r") if name in COMBINATIONS[kind] and not (name == "r" and "beside" in kind)]
    assert [name for name in ("p", "q", "r") if repr(name) in finding.message] == names


NOISE = RNG.normal(size=N)
CLEAN = {
    "nothing": table(LABEL, a=FIRST, b=RNG.choice(["x", "y", "z"], N)),
    "a strong number": table((X + 0.3 * NOISE > 0).astype(int), a=FIRST),
    "a strong category": table(np.where(RNG.random(N) < 0.05, 1 - LABEL, LABEL), a=np.where(POSITIVE, "s", "t")),
    "many categories": table(LABEL, a=[f"c{i % 150}" for i in RNG.permutation(N)]),
    "many codes": table(LABEL, a=RNG.integers(0, 60, N)),
    "missing at random": table(LABEL, a=pd.Series(AMOUNT).where(RNG.random(N) < 0.5)),
    "missing more often for positives": table(LABEL, a=pd.Series(AMOUNT).where(RNG.random(N) < 0.4 + 0.5 * LABEL)),
    "a rare value of the frequent class": table(np.where(RNG.random(N) < 0.03, 1, 0)).assign(
        a=lambda f: pd.Series(AMOUNT).where((f["y"] == 0) & (RNG.random(N) < 0.3))
    ),
    "a linear law with noise": table((3 * X - 2 * Y + 0.5 * NOISE).round(3)),
    "a sum with noise": table((FIRST + SECOND + 25 * NOISE).round(1), p=FIRST, q=SECOND),
    "repeated rows": pd.concat([table(AMOUNT, a=FIRST)] * 6),
    "repeated rows with classes": pd.concat([table(LABEL, a=FIRST)] * 6),
    "overlapping classes": table(THREE, a=pd.Series(THREE).map({"a": 0, "b": 2, "c": 4}) + NOISE),
    "few rows": table(LABEL, a=LABEL).head(40),
}


@pytest.mark.parametrize("kind", sorted(CLEAN))
def test_a_clean_table_is_not_accused(kind):
    assert leaks(CLEAN[kind]) == []


@settings(max_examples=25, deadline=None)  # the machine may be busy
@given(st.integers(0, 10_000), st.integers(2, 6), st.integers(60, 400))
def test_chance_is_no_leak(seed, columns, rows):
    generator = np.random.default_rng(seed)
    frame = pd.DataFrame({f"n{i}": generator.normal(size=rows) for i in range(columns)})
    frame["code"] = generator.integers(0, 20, rows)
    frame["word"] = generator.choice(list("abcdef"), rows)
    frame["gaps"] = pd.Series(generator.normal(size=rows)).where(generator.random(rows) < 0.7)
    frame["y"] = generator.permutation(np.arange(rows) % 2)
    assert leaks(frame) == []


def test_the_line_of_the_spec_ends_the_finding():
    frame = LEAKS["status of five"]
    (finding,) = [finding for finding in validated(frame).findings if finding.check == "leakage"]
    assert "columns: {leak: {role: ignored}}" in finding.message
    assert "columns: {leak: {role: feature}}" in finding.message
    for role in ("ignored", "feature"):
        assert leaks(frame, columns={"leak": {"role": role}}) == []


def test_the_line_of_the_spec_ends_the_finding_on_several_columns():
    frame = COMBINATIONS["sum"].rename(columns={"p": "first part"})
    (finding,) = [finding for finding in validated(frame).findings if finding.check == "leakage"]
    assert 'columns: {"first part": {role: ignored}, q: {role: ignored}}' in finding.message
    assert leaks(frame, columns={name: {"role": "feature"} for name in ("first part", "q")}) == []


def test_a_sensitive_target_is_not_quoted():
    found = validated(LEAKS["filled for one of three classes"], columns={"y": {"sensitive": True}})
    (message,) = [finding.message for finding in found.findings if finding.check == "leakage"]
    assert "'c'" not in message


NUMBERS = np.arange(N)
ROW_NUMBERS = {
    "from zero": NUMBERS,
    "from one": NUMBERS + 1,
    "from a thousand": NUMBERS + 1_000,
    "falling": NUMBERS[::-1],
    "in tens": NUMBERS * 10,
    "with gaps": np.sort(RNG.choice(2 * N, N, replace=False)),
    "shuffled": RNG.permutation(N),
    "of a sample": RNG.choice(2 * N, N, replace=False),
    "as floats": NUMBERS.astype(float),
}


@pytest.mark.parametrize("kind", sorted(ROW_NUMBERS))
@pytest.mark.parametrize("target", [LABEL, THREE, AMOUNT], ids=["binary", "multiclass", "regression"])
def test_row_numbers_are_left_out_and_reported(kind, target):
    frame = table(target).assign(number=ROW_NUMBERS[kind])
    found = validated(frame)
    assert [finding.column for finding in found.findings if finding.check == "row_number"] == ["number"]
    assert found.schema.column("number").role == "ignored"
    kept = validated(frame, columns={"number": {"role": "feature"}})
    assert kept.schema.column("number").role == "feature"
    assert [finding for finding in kept.findings if finding.check == "row_number"] == []


NO_ROW_NUMBERS = {
    "repeated": RNG.integers(0, 350, N),
    "far apart": RNG.choice(10 * N, N, replace=False),
    "fractions": NUMBERS / 4,
    "missing": pd.Series(NUMBERS).where(NUMBERS != 7),
}


@pytest.mark.parametrize("kind", sorted(NO_ROW_NUMBERS))
def test_numbers_that_are_values_stay_features(kind):
    frame = table(LABEL).assign(number=NO_ROW_NUMBERS[kind])
    assert leaks(frame, "row_number") == []
    assert validated(frame).schema.column("number").role == "feature"


@pytest.mark.parametrize(
    "frame",
    [
        table(LABEL).assign(seconds=1_700_000_000 + 3_600 * NUMBERS),
        table(LABEL).assign(year=1700 + NUMBERS),
        table(AMOUNT).assign(population=np.sort(RNG.choice(10_000_000, N, replace=False))),
        pd.DataFrame({"only": NUMBERS, "y": AMOUNT}),
    ],
    ids=["time", "year", "sorted", "only feature"],
)
def test_ascending_values_that_may_mean_something_are_reported_and_stay(frame):
    found = validated(frame)
    (finding,) = [finding for finding in found.findings if finding.check == "row_number"]
    assert found.schema.column(finding.column).role == "feature"
    assert "role: ignored" in finding.message


def test_row_numbers_of_rows_sorted_by_class_do_not_reach_the_model():
    frame = table(THREE).sort_values("y").assign(number=NUMBERS)
    found = validated(frame)
    assert [(finding.check, finding.column) for finding in found.findings] == [("row_number", "number")]
    kept = validated(frame, columns={"number": {"role": "feature"}})
    assert kept.schema.column("number").role == "feature"


def test_a_schema_that_has_row_numbers_as_a_feature_is_reported():
    frame = table(LABEL).assign(number=NUMBERS)
    schema = validated(frame, columns={"number": {"role": "feature"}}).schema
    spec = ModelSpec.parse({"target": "y"})
    again = validate_upload(frame.to_csv(index=False).encode(), "t.csv", spec, {}, schema)
    assert [finding.column for finding in again.findings if finding.check == "row_number"] == ["number"]


@pytest.mark.parametrize(("spec", "reported"), [({}, ["leak"]), ({"columns": {"leak": {"role": "feature"}}}, [])])
def test_the_data_that_a_run_trains_on_is_measured_by_the_present_spec(spec, reported):
    found = validated(LEAKS["status of five"])
    parts = [found.table.take(np.arange(N // 2)), found.table.take(np.arange(N // 2, N))]
    findings = prepare(found.schema, parts, ModelSpec.parse(spec)).summary()["findings"]
    assert [finding["column"] for finding in findings if finding["check"] == "leakage"] == reported


@pytest.mark.parametrize("name", ["alive", "no", "ON", "null", "y", "a: b", "1", "Yes"])
def test_the_line_of_a_spec_is_yaml_of_the_column(name):
    assert yaml.safe_load(column_line([name], "ignored")) == {"columns": {name: {"role": "ignored"}}}
