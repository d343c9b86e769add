"""A loop of pyarrow and ONNX Runtime and nothing else: no checks, no order of rows, no plan, no receipts.

It shows what is left to gain: whoever scores the same exported model from the same file has at least these costs.
Arguments: WORK KIND ROWS, and csv or parquet.
"""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from process_memory import memory_mb

#: Bytes of text, and rows of Parquet, that are read at once; rows that are scored at once.
BLOCK_BYTES, BATCH_ROWS, CALL_ROWS = 4 << 20, 65_536, 16_384


work, kind, rows, source = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4]
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession((work / kind / "model.onnx").read_bytes(), options)
path = work / "bucket" / "score" / "bench" / f"rows-{rows}.{source}"


def read() -> Iterator[pa.RecordBatch]:
    """Yield the rows; texts as dictionaries."""
    if source == "parquet":
        texts = [name for name in pq.read_schema(path).names if name.startswith("word")]
        yield from pq.ParquetFile(path, read_dictionary=texts).iter_batches(BATCH_ROWS)
        return
    names = path.open().readline().replace('"', "").strip().split(",")
    text = pa.dictionary(pa.int32(), pa.string())
    kinds = {name: text if name.startswith("word") else pa.float64() for name in names}
    yield from pa_csv.open_csv(
        path,
        read_options=pa_csv.ReadOptions(block_size=BLOCK_BYTES, use_threads=False),
        convert_options=pa_csv.ConvertOptions(column_types=kinds | {"id": pa.int64()}, strings_can_be_null=True),
    )


def as_texts(column: pa.DictionaryArray) -> np.ndarray:
    """Return strings, empty where they are missing."""
    names = np.array([*column.dictionary.to_pylist(), ""], dtype=object)
    return names[column.indices.fill_null(len(names) - 1).to_numpy(zero_copy_only=False)]


idle = memory_mb("VmRSS")
wall, cpu, session_seconds, scored = time.perf_counter(), time.process_time(), 0.0, 0
writer = None
for batch in read():
    columns = [name for name in batch.schema.names if name.startswith("number")]
    numbers = np.column_stack([batch[name].to_numpy(zero_copy_only=False) for name in columns]).astype(np.float32)
    strings = np.column_stack([as_texts(batch[name]) for name in batch.schema.names if name.startswith("word")])
    found = []
    for start in range(0, len(batch), CALL_ROWS):
        some = slice(start, start + CALL_ROWS)
        started = time.thread_time()
        found += session.run(["probabilities"], {"numbers": numbers[some], "strings": strings[some]})
        session_seconds += time.thread_time() - started
    chances = np.concatenate(found)
    table = pa.table(
        {
            "id": batch["id"],
            "prediction": chances.argmax(axis=1),
            "probability_0": chances[:, 0].copy(),
            "probability_1": chances[:, 1].copy(),
        }
    )
    writer = writer or pq.ParquetWriter(work / f"bare-{kind}.parquet", table.schema)
    writer.write_table(table)
    scored += len(batch)
assert writer is not None
writer.close()
cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
assert scored == rows
figures = {"cpu": cpu, "wall": wall, "session": session_seconds, "peak_mb": memory_mb("VmHWM"), "idle_mb": idle}
print(json.dumps(figures))
