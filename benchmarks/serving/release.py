"""Measure an active release: the same handler with and without one, in random order.

Every arm is the same model, so that only the routing differs. An environment answers one request after the other, so
each handler answers a few when it is drawn, and the last one counts; ``--own 0`` lets every one count, after requests
of other handlers, whose models are then in the processor's caches. The first column is a second handler without a
release: what it differs by is the measurement's own error. With a share of 0 every request is the champion's, and the
caches hold one model as without a release; with 50 % they hold two. What that costs by itself is measured beside it:
two bare sessions of the same model that take turns at random, less one that runs alone. Processor time counts, so that
other work on the machine matters little; what a session alone takes says how much it still does. Standard output goes,
line by line, to a pipe that another process empties, as Lambda's does.

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
import numpy as np
import run_millrace
from millrace.routing import PlannedArm, RoutingPlan

READER = "import os\nwhile os.read(0, 1 << 20):\n    pass"
PREPARE = "import models, pathlib, sys; models.prepare(pathlib.Path(sys.argv[1]))"
WARM_UP = 100


def make_plan(share: float) -> str:
    """Return a stored plan with a share of a candidate."""
    return RoutingPlan("r-20261130T030000-0a1b2c3d", 0, 1, (PlannedArm(2, share),)).write()


ROUTINGS = {"no release": "", "none again": "", "share 0 %": make_plan(0.0), "share 50 %": make_plan(0.5)}


def turns_cost(folder: Path, rows: int, options: argparse.Namespace, rng: random.Random) -> tuple[float, float]:
    """Return the microseconds that a session takes for some rows, and those more when it takes turns with another."""
    asked = json.loads((folder / "many.json").read_text())["dataframe_split"]["data"][:rows]
    inputs = {
        "numbers": np.array([row[: len(models.NUMBERS)] for row in asked], dtype=np.float32),
        "strings": np.array([row[len(models.NUMBERS) :] for row in asked], dtype=object),
    }
    sessions = [models.open_session((folder / "model.onnx").read_bytes()) for _ in range(4)]
    # Each variant has sessions of its own: the first one runs alone, the others follow an order that is drawn anew.
    variants = {"alone": sessions[:1], "alone again": sessions[1:2], "turns": sessions[2:]}
    taken: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(-WARM_UP, options.requests):
        for name in rng.sample(list(variants), len(variants)):
            for _ in range(options.own + 1):
                session = rng.choice(variants[name])
                started = time.thread_time_ns()
                session.run(["probabilities"], inputs)
                last = (time.thread_time_ns() - started) / 1_000
            if number >= 0:
                taken[name].append(last)
    medians = {name: statistics.median(times) for name, times in taken.items()}
    alone = (medians["alone"] + medians["alone again"]) / 2
    return alone, medians["turns"] - alone


def main() -> None:
    """Print a table for one row and a hundred: the median of no release, and median differences from it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=2_000)
    parser.add_argument("--own", type=int, default=3, help="requests of its own before the one that counts")
    options, rng = parser.parse_args(), random.Random(0)  # noqa: S311 - an order is no secret
    console = os.dup(1)
    # Another process empties the pipe, as on Lambda; a thread would compete for the interpreter.
    reader = subprocess.Popen([sys.executable, "-c", READER], stdin=subprocess.PIPE)
    assert reader.stdin is not None
    os.dup2(reader.stdin.fileno(), 1)
    sys.stdout.reconfigure(line_buffering=True)
    columns = [*ROUTINGS, "bare session", "two of them in turns"]
    lines = [f"| model, rows | {' | '.join(columns)} |", "|---|" + "---|" * len(columns)]
    with tempfile.TemporaryDirectory() as work:
        # In another process, as in compare: an execution environment has no scikit-learn in its memory.
        subprocess.run([sys.executable, "-c", PREPARE, work], cwd=Path(__file__).parent, check=True)
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
                for number in range(-WARM_UP, options.requests):
                    for place in rng.sample(range(len(handlers)), len(handlers)):
                        ask, run_millrace.app._endpoint = handlers[place]
                        for _ in range(options.own + 1):
                            started = time.thread_time_ns()
                            ask(body)
                            last = (time.thread_time_ns() - started) / 1_000
                        if number >= 0:
                            taken[place].append(last)
                first, *others = map(statistics.median, taken)
                more = " | ".join(f"{other - first:+,.1f} us" for other in others)
                alone, turns = turns_cost(folder, rows, options, rng)
                lines.append(f"| {kind}, {rows} | {first:,.0f} us | {more} | {alone:,.0f} us | {turns:+,.1f} us |")
    sys.stdout.flush()
    os.write(console, ("\n".join(lines) + "\n").encode())


if __name__ == "__main__":
    main()
