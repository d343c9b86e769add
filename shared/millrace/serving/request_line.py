"""Line that a request for predictions writes, beside its captured rows: its counts, and metrics by model."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from millrace.json_text import write_json
from millrace.observability import Unit, metric_members
from millrace.serving.capture import BEGINNING, DEFAULT_PROTOCOL, write_timestamp
from millrace.serving.model import LoadedModel
from millrace.serving.regular_rows import RegularRow
from millrace.serving.rows import TypedRows


def elapsed_ms(seconds: float) -> float:
    """Return a time in ms, to the microsecond; ``round`` to decimals writes the number out and reads it again."""
    return round(1_000_000 * seconds) / 1_000


def count_line(
    loaded: LoadedModel, named: Mapping[str, str], rows: int, counts: Mapping[str, Any], now: datetime
) -> str:
    """Return the line of a request whose rows are not captured; :func:`name_request` names it."""
    line = {**BEGINNING, "model": loaded.model, "version": loaded.version, "timestamp": write_timestamp(now)}
    return write_json({**line, **named, "rows": rows, **counts})


def model_metrics(
    loaded: LoadedModel, protocol: str, counts: Mapping[str, Any], rows: TypedRows | RegularRow, now: datetime
) -> dict[str, Any]:
    """Return the members of a line that make metrics of it; it names the model, and any protocol but the default."""
    metrics: dict[str, tuple[float, Unit]] = {
        "PredictionLatency": (counts["latency_ms"], "Milliseconds"),
        "PredictedRows": (rows.n_rows, "Count"),
    }
    if loaded.created_at is not None:
        metrics["ModelAge"] = (round((now - loaded.created_at).total_seconds()), "Seconds")
    numbers = {
        "UnknownCategories": rows.n_unknown,
        "MissingValues": rows.n_missing,
        "BadRows": len(rows.bad_rows),
        "ColdStarts": counts.get("cold_start", 0),
    }
    metrics |= {name: (number, "Count") for name, number in numbers.items() if number}
    members = metric_members(metrics, [["model", "model_version", "dialect"]], now.timestamp())
    named = {"dialect": protocol} if protocol == DEFAULT_PROTOCOL else {}
    return {**members, "model_version": str(loaded.version), **named}
