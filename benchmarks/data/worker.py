"""What every tool's process does: answer ``checks`` or ``whole`` on a line with the time and the violations."""

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
        start, busy = time.perf_counter(), time.process_time()
        counts = check(loaded) if question == "checks" else whole(path)
        seconds, processor = time.perf_counter() - start, time.process_time() - busy
        peak = peak_kib()
        answer = {"seconds": seconds, "processor": processor, "counts": counts}
        print(json.dumps(answer | {"peak_kib": peak, "before_kib": baseline}), flush=True)
