"""Small files that unpack to much: each has its result, in little memory and time, in a process with a limit."""

import gzip
import io
import json
import os
import subprocess
import sys
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

VALIDATE = """
import json, resource, sys, time
from pathlib import Path
#: As Lambda's memory of 3,008 MB; addresses that nothing was written to count here as well.
resource.setrlimit(resource.RLIMIT_AS, (3_008 << 20, 3_008 << 20))
from millrace.data import read
from millrace.data.validation import validate_upload
from millrace.spec import ModelSpec

read.MAX_QUARANTINED = 100_000  # for less time
for path in sorted(Path(sys.argv[1]).iterdir()):
    start = time.process_time()
    folder = Path(sys.argv[2], path.name)
    folder.mkdir()
    found = validate_upload(path, path.name, ModelSpec(), {}, None, folder=folder)
    peak = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0])
    seconds = time.process_time() - start
    print(json.dumps({"name": path.name, "reasons": found.reasons, "seconds": seconds, "peak": peak}), flush=True)
"""
MEGABYTE = 1 << 20
TABLE = b"a,b,label\n" + b"1,x,0\n2,y,1\n" * 50


def packed(*parts: bytes) -> bytes:
    return gzip.compress(b"".join(parts), compresslevel=1, mtime=0)


def parquet(rows: int, column: pa.Array, **options: Any) -> bytes:
    labels = pa.array([row % 2 for row in range(rows)], pa.int8())
    buffer = io.BytesIO()
    pq.write_table(pa.table({"a": column, "label": labels}), buffer, compression="zstd", **options)
    return buffer.getvalue()


def repeated(rows: int, size: int = MEGABYTE) -> pa.Array:
    """Return one value for all rows, without so many copies of it."""
    return pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array(["x" * size]))


def written_by_dictionary(rows: int) -> bytes:
    return parquet(rows, repeated(rows))


def lists_by_dictionary(rows: int) -> bytes:
    """Write every value into the list of the first row."""
    lists = pa.ListArray.from_arrays(pa.array([0, *[rows] * rows], pa.int32()), repeated(rows))
    return parquet(rows, lists)


def varint(number: int) -> bytes:
    number, body = number << 1, []
    while number >= 128:
        body.append(number & 127 | 128)
        number >>= 7
    return bytes([*body, number])


def belittled(body: bytes) -> bytes:
    """Return a file whose footer says of every size that it is small."""
    group = pq.ParquetFile(io.BytesIO(body)).metadata.row_group(0)
    start = len(body) - 8 - int.from_bytes(body[-8:-4], "little")
    footer = body[start:]
    sizes = {
        group.total_byte_size,
        *(group.column(place).total_uncompressed_size for place in range(group.num_columns)),
    }
    for size in sizes:
        honest = varint(size)
        if len(honest) > 2:
            assert honest in footer
            footer = footer.replace(honest, b"\x81" + b"\x80" * (len(honest) - 2) + b"\x00")
    return body[:start] + footer


def zeros(rows: int, **options: Any) -> bytes:
    return parquet(rows, pa.array([0] * rows, pa.int64()), use_dictionary=False, **options)


def differences(rows: int) -> bytes:
    """Write values that share all but their end."""
    column = pa.array(["x" * MEGABYTE + str(row) for row in range(rows)])
    return parquet(rows, column, use_dictionary=False, column_encoding={"a": "DELTA_BYTE_ARRAY"})


TOO_LONG, TOO_LARGE = "longer than 8 MB", "unpacks to more than 2,500 MB"
LINES = b'{"a": 1, "label": 0}\n{"a": 2, "label": 1}\n' * 50


