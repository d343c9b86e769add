"""Monitor a backlog: rows per second of processor, and peak memory, of runs that go on where the last one stopped.

``python benchmarks/monitoring/backlog.py 1000000`` makes that many rows of twenty features in a day's objects of 10,000
rows each, as they are read; the time of making them does not count.
"""

import gzip
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2]))

from millrace.captures.records import CapturedRow
from millrace.data.reference import describe_reference
from millrace.layout import captures_key, version_key
from millrace.monitoring.monitor import MonitoringOutcome, monitor_model
from millrace.names import CHAMPION
from millrace.ports import ListedObject
from millrace.schema import Column, TableSchema
from millrace.spec import ModelSpec
from worker import peak_kib

from tests.fakes.memory_object_store import MemoryObjectStore
from tests.fakes.memory_registry import MemoryRegistry
from tests.registry_builders import make_entry, make_version, point_alias

MODEL, CLASSES, CITIES = "churn", ("no", "yes"), ("Bern", "Oslo", "Rome", "Lyon")
START = datetime(2026, 5, 3, tzinfo=UTC)
ROWS_PER_OBJECT = 10_000
NUMBERS, WORDS = [f"number_{n}" for n in range(15)], [f"word_{n}" for n in range(5)]
SCHEMA = TableSchema(
    (
        *(Column(name, "number") for name in NUMBERS),
        *(Column(name, "category", categories=CITIES) for name in WORDS),
        Column("target", "category", role="target", categories=CLASSES),
    ),
    "binary",
    CLASSES,
)
HOUR_MARK, ID_MARK = "2026-05-03T00", "p-00000000000-0"


def make_columns(rows: int, seed: int) -> dict[str, np.ndarray]:
    """Return columns of random values."""
    draw = np.random.default_rng(seed)
    columns = {name: draw.normal(size=rows).round(6) for name in NUMBERS}
    return columns | {name: draw.choice(CITIES, size=rows) for name in WORDS}


class Backlog(MemoryObjectStore):
    """A bucket whose captured objects are made as they are read."""

    def __init__(self, n_rows: int) -> None:
        super().__init__("data")
        self.making = 0.0  # seconds
        n_objects = n_rows // ROWS_PER_OBJECT
        self._numbers = {
            captures_key(MODEL, START + timedelta(hours=number * 24 // n_objects), f"{number:06d}"): number
            for number in range(n_objects)
        }
        columns = make_columns(ROWS_PER_OBJECT, 7)
        lines = [
            self._line({name: values[row].item() for name, values in columns.items()}, row) for row in range(10_000)
        ]
        self._lines = [line.split(ID_MARK) for line in lines]

    @staticmethod
    def _line(features: dict[str, object], row: int) -> str:
        chance = (row % 97) / 100
        label = CLASSES[round(chance)]
        prediction = {"label": label, "probabilities": {"no": 1 - chance, "yes": chance}}
        at = START + timedelta(seconds=row % 3_600)
        record = CapturedRow(
            prediction_id=ID_MARK,
            request_id="r",
            request_rows=1,
            predicted_at=at,
            model=MODEL,
            version=1,
            protocol="mlflow",
            row_id=None,
            sampling_rate=1.0,
            features=features,
            unknown=(),
            omitted=0,
            prediction=prediction,
        )
        return record.to_line()

    def list(self, prefix: str) -> Iterator[ListedObject]:
        """Yield the objects of an hour."""
        yield from super().list(prefix)
        for key in self._numbers:
            if key.startswith(prefix):
                yield ListedObject(key, 1, START)

    def get(self, key: str, version_id: str | None = None) -> bytes:
        """Return an object, made now where it is a captured one."""
        if key not in self._numbers:
            return super().get(key, version_id)
        begin, number = time.process_time(), self._numbers[key]
        first, hour = number * ROWS_PER_OBJECT, number * 24 // len(self._numbers)
        lines = [f"p-{first + row:011d}-0".join(parts) for row, parts in enumerate(self._lines)]
        text = "\n".join(lines).replace(HOUR_MARK, f"2026-05-03T{hour:02d}")
        body = gzip.compress(text.encode(), 1)
        self.making += time.process_time() - begin
        return body


def main() -> None:
    """Monitor a backlog until it is read."""
    data, models, registry = Backlog(int(sys.argv[1])), MemoryObjectStore("models"), MemoryRegistry()
    registry.put_spec(MODEL, ModelSpec())
    created = replace(make_version(1, MODEL), created_at=START - timedelta(days=1))
    registry.put_version(created, make_entry("v1", MODEL, START))
    point_alias(registry, CHAMPION, 1, MODEL, START)
    outcomes = np.random.default_rng(3).integers(0, 2, 5_000)
    reference = describe_reference(SCHEMA, make_columns(5_000, 1), outcomes)
    models.put(version_key(MODEL, 1, "signature.json"), json.dumps({"schema": SCHEMA.to_dict()}).encode())
    models.put(version_key(MODEL, 1, "reference.json"), reference.write())
    before = peak_kib()

    def run(number: int) -> MonitoringOutcome:
        return monitor_model(
            MODEL,
            registry=registry,
            data_store=data,
            model_store=models,
            serving=None,
            now=START + timedelta(days=1),
            token=f"run{number}",
        )

    outcome, number, rows = MonitoringOutcome("more"), 0, 0
    while outcome.outcome == "more":
        begin, making = time.process_time(), data.making
        outcome, number = run(number), number + 1
        seconds = time.process_time() - begin - (data.making - making)
        stored = sum(info.size for info in MemoryObjectStore.list(data, "monitoring/"))
        line = {
            "outcome": outcome.outcome,
            "rows": outcome.rows,
            "seconds": round(seconds, 1),
            "rows_per_second": round((outcome.rows - rows) / seconds),
            "peak_mib": (peak_kib() - stored // 1024) // 1024,
            "before_mib": before // 1024,
            "stored_mib": stored // 1024**2,
        }
        rows = outcome.rows
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
