"""Where the processor time of a request of 10,000 rows goes, against the session in the same chunks, and scikit-learn.

    .venv/bin/python benchmarks/serving/many_rows.py --rounds 11

The stages of the handler, the handler itself, the bare session, and a handler of scikit-learn take turns in one
process. Ratios are medians of the rounds'.
"""

import argparse
import os

os.environ["OMP_NUM_THREADS"] = "1"  # as compare.py: threads that wait for each other take processor time

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import models
import orjson
import run_millrace
import run_sklearn
from millrace.serving.capture import CaptureWriter
from millrace.serving.endpoint import success_response
from millrace.serving.handler import find_route, read_request
from millrace.serving.model import CHUNK_ROWS
from millrace.serving.scoring import Prediction, score


def make_stages(folder: Path) -> dict[str, Callable[[], Any]]:
    """Return what is measured, by name."""
    body = (folder / "many.json").read_text()
    ask, ask_sklearn = run_millrace.make(folder), run_sklearn.make(folder)
    ask(body)
    loaded = run_millrace.app._endpoint().models.get("churn")
    event = {**run_millrace.EVENT, "body": body}
    request, protocol = read_request(event), find_route(event).protocol
    contents = protocol.read(request, loaded.schema, models.ROWS)
    rows = loaded.reader.read(contents.table)
    scores = score(loaded, rows)
    prediction = Prediction(loaded, contents, rows, scores, "id")
    chunks = [rows.features(start, min(start + CHUNK_ROWS, rows.n_rows)) for start in range(0, rows.n_rows, CHUNK_ROWS)]
    writer = loaded.built(CaptureWriter)
    return {
        "bare session": lambda: [loaded.onnx.run(chunk) for chunk in chunks],
        "JSON parsed": lambda: orjson.loads(body),
        "request read, with that": lambda: protocol.read(request, loaded.schema, models.ROWS),
        "values typed": lambda: loaded.reader.read(contents.table),
        "score()": lambda: score(loaded, rows),
        "reply written": lambda: success_response(protocol.write(contents, scores, loaded, "id")),
        "captured lines": lambda: writer.lines(prediction, protocol.name, "id", datetime.now(UTC)),
        "handler": lambda: ask(body),
        "scikit-learn handler": lambda: ask_sklearn(body),
    }


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    console = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the handler's log
    with tempfile.TemporaryDirectory() as work:
        models.prepare(Path(work))
        for kind in models.KINDS:
            stages = make_stages(Path(work) / kind)
            taken: dict[str, list[float]] = {name: [] for name in stages}
            for number in range(-1, options.rounds):
                for name, stage in stages.items():
                    started = time.process_time()
                    stage()
                    if number >= 0:
                        taken[name].append(time.process_time() - started)
            print(f"\n| {kind} | processor ms | / bare session | scikit-learn handler / it |", file=console)
            print("|---|---|---|---|", file=console)
            bare, sklearn = taken["bare session"], taken["scikit-learn handler"]
            for name, times in taken.items():
                of_session = statistics.median(one / other for one, other in zip(times, bare, strict=True))
                of_sklearn = statistics.median(other / one for one, other in zip(times, sklearn, strict=True))
                milliseconds = 1_000 * statistics.median(times)
                print(f"| {name} | {milliseconds:.1f} | {of_session:.2f}x | {of_sklearn:.2f}x |", file=console)
            console.flush()
    sys.stdout.flush()


if __name__ == "__main__":
    main()
