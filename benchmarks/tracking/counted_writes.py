"""Count what MLflow's calls read and write, and what a million logged values of metrics cost.

    python benchmarks/tracking/counted_writes.py

The endpoints run on a store in memory that counts units as DynamoDB bills them: reads by 4 KB, consistent; writes by
1 KB of the whole item, twice in a transaction. Prices are the list prices of ``millrace.cost``.
"""

import argparse
import math
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

from millrace.cost.prices import US_EAST_1
from millrace.tracking.tracking_api import TrackingRequest, respond_to
from millrace.tracking.tracking_calls import TrackingCall

from tests.fakes.memory_object_store import MemoryObjectStore
from tests.fakes.memory_registry import MemoryRegistry, MemoryRegistryStore

#: Bytes of one page of a query.
PAGE = 1_000_000
START = datetime(2026, 5, 3, 12, tzinfo=UTC)


def item_size(item: Any) -> int:
    """Return the bytes of an item, about as DynamoDB counts them."""
    return sum(len(name) + (len(value) if isinstance(value, str | bytes) else 8) for name, value in item.items())


class CountingStore(MemoryRegistryStore):
    """A store that counts the units of its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = self.writes = self.calls = 0

    def _count_read(self, sizes: list[int]) -> None:
        self.reads += sum(max(1, math.ceil(size / 4_096)) for size in sizes)
        self.calls += 1

    def get(self, key):
        """Count a read."""
        item = super().get(key)
        self._count_read([item_size(item or {})])
        return item

    def get_many(self, keys):
        """Count a read for each hundred."""
        items = super().get_many(keys)
        for begin in range(0, len(items), 100):
            self._count_read([item_size(item or {}) for item in items[begin : begin + 100]])
        return items

    def query(self, *arguments, **options):
        """Count pages of a megabyte, each by its sum."""
        page = 0
        try:
            for item in super().query(*arguments, **options):
                page += item_size(item)
                if page > PAGE:
                    self._count_read([page])
                    page = 0
                yield item
        finally:
            # Whoever stops early has read the page that the last item is on, as far as DynamoDB filled it.
            self._count_read([page])

    def transact(self, changes):
        """Count the writes; in a transaction of several, each twice."""
        failed = super().transact(changes)
        factor = 2 if len(changes) > 1 else 1
        for change in changes:
            written = self._items.get(change.key, {})
            self.writes += factor * max(1, math.ceil(item_size(written) / 1_024))
        self.calls += 1
        return failed


class Server:
    """The endpoints on a counting store."""

    def __init__(self) -> None:
        self.store, self.objects, self.registry = CountingStore(), MemoryObjectStore(), MemoryRegistry()
        self.number, self.places = 0, dict[str, tuple[str, int]]()

    def ask(self, method: str, path: str, **given: Any) -> Any:
        """Send a request."""
        self.number += 1
        call = TrackingCall(
            store=self.store,
            objects=self.objects,
            artifact_root="s3://models/mlflow/experiments",
            actor="ann",
            now=START,
            make_id=lambda: f"{self.number:032x}",
            registry=lambda: self.registry,
            places=self.places,
        )
        query = {name: [str(value)] for name, value in given.items()} if method == "GET" else {}
        body = {} if method == "GET" else given
        return respond_to(TrackingRequest(method, f"/api/2.0/mlflow/{path}", query, body), call)

    def make_run(self) -> str:
        """Return the id of a new run of the default experiment."""
        return str(self.ask("POST", "runs/create", start_time=1_777_804_200_000)["run"]["info"]["run_id"])

    def counted(self, work: Callable[[], Any]) -> tuple[int, int, int]:
        """Return the reads, writes and calls of some work."""
        before = self.store.reads, self.store.writes, self.store.calls
        work()
        reads, writes, calls = self.store.reads, self.store.writes, self.store.calls
        return reads - before[0], writes - before[1], calls - before[2]


def value(key: str, step: int) -> dict[str, Any]:
    """Return a value of a metric: a curve that falls."""
    return {"key": key, "value": 1 / (step + 1.37), "timestamp": 1_777_804_200_000 + 250 * step, "step": step}


def log_by_batches(server: Server, number: int) -> None:
    """Log values of one metric, a thousand a request."""
    run = server.make_run()
    for begin in range(0, number, 1_000):
        metrics = [value("loss", step) for step in range(begin, min(number, begin + 1_000))]
        server.ask("POST", "runs/log-batch", run_id=run, metrics=metrics)


def log_by_epochs(server: Server, number: int) -> None:
    """Log twenty metrics an epoch, an epoch a request."""
    run = server.make_run()
    for epoch in range(number // 20):
        metrics = [value(f"metric {one}", epoch) for one in range(20)]
        server.ask("POST", "runs/log-batch", run_id=run, metrics=metrics)


def log_one_by_one(server: Server, number: int) -> None:
    """Log values of one metric, each with a request of its own."""
    run = server.make_run()
    for step in range(number):
        server.ask("POST", "runs/log-metric", run_id=run, **value("loss", step))


WAYS = (
    ("log-batch of 1,000 values of one metric", log_by_batches, 100_000),
    ("log-batch of 20 metrics, once an epoch", log_by_epochs, 10_000),
    ("log-metric, value by value", log_one_by_one, 5_000),
)


def main() -> None:
    """Print the table."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    print("| logged as | values | reads | writes | USD for a million values |\n|---|---|---|---|---|")
    for name, log, number in WAYS:
        server, begin = Server(), time.process_time()
        reads, writes, _ = server.counted(lambda server=server, log=log, number=number: log(server, number))
        cost = US_EAST_1["dynamodb_read"].cost(reads) + US_EAST_1["dynamodb_write"].cost(writes)
        print(f"| {name} | {number:,} | {reads:,} | {writes:,} | {cost * 1e6 / number:.3f} |")
        print(f"{time.process_time() - begin:.1f} s of the processor", file=sys.stderr)


if __name__ == "__main__":
    main()
