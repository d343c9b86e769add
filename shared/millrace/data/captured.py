"""Make training data of captured rows whose ground truth has been reported.

Features are those of the prediction, so nothing of the outcome can be in them. A row is used once, with the latest
outcome; one whose outcome was observed before it was predicted is left out, because its features may have been written
with the outcome at hand. Rows that were uploaded as well, by the model's identifier, are taken from the upload.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.captures.joining import CLOCK_TOLERANCE, JoinedWindow, join_window
from millrace.captures.window import CapturedWindow, read_window
from millrace.data.typed_table import TypedTable, is_text
from millrace.errors import MillraceError
from millrace.features import MISSING_STRING
from millrace.ports import ObjectStore
from millrace.schema import Column, TableSchema
from millrace.spec import ModelSpec

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class CapturedRows:
    """Captured rows as a training table, or the obstacle to using them.

    ``counts`` has ``captured``, ``labelled``, ``observed_too_early``, ``outcome_unknown``, ``malformed`` (of captures
    and reports: what no table can hold is malformed) and ``used``.
    """

    table: TypedTable | None
    counts: dict[str, int] = field(default_factory=dict)
    obstacle: str = ""


def find_captured_rows(
    model: str,
    schema: TableSchema,
    spec: ModelSpec,
    store: ObjectStore,
    now: datetime,
    *,
    since: datetime | None = None,
) -> CapturedRows:
    """Return the captured rows to train on, where the spec enables it.

    Predictions and reports after ``now`` are left to the next run; predictions before ``since`` belong to a deleted
    model of the same name. A fault in the rows is an obstacle, never an error.
    """
    if not spec.retraining.captured_rows:
        return CapturedRows(None)
    start = now - timedelta(days=spec.retraining.captured_days)
    try:
        window = read_window(store, model, max(start, since) if since else start, now)
        return captured_rows(schema, join_window(store, window, now, spec.feedback.exclude_callers), spec)
    except MillraceError:
        raise  # the bucket failed, and the pipeline tries again
    except Exception as error:  # noqa: BLE001 - callers of the API wrote them; they must not stop the runs of uploads
        return unusable(error)


def unusable(error: Exception) -> CapturedRows:
    """Return no rows, for a fault in the captured ones."""
    return CapturedRows(None, {"used": 0}, f"captured rows or feedback cannot be read: {type(error).__name__}")


def captured_rows(schema: TableSchema, joined: JoinedWindow, spec: ModelSpec) -> CapturedRows:
    """Turn labelled captures into a table of the model's schema.

    Columns that are neither features nor the identifier were not captured and are missing, except that a date which
    the spec splits by is the time of the prediction.
    """
    window = joined.window
    counts = {"captured": len(window), "labelled": int(joined.labelled.sum())}
    if obstacle := _obstacle(schema, window, spec):
        return CapturedRows(None, {**counts, "used": 0}, obstacle)
    tolerance = np.timedelta64(int(CLOCK_TOLERANCE.total_seconds()), "s")
    early = joined.labelled & (joined.observed_at + tolerance < window.predicted_at)
    targets = _targets(schema, joined.outcomes)
    known = np.array([target is not None for target in targets], dtype=np.bool_)
    used = np.flatnonzero(joined.labelled & ~early & known)
    counts |= {
        "observed_too_early": int(early.sum()),
        "outcome_unknown": int((joined.labelled & ~early & ~known).sum()),
        "malformed": window.report.malformed_rows + joined.report.read.malformed_rows,
        "used": len(used),
    }
    if not len(used):
        return CapturedRows(None, counts)
    columns = {column.name: _column(column, schema, window, targets, spec) for column in schema.columns}
    return CapturedRows(TypedTable(schema, columns, len(window)).take(used), counts)


def _obstacle(schema: TableSchema, window: CapturedWindow, spec: ModelSpec) -> str:
    """Return the reason why captures cannot be training data, or an empty string."""
    if not len(window):
        return ""
    hidden = [column.name for column in schema.features if column.sensitive]
    if hidden:
        return f"sensitive features are not captured: {', '.join(hidden)}"
    if spec.split.by == "group" and not _is_known(spec.split.column, schema):
        return f"the column {spec.split.column!r}, which the split keeps together, is not captured"
    return ""


def _is_known(name: str | None, schema: TableSchema) -> bool:
    identifier = schema.identifier
    return any(column.name == name for column in schema.features) or (
        identifier is not None and identifier.name == name
    )


def _targets(schema: TableSchema, outcomes: Array) -> list[Any]:
    """Return typed target values; None where the outcome is no value of the schema."""
    if schema.task == "regression":
        return [outcome if isinstance(outcome, float) and np.isfinite(outcome) else None for outcome in outcomes]
    values: dict[str, Any] = {}
    for index, name in enumerate(schema.classes):
        if is_text(schema.target):
            values[name] = name
        else:
            values[name] = float(index) if schema.target.type == "boolean" else float(name)
    return [values.get(outcome) if isinstance(outcome, str) else None for outcome in outcomes.tolist()]


def _column(column: Column, schema: TableSchema, window: CapturedWindow, targets: list[Any], spec: ModelSpec) -> Array:
    if column.name == schema.target.name:
        return _filled(column, targets)
    if column.role == "identifier":
        return _filled(column, window.row_ids.tolist())
    if column.role == "feature" and column.name in window.features:
        typed = window.typed_features(schema)[column.name]
        return typed.astype(object) if typed.dtype.kind == "U" else typed
    if column.type == "datetime" and spec.split.by == "time" and spec.split.column == column.name:
        return window.predicted_at.astype("datetime64[us]")
    return _filled(column, [None] * len(window))


def _filled(column: Column, values: list[Any]) -> Array:
    """Return values as the column's array, None as missing."""
    if is_text(column):
        array = np.empty(len(values), dtype=object)
        array[:] = [MISSING_STRING if value is None else value for value in values]
        return array
    if column.type == "datetime":
        return np.full(len(values), np.datetime64("NaT", "us"))
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
