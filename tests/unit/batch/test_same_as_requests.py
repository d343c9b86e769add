"""A row has one prediction, whether a file holds it or a request: to the last bit."""

import csv
import gzip
import io
import json
import random
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from millrace.serving.intervals import find_bounds
from millrace.serving.model import LoadedModel
from millrace.serving.protocols import MLFLOW
from millrace.serving.request import RecordsTable, Request
from millrace.serving.rows import RowReader
from millrace.serving.scoring import Scores, explain_scores, score

from tests.batch_jobs import HEADER, churn_model, new_job, read_results, run_job, score_text
from tests.fakes.memory_object_store import MemoryObjectStore

LEVEL = 0.9
#: By column, values as files and requests may write them: also missing ones, unseen ones, and such as are refused.
VALUES = {
    "customer_id": ["c1", "", "7"],
    "age": [
        "41",
        "18",
        "80",
        "",
        "NA",
        "?",
        "-",
        "12.5",
        "1e1",
        "+5",
        " 33 ",
        "abc",
        "inf",
        "nan",
        "1e39",
        "\u22123",
        "0x10",
        "1_000",
        "-0",
        "007",
        "12 years",
        "\u0663",
    ],
    "balance": [
        "120.5",
        "",
        "null",
        "1e-3",
        "-7",
        "$5",
        "5%",
        "(5)",
        "1 000",
        "3.4028235e38",
        "3.5e38",
        ".5",
        "5.",
        "--",
        "N/A",
        "none",
        "0.1",
        "1234567.891",
    ],
    "active": ["true", "false", "TRUE", "False", "1", "0", "yes", "", "NA", " true "],
    "subscribed": ["yes", "no", "YES", "No ", "true", "false", "1", "maybe", "", "n"],
    "plan": ["family", "basic", "Family", "gold", "", " family ", "NA", "None", "-", "x" * 1_001, "é☃", "a,b", 'a "b"'],
    "city": ["Oslo", "Lima", "Zürich", "", "null", "Atlantis", "two words", "?", "two\nlines"],
    "signed_up": [
        "2024-02-03",
        "2024-02-03T10:00:00Z",
        "2024-02-03 10:00",
        "01.02.2023",
        "31.12.1999",
        "",
        "2024-13-01",
        "1.2.2023",
        "today",
        "now",
        "?",
        "20240203",
        "2024-02-03T10:00:00+02:00",
        "2024-02-03T10:00:00.123456Z",
        "2024-02-30",
        "2024-W05-6",
        "0001-01-01",
        "9999-12-31",
        "1700000000",
    ],
    "remark": ["", "paid late", "Paid LATE, again: paid", "é" * 6_000, "NULL", "日本語 のみ"],
}


def random_rows(n_rows: int, *, remark: bool) -> list[dict[str, str]]:
    """Return rows that mostly hold good values, as real ones do: a row with several bad ones shows only the first."""
    rng = random.Random(11)
    names = [*HEADER.split(","), *(["remark"] if remark else [])]
    rows = []
    for _ in range(n_rows):
        row = {name: rng.choice(VALUES[name][:2]) for name in names}
        for name in rng.sample(names, rng.randint(0, 2)):
            row[name] = rng.choice(VALUES[name])
        rows.append(row)
    return rows


def as_csv(rows: list[dict[str, str]]) -> str:
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def assert_same(results: pa.Table, scores: Scores, loaded: LoadedModel) -> None:
    rows = results.to_pylist()
    assert len(rows) == len(scores)
    assert [row["row"] for row in rows] == list(range(1, len(rows) + 1))
    assert {place for place, row in enumerate(rows) if row["error"]} == set(scores.bad_rows)
    predictions = [row["prediction"] for row in rows]
    if scores.values is not None:
        assert predictions == scores.values
        ends = [None if row["lower"] is None else [row["lower"], row["upper"]] for row in rows]
        assert ends == scores.intervals
        return
    assert predictions == scores.labels
    assert [row["decision"] for row in rows] == scores.decisions
    names = [f"probability_{name}" for name in loaded.schema.classes]
    found = [None if row[names[0]] is None else [row[name] for name in names] for row in rows]
    assert found == scores.probabilities
    assert [row["set"] for row in rows] == [None if one is None else list(map(str, one)) for one in scores.sets or []]


@pytest.mark.parametrize(("task", "remark"), [("binary", True), ("multiclass", False), ("regression", False)])
def test_rows_of_every_kind_are_as_in_a_request(task, remark, monkeypatch):
    monkeypatch.setattr("millrace.batch.job_planning.PART_BYTES", 8_000)
    monkeypatch.setattr("millrace.batch.object_bytes.STREAMED_BYTES", 1_000)
    loaded = churn_model(task, remark=remark)
    text = as_csv(random_rows(600, remark=remark))
    asked = MLFLOW.parse(Request(text.encode(), {"content-type": "text/csv"}, {}), loaded.schema, 1_000)
    scores = score(loaded, loaded.reader.read(asked.table, partial=True), find_bounds(loaded, LEVEL).fields)
    assert 50 < len(scores.bad_rows) < 300
    manifest, results = score_text(text, loaded=loaded, interval=LEVEL, max_refused_share=1.0)
    assert manifest.parts > 3
    assert_same(results, scores, loaded)


