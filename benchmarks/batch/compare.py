"""Compare batch scoring with MLflow's pyfunc, scikit-learn on whole frames, and a bare loop of ONNX Runtime.

One core, side by side, interleaved.

    python benchmarks/batch/compare.py                          # a million rows, seven rounds
    python benchmarks/batch/compare.py --rounds 3 --rows 100000
    python benchmarks/batch/compare.py --scaling                # Millrace alone: 1e5, 1e6 and 1e7 rows
    python benchmarks/batch/compare.py --lanes --rows 10000000  # wall time with 1, 2 and 4 lanes, on all cores

Every measurement is a process of its own, pinned to one core, timed from the file to the file of results; imports and
loading the model are left out of the times. Environments are made by uv from the pinned requirement files of
``benchmarks/serving``.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SERVING = HERE.parent / "serving"
sys.path[:0] = [str(SERVING), str(HERE.parent), str(ROOT / "shared")]

import models
import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
from peer_tools import make_interpreter

#: Of a tool and a folder, its own interpreter.
interpreter = partial(make_interpreter, SERVING)

#: By name: environment, script and arguments after the model and the number of rows.
TOOLS = {
    "Millrace, CSV": ("millrace", "run_millrace.py", "csv"),
    "Millrace, Parquet": ("millrace", "run_millrace.py", "parquet"),
    "Bare loop, CSV": ("millrace", "run_bare.py", "csv"),
    "Bare loop, Parquet": ("millrace", "run_bare.py", "parquet"),
    "MLflow pyfunc": ("mlflow", "run_frame.py", "mlflow"),
    "scikit-learn": ("mlflow", "run_frame.py", "sklearn"),
}
#: Rows that a table is made of at a time.
_AT_ONCE = 1_000_000


def environment(work: Path) -> dict[str, str]:
    """Return the variables of every process: one thread, no telemetry, a home of its own."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(work),
        "PYTHONPATH": os.pathsep.join((str(HERE), str(ROOT / "shared"))),
        "PYTHONWARNINGS": "ignore",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "1",
        "ARROW_DEFAULT_MEMORY_POOL": "system",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
    }


def write_rows(work: Path, rows: int) -> None:
    """Write a table of so many rows as CSV and as Parquet, a part at a time."""
    folder = work / "bucket" / "score" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"rows-{rows}.{kind}" for kind in ("csv", "parquet")]
    if all(file.exists() for file in files):
        return
    # Moved when they are whole: half a table, of a run that was broken off, would be measured as one.
    csv, parquet = (file.with_suffix(f".{os.getpid()}{file.suffix}") for file in files)
    csv_writer = parquet_writer = None
    for start in range(0, rows, _AT_ONCE):
        frame = models.make_table(min(_AT_ONCE, rows - start), 7 + start)
        frame.pop("label")
        frame.insert(0, "id", np.arange(start, start + len(frame)))
        table = pa.Table.from_pandas(frame, preserve_index=False)
        csv_writer = csv_writer or pa_csv.CSVWriter(csv, table.schema)
        parquet_writer = parquet_writer or pq.ParquetWriter(parquet, table.schema)
        csv_writer.write_table(table)
        parquet_writer.write_table(table, row_group_size=131_072)
    for writer in (csv_writer, parquet_writer):
        if writer is not None:
            writer.close()
    for written, file in zip((csv, parquet), files, strict=True):
        written.replace(file)


def measure(name: str, work: Path, kind: str, rows: int) -> dict[str, Any]:
    """Run a tool once on one core."""
    tool, script, argument = TOOLS[name]
    command = [interpreter(tool, work), HERE / script, work, kind, str(rows), argument]
    core = max(os.sched_getaffinity(0))
    finished = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env=environment(work),
        cwd=work,
        check=False,
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
    )
    if finished.returncode:
        raise RuntimeError(f"{name} failed with {finished.returncode}: {finished.stderr[-2_000:]}")
    return dict(json.loads(finished.stdout.splitlines()[-1]))


def save_mlflow(work: Path, kind: str) -> None:
    """Save the pipeline as an MLflow model, as its manual asks for."""
    if not (work / kind / "mlflow_sklearn").exists():
        script = [interpreter("mlflow", work), SERVING / "run_mlflow.py", work / kind, "save"]
        subprocess.run(script, check=True, capture_output=True, env=environment(work), cwd=work)


