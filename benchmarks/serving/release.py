"""Measure an active release: the same handler with and without one, request by request in random order.

Every arm is the same model, so that only the routing differs. The first column is a second handler without a release:
what it differs by is the measurement's own error. With a share of 0 every request is the champion's, and the
processor's caches hold one model as without a release; with 50 % they hold two. Processor time counts, so that other
work on the machine matters little. Standard output goes, line by line, to a pipe that another process empties, as
Lambda's does.

    .venv/bin/python benchmarks/serving/release.py
"""

import argparse
import json
import os
import random
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
from millrace.routing import PlannedArm, RoutingPlan

READER = "import os\nwhile os.read(0, 1 << 20):\n    pass"
WARM_UP = 100


def make_plan(share: float) -> str:
    """Return a stored plan with a share of a candidate."""
    return RoutingPlan("r-20261130T030000-0a1b2c3d", 0, 1, (PlannedArm(2, share),)).write()


ROUTINGS = {"no release": "", "none again": "", "share 0 %": make_plan(0.0), "share 50 %": make_plan(0.5)}


def main() -> None:
    """Print a table for one row and a hundred: the median of no release, and median differences from it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=2_000)
    requests, rng = parser.parse_args().requests, random.Random(0)  # noqa: S311 - an order is no secret
    console = os.dup(1)
    # Another process empties the pipe, as on Lambda; a thread would compete for the interpreter.
    reader = subprocess.Popen([sys.executable, "-c", READER], stdin=subprocess.PIPE)
    assert reader.stdin is not None
    os.dup2(reader.stdin.fileno(), 1)
    sys.stdout.reconfigure(line_buffering=True)
    lines = [f"| model, rows | {' | '.join(ROUTINGS)} |", "|---|" + "---|" * len(ROUTINGS)]
    with tempfile.TemporaryDirectory() as work:
        models.prepare(Path(work))
        for kind in models.KINDS:
            folder = Path(work) / kind
            handlers: list[tuple[Callable[[str], str], Callable[[], Any]]] = []
            for routing in ROUTINGS.values():
                ask = run_millrace.make(folder, routing=routing)
                handlers.append((ask, run_millrace.app._endpoint))
            split = json.loads((folder / "many.json").read_text())["dataframe_split"]
            for rows in (1, 100):
                body = json.dumps({"dataframe_split": {"columns": split["columns"], "data": split["data"][:rows]}})
                taken: list[list[float]] = [[] for _ in handlers]
                for number in range(-WARM_UP, requests):
                    for place in rng.sample(range(len(handlers)), len(handlers)):
                        ask, run_millrace.app._endpoint = handlers[place]
                        started = time.thread_time_ns()
                        ask(body)
                        if number >= 0:
                            taken[place].append((time.thread_time_ns() - started) / 1_000)
                first, *others = map(statistics.median, taken)
                more = " | ".join(f"{other - first:+,.1f} us" for other in others)
                lines.append(f"| {kind}, {rows} | {first:,.0f} us | {more} |")
    sys.stdout.flush()
    os.write(console, ("\n".join(lines) + "\n").encode())


if __name__ == "__main__":
    main()
