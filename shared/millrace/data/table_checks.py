"""Checks of a dataset as a whole: volume, repetitions, missing shares, freshness, the classes' shares."""

from collections.abc import Iterator
from datetime import UTC

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from millrace.data.findings import MAX_EXAMPLES, Finding, error
from millrace.data.history import History
from millrace.data.quarantine import MASK
from millrace.data.storage import to_values
from millrace.data.typed_table import TypedTable, class_texts, stored_column, stored_parts
from millrace.schema import Column
from millrace.spec.data import TableChecks

_SECONDS_A_DAY = 86_400.0


def check_whole(
    table: TypedTable, lines: npt.NDArray[np.int64], checks: TableChecks, history: History
) -> Iterator[Finding]:
    """Yield what is wrong with a dataset as a whole.

    Parameters
    ----------
    table : TypedTable
        The rows that are left after malformed ones were set aside.
    lines : int64 array of shape (n_rows,)
        Where they start in the file.
    checks : TableChecks
        What the spec asks for.
    history : History
        What the dataset is compared with.
    """
    yield from _volume(len(table), checks, history)
    if not len(table):
        return
    for column in table.schema.columns:
        yield from _missing_share(column, table)
        if column.rules.unique:
            yield from _repeated_values(column, table, lines)
    if checks.max_duplicate_share is not None:
        yield from _repeated_rows(table, lines, checks.max_duplicate_share)
    if checks.freshness_column is not None:
        yield from _freshness(table, checks, history)
    if checks.label_share_tolerance is not None:
        yield from _label_shares(table, checks.label_share_tolerance, history)


def _volume(rows: int, checks: TableChecks, history: History) -> Iterator[Finding]:
    if checks.min_rows is not None and rows < checks.min_rows:
        yield error(
            "row_count", f"{rows:,} rows are usable; the spec asks for at least {checks.min_rows:,}", None, rows
        )
    if checks.max_rows is not None and rows > checks.max_rows:
        yield error("row_count", f"{rows:,} rows are usable; the spec allows at most {checks.max_rows:,}", None, rows)
    if checks.row_count_factor is not None and history.rows:
        usual = float(np.median(list(history.rows)))
        if rows > usual * checks.row_count_factor or rows < usual / checks.row_count_factor:
            message = (
                f"{rows:,} rows are usable, where the earlier datasets have {usual:,.0f} (their median); the spec "
                f"allows {checks.row_count_factor:g} times more or fewer"
            )
            yield error("row_count", message, None, rows)


def _missing_share(column: Column, table: TypedTable) -> Iterator[Finding]:
    allowed = column.rules.max_null_share
    if allowed is None:
        return
    count = sum(part.null_count for part in stored_parts(table, column))
    if count > allowed * len(table):
        share = count / len(table)
        message = f"{share:.1%} of the values of {column.name!r} are missing; the spec allows {allowed:.1%}"
        yield Finding(column.rules.severity, "null_share", column.name, message, count, (), share)


def _repeated_values(column: Column, table: TypedTable, lines: npt.NDArray[np.int64]) -> Iterator[Finding]:
    stored = stored_column(table, column)
    known = len(stored) - stored.null_count
    count = known - _distinct(stored)
    if not count:
        return
    values = to_values(stored)
    positions = np.flatnonzero(pd.Series(values).duplicated().to_numpy() & pc.is_valid(stored).to_numpy())
    rows = tuple(
        (int(lines[row]), MASK if column.sensitive else str(values[row])) for row in positions[:MAX_EXAMPLES].tolist()
    )
    message = f"{count:,} rows repeat a value of {column.name!r}, which the spec says is unique"
    examples = tuple(dict.fromkeys(value for _, value in rows))
    yield Finding(column.rules.severity, "unique", column.name, message, count, examples, count / known, rows)


def _distinct(stored: pa.ChunkedArray) -> int:
    """Count distinct values; numbers that only grow, as identifiers often do, are seen to be distinct at a glance."""
    if pa.types.is_floating(stored.type):
        values = to_values(stored)
        values = values[~np.isnan(values)]
        if bool(np.all(values[1:] > values[:-1])):
            return len(values)
    plain = stored.cast(pa.string()) if pa.types.is_dictionary(stored.type) else stored
    return int(pc.count_distinct(plain).as_py())


def _repeated_rows(table: TypedTable, lines: npt.NDArray[np.int64], allowed: float) -> Iterator[Finding]:
    repeated = np.flatnonzero(repeated_rows(table))
    share = len(repeated) / len(table)
    if share > allowed:
        rows = tuple((int(lines[row]), "") for row in repeated[:MAX_EXAMPLES].tolist())
        message = f"{len(repeated):,} rows ({share:.1%}) repeat an earlier row; the spec allows {allowed:.1%}"
        yield Finding("error", "duplicate_rows", None, message, len(repeated), (), share, rows)


def repeated_rows(table: TypedTable) -> npt.NDArray[np.bool_]:
    """Tell which rows have the same values as an earlier one in every column.

    Each value is replaced by the number of its first appearance, and these numbers are combined column by column into
    one that stands for the row so far: exact, with the memory of two columns.
    """
    so_far = np.zeros(len(table), dtype=np.int64)
    for column in table.schema.columns:
        stored = stored_column(table, column)
        encoded = pa.chunked_array([stored.combine_chunks()]) if stored.num_chunks != 1 else stored
        chunk = encoded.chunk(0) if encoded.num_chunks else pa.array([], type=stored.type)
        words = chunk if pa.types.is_dictionary(chunk.type) else chunk.dictionary_encode()
        codes = pc.fill_null(words.indices.cast(pa.int64()), -1).to_numpy(zero_copy_only=False) + 1
        so_far = pd.factorize(so_far * (int(codes.max(initial=0)) + 1) + codes)[0].astype(np.int64)
    return np.asarray(pd.Series(so_far).duplicated().to_numpy())


def _freshness(table: TypedTable, checks: TableChecks, history: History) -> Iterator[Finding]:
    name = checks.freshness_column or ""
    column = next((column for column in table.schema.columns if column.name == name), None)
    if column is None or column.type != "datetime":
        what = "is not there" if column is None else f"holds {column.type} values"
        yield error("freshness", f"the freshness column {name!r} should hold dates, and {what}", name)
        return
    newest = pc.max(stored_column(table, column)).as_py()
    if newest is None:
        yield error("freshness", f"every value of the freshness column {name!r} is missing", name)
    elif checks.max_age_days is not None and history.now is not None:
        age = (history.now - newest.astimezone(UTC)).total_seconds() / _SECONDS_A_DAY
        if age > checks.max_age_days:
            message = (
                f"the newest value of {name!r} is {newest.date()}, {age:,.1f} days old; the spec allows "
                f"{checks.max_age_days:g}"
            )
            yield error("freshness", message, name)


def _label_shares(table: TypedTable, tolerance: float, history: History) -> Iterator[Finding]:
    earlier = history.profile.get("target", {}).get("classes") or {}
    total = sum(earlier.values())
    schema = table.schema
    if not schema.classes or not total:
        return
    names = class_texts(schema.target, schema.classes, table.columns[schema.target.name])
    for name in schema.classes:
        count = int(np.count_nonzero(names == name))
        share, before = count / len(table), earlier.get(name, 0) / total
        if abs(share - before) > tolerance:
            message = (
                f"class {name!r} of {schema.target.name!r} is {share:.1%} of the rows, and was {before:.1%} in the "
                f"dataset before; the spec allows a difference of {tolerance:.1%}"
            )
            yield Finding("error", "label_share", schema.target.name, message, count, (), share)
