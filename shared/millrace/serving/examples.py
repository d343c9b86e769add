"""A row that a model can score, made from its signature alone."""

from datetime import UTC, datetime
from typing import Any

from millrace.schema import Column, TableSchema


def example_row(schema: TableSchema) -> dict[str, Any]:
    """Return a row that the model can score."""
    return {column.name: _example(column) for column in schema.features}


def _example(column: Column) -> Any:
    middle = None
    if column.minimum is not None and column.maximum is not None:
        middle = (column.minimum + column.maximum) / 2
    if column.type == "integer":
        return 1 if middle is None else round(middle)
    if column.type == "number":
        return 1.5 if middle is None else middle
    if column.type == "boolean":
        return True
    if column.type == "datetime":
        moment = datetime(2026, 1, 31, 12, tzinfo=UTC) if middle is None else datetime.fromtimestamp(middle, UTC)
        return moment.replace(microsecond=0).isoformat().replace("+00:00", "Z")
    if column.type == "text":
        return "a few words"
    return next((category for category in column.categories if category), "other")
