"""Memory does not grow as a file does: measured in a process of its own, on a file that is long for a test."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMINE = """
import json, resource, sys
from pathlib import Path
from millrace.data import typed_table
from millrace.data.validation import validate_upload
from millrace.data.dataset import write_parquet
from millrace.data.dataset import dataset_id
from millrace.schema import TableSchema
from millrace.spec import ModelSpec

path, schema, folder = Path(sys.argv[1]), json.loads(sys.argv[2]), Path(sys.argv[3])
typed_table.SPILL_BYTES = 4 << 20
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = peak()
found = validate_upload(path, "t.csv", ModelSpec(), {}, TableSchema.from_dict(schema), folder=folder)
assert found.accepted, found.reasons
dataset_id(found.table)
write_parquet(found.table, folder / "data.parquet")
print(json.dumps({"bytes": peak() - before, "rows": len(found.table)}))
"""

COLUMNS = 12
SCHEMA = {
    "version": 1,
    "task": "binary",
    "classes": ["0", "1"],
    "columns": [
        *({"name": f"c{i}", "type": "number", "role": "feature", "nullable": False} for i in range(COLUMNS)),
        {"name": "note", "type": "text", "role": "ignored", "nullable": False},
        {"name": "label", "type": "integer", "role": "target", "nullable": False},
    ],
}


def write(path: Path, rows: int) -> int:
    """Write a table of which most is text, and no two rows are alike."""
    names = [*(f"c{i}" for i in range(COLUMNS)), "note", "label"]
    with path.open("w", encoding="utf-8") as file:
        file.write(",".join(names) + "\n")
        for start in range(0, rows, 10_000):
            block = range(start, min(rows, start + 10_000))
            file.write("".join(f"{','.join([f'{row % 9973}.25'] * COLUMNS)},{row:_>800},{row % 2}\n" for row in block))
    return path.stat().st_size


def peak(folder: Path, rows: int) -> tuple[int, int]:
    size = write(folder / "t.csv", rows)
    scratch = folder / str(rows)
    scratch.mkdir()
    command = [sys.executable, "-c", EXAMINE, str(folder / "t.csv"), json.dumps(SCHEMA), str(scratch)]
    environment = {**os.environ, "MALLOC_ARENA_MAX": "1"}  # as in the template
    finished = subprocess.run(command, capture_output=True, check=True, text=True, env=environment)
    told = json.loads(finished.stdout)
    assert told["rows"] == rows
    return size, told["bytes"]


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in kilobytes there")
def test_memory_grows_by_much_less_than_the_file(tmp_path):
    small, little = peak(tmp_path, 60_000)
    large, much = peak(tmp_path, 180_000)
    assert large > 95_000_000
    # Held as a whole, its typed rows alone would take about as much as the file.
    assert (much - little) / (large - small) < 0.7
