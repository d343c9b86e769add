"""A whole batch job on several lanes: planned, each lane scored by a process of its own, and finished; wall time.

Arguments: WORK KIND ROWS, csv or parquet, and the number of lanes. Processes import and load the model before the time
begins, as warm functions have.
"""

import json
import multiprocessing
import os
import shutil
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

work, kind, rows, source, lanes = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4], int(sys.argv[5])

from folder_store import FolderStore
from millrace.batch.finishing import finish_job
from millrace.batch.job import BatchJob, PartPointer, SourceObject
from millrace.batch.job_planning import plan_job
from millrace.batch.part_scoring import score_planned
from millrace.documents import from_plain
from millrace.schema import TableSchema
from millrace.serving.model import LoadedModel, OnnxModel
from millrace.spec.data import ReadSpec

bucket = work / "bucket"


def load() -> LoadedModel:
    """Load the version."""
    schema = TableSchema.from_dict(json.loads((work / kind / "signature.json").read_text())["schema"])
    return LoadedModel("bench", 1, OnnxModel.load((work / kind / "model.onnx").read_bytes(), schema), schema)


def score_lane(job: BatchJob, lane: int, ready: Any, begin: Any, times: Any) -> None:
    """Wait for the plan, score the parts of a lane, and report the seconds that they took."""
    loaded, store = load(), FolderStore(bucket)
    ready.release()
    begin.wait()
    started = time.perf_counter()
    planned = json.loads(store.get(f"jobs/{job.job_id}/lanes.json"))
    for part in planned[lane]["parts"] if lane < len(planned) else ():
        score_planned(job, from_plain(PartPointer, part), loaded, store)  # type: ignore[arg-type]  # what a job needs
    times.put(time.perf_counter() - started)


def main() -> None:
    """Run the job, and print its seconds and those of its slowest lane."""
    store: Any = FolderStore(bucket)
    job_id = f"lanes-{os.getpid()}"
    key, now = f"score/bench/rows-{rows}.{source}", datetime.now(UTC)
    sources = (SourceObject(key=key, size=store.head(key).size),)
    destination = f"scored/bench/{job_id}/"
    job = BatchJob(job_id=job_id, model="bench", version=1, sources=sources, destination=destination, created_at=now)
    context = multiprocessing.get_context("fork")
    ready, begin, times = context.Semaphore(0), context.Event(), context.Queue()
    workers = [context.Process(target=score_lane, args=(job, lane, ready, begin, times)) for lane in range(lanes)]
    for worker in workers:
        worker.start()
    for _ in workers:
        ready.acquire()
    loaded = load()
    started = time.perf_counter()
    plan = plan_job(job, loaded, ReadSpec(), store, lanes=lanes)
    planned = time.perf_counter() - started
    begin.set()
    seconds = [times.get() for _ in workers]
    for worker in workers:
        worker.join()
    manifest = finish_job(job, store, now=now)
    wall = time.perf_counter() - started
    for folder in (bucket / "jobs" / job_id, bucket / job.destination):
        shutil.rmtree(folder)
    assert manifest.outcome == "complete", manifest.reasons
    print(json.dumps({"wall": wall, "plan": planned, "slowest": max(seconds), "parts": plan.parts}))


if __name__ == "__main__":
    main()
