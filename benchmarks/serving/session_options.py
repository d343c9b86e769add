"""Measure the session options that a served model could have: one row, 10,000 rows, loading, and memory.

python benchmarks/serving/compare.py --rounds 1 --cold-rounds 0   # makes the models
python benchmarks/serving/session_options.py
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

ONE_THREAD = {"intra_op_num_threads": 1, "inter_op_num_threads": 1}
LEVELS = onnxruntime.GraphOptimizationLevel
VARIANTS: dict[str, dict[str, Any]] = {
    "as ONNX Runtime has them": {},
    "one thread": ONE_THREAD,
    "one thread, no arena": {**ONE_THREAD, "enable_cpu_mem_arena": False},
    "one thread, no memory pattern": {**ONE_THREAD, "enable_mem_pattern": False},
    "one thread, basic optimisation": {**ONE_THREAD, "graph_optimization_level": LEVELS.ORT_ENABLE_BASIC},
    "one thread, no optimisation": {**ONE_THREAD, "graph_optimization_level": LEVELS.ORT_DISABLE_ALL},
    "one thread, optimised beforehand": {**ONE_THREAD, "graph_optimization_level": LEVELS.ORT_DISABLE_ALL},
}
BEFOREHAND = "one thread, optimised beforehand"


def session(model: Path, options: dict[str, Any]) -> Any:
    """Open a session."""
    made = onnxruntime.SessionOptions()
    made.log_severity_level = 3
    for name, value in options.items():
        setattr(made, name, value)
    return onnxruntime.InferenceSession(model.read_bytes(), made, providers=["CPUExecutionProvider"])


def optimise(model: Path, target: Path) -> Path:
    """Write the model as ONNX Runtime optimises it here."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(target)
    onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    return target


def tensors(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the inputs of one row, and of 10,000."""
    rows = json.loads((folder / "many.json").read_text())["dataframe_split"]["data"]
    numbers = np.array([row[:9] for row in rows], dtype=np.float32)
    strings = np.array([row[9:] for row in rows], dtype=object)
    return {"numbers": numbers[:1], "strings": strings[:1]}, {"numbers": numbers, "strings": strings}


def clock(work: Any, repeats: int) -> float:
    """Return the seconds that one piece of work takes, over some repeats."""
    started = time.perf_counter()
    for _ in range(repeats):
        work()
    return (time.perf_counter() - started) / repeats


def memory(folder: Path, name: str) -> float:
    """Return by how many MiB a fresh process grows that loads the model and scores 10,000 rows in chunks."""
    done = subprocess.run(
        [sys.executable, __file__, "--memory", name, "--folder", folder], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def report_memory(folder: Path, name: str) -> None:
    """Print what :func:`memory` returns."""

    def resident() -> int:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))

    _, many = tensors(folder)
    model = folder / ("optimised.onnx" if name == BEFOREHAND else "model.onnx")
    before = resident()
    opened = session(model, VARIANTS[name])
    for start in range(0, 10_000, 1_024):
        opened.run(["probabilities"], {key: value[start : start + 1_024] for key, value in many.items()})
    print((resident() - before) / 1_024)


def compare(folder: Path, rounds: int) -> None:
    """Print a table for one model."""
    one, many = tensors(folder)
    models = dict.fromkeys(VARIANTS, folder / "model.onnx")
    models[BEFOREHAND] = optimise(folder / "model.onnx", folder / "optimised.onnx")
    sessions = {name: session(models[name], options) for name, options in VARIANTS.items()}
    taken: dict[tuple[str, str], list[float]] = {}
    for _ in range(rounds):
        for name, opened in sessions.items():
            for what, work, repeats in (
                ("one", lambda opened=opened: opened.run(["probabilities"], one), 500),
                ("many", lambda opened=opened: opened.run(["probabilities"], many), 1),
                ("load", lambda name=name: session(models[name], VARIANTS[name]), 3),
            ):
                taken.setdefault((name, what), []).append(clock(work, repeats))
    print(f"\n{folder.name}\n\n| | one row | 10,000 rows | loading | memory |\n|---|---|---|---|---|")
    for name in VARIANTS:
        row, table, load = (statistics.median(taken[name, what]) for what in ("one", "many", "load"))
        grown = f"{memory(folder, name):.1f} MiB"
        print(f"| {name} | {row * 1e6:.1f} µs | {table * 1e3:.1f} ms | {load * 1e3:.2f} ms | {grown} |")


def main() -> None:
    """Measure every model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "millrace-benchmark-serving")
    parser.add_argument("--memory", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory:
        report_memory(options.folder, options.memory)
        return
    for kind in ("logistic_regression", "hist_gradient_boosting"):
        compare(options.work / kind, options.rounds)


if __name__ == "__main__":
    main()
