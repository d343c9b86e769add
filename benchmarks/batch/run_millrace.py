"""A whole batch job: planned, scored part by part on one core, and finished.

Arguments: WORK KIND ROWS, and csv or parquet.
"""

import json
import os
import shutil
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

work, kind, rows, source = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]

from folder_store import FolderStore
from millrace.batch.finishing import finish_job
from millrace.batch.job import BatchJob, PartPointer, SourceObject
from millrace.batch.job_planning import plan_job
from millrace.batch.part_scoring import score_planned
from millrace.documents import from_plain
from millrace.schema import TableSchema
from millrace.serving.model import LoadedModel, OnnxModel
from millrace.spec.data import ReadSpec
from process_memory import memory_mb

schema = TableSchema.from_dict(json.loads((work / kind / "signature.json").read_text())["schema"])
loaded = LoadedModel("bench", 1, OnnxModel.load((work / kind / "model.onnx").read_bytes(), schema), schema)
bucket = work / "bucket"
# Of this process alone: another comparison may use the folder, and receipts of its job would be found instead.
job_id = f"bench-{os.getpid()}"
store: Any = FolderStore(bucket)
key = f"score/bench/rows-{rows}.{source}"
now = datetime.now(UTC)
job = BatchJob(
    job_id=job_id,
    model="bench",
    version=1,
    sources=(SourceObject(key=key, size=store.head(key).size),),
    destination=f"scored/bench/{job_id}/",
    created_at=now,
)

session_seconds = 0.0
inner = OnnxModel.run


def timed_run(self: OnnxModel, features: Any) -> Any:
    """Score, and add up the thread's processor time."""
    global session_seconds  # noqa: PLW0603 - one process, one figure
    started = time.thread_time()
    found = inner(self, features)
    session_seconds += time.thread_time() - started
    return found


OnnxModel.run = timed_run  # type: ignore[method-assign]  # measured, and otherwise itself
idle = memory_mb("VmRSS")
wall, cpu = time.perf_counter(), time.process_time()
plan_job(job, loaded, ReadSpec(), store, lanes=1)
planned = time.process_time() - cpu
for lane in json.loads(store.get(f"jobs/{job_id}/lanes.json")):
    for part in lane["parts"]:
        score_planned(job, from_plain(PartPointer, part), loaded, store)
manifest = finish_job(job, store, now=now)
cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
for folder in (bucket / "jobs" / job_id, bucket / job.destination):
    shutil.rmtree(folder)
assert manifest.outcome == "complete", manifest.reasons
assert manifest.rows == rows
print(
    json.dumps(
        {
            "cpu": cpu,
            "wall": wall,
            "plan": planned,
            "session": session_seconds,
            "parts": manifest.parts,
            "peak_mb": memory_mb("VmHWM"),
            "idle_mb": idle,
        }
    )
)
