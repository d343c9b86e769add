"""Train/serve skew: an upload against the rows that were captured last."""

import gzip
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from millrace.captures.records import CapturedRow
from millrace.data import dataset_checks
from millrace.data.compare import measure_shifts
from millrace.data.dataset_checks import profile_captures
from millrace.data.dataset_documents import DatasetProfile
from millrace.layout import captures_key
from millrace.schema import Column, TableSchema
from millrace.spec import ModelSpec

from tests.fakes.memory_object_store import MemoryObjectStore
from tests.unit.data.test_validation import MODEL, NOW, Workshop

SCHEMA = TableSchema(
    (
        Column("age", "number"),
        Column("plan", "category"),
        Column("since", "datetime"),
        Column("label", "boolean", "target"),
    ),
    "binary",
    ("false", "true"),
)


def captured(number: int, at: datetime, age: float, plan: str = "pro") -> CapturedRow:
    return CapturedRow(
        prediction_id=f"p{number}-{at:%d%H}",
        request_id="r",
        request_rows=1,
        predicted_at=at,
        model=MODEL,
        version=1,
        protocol="mlflow",
        row_id=None,
        sampling_rate=1.0,
        features={"age": age, "plan": plan, "since": f"2026-01-0{1 + number % 7}T00:00:00Z"},
        unknown=(),
        omitted=0,
        prediction={"label": "true", "probabilities": {"false": 0.1, "true": 0.9}},
    )


def capture(store: MemoryObjectStore, rows: list[CapturedRow], name: str = "rows") -> None:
    body = gzip.compress("".join(row.to_line() + "\n" for row in rows).encode())
    store.put(captures_key(MODEL, rows[0].predicted_at, name), body)


def rows_at(at: datetime, count: int, shift: float = 0.0) -> list[CapturedRow]:
    return [
        captured(number, at, 20 + number * 7 % 60 + shift, ("basic", "plus", "pro")[number % 3])
        for number in range(count)
    ]


def churn_csv(rows: int = 300) -> str:
    plans = ("basic", "plus", "pro")
    lines = [f"{20 + row * 7 % 60},{plans[row % 3]},2026-01-0{1 + row % 7},{row // 2 % 2}" for row in range(rows)]
    return "\n".join(("age,plan,since,label", *lines)) + "\n"


@pytest.fixture
def workshop() -> Workshop:
    made = Workshop()
    made.registry.put_spec(MODEL, ModelSpec.parse({"checks": {"skew_threshold": 0.2, "shift_threshold": 50}}))
    made.validate(made.upload("first.csv", churn_csv()))
    return made


def findings(workshop: Workshop, rows: int = 301) -> list[str]:
    run, verdict = workshop.validate(workshop.upload("next.csv", churn_csv(rows)), now=NOW + timedelta(hours=rows))
    assert verdict.outcome == "accepted", run.reasons
    validation = workshop.json(f"datasets/{MODEL}/{run.dataset_ids[-1]}/validation.json")
    return [found["message"] for found in validation["findings"] if found["check"] == "skew"]


def test_an_upload_is_compared_with_what_was_captured_last(workshop):
    capture(workshop.store, rows_at(NOW + timedelta(hours=290), 200, shift=300))
    (message,) = findings(workshop)
    assert message.startswith("the values of 'age' differ between requests and this dataset")


def test_what_is_asked_as_it_was_learnt_is_no_skew(workshop):
    capture(workshop.store, rows_at(NOW + timedelta(hours=300), 200))
    assert findings(workshop) == []


def test_without_captures_the_check_says_so_and_passes(workshop):
    assert findings(workshop) == [
        "skew was not checked: no prediction was captured in the last 7 days, and 100 are needed"
    ]
    capture(workshop.store, rows_at(NOW + timedelta(hours=301), 40))
    assert "40 predictions were captured" in findings(workshop, 302)[0]


def test_nobody_looks_unless_the_spec_asks(workshop, monkeypatch):
    workshop.registry.put_spec(MODEL, ModelSpec())
    monkeypatch.setattr("millrace.data.ingest.profile_captures", None)
    assert findings(workshop) == []


def test_the_newest_hours_are_read_first_and_no_more_than_is_needed(monkeypatch):
    store = MemoryObjectStore()
    now = datetime(2026, 5, 3, 14, 15, tzinfo=UTC)
    for hours, shift in ((0, 0), (1, 100), (2, 200), (24 * 8, 900)):
        capture(store, rows_at(now - timedelta(hours=hours, minutes=1), 60, shift))
    capture(store, rows_at(now - timedelta(minutes=1), 60), "the same again")
    read = []
    monkeypatch.setattr(store, "get", lambda key, get=store.get: read.append(key) or get(key))
    monkeypatch.setattr(dataset_checks, "MAX_CAPTURED_ROWS", 100)
    profile = profile_captures(store, MODEL, SCHEMA, now)
    assert profile.rows == 100
    assert [key.split("/")[-2] for key in read] == ["14", "14", "13"]
    (age,) = [column for column in profile.columns if column.name == "age"]
    assert (age.minimum, age.maximum < 180) == (20, True)
    monkeypatch.setattr(dataset_checks, "MAX_CAPTURED_ROWS", 1_000)
    assert profile_captures(store, MODEL, SCHEMA, now).rows == 180  # not those of last week
    assert profile_captures(MemoryObjectStore(), MODEL, SCHEMA, now).rows == 0


def test_sensitive_features_are_not_captured_and_not_compared():
    store = MemoryObjectStore()
    rows = [captured(number, NOW, float(number)) for number in range(120)]
    for row in rows:
        row.features.pop("plan")
    capture(store, rows)
    profile = profile_captures(store, MODEL, SCHEMA, NOW + timedelta(minutes=1))
    assert [column.name for column in profile.columns] == ["age", "since"]
    assert not np.isnan(profile.columns[0].mean)


def test_a_column_of_one_value_can_be_compared():
    column = {"name": "x", "type": "number", "role": "feature", "missing": 0, "missing_share": 0.0, "distinct": 1}
    bins = {"edges": [1.0, 2.0], "counts": [50, 50, 50]}
    one = DatasetProfile.read({"rows": 150, "columns": [column | {"bins": bins}]})
    constant = {"bins": {"edges": [], "counts": [150]}, "minimum": 1.5, "maximum": 1.5}
    other = DatasetProfile.read({"rows": 150, "columns": [column | constant]})
    assert measure_shifts(one, other)["x"].values > 1.0
