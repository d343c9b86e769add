"""Parts in a process with little memory: long ones, and small files that unpack to much."""

import gzip
import io
import json
import os
import random
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq

from tests.batch_jobs import HEADER, ROW
from tests.serving_models import churn_onnx

SCORE = """
import json, resource, sys
from pathlib import Path
#: Addresses that nothing was written to count here as well: those of libraries and threads are half of it.
resource.setrlimit(resource.RLIMIT_AS, (2_500 << 20, 2_500 << 20))
folder = Path(sys.argv[1])
from unittest import mock
from millrace.batch import job_planning, part_scoring
from millrace.data.read import UploadLimits
from millrace.errors import MillraceError
from millrace.serving.model import LoadedModel, OnnxModel
from millrace.spec.data import ReadSpec
from tests.batch_jobs import new_job, pointers
from tests.fakes.memory_object_store import MemoryObjectStore, StoredObject, WRITTEN_AT
from tests.serving_models import churn_schema

class Folder(MemoryObjectStore):
    def get_range(self, key, start, end, *, etag="", version_id=None):
        if not key.startswith("score"):
            return super().get_range(key, start, end)
        with (folder / key.rpartition("/")[2]).open("rb") as file:
            file.seek(start)
            return file.read(end - start)
    def upload_file(self, path, key, content_type=""):
        self.sizes = path.stat().st_size

def peak():
    return int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) >> 10

loaded = LoadedModel("churn", 3, OnnxModel.load((folder / "model.onnx").read_bytes(), churn_schema()), churn_schema())
from millrace.batch.job import SourceObject
limits = UploadLimits(max_bytes=15_000_000)
for number, path in enumerate(sorted(folder.glob("rows*"))):
    store = Folder("data")
    source = SourceObject(key=f"score/churn/{path.name}", size=path.stat().st_size)
    job = new_job(store, sources=(source,), job_id=f"b-{number}")
    before, fault, rows = peak(), "", 0
    try:
        with mock.patch.object(job_planning, "MAX_KNOWN_FILES", 0), mock.patch.object(job_planning, "CHECKED_FILES", 0):
            job_planning.plan_job(job, loaded, ReadSpec(), store, lanes=1, limits=limits)
        for pointer in pointers(store, job):
            receipt = part_scoring.score_planned(job, pointer, loaded, store, limits=limits)
            fault, rows = fault or receipt.fault, rows + receipt.rows
    except MillraceError as error:
        fault = error.message
    print(json.dumps({"name": path.name, "fault": fault, "rows": rows, "grown": peak() - before}), flush=True)
"""


def parquet_by_dictionary() -> bytes:
    """Return a file of a few kilobytes whose rows all hold one value of a megabyte."""
    names = HEADER.split(",")
    columns = {name: pa.array([value] * 100) for name, value in zip(names, ROW.split(","), strict=True)}
    columns["city"] = pa.DictionaryArray.from_arrays(pa.array([0] * 100, pa.int32()), pa.array(["x" * (1 << 20)]))
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, compression="zstd")
    return buffer.getvalue()


def test_parts_take_little_memory_whatever_they_unpack_to(tmp_path):
    lines = f"{ROW}\n" * 20_000
    noise = "".join(f"c{number},{ROW[3:]}\n" for number in random.Random(1).sample(range(10**12), 40_000))
    (tmp_path / "model.onnx").write_bytes(churn_onnx())
    (tmp_path / "rows-a.csv").write_text(f"{HEADER}\n{lines * 3}")
    (tmp_path / "rows-b.csv").write_text(f"{HEADER}\n{lines * 12}")
    (tmp_path / "rows-c.csv.gz").write_bytes(gzip.compress(f"{HEADER}\n{noise}{lines * 20}".encode(), 1))
    (tmp_path / "rows-d.parquet").write_bytes(parquet_by_dictionary())
    command, environment = (
        [sys.executable, "-c", SCORE, str(tmp_path)],
        {
            **os.environ,
            "MALLOC_ARENA_MAX": "1",
            "ARROW_DEFAULT_MEMORY_POOL": "system",
            "PYTHONPATH": ":".join(sys.path),
        },
    )
    found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=environment)
    assert found.returncode == 0, found.stderr
    short, long, archive, parquet = map(json.loads, found.stdout.splitlines())
    assert (short["rows"], short["fault"], long["rows"], long["fault"]) == (60_000, "", 240_000, "")
    # Four times the rows, and next to no more memory.
    assert long["grown"] < 60
    assert "unpacks to more than 15 MB" in archive["fault"]
    assert "unpacks to more than 15 MB" in parquet["fault"]
    assert archive["grown"] < 60
    assert parquet["grown"] < 60
