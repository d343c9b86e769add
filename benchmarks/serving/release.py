"""Measure an active release: the same handler with and without one, request by request in turn.

Both arms are the same model, so that only the routing differs; with a share of 0 every request is the champion's, and
the processor's caches hold one model as without a release. Standard output goes, line by line, to a pipe that
another process empties, as Lambda's does.

    .venv/bin/python benchmarks/serving/release.py
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
from itertools import product
from pathlib import Path
from typing import Any

import models
import run_millrace
from millrace.routing import PlannedArm, RoutingPlan

READER = "import os\nwhile os.read(0, 1 << 20):\n    pass"
SHARES = (0.0, 0.5)


def main() -> None:
    """Print a table for one row and a hundred: medians, and the median difference of requests in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=4_000)
    requests = parser.parse_args().requests
    console = os.dup(1)
    # Another process empties the pipe, as on Lambda; a thread would compete for the interpreter.
    reader = subprocess.Popen([sys.executable, "-c", READER], stdin=subprocess.PIPE)
    assert reader.stdin is not None
    os.dup2(reader.stdin.fileno(), 1)
    sys.stdout.reconfigure(line_buffering=True)
    lines = ["| model, rows, share | no release | active release | microseconds more |", "|---|---|---|---|"]
    with tempfile.TemporaryDirectory() as work:
        models.prepare(Path(work))
        for kind, share in product(models.KINDS, SHARES):
            folder = Path(work) / kind
            plan = RoutingPlan("r-20261130T030000-0a1b2c3d", 0, 1, (PlannedArm(2, share),)).write()
            endpoints: list[Callable[[], Any]] = []
            for routing in ("", plan):
                ask = run_millrace.make(folder, routing=routing)
                endpoints.append(run_millrace.app._endpoint)
            split = json.loads((folder / "many.json").read_text())["dataframe_split"]
            for rows in (1, 100):
                body = json.dumps({"dataframe_split": {"columns": split["columns"], "data": split["data"][:rows]}})
                taken: tuple[list[float], list[float]] = ([], [])
                for number in range(-200, requests if rows == 1 else requests // 4):
                    for place in (0, 1) if number % 2 else (1, 0):
                        run_millrace.app._endpoint = endpoints[place]
                        started = time.perf_counter_ns()
                        ask(body)
                        if number >= 0:
                            taken[place].append((time.perf_counter_ns() - started) / 1_000)
                more = statistics.median(after - before for before, after in zip(*taken, strict=True))
                before, after = map(statistics.median, taken)
                lines.append(f"| {kind}, {rows}, {share:.0%} | {before:,.0f} us | {after:,.0f} us | {more:,.1f} |")
    sys.stdout.flush()
    os.write(console, ("\n".join(lines) + "\n").encode())


if __name__ == "__main__":
    main()
