"""What every server's process does: answer questions on standard input about how long its requests take.

``one`` sends the request of one row many times and answers with the median; ``many`` sends that of 10,000 rows once.
Both clocks run from the request's text to the reply's text, inside the process: no server pays for a socket.
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Ask = Callable[[str], Any]


def peak_kib() -> int:
    """Return this process's peak memory; ``ru_maxrss`` would begin with that of the process that started it."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


def run(make: Callable[[Path], Ask], suffix: str = "", read: Callable[[Any], list[float]] | None = None) -> None:
    """Load a model and answer until there are no more questions.

    Parameters
    ----------
    make : callable
        Loads what lies in a folder and returns the function that answers a request's text with the reply's.
    suffix : str, default=""
        Of the requests' files: ``_records`` for a server that does not read splits.
    read : callable or None, default=None
        Returns the probabilities of a reply that is no text.
    """
    read = read or chances
    folder = Path(sys.argv[1])
    answers = os.fdopen(os.dup(1), "w")
    # Whatever a server writes to its log is written, and goes nowhere.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    one, many = ((folder / f"{name}{suffix}.json").read_text() for name in ("one", "many"))
    ask = make(folder)

    def tell(**what: Any) -> None:
        answers.write(json.dumps(what) + "\n")
        answers.flush()

    tell(first=read(ask(one)))
    for line in sys.stdin:
        question, _, count = line.strip().partition(" ")
        if question == "one":
            seconds = [_clock(ask, one) for _ in range(int(count))]
            tell(seconds=statistics.median(seconds))
        elif question == "many":
            started = time.perf_counter()
            reply = ask(many)
            tell(seconds=time.perf_counter() - started, chances=read(reply))
        else:
            tell(peak_kib=peak_kib())


def _clock(ask: Ask, body: str) -> float:
    started = time.perf_counter()
    ask(body)
    return time.perf_counter() - started


def chances(reply: str) -> list[float]:
    """Return the probability of the second class of each row, however a server writes it."""
    document = json.loads(reply)
    rows = document["predictions"] if isinstance(document, dict) else document
    return [row["probabilities"]["1"] if isinstance(row, dict) else row[1] for row in rows]