def compare(work: Path, rows: int, rounds: int) -> None:
    """Print medians and ratios of every tool and both models."""
    for kind in models.KINDS:
        save_mlflow(work, kind)
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in TOOLS}
        for turn in range(rounds):
            names = list(TOOLS)
            for name in names[turn % len(names) :] + names[: turn % len(names)]:
                found[name].append(measure(name, work, kind, rows))
        print(f"\n{kind}, {rows:,} rows x 14, one core, {rounds} rounds")
        print("| | wall | processor | of it session.run | peak | beyond idle |\n|---|---|---|---|---|---|")
        for name, runs in found.items():
            median = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
            share = f"{median['session'] / median['cpu']:.0%}" if "session" in median else ""
            cells = (f"{median['wall']:.2f} s", f"{median['cpu']:.2f} s", share, f"{median['peak_mb']:.0f} MB")
            print(f"| {name} | {' | '.join(cells)} | {median['peak_mb'] - median['idle_mb']:.0f} MB |")
        for source in ("CSV", "Parquet"):
            own = f"Millrace, {source}"
            for other in ("MLflow pyfunc", "scikit-learn", f"Bare loop, {source}"):
                pairs = list(zip(found[other], found[own], strict=True))
                wall, cpu = (statistics.median(one[key] / two[key] for one, two in pairs) for key in ("wall", "cpu"))
                print(f"{other} / {own}: {wall:.2f}x wall, {cpu:.2f}x processor")


def scale(work: Path, rounds: int) -> None:
    """Print the time of a row as rows grow."""
    for rows in (100_000, 1_000_000, 10_000_000):
        write_rows(work, rows)
        for kind in models.KINDS:
            for name in ("Millrace, CSV", "Millrace, Parquet"):
                runs = [measure(name, work, kind, rows) for _ in range(rounds)]
                cpu = statistics.median(run["cpu"] for run in runs)
                peak = statistics.median(run["peak_mb"] for run in runs)
                row = f"{cpu / rows * 1e6:.2f} us a row"
                print(f"{kind}, {name}, {rows:,} rows: {cpu:.2f} s of processor, {row}, peak {peak:.0f} MB")


def compare_lanes(work: Path, rows: int, rounds: int) -> None:
    """Print the wall time of a job with 1, 2 and 4 lanes, and the whole as a multiple of the slowest lane."""
    write_rows(work, rows)
    for kind in models.KINDS:
        found: dict[int, list[dict[str, float]]] = {1: [], 2: [], 4: []}
        for _ in range(rounds):
            for lanes, runs in found.items():
                command = [
                    interpreter("millrace", work),
                    HERE / "run_lanes.py",
                    work,
                    kind,
                    str(rows),
                    "csv",
                    str(lanes),
                ]
                done = subprocess.run(command, capture_output=True, text=True, env=environment(work), check=True)
                runs.append(json.loads(done.stdout.splitlines()[-1]))
        for lanes, runs in found.items():
            wall, slowest = (statistics.median(run[key] for run in runs) for key in ("wall", "slowest"))
            share = statistics.median(run["wall"] / run["slowest"] for run in runs)
            job = f"{kind}, {rows:,} rows in {runs[0]['parts']} parts, {lanes} lanes"
            print(f"{job}: {wall:.1f} s, slowest lane {slowest:.1f} s, {share:.2f}x of it")


def main() -> None:
    """Read the arguments, make what is compared, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--scaling", action="store_true")
    parser.add_argument("--lanes", action="store_true")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "millrace-batch-benchmark")
    arguments = parser.parse_args()
    work = arguments.work
    sys.stdout.reconfigure(line_buffering=True)
    work.mkdir(parents=True, exist_ok=True)
    models.prepare(work)
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    if arguments.scaling:
        scale(work, min(3, arguments.rounds))
        return
    if arguments.lanes:
        compare_lanes(work, arguments.rows, arguments.rounds)
        return
    write_rows(work, arguments.rows)
    compare(work, arguments.rows, arguments.rounds)


if __name__ == "__main__":
    main()
