"""Measure the processor time of MLflow's calls in Millrace, beside MLflow's own server on SQLite.

    python benchmarks/tracking/latency.py [--runs 10000]

Both servers are called without HTTP, in turn, call by call: MLflow's Flask application, with SQLite in its process; the
endpoints of Millrace on a store in memory, whose calls and read units are counted. DynamoDB's own time is not in it: on
AWS each counted call adds its own.
"""

import argparse
import json
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(HERE)]

import orjson
from counted_writes import Server, value
from millrace.tracking.metric_chunks import pack
from millrace.tracking.record_items import make_record
from millrace.tracking.tracking_keys import run_key
from millrace.tracking.tracking_records import Point, RunRecord

PYTHON = ROOT / ".millrace" / "tools" / "clients" / "bin" / "python"
START = 1_777_804_200_000
METRICS, PARAMS = 10, 5


class Stock:
    """MLflow's own server, in a process of its own."""

    def __init__(self, python: Path, uri: str) -> None:
        command = [str(python), str(HERE / "stock_server.py"), uri]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._read()

    def _read(self):
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def send(self, *command):
        """Send a command and return the response."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        return self._read()

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def make_runs(number: int) -> list[RunRecord]:
    """Return runs with metrics and parameters."""
    draw = random.Random(1)  # noqa: S311 - values of a benchmark
    return [
        RunRecord(
            run_id=f"{one:032x}",
            experiment_id="0",
            name=f"run {one}",
            user="ann",
            artifact_uri=f"s3://models/mlflow/0/{one:032x}/artifacts",
            started_ms=START + one,
            status="FINISHED",
            params={f"p{i}": str(draw.randrange(9)) for i in range(PARAMS)},
            tags={"mlflow.runName": f"run {one}", "mlflow.user": "ann"},
            latest={f"m{i}": Point(START + one, 10, draw.random()) for i in range(METRICS)},
        )
        for one in range(number)
    ]


def stock_rows(runs: list[RunRecord], points: list[Point]) -> dict[str, list[dict]]:
    """Return the same as rows of MLflow's tables; the first run has a long history, too."""
    nothing = {"source_type": "UNKNOWN", "source_name": "", "entry_point_name": "", "source_version": ""}
    history = [(runs[0].run_id, "history", point) for point in points]
    latest = [(run.run_id, key, point) for run in runs for key, point in run.latest.items()]
    return {
        "runs": [
            {
                "run_uuid": run.run_id,
                "name": run.name,
                "user_id": run.user,
                "status": run.status,
                "start_time": run.started_ms,
                "lifecycle_stage": "active",
                "artifact_uri": run.artifact_uri,
                "experiment_id": 0,
                **nothing,
            }
            for run in runs
        ],
        "params": [{"run_uuid": run.run_id, "key": k, "value": v} for run in runs for k, v in run.params.items()],
        "tags": [{"run_uuid": run.run_id, "key": k, "value": v} for run in runs for k, v in run.tags.items()],
        "latest_metrics": [metric_row(*one) for one in latest],
        "metrics": [metric_row(*one) for one in (*latest, *history)],
    }


def metric_row(run_id: str, key: str, point: Point) -> dict:
    """Return a row of one value."""
    return {
        "run_uuid": run_id,
        "key": key,
        "value": point.value,
        "timestamp": point.timestamp,
        "step": point.step,
        "is_nan": False,
    }


def time_ours(server: Server, method: str, path: str, given: dict) -> float:
    """Return the processor's seconds of one request, with the writing of its response."""
    begin = time.process_time()
    orjson.dumps(server.ask(method, path, **given))
    return time.process_time() - begin


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--points", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--python", type=Path, default=PYTHON)
    options = parser.parse_args()
    runs = make_runs(options.runs)
    points = [Point(START + 250 * step, step, 1 / (step + 1.37)) for step in range(options.points)]
    folder = tempfile.mkdtemp()
    stock = Stock(options.python, f"sqlite:///{folder}/stock.db")
    stock.send("insert", stock_rows(runs, points))
    server = Server()
    ours_long = server.make_run()
    for begin in range(0, len(points), 1_000):
        metrics = [value("history", step) for step in range(begin, begin + 1_000)]
        server.ask("POST", "runs/log-batch", run_id=ours_long, metrics=metrics)
    for run in runs:
        change = make_record(run_key("0", run.run_id, run.started_ms), run, server.objects)
        server.store.load({change.key: change.item})
    stock_run = stock.send("POST", "runs/create", {"experiment_id": "0", "start_time": START})["body"]
    stock_logged, ours_logged = stock_run["run"]["info"]["run_id"], server.make_run()

    def batch(number):
        return {"metrics": [value(f"metric {i % 10}", 10 * number + i // 10) for i in range(100)]}

    search = {"experiment_ids": ["0"], "max_results": 1_000}
    best = {**search, "filter": "metrics.m0 > 0.5 and params.p1 = '3'", "order_by": ["metrics.m1 DESC"]}
    history = {"metric_key": "history"}
    calls = [
        ("`log-batch` of 100 values", "POST", "runs/log-batch", lambda i, run: {"run_id": run, **batch(i)}),
        ("search: newest 1,000 runs", "POST", "runs/search", lambda _i, _run: search),
        ("search: filter, sorted by a metric", "POST", "runs/search", lambda _i, _run: best),
        (
            "history: page of 25,000 values",
            "GET",
            "metrics/get-history",
            lambda _i, run: {**history, "run_id": run, "max_results": 25_000},
        ),
        (
            "history: sample of 320",
            "GET",
            "metrics/get-history-bulk-interval",
            lambda _i, run: {**history, "run_ids": run, "max_results": 320},
        ),
    ]
    print(f"{platform.python_version()}, {options.runs:,} runs, {options.points:,} values, {options.rounds} rounds")
    print("| call | MLflow's server on SQLite | Millrace | calls of DynamoDB | read units |")
    print("|---|---|---|---|---|")
    for name, method, path, make in calls:
        is_history = path.startswith("metrics/")
        theirs, own, counts = [], [], (0, 0, 0)
        for i in range(options.rounds):
            run = runs[0].run_id if is_history else stock_logged
            theirs.append(stock.send(method, path, make(i, run))["seconds"])
            given = make(i, ours_long if is_history else ours_logged)
            counts = server.counted(
                lambda method=method, path=path, given=given, own=own: own.append(
                    time_ours(server, method, path, given)
                )
            )
        middle = [1_000 * statistics.median(seconds) for seconds in (theirs, own)]
        print(f"| {name} | {middle[0]:.0f} ms | {middle[1]:.0f} ms | {counts[2]} | {counts[0]:,} |", flush=True)
    stock.close()
    data = sum(len(pack(points[begin : begin + 1_000])) for begin in range(0, len(points), 1_000))
    print(f"{data / len(points):.1f} bytes a value in chunks")


if __name__ == "__main__":
    main()
