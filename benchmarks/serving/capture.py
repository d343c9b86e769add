"""What capturing costs whoever waits: the same handler with and without it, request by request in turn.

Standard output goes, line by line, to a pipe that another process empties, as Lambda's does.

    .venv/bin/python benchmarks/serving/capture.py
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
import run_millrace

READER = "import os\nwhile os.read(0, 1 << 20):\n    pass"


def clock(ask: Callable[[str], Any], body: str, requests: int) -> float:
    """Return the median time of a request, in microseconds."""
    times = []
    for _ in range(requests):
        started = time.perf_counter_ns()
        ask(body)
        times.append(time.perf_counter_ns() - started)
    return statistics.median(times) / 1_000


def main() -> None:
    """Print a table for one row, a hundred, and ten thousand."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    console = os.dup(1)
    # Another process empties the pipe, as on Lambda; a thread would compete for the interpreter.
    reader = subprocess.Popen([sys.executable, "-c", READER], stdin=subprocess.PIPE)
    assert reader.stdin is not None
    os.dup2(reader.stdin.fileno(), 1)
    sys.stdout.reconfigure(line_buffering=True)
    with tempfile.TemporaryDirectory() as work:
        models.prepare(Path(work))
        lines = ["| model, rows | without | with capture | microseconds more | ratio |", "|---|---|---|---|---|"]
        for kind in models.KINDS:
            folder = Path(work) / kind
            endpoints: dict[bool, Callable[[], Any]] = {}
            for captures in (False, True):
                ask = run_millrace.make(folder, captures=captures)
                endpoints[captures] = run_millrace.app._endpoint
            split = json.loads((folder / "many.json").read_text())["dataframe_split"]
            for rows, requests in ((1, 200), (100, 40), (10_000, 1)):
                part = {"columns": split["columns"], "data": split["data"][:rows]}
                body = json.dumps({"dataframe_split": part})
                measured: dict[bool, list[float]] = {False: [], True: []}
                for round_number in range(-1, rounds):
                    for captures in (False, True) if round_number % 2 else (True, False):
                        run_millrace.app._endpoint = endpoints[captures]
                        taken = clock(ask, body, requests)
                        if round_number >= 0:
                            measured[captures].append(taken)
                ratios = [after / before for before, after in zip(measured[False], measured[True], strict=True)]
                before, after = (statistics.median(measured[captures]) for captures in (False, True))
                lines.append(
                    f"| {kind}, {rows:,} | {before:,.0f} us | {after:,.0f} us | {after - before:,.0f} "
                    f"| {statistics.median(ratios):.2f}x |"
                )
    sys.stdout.flush()
    os.write(console, ("\n".join(lines) + "\n").encode())


if __name__ == "__main__":
    main()
