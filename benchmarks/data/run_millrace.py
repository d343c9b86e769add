"""The checks in Millrace: rules of severity warning, so that faults are counted and no row is set aside."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from millrace.data import read
from millrace.data.checks import check_table
from millrace.data.dataset_checks import NO_DATASET_HISTORY, check_whole
from millrace.data.findings import Finding
from millrace.data.raw import RowBatch
from millrace.data.typed_table import StoredColumns
from millrace.schema import Column, ColumnRules, TableSchema
from millrace.spec.data import TableChecks
from table import CHECKS
from worker import Counts, serve

read.DEFAULT_LIMITS = read.UploadLimits(max_bytes=10**11)

TYPES = {
    "customer_id": "integer",
    "age": "integer",
    "income": "number",
    "score": "number",
    "visits": "integer",
    "balance": "number",
    "plan": "category",
    "region": "category",
    "channel": "category",
    "email": "text",
    "code": "category",
    "since": "datetime",
    "rating": "integer",
    "label": "integer",
}
KINDS = {"missing_value": "not_null", "not_allowed": "set"}


def schema() -> TableSchema:
    """Translate the checks into rules."""
    columns = []
    for name, kind in TYPES.items():
        rules: dict = {"severity": "warning"}
        for check in (check for check in CHECKS if check["column"] == name):
            if check["kind"] == "not_null":
                rules["nullable"] = False
            elif check["kind"] == "unique":
                rules["unique"] = True
            else:
                rules |= {key: value for key, value in check.items() if key in ("minimum", "maximum", "pattern")}
                rules |= {"allowed": tuple(check["allowed"])} if "allowed" in check else {}
        role = "target" if name == "label" else "ignored" if kind == "text" else "feature"
        formats = ("iso",) if kind == "datetime" else ()
        columns.append(Column(name, kind, role, formats=formats, rules=ColumnRules(**rules)))
    return TableSchema(tuple(columns), "binary", ("0", "1"))


SCHEMA = schema()


class InMemory:
    """A table that was read before, as batches of the size that reading makes."""

    def __init__(self, stored: pa.Table) -> None:
        self.names, self.description, self.findings = list(stored.column_names), {}, ()
        self.stored = stored

    def readings(self, types: Mapping[str, pa.DataType] | None = None) -> Iterator[Callable[[], RowBatch]]:  # noqa: ARG002  # typed already
        """Yield a function for each batch, in the order of the rows."""
        size, start = 100_000, 0
        while start < self.stored.num_rows:
            part = self.stored.slice(start, size)
            typed = {name: part.column(name) for name in self.names}
            lines = np.arange(start, start + len(part))
            yield partial(RowBatch, lines, lambda: None, (), self.names, typed, nulls_known=True)
            start += size


def load(path: Path) -> InMemory:
    """Read the file into typed columns."""
    columns = check_table(read.open_table(path, "t.csv"), SCHEMA, 1.0).table.columns
    assert isinstance(columns, StoredColumns)
    assert isinstance(columns.stored, pa.Table)
    return InMemory(columns.stored.unify_dictionaries().combine_chunks())


def check(reader: object) -> Counts:
    """Hold a table to the rules, and count what breaks them."""
    checked = check_table(reader, SCHEMA, 1.0)
    findings = [*checked.findings, *check_whole(checked.table, checked.lines, TableChecks(), NO_DATASET_HISTORY)]
    return {
        f"{found.column}:{KINDS.get(found.check, found.check)}": found.count for found in findings if _counts(found)
    }


def _counts(found: Finding) -> bool:
    return found.check in ("missing_value", "not_allowed", "range", "pattern", "unique")


serve(load, check, lambda path: check(read.open_table(path, "t.csv")))
