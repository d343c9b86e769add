"""Batch jobs in memory: a model of made-up customers, files to score, and the whole of a job in one call."""

import io
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from millrace.batch.finishing import finish_job
from millrace.batch.job import BatchJob, JobManifest, PartPointer, SourceObject
from millrace.batch.job_planning import plan_job
from millrace.batch.part_scoring import score_planned
from millrace.data.reference import describe_reference
from millrace.documents import from_plain
from millrace.layout import job_key, scored_prefix
from millrace.schema import Task
from millrace.serving.model import LoadedModel, OnnxModel, Threshold
from millrace.spec.data import ReadSpec

from tests.fakes.memory_object_store import MemoryObjectStore
from tests.serving_models import churn_background, churn_calibration, churn_onnx, churn_schema

NOW = datetime(2026, 12, 1, 8, tzinfo=UTC)
HEADER = "customer_id,age,balance,active,subscribed,plan,city,signed_up"
ROW = "c1,41,120.5,true,yes,family,Oslo,2024-02-03"


@cache
def churn_model(task: Task = "binary", *, remark: bool = False) -> LoadedModel:
    """Return a version of the model, with a threshold and a calibration."""
    schema = churn_schema(task, remark=remark)
    onnx = OnnxModel.load(churn_onnx(task, remark=remark), schema)
    threshold = Threshold(1, 0.3) if task == "binary" else None
    return LoadedModel(
        "churn", 3, onnx, schema, threshold, calibration=churn_calibration(task), read_background=churn_background
    )


@cache
def churn_reference(task: Task = "binary") -> bytes:
    """Return ``reference.json`` of a training split of two hundred rows."""
    schema, draw, n_rows = churn_schema(task), np.random.default_rng(0), 200
    columns: dict[str, Any] = {}
    for column in schema.features:
        if column.type == "category":
            columns[column.name] = draw.choice(np.array(column.categories or ("Lima", "Oslo"), dtype=np.str_), n_rows)
        elif column.type == "datetime":
            columns[column.name] = np.datetime64("2024-01-01T00:00:00", "us") + draw.integers(0, 10**13, n_rows)
        else:
            columns[column.name] = draw.integers(0, 2 if column.type == "boolean" else 90, n_rows).astype(np.float64)
    regression = task == "regression"
    target = draw.normal(3, 1, n_rows) if regression else draw.integers(0, len(schema.classes), n_rows)
    return describe_reference(schema, columns, target).write()


def new_job(store: MemoryObjectStore, *keys: str, **options: Any) -> BatchJob:
    """Return a job for objects of the store, as they are now."""
    sources = []
    for key in keys:
        info = store.head(key)
        sources.append(SourceObject(key=key, size=info.size, etag=info.etag, version_id=info.version_id))
    fields = {
        "job_id": "b-1",
        "model": "churn",
        "version": 3,
        "sources": tuple(sources),
        "destination": scored_prefix("churn", "b-1"),
        "created_at": NOW,
    }
    return BatchJob(**fields | options)


def pointers(store: MemoryObjectStore, job: BatchJob) -> list[PartPointer]:
    """Return pointers to all parts, as the lanes have them."""
    lanes = json.loads(store.get(job_key(job.job_id, "lanes.json")))
    return [from_plain(PartPointer, part) for lane in lanes for part in lane["parts"]]


def run_job(
    store: MemoryObjectStore, job: BatchJob, loaded: LoadedModel | None = None, read: ReadSpec | None = None
) -> JobManifest:
    """Plan a job, score its parts and finish it."""
    loaded = loaded or churn_model()
    plan_job(job, loaded, read or ReadSpec(), store, lanes=4)
    for pointer in pointers(store, job):
        score_planned(job, pointer, loaded, store, clock=lambda: 0.0)
    return finish_job(job, store, now=NOW, memory_mb=1_769)


def read_results(store: MemoryObjectStore, job: BatchJob) -> pa.Table:
    """Return all results of a job in order."""
    tables = []
    for key in store.keys(f"{job.destination}part-"):
        body = io.BytesIO(store.get(key))
        tables.append(pq.read_table(body) if job.format == "parquet" else pa_csv.read_csv(body))
    return pa.concat_tables(tables, promote_options="permissive")


def score_text(text: str, name: str = "rows.csv", **options: Any) -> tuple[JobManifest, pa.Table]:
    """Score one file; return the manifest and the results."""
    store = MemoryObjectStore("data")
    store.put(f"score/churn/{name}", text.encode())
    loaded: Mapping[str, Any] = {key: options.pop(key) for key in ("loaded", "read") if key in options}
    job = new_job(store, f"score/churn/{name}", **options)
    return run_job(store, job, **loaded), read_results(store, job)
