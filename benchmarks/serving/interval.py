"""What an interval costs whoever waits: the same handler with and without the option, request by request in turn.

With ``--before DIR``, a checkout of an earlier commit, the requests without the option are compared with its own, too:
two processes take turns, so that both see the same machine.

    .venv/bin/python benchmarks/serving/interval.py
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import models
import numpy as np
import run_millrace
from millrace.conformal import fit_classes, fit_regression
from millrace.schema import Column, TableSchema
from millrace.serving.model import OnnxModel
from millrace.training.candidates import get_candidate
from millrace.training.export import export_onnx
from millrace.training.preprocessing import FeatureTable

CLASSES = {"regression": 0, "two classes": 2, "five classes": 5}
REQUESTS = {1: 400, 100: 60, 10_000: 2}


def write_version(folder: Path, n_classes: int) -> None:
    """Fit boosted trees on 20,000 rows, calibrate them on 2,000 others, and write the version as it is registered."""
    task = "regression" if not n_classes else "binary" if n_classes == CLASSES["two classes"] else "multiclass"
    train, others = models.make_table(20_000, 0), models.make_table(2_000, 2)
    rng, targets = np.random.default_rng(0), []
    for table in (train, others):
        signal = np.nan_to_num(table["number_0"]) - np.nan_to_num(table["number_2"]) / 3
        signal = signal + rng.normal(0, 1 + abs(signal) / 2)
        targets.append(np.digitize(signal, np.linspace(-1, 1, n_classes + 1)[1:-1]) if n_classes else signal)
    features = models.matrices(train)
    pipeline = get_candidate("hist_gradient_boosting", task).build(task, features, {}, 0)
    pipeline.fit(FeatureTable(features), targets[0])
    onnx, classes = export_onnx(pipeline, features, task), tuple(map(str, range(n_classes)))
    target = Column("label", "integer" if n_classes else "number", "target")
    schema = TableSchema((*models.schema().columns[:-1], target), task, classes)
    predicted = OnnxModel.load(onnx, schema).run(models.matrices(others))
    calibration = fit_classes(targets[1], predicted) if n_classes else fit_regression(targets[1], predicted, 0)
    models.write_version(folder, onnx, schema, confidence=calibration.to_document())


def bodies(count: int) -> dict[bool, str]:
    """Return a request of some rows without and with the option."""
    table = models.make_table(count, 1).drop(columns="label").to_numpy(object).tolist()
    rows = [[None if value != value else value for value in row] for row in table]  # noqa: PLR0124 - NaN
    split = {"columns": models.COLUMNS, "data": rows}
    return {
        wanted: json.dumps({"dataframe_split": split, "params": {"interval": 0.9} if wanted else {}})
        for wanted in (False, True)
    }


def clock(ask: Any, body: str) -> float:
    """Return the processor time of one request, in microseconds: other load on the machine adds little to it."""
    started = time.process_time_ns()
    ask(body)
    return (time.process_time_ns() - started) / 1_000


def compare_options(ask: Any, rounds: int) -> list[tuple[int, float, float, float]]:
    """Return rows, medians without and with the option, and the median of the differences of pairs."""
    found = []
    for rows, requests in REQUESTS.items():
        asked, pairs = bodies(rows), []
        assert '"interval":0.9' in ask(asked[True])
        for number in range(-requests // 10 - 1, rounds * requests):
            order = (False, True) if number % 2 else (True, False)
            taken = {wanted: clock(ask, asked[wanted]) for wanted in order}
            if number >= 0:
                pairs.append((taken[False], taken[True]))
        without, with_it = zip(*pairs, strict=True)
        difference = statistics.median(after - before for before, after in pairs)
        found.append((rows, statistics.median(without), statistics.median(with_it), difference))
    return found


def serve_times(folder: Path) -> None:
    """Answer each line of standard input, a number of rows, with the median time of requests without the option."""
    ask, asked = run_millrace.make(folder, captures=False), {rows: bodies(rows)[False] for rows in REQUESTS}
    for line in sys.stdin:
        rows = int(line)
        times = [clock(ask, asked[rows]) for _ in range(REQUESTS[rows])]
        print(statistics.median(times), file=sys.stderr, flush=True)


def compare_commits(folder: Path, before: Path, rounds: int) -> list[tuple[int, float]]:
    """Return rows and the median ratio of this commit's time to an earlier one's."""
    script, root = Path(__file__).resolve(), Path(__file__).resolve().parents[2]
    processes = {}
    for name, checkout in (("before", before), ("now", root)):
        environment = os.environ | {"PYTHONPATH": f"{checkout}/shared:{checkout}/functions/predict:{script.parent}"}
        command = [sys.executable, str(script), "--serve", str(folder)]
        processes[name] = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def time_of(name: str, rows: int) -> float:
        process = processes[name]
        assert process.stdin
        assert process.stderr
        process.stdin.write(f"{rows}\n")
        process.stdin.flush()
        return float(process.stderr.readline())

    found = []
    for rows in REQUESTS:
        ratios = []
        for number in range(-1, rounds):
            order = ("before", "now") if number % 2 else ("now", "before")
            taken = {name: time_of(name, rows) for name in order}
            ratios += [taken["now"] / taken["before"]] if number >= 0 else []
        found.append((rows, statistics.median(ratios)))
    for process in processes.values():
        process.communicate()
    return found


def main() -> None:
    """Print a table for one row, a hundred, and ten thousand."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--before", type=Path)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve_times(arguments.serve)
        return
    lines = ["| model | rows | without | with | more a row |", "|---|---|---|---|---|"]
    console = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the handler's log
    with tempfile.TemporaryDirectory() as work:
        for name, n_classes in CLASSES.items():
            folder = Path(work) / name
            folder.mkdir()
            write_version(folder, n_classes)
            ask = run_millrace.make(folder, captures=False)
            for rows, without, with_it, more in compare_options(ask, arguments.rounds):
                lines.append(f"| {name} | {rows:,} | {without:,.0f} us | {with_it:,.0f} us | {more / rows:.2f} us |")
            if arguments.before:
                ratios = compare_commits(folder, arguments.before.resolve(), arguments.rounds)
                lines += [f"{name}, {rows:,} rows, now / before: {ratio:.3f}" for rows, ratio in ratios]
    sys.stdout.flush()
    os.write(console, ("\n".join(lines) + "\n").encode())


if __name__ == "__main__":
    main()
