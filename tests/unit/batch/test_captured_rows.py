"""Captured rows of a job: each row is counted once, in the bins of training, and nothing reaches the captures."""

import json
from dataclasses import replace

import numpy as np
import pytest
from millrace.batch.finishing import finish_job
from millrace.batch.job import Receipt
from millrace.batch.job_planning import plan_job
from millrace.batch.part_scoring import score_planned
from millrace.captures.job_windows import JobWindow
from millrace.histograms.predictions import ClassPredictions, PredictionHistogram
from millrace.histograms.tables import Reference, ReferenceDocument, count_in_bins
from millrace.layout import job_window_key, receipt_key
from millrace.serving.request import RecordsTable
from millrace.serving.rows import RowReader
from millrace.spec.data import ReadSpec

from tests.batch_jobs import HEADER, NOW, churn_model, churn_reference, new_job, pointers, read_results, run_job
from tests.fakes.memory_object_store import MemoryObjectStore
from tests.serving_models import churn_schema

KEY = "score/churn/rows.csv"


def csv_rows(count: int, first: int = 1) -> str:
    return "".join(
        f"c{row},{18 + row % 60},{row}.5,{('true', 'false')[row % 2]},yes,{('family', 'basic')[row % 2]},Oslo,\n"
        for row in range(first, first + count)
    )


def typed_rows(text: str, task):
    """Return the typed columns of a file's rows, by the reader of requests."""
    names = HEADER.split(",")
    records = [dict(zip(names, line.split(","), strict=True)) for line in text.splitlines()]
    known = [{name: value for name, value in record.items() if value != ""} for record in records]
    for record in known:
        record |= {"age": int(record["age"]), "balance": float(record["balance"])}
        record |= {"active": record["active"] == "true"}
    rows = RowReader(churn_schema(task)).read(RecordsTable(known))
    return rows, len(known)


def captured_model(task="binary"):
    body = churn_reference(task)
    return replace(churn_model(task), read_reference=lambda: body)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr("millrace.batch.job_planning.PART_BYTES", 900)
    monkeypatch.setattr("millrace.batch.object_bytes.STREAMED_BYTES", 300)


def score(text: str, loaded, **options):
    store = MemoryObjectStore("data")
    store.put(KEY, text.encode())
    job = new_job(store, KEY, **options)
    return store, job, run_job(store, job, loaded)


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_parts_add_up_to_the_histograms_of_the_same_rows_in_requests(task):
    text, loaded = csv_rows(120), captured_model(task)
    store, job, manifest = score(f"{HEADER}\n{text}", loaded, capture="batch")

    assert (manifest.outcome, manifest.captured) == ("complete", 120)
    assert manifest.parts >= 4
    window = JobWindow.unpack(store.get(job_window_key("churn", job.job_id)))
    assert (window.job_id, window.version, window.begin, window.end) == (job.job_id, 3, NOW, NOW)
    reference = Reference.build(ReferenceDocument.read(churn_reference(task)), churn_schema(task))
    rows, n_rows = typed_rows(text, task)
    columns = {column.name: np.array(rows.columns[column.name]) for column in churn_schema(task).features}
    expected = count_in_bins(columns, n_rows, reference.bins, reference.plan)
    for name, counted in expected.columns.items():
        found = window.traffic.features.columns[name]
        assert found.counts.tolist() == counted.counts.tolist(), name
        assert (found.missing, found.absent, found.unseen) == (counted.missing, counted.absent, counted.unseen), name
    np.testing.assert_allclose(
        window.traffic.features.correlations.correlations(), expected.correlations.correlations(), atol=1e-5
    )
    results = read_results(store, job)
    if task == "regression":
        assert window.traffic.predictions.known == 120
        assert window.traffic.predictions.sums.sum() == pytest.approx(sum(results.column("prediction").to_pylist()))
    else:
        classes = churn_schema(task).classes
        chances = np.stack([results.column(f"probability_{name}").to_numpy() for name in classes], axis=1)
        decided = [
            [str(one).lower() for one in classes].index(str(label).lower()) for label in results["decision"].to_pylist()
        ]
        counted = PredictionHistogram.count(ClassPredictions(np.array(decided), chances.astype(np.float64)))
        assert window.traffic.predictions == counted


def test_a_job_without_the_option_counts_nothing_and_nothing_ever_reaches_the_captures():
    text = f"{HEADER}\n{csv_rows(60)}"
    store, job, manifest = score(text, captured_model())
    assert manifest.captured == 0
    assert Receipt.read(store.get(receipt_key(job.job_id, 0))).captured is None
    assert not store.keys("monitoring/")
    store, job, manifest = score(text, captured_model(), capture="batch")
    assert store.keys("monitoring/") == [job_window_key("churn", job.job_id)]
    assert not store.keys("captures/")


def test_refused_rows_and_columns_that_the_file_lacks_are_counted_as_what_they_are():
    good = csv_rows(40).splitlines()
    lines = [line.rsplit(",", 1)[0] for line in good]  # without signed_up, which may be missing
    lines[3] = lines[3].replace("c4,22", "c4,old")
    text = "\n".join([HEADER.rsplit(",", 1)[0], *lines]) + "\n"
    store, job, manifest = score(text, captured_model(), capture="batch")
    assert (manifest.rows, manifest.refused, manifest.captured) == (40, 1, 39)
    features = JobWindow.unpack(store.get(job_window_key("churn", job.job_id))).traffic.features
    assert features.rows == 39
    assert features.columns["signed_up"].absent == 39
    assert features.columns["age"].missing == 0


def test_a_part_that_is_scored_twice_is_counted_once_and_an_incomplete_job_is_not_captured():
    store, loaded = MemoryObjectStore("data"), captured_model()
    store.put(KEY, f"{HEADER}\n{csv_rows(60)}".encode())
    job = new_job(store, KEY, capture="batch")
    plan_job(job, loaded, ReadSpec(), store, lanes=2)
    first, *rest = pointers(store, job)
    score_planned(job, first, loaded, store)
    store.delete([receipt_key(job.job_id, first.part)])
    score_planned(job, first, loaded, store)
    score_planned(job, first, loaded, store)
    assert finish_job(job, store, now=NOW).captured == 0
    assert not store.keys("monitoring/")
    for part in rest:
        score_planned(job, part, loaded, store)
    assert finish_job(job, store, now=NOW).captured == 60
    window = store.get(job_window_key("churn", job.job_id))
    assert finish_job(job, store, now=NOW).captured == 60
    assert store.get(job_window_key("churn", job.job_id)) == window
    assert JobWindow.unpack(window).traffic.features.rows == 60


@pytest.mark.parametrize("body", [None, b"{}", b"no JSON"])
def test_a_version_without_a_readable_reference_is_scored_with_a_warning(body):
    loaded = replace(churn_model(), read_reference=None if body is None else lambda: body)
    store, _, manifest = score(f"{HEADER}\n{csv_rows(30)}", loaded, capture="batch")
    assert (manifest.outcome, manifest.captured) == ("complete", 0)
    assert manifest.warnings[-1] == (
        "version 3 has no readable reference.json to compare with: its rows are not captured"
    )
    assert not store.keys("monitoring/")


def test_the_receipts_of_a_job_keep_their_histograms_and_the_memory_of_the_last_step_does_not():
    store, job, _ = score(f"{HEADER}\n{csv_rows(60)}", captured_model(), capture="batch")
    receipt = json.loads(store.get(receipt_key(job.job_id, 1)))
    assert receipt["captured"]["features"]["rows"] == receipt["rows"] > 0