def bombs() -> dict[str, tuple[bytes, str]]:
    """Return by name the bodies, and a part of the reason for the rejection; none where a file is accepted."""
    return {
        "dictionary.parquet": (written_by_dictionary(4_000), TOO_LARGE),
        "dictionary-lie.parquet": (belittled(written_by_dictionary(4_000)), TOO_LARGE),
        "lists.parquet": (lists_by_dictionary(4_000), TOO_LARGE),
        "long-list.parquet": (lists_by_dictionary(400), "row 1 holds more than 8 MB"),
        "long-value.parquet": (parquet(40, repeated(40, size=10 * MEGABYTE)), "row 1 holds more than 8 MB"),
        "one-page-lie.parquet": (
            belittled(zeros(1_000_000, data_page_size=1 << 30, write_batch_size=1_000_000)),
            "constant: every value is '0'",
        ),
        "fixed.parquet": (
            parquet(64, pa.array([bytes(MEGABYTE)] * 64, pa.binary(MEGABYTE))),
            "constant: every value is",
        ),
        "differences.parquet": (differences(20), "1,048,578 characters long"),
        "rows.parquet": (zeros(15_000_001), "15,000,001 rows"),
        "packed.parquet.gz": (packed(written_by_dictionary(4_000)), TOO_LARGE),
        "quotes.csv.gz": (packed(TABLE, b'"' * (20 * MEGABYTE)), TOO_LONG),
        "quoted-lines.csv.gz": (packed(TABLE, b'"\n' * (8 * MEGABYTE)), "rows are invalid"),
        "one-quote.csv.gz": (packed(TABLE, b'"', b"\n" * (20 * MEGABYTE)), "opens a quote that is never closed"),
        "returns.csv.gz": (packed(TABLE, b"\r" * (20 * MEGABYTE)), TOO_LONG),
        "irregular.csv.gz": (packed(TABLE, b'x"y,1,0\n' * (MEGABYTE // 16)), ""),
        "short.csv.gz": (packed(TABLE, b'x"y\n', b"z\n" * (8 * MEGABYTE)), "rows are invalid"),
        "blank.csv.gz": (packed(TABLE, b"\n" * (20 * MEGABYTE)), ""),
        "mostly-blank.csv.gz": (packed(TABLE, (b"\n" * 100 + b"1,x,0\n") * (MEGABYTE // 16)), ""),
        "value.csv.gz": (packed(TABLE, b"1," + b"x" * (20 * MEGABYTE) + b",0\n"), TOO_LONG),
        "line.jsonl.gz": (packed(LINES, b'{"a": "' + b"x" * (20 * MEGABYTE)), TOO_LONG),
        "blank.jsonl.gz": (packed(LINES, b"\n" * (20 * MEGABYTE)), ""),
        "array.json.gz": (packed(b"[" + b'{"a": 1, "label": 0},' * MEGABYTE), "one JSON array"),
        "deep.jsonl.gz": (packed(LINES, b"[" * MEGABYTE), ""),
    }


@pytest.mark.skipif(sys.platform != "linux", reason="limits of addresses, and the peak of resident memory")
def test_small_files_that_unpack_to_much_have_their_result_in_little_memory(tmp_path):
    files = bombs()
    for folder in ("files", "scratch"):
        (tmp_path / folder).mkdir()
    for name, (body, _) in files.items():
        assert len(body) < 4 * MEGABYTE
        (tmp_path / "files" / name).write_bytes(body)
    command = [sys.executable, "-c", VALIDATE, str(tmp_path / "files"), str(tmp_path / "scratch")]
    environment = {**os.environ, "MALLOC_ARENA_MAX": "1"}  # as in the template
    finished = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    results = {(result := json.loads(line))["name"]: result for line in finished.stdout.splitlines()}
    assert results.keys() == files.keys(), finished.stderr
    for name, (_, reason) in files.items():
        told = "; ".join(results[name]["reasons"])
        assert reason in told if reason else not told, (name, told)
    assert max(result["peak"] for result in results.values()) < 1_200_000
    # Of a processor; each takes a second or two.
    assert max(result["seconds"] for result in results.values()) < 60.0
