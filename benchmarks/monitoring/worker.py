"""What every tool's process does: answer a question on a line with the seconds, the drifts and the peak memory."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def peak_kib() -> int:
    """Return this process's peak memory; ``ru_maxrss`` would begin with that of the process that started it."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


def forget_peak() -> None:
    """Let the peak begin with what is in use now, so that what loading took for a moment hides nothing."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def serve(
    load: Callable[[Path], Any],
    compute: Callable[[Any], dict[str, float]],
    prepare: Callable[[Any], Any] | None,
    window: Callable[[Any, Any], dict[str, float]] | None,
) -> None:
    """Answer until there are no more questions.

    ``drift`` computes everything from two tables in memory; ``window`` only what an hour needs, against a reference
    that is there. ``drift`` was run once before the first clock starts. ``once`` runs it a single time, to see the
    memory.
    """
    tables = load(Path(sys.argv[1]))
    prepared = None
    warm = False
    for line in sys.stdin:
        question = line.strip()
        if question == "window" and prepare is not None and prepared is None:
            prepared = prepare(tables)
        if question == "drift" and not warm:
            compute(tables)
            warm = True
        forget_peak()
        before = peak_kib()
        start = time.perf_counter()
        drifts = window(tables, prepared) if window and question == "window" else compute(tables)
        seconds = time.perf_counter() - start
        answer = {"seconds": seconds, "drifts": drifts, "before_kib": before, "peak_kib": peak_kib()}
        print(json.dumps(answer), flush=True)
