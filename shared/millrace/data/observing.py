"""What values a schema's columns have: categories, ranges, gaps."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from millrace.data.typed_table import TypedTable, missing_cells, stored_parts
from millrace.schema import Column, TableSchema


def observe(schema: TableSchema, tables: Sequence[TypedTable]) -> TableSchema:
    """Return the schema with the categories, ranges and gaps that these tables have."""
    return replace(schema, columns=tuple(_observe_column(column, tables) for column in schema.columns))


def _observe_column(column: Column, tables: Sequence[TypedTable]) -> Column:
    settled = column.rules.settled_nullable
    if column.role == "identifier" or column.type == "text":
        gaps = any(part.null_count for table in tables for part in stored_parts(table, column))
        return replace(column, nullable=gaps if settled is None else settled)
    values = np.concatenate([table.columns[column.name] for table in tables])
    missing = missing_cells(values)
    known = values[~missing]
    nullable = bool(missing.any()) if settled is None else settled
    if not len(known):
        return replace(column, nullable=nullable)
    if column.type == "category":
        return replace(column, nullable=nullable, categories=tuple(sorted(set(known.tolist()))))
    if column.type in ("integer", "number"):
        return replace(column, nullable=nullable, minimum=float(known.min()), maximum=float(known.max()))
    if column.type == "datetime":
        seconds = known.astype("datetime64[us]").astype(np.int64) / 1e6
        return replace(column, nullable=nullable, minimum=float(seconds.min()), maximum=float(seconds.max()))
    return replace(column, nullable=nullable)
