"""What every tool's process does: answer ``checks`` or ``whole`` on a line with the seconds and the violations."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Counts = dict[str, int]


def peak_kib() -> int:
    """Return this process's peak memory; ``ru_maxrss`` would begin with that of the process that started it."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


def serve(load: Callable[[Path], Any], check: Callable[[Any], Counts], whole: Callable[[Path], Counts]) -> None:
    """Answer until there are no more questions.

    ``checks`` runs the checks on the table in memory; it is loaded, and everything run once, before the first clock
    starts. ``whole`` reads the file and checks it. ``once`` does that a single time, to see the peak memory.
    """
    path = Path(sys.argv[1])
    loaded = None
    for line in sys.stdin:
        question = line.strip()
        if question == "checks" and loaded is None:
            loaded = load(path)
            check(loaded)
        baseline = peak_kib()
        start = time.perf_counter()
        counts = check(loaded) if question == "checks" else whole(path)
        seconds = time.perf_counter() - start
        peak = peak_kib()
        answer = {"seconds": seconds, "counts": counts, "peak_kib": peak, "before_kib": baseline}
        print(json.dumps(answer), flush=True)
