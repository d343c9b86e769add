"""Measure MLflow's calls in Millrace, beside MLflow's own server on SQLite and on PostgreSQL.

    python benchmarks/tracking/latency.py [--runs 10000] [--points 1000000]

The servers are called without HTTP, in turn, call by call: MLflow's Flask application, with SQLite in its process or
PostgreSQL on 127.0.0.1; the endpoints of Millrace on a store in memory, whose calls and read units are counted.
DynamoDB's own time is not in it: on AWS each counted call adds its own. PostgreSQL has to be installed (Debian:
``apt-get install postgresql``); without its programs its column is empty.
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
from contextlib import ExitStack
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(ROOT), str(HERE), str(HERE.parent)]

import orjson
from counted_writes import Server, value
from millrace.tracking.metric_chunks import pack
from millrace.tracking.record_items import make_record
from millrace.tracking.tracking_keys import run_key
from millrace.tracking.tracking_records import Point, RunRecord
from peer_tools import make_interpreter
from postgresql import serve_postgresql, spent_seconds

#: Of Debian 12.
POSTGRESQL = Path("/usr/lib/postgresql/15/bin")
PIECE = 50_000
START = 1_777_804_200_000
METRICS, PARAMS = 10, 5


class Stock:
    """MLflow's own server, in a process of its own; ``database`` is the id of another that does its work."""

    def __init__(self, python: Path, uri: str, database: int | None = None) -> None:
        command = [str(python), str(HERE / "stock_server.py"), uri]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._database = database
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

    def time(self, method: str, path: str, given: dict) -> tuple[float, float]:
        """Return the seconds of one request: the processor's, in all processes, and the clock's."""
        before = spent_seconds(self._database) if self._database else 0.0
        told = self.send(method, path, given)
        after = spent_seconds(self._database) if self._database else 0.0
        return told["seconds"] + after - before, told["clock"]

    def fill(self, runs: list[RunRecord], points: list[Point]) -> str:
        """Insert runs and the history of one metric; return the id of a further run, which is to be logged to."""
        rows = stock_rows(runs, points)
        metrics = rows.pop("metrics")
        self.send("insert", rows)
        for begin in range(0, len(metrics), PIECE):
            self.send("insert", {"metrics": metrics[begin : begin + PIECE]})
        created = self.send("POST", "runs/create", {"experiment_id": "0", "start_time": START})["body"]
        return created["run"]["info"]["run_id"]

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


def time_ours(server: Server, method: str, path: str, given: dict) -> tuple[float, float]:
    """Return the seconds of one request, with the writing of its response: the processor's, and the clock's."""
    begin, began = time.process_time(), time.perf_counter()
    orjson.dumps(server.ask(method, path, **given))
    return time.process_time() - begin, time.perf_counter() - began


def fill_ours(server: Server, runs: list[RunRecord], points: int) -> tuple[str, str]:
    """Insert the same; return the ids of the run with the history, and of the one that is to be logged to."""
    long = server.make_run()
    for begin in range(0, points, 1_000):
        metrics = [value("history", step) for step in range(begin, min(begin + 1_000, points))]
        server.ask("POST", "runs/log-batch", run_id=long, metrics=metrics)
    for run in runs:
        change = make_record(run_key("0", run.run_id, run.started_ms), run, server.objects)
        server.store.load({change.key: change.item})
    return long, server.make_run()


def batch(number: int) -> dict:
    """Return the values of one ``log-batch``."""
    return {"metrics": [value(f"metric {i % 10}", 10 * number + i // 10) for i in range(100)]}


SEARCH = {"experiment_ids": ["0"], "max_results": 1_000}
BEST = {**SEARCH, "filter": "metrics.m0 > 0.5 and params.p1 = '3'", "order_by": ["metrics.m1 DESC"]}
#: Name, method, path, and the arguments by round and run.
CALLS = [
    ("`log-batch` of 100 values", "POST", "runs/log-batch", lambda i, run: {"run_id": run, **batch(i)}),
    ("search: newest 1,000 runs", "POST", "runs/search", lambda _i, _run: SEARCH),
    ("search: filter, sorted by a metric", "POST", "runs/search", lambda _i, _run: BEST),
    (
        "history: page of 25,000 values",
        "GET",
        "metrics/get-history",
        lambda _i, run: {"metric_key": "history", "run_id": run, "max_results": 25_000},
    ),
    (
        "history: sample of 320",
        "GET",
        "metrics/get-history-bulk-interval",
        lambda _i, run: {"metric_key": "history", "run_ids": run, "max_results": 320},
    ),
]


def describe(seconds: list[tuple[float, float]]) -> str:
    """Return the medians of the processor's time, and of the clock's."""
    if not seconds:
        return "-"
    processor, clock = (1_000 * statistics.median(column) for column in zip(*seconds, strict=True))
    return f"{processor:,.1f} ms ({clock:,.1f})"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--postgresql", type=Path, default=POSTGRESQL, help="folder of PostgreSQL's programs")
    parser.add_argument("--work", type=Path, default=ROOT / ".millrace" / "benchmarks", help="of the environment")
    options = parser.parse_args()
    runs = make_runs(options.runs)
    points = [Point(START + 250 * step, step, 1 / (step + 1.37)) for step in range(options.points)]
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        python = make_interpreter(HERE, "stock", options.work)
        stocks = [Stock(python, f"sqlite:///{folder}/stock.db")]
        stack.callback(stocks[0].close)
        if (options.postgresql / "postgres").exists():
            uri, database = stack.enter_context(serve_postgresql(options.postgresql))
            stocks.append(Stock(python, uri, database))
            stack.callback(stocks[1].close)
        logged = [stock.fill(runs, points) for stock in stocks]
        server = Server()
        ours_long, ours_logged = fill_ours(server, runs, options.points)
        print(f"{platform.python_version()}, {options.runs:,} runs, {options.points:,} values, {options.rounds} rounds")
        print("| call | MLflow on SQLite | MLflow on PostgreSQL | Millrace | calls of DynamoDB | read units |")
        print("|---|---|---|---|---|---|", flush=True)
        for name, method, path, make in CALLS:
            is_history = path.startswith("metrics/")
            theirs: list[list[tuple[float, float]]] = [[], []]
            own: list[tuple[float, float]] = []
            counts = (0, 0, 0)
            for i in range(options.rounds):
                for place, stock in enumerate(stocks):
                    run = runs[0].run_id if is_history else logged[place]
                    theirs[place].append(stock.time(method, path, make(i, run)))
                given = make(i, ours_long if is_history else ours_logged)
                counts = server.counted(
                    lambda method=method, path=path, given=given, own=own: own.append(
                        time_ours(server, method, path, given)
                    )
                )
            cells = [describe(seconds) for seconds in (*theirs, own)]
            print(f"| {name} | {' | '.join(cells)} | {counts[2]} | {counts[0]:,} |", flush=True)
    data = sum(len(pack(points[begin : begin + 1_000])) for begin in range(0, len(points), 1_000))
    print(f"{data / len(points):.1f} bytes a value in chunks")


if __name__ == "__main__":
    main()
