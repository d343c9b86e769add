"""Checks of a dataset as a whole: volume, repetitions, missing shares, freshness, the classes' shares."""

from collections.abc import Iterator
from datetime import UTC

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.compute as pc

from millrace.data.findings import MAX_EXAMPLES, Finding, error
from millrace.data.history import History
from millrace.data.typed_table import TypedTable, class_texts, stored_column, stored_parts, stored_tables
from millrace.data.words import combine_hashes, hash_values
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


def _repeated_rows(table: TypedTable, lines: npt.NDArray[np.int64], allowed: float) -> Iterator[Finding]:
    repeated = np.flatnonzero(repeated_rows(table))
    share = len(repeated) / len(table)
    if share > allowed:
        rows = tuple((int(lines[row]), "") for row in repeated[:MAX_EXAMPLES].tolist())
        message = f"{len(repeated):,} rows ({share:.1%}) repeat an earlier row; the spec allows {allowed:.1%}"
        yield Finding("error", "duplicate_rows", None, message, len(repeated), (), share, rows)


def repeated_rows(table: TypedTable) -> npt.NDArray[np.bool_]:
    """Tell which rows have the same values as an earlier one in every column.

    Rows are compared by a hash of 64 bits: that two of 25 million different ones share one has a chance of 1 in 60,000.
    """
    hashes = [np.empty(0, dtype=np.uint64)]
    for part in stored_tables(table):
        columns = [hash_values(part.column(column.name)) for column in table.schema.columns]
        hashes.append(combine_hashes(columns, part.num_rows))
    return np.asarray(pd.Series(np.concatenate(hashes)).duplicated().to_numpy())


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
