"""Measure replays: rows a second, and the labels that a paired test needs beside an A/B test.

python benchmarks/releases/replay.py speed --rows 100000      # champion and candidate, by the rows of a request
python benchmarks/releases/replay.py labels                   # 400 streams a row, seed 0
"""

import argparse
import math
import resource
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks" / "serving")]

import models
from millrace.captures.window import read_windows
from millrace.releases.paired_quality import log_wealth

from tests.captured_rows import store_rows
from tests.registry_builders import MODEL, NOW
from tests.replay_world import ReplayWorld

#: Accuracy of the champion, and the share of rows that each version alone has right where both are as good.
ACCURACY, APART = 0.8, 0.03
MOST_LABELS = 20_000
LIMIT = math.log(20)


def make_world(kinds: tuple[str, str]) -> ReplayWorld:
    """Return a champion and a candidate of 14 mixed columns."""
    world, table = ReplayWorld(), models.make_table(20_000, 0)
    target = table.pop("label").to_numpy()
    for number, kind in enumerate(kinds, start=1):
        world.register(number, models.millrace_onnx(kind, table, target), models.schema())
    return world


def measure_speed(rows: int, size: int, kinds: tuple[str, str]) -> None:
    """Print the speed of one replay of requests with ``size`` rows."""
    world = make_world(kinds)
    world.gap = timedelta(days=1) * size / rows
    table = models.make_table(rows, 1).drop(columns="label")
    records = [{name: None if one != one else one for name, one in row.items()} for row in table.to_dict("records")]  # noqa: PLR0124 - NaN
    for start in range(0, rows, size):
        world.serve(records[start : start + size])
    store_rows(world.data, world.rows)
    world.rows.clear()
    begun = time.process_time()
    for hour in range(25):
        at = NOW - timedelta(hours=25 - hour)
        read_windows(world.data, MODEL, at, at + timedelta(hours=1))
    reading = time.process_time() - begun
    begun = time.process_time()
    world.request()
    world.run()
    taken = time.process_time() - begun
    report = world.report()
    assert report.counts.replayed == rows, report
    test, memory = report.self_test, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_024
    speed = f"{rows / taken:,.0f} rows a CPU second, {reading / taken:.0%} of it reading"
    tested = f"self-test {test.equal:,} equal, {test.rounded:,} rounded of {test.compared:,}"
    print(f"{' and '.join(kinds)}, {size} rows a request: {speed}; {tested}; peak {memory:,.0f} MB")


def needed_labels(lift: float, streams: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the labels until "the candidate is better" is known, paired and of an A/B test of halves."""
    generator = np.random.default_rng([seed, round(lift * 1_000)])
    found: tuple[list[float], list[float]] = ([], [])
    for _ in range(streams):
        drawn = generator.random(MOST_LABELS)
        paired = np.where(drawn < APART + lift, 1.0, np.where(drawn < 2 * APART + lift, -1.0, 0.0))
        arm = generator.random(MOST_LABELS) < 0.5  # noqa: PLR2004 - a half
        right = generator.random(MOST_LABELS) < np.where(arm, ACCURACY + lift, ACCURACY)
        # Each label is of one arm: its deviation from the champion's accuracy, with the sign of the arm.
        divided = np.where(arm, 1.0, -1.0) * (right - ACCURACY)
        for times, values in zip(found, (paired, divided), strict=True):
            known = log_wealth(values, 0.0, is_above=True) >= LIMIT
            times.append(float(known.argmax() + 1) if known.any() else math.inf)
    return np.array(found[0]), np.array(found[1])


def print_labels(streams: int, seed: int) -> None:
    """Print the table of the labels, and of false alarms."""
    for lift in (0.05, 0.02, 0.01, 0.0):
        cells: list[str] = []
        for times in needed_labels(lift, streams, seed):
            decided = np.isfinite(times).mean()
            median = np.median(times)
            cells.append(f"{'-' if math.isinf(median) else f'{median:,.0f}'} ({decided:.0%} by {MOST_LABELS:,})")
        print(f"| {lift:+.0%} | {' | '.join(cells)} |")


def main() -> None:
    """Measure what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["speed", "labels"])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--streams", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    arguments: Any = parser.parse_args()
    if arguments.what == "labels":
        print_labels(arguments.streams, arguments.seed)
        return
    for size in (1_000, 20, 1):
        measure_speed(arguments.rows, size, ("logistic_regression", "hist_gradient_boosting"))


if __name__ == "__main__":
    main()
