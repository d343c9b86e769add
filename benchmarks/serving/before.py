"""Compare the handler with that of an earlier commit: two processes take turns, and processor time counts.

    .venv/bin/python benchmarks/serving/before.py --before DIR

DIR is a checkout of the commit. Requests of one row, of 10,000, and bare runs of the session on the same row.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import models
import numpy as np
import run_millrace

QUESTIONS = {"bare": 300, "one": 300, "many": 1}


def serve_times(folder: Path) -> None:
    """Answer each line of standard input with the mean processor time of its kind of request, in microseconds."""
    ask = run_millrace.make(folder)
    bodies = {name: (folder / f"{name}.json").read_text() for name in ("one", "many")}
    row = json.loads(bodies["one"])["dataframe_split"]["data"]
    width = len(models.NUMBERS)
    numbers = np.array([values[:width] for values in row], dtype=np.float32)
    strings = np.array([values[width:] for values in row], dtype=object)
    ask(bodies["one"])
    session = run_millrace.app._endpoint().models.get("churn").onnx.session
    work: dict[str, Callable[[], Any]] = {
        "bare": lambda: session.run(["probabilities"], {"numbers": numbers, "strings": strings}),
        "one": lambda: ask(bodies["one"]),
        "many": lambda: ask(bodies["many"]),
    }
    for line in sys.stdin:
        name = line.strip()
        started = time.thread_time_ns()
        for _ in range(QUESTIONS[name]):
            work[name]()
        print((time.thread_time_ns() - started) / QUESTIONS[name] / 1_000, file=sys.stderr, flush=True)


def main() -> None:
    """Print the medians of the rounds' ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve_times(options.serve)
        return
    here = Path(__file__).resolve()
    with tempfile.TemporaryDirectory() as work:
        models.prepare(Path(work))
        for kind in models.KINDS:
            processes = {}
            for name, checkout in (("before", options.before.resolve()), ("now", here.parents[2])):
                path = [checkout / "shared", checkout / "functions/predict", checkout / "benchmarks/serving"]
                processes[name] = subprocess.Popen(
                    [sys.executable, "-P", here, "--serve", Path(work) / kind, "--before", "."],
                    env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, path))},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            print(kind, report(processes, options.rounds), flush=True)
            for process in processes.values():
                process.communicate()


def report(processes: dict[str, Any], rounds: int) -> dict[str, str]:
    """Return the ratios by name."""
    taken: dict[tuple[str, str], list[float]] = {}
    for number in range(-1, rounds):
        for name in ("before", "now") if number % 2 else ("now", "before"):
            process = processes[name]
            for question in QUESTIONS:
                process.stdin.write(f"{question}\n")
                process.stdin.flush()
                time_of = float(process.stderr.readline())
                if number >= 0:
                    taken.setdefault((name, question), []).append(time_of)

    def ratio(one: tuple[str, str], other: tuple[str, str]) -> str:
        return f"{statistics.median(a / b for a, b in zip(taken[one], taken[other], strict=True)):.2f}"

    found = {f"{question}, now / before": ratio(("now", question), ("before", question)) for question in QUESTIONS}
    return found | {f"one / bare, {name}": ratio((name, "one"), (name, "bare")) for name in processes}


if __name__ == "__main__":
    main()
