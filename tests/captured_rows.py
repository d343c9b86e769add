"""Captured rows and feedback for tests, stored as they lie in a bucket."""

import gzip
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from millrace.captures.records import CapturedRow, FeedbackRecord
from millrace.layout import captures_key, feedback_key
from msgspec.structs import replace

from tests.fakes.memory_object_store import MemoryObjectStore

MODEL = "churn"
NOON = datetime(2026, 5, 3, 12, tzinfo=UTC)


def make_row(number: int = 0, **changes) -> CapturedRow:
    """Return row 0 of a request of its own, predicted ``number`` seconds after noon."""
    row = CapturedRow(
        prediction_id=f"p{number}-0",
        request_id=f"r{number}",
        request_rows=1,
        predicted_at=NOON + timedelta(seconds=number),
        model=MODEL,
        version=1,
        protocol="mlflow",
        row_id=str(1000 + number),
        sampling_rate=1.0,
        features={"age": float(number), "country": "de", "active": True, "since": "2024-02-03T00:00:00.000000Z"},
        unknown=(),
        omitted=0,
        prediction={"label": "yes", "probabilities": {"no": 0.25, "yes": 0.75}},
    )
    return replace(row, **changes)


def make_feedback(number: int = 0, **changes) -> FeedbackRecord:
    """Return feedback about row ``number``, observed and received a day later."""
    later = NOON + timedelta(days=1, seconds=number)
    record = FeedbackRecord(f"f{number}", MODEL, f"p{number}-0", None, "yes", later, later)
    return replace(record, **changes)


def store_rows(store: MemoryObjectStore, rows: Iterable[CapturedRow], name: str = "a") -> None:
    """Store rows as one object an hour."""
    by_key: dict[str, list[str]] = {}
    for row in rows:
        by_key.setdefault(captures_key(row.model, row.predicted_at, name), []).append(row.to_line())
    for key, lines in by_key.items():
        store.put(key, gzip.compress("".join(f"{line}\n" for line in lines).encode()))


def store_feedback(store: MemoryObjectStore, records: Iterable[FeedbackRecord], name: str = "a") -> None:
    """Store feedback as one object a day."""
    by_key: dict[str, list[str]] = {}
    for record in records:
        by_key.setdefault(feedback_key(record.model, record.received_at, name), []).append(record.to_line())
    for key, lines in by_key.items():
        store.put(key, "".join(f"{line}\n" for line in lines).encode())