def test_one_row_has_the_intervals_of_many():
    for task in ("binary", "multiclass", "regression"):
        loaded = churn_model(task)
        bounds = find_bounds(loaded, LEVEL)
        rng = np.random.default_rng(2)
        values = rng.normal(3, 2, 500) if task == "regression" else rng.dirichlet([1.0] * len(loaded.labels), 500)
        asked: list = values.astype(np.float32).astype(np.float64).tolist()
        asked[7] = None
        key = "intervals" if task == "regression" else "sets"
        assert bounds.fields(asked)[key] == [bounds.fields([one])[key][0] for one in asked]


def typed_rows(n_rows: int) -> list[dict]:
    """Return rows with values of JSON's types."""
    rng = random.Random(4)
    since = datetime(2024, 1, 1, tzinfo=UTC)
    return [
        {
            "age": rng.randint(18, 80),
            "balance": rng.choice([None, rng.uniform(-500, 500), 7.0, 0.1]),
            "active": rng.random() < 0.5,
            "subscribed": rng.choice(["yes", "no", None]),
            "plan": rng.choice(["basic", "family", "premium", "gold"]),
            "city": rng.choice(["Oslo", "Lima", None, "Ürgüp"]),
            "signed_up": (since + timedelta(minutes=rng.randint(0, 10**6))).isoformat(),
        }
        for _ in range(n_rows)
    ]


def as_parquet(rows: list[dict]) -> bytes:
    dates = [datetime.fromisoformat(row["signed_up"]) for row in rows]
    table = pa.Table.from_pylist(rows).set_column(6, "signed_up", pa.array(dates, pa.timestamp("ms", "UTC")))
    buffer = io.BytesIO()
    pq.write_table(table, buffer, row_group_size=50)
    return buffer.getvalue()


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.parquet", "rows.csv.gz"])
def test_files_of_every_format_are_as_requests_of_json(name, monkeypatch):
    monkeypatch.setattr("millrace.batch.job_planning.PART_BYTES", 4_000)
    monkeypatch.setattr("millrace.batch.object_bytes.STREAMED_BYTES", 1_000)
    loaded, rows = churn_model(), typed_rows(300)
    scores = score(loaded, RowReader(loaded.schema).read(RecordsTable(rows)), find_bounds(loaded, LEVEL).fields)
    if name.endswith("jsonl"):
        body = "".join(json.dumps(row) + "\n" for row in rows).encode()
    elif name.endswith("parquet"):
        body = as_parquet(rows)
    else:
        texts = [{key: "" if value is None else str(value) for key, value in row.items()} for row in rows]
        body = gzip.compress(as_csv(texts).encode())
    store = MemoryObjectStore("data")
    store.put(f"score/churn/{name}", body)
    job = new_job(store, f"score/churn/{name}", interval=LEVEL)
    manifest = run_job(store, job, loaded)
    assert manifest.outcome == "complete"
    assert (manifest.parts > 1) == (not name.endswith("gz"))
    assert_same(read_results(store, job), scores, loaded)


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_explanations_are_those_of_requests(task, monkeypatch):
    monkeypatch.setattr("millrace.batch.job_planning.PART_BYTES", 800)
    monkeypatch.setattr("millrace.batch.object_bytes.STREAMED_BYTES", 300)
    loaded, rows = churn_model(task), random_rows(60, remark=False)
    header, _, records = as_csv(rows).partition("\n")
    text = f"{header}\ntoo,short\n{records}"  # no request has such a row; the others have their places nevertheless
    manifest, results = score_text(text, loaded=loaded, explain=True, max_refused_share=1.0)
    assert manifest.parts > 2
    expected: list = [None]
    for start in (0, 2, 4, 6, 8):  # requests of few rows build their matrices otherwise than those of many
        some = rows[start : start + 2] if start < 8 else rows[8:]
        table = MLFLOW.parse(Request(as_csv(some).encode(), {"content-type": "text/csv"}, {}), loaded.schema, 99).table
        typed = loaded.reader.read(table, partial=True)
        expected += explain_scores(loaded, typed, score(loaded, typed))
    assert 5 < sum(one is None for one in expected) < 30
    for row, told in zip(results.to_pylist(), expected, strict=True):
        found = {name.removeprefix("explanation_"): row[name] for name in row if name.startswith("explanation_")}
        if told is None:
            assert row["error"]
            assert {row["base_value"], *found.values()} == {None}
            continue
        asked = told.to_dict()
        assert found == asked["attributions"]
        assert row["base_value"] == asked["base_value"]
        of = row["prediction"] if told.label is None else row[f"probability_{told.label}".lower()]
        assert row["base_value"] + sum(found.values()) == pytest.approx(of, abs=1e-6)
