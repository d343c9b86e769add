"""Check a dataset as a whole: volume, missing values, duplicates, freshness, shift, skew and bias."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow.compute as pc

from millrace.captures.window import ReadReport, WindowBuilder, iterate_rows
from millrace.data.compare import MIN_COMPARED_ROWS, ColumnShift, measure_shifts
from millrace.data.dataset_documents import DatasetProfile
from millrace.data.findings import MAX_EXAMPLES, Finding, error, warning
from millrace.data.profile import profile_features
from millrace.data.typed_table import TypedTable, class_texts, hash_values, stored_column, stored_parts, stored_tables
from millrace.features import missing_mask
from millrace.hashing import fold_columns
from millrace.ports import ObjectStore
from millrace.schema import MASK, Column, TableSchema
from millrace.spec.data import TableChecks

#: Days of captured rows that are compared for skew, and rows that are enough.
CAPTURED_DAYS = 7
MAX_CAPTURED_ROWS = 10_000
#: A number with more distinct values than this forms no groups.
MAX_SENSITIVE_GROUPS = 50
#: Groups of fewer rows have no label rate worth comparing.
MIN_GROUP_ROWS = 30

_SECONDS_PER_DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class DatasetHistory:
    """Earlier datasets of a model, and recent predictions."""

    rows: Sequence[int] = ()  # rows of each earlier dataset
    profile: DatasetProfile | None = None  # of the newest dataset
    now: datetime | None = None  # in UTC; without it freshness is not checked
    captured: DatasetProfile | None = None  # of the rows captured last; None when skew is not checked


NO_DATASET_HISTORY = DatasetHistory()


def check_whole(
    table: TypedTable, lines: npt.NDArray[np.int64], checks: TableChecks, history: DatasetHistory
) -> Iterator[Finding]:
    """Yield the findings on volume, missing values, duplicates, freshness and label shares of the accepted rows."""
    yield from _check_volume(len(table), checks, history)
    if not len(table):
        return
    for column in table.schema.columns:
        yield from _check_missing_share(column, table)
    if checks.max_duplicate_share is not None:
        yield from _check_duplicates(table, lines, checks.max_duplicate_share)
    if checks.freshness_column is not None:
        yield from _check_freshness(table, checks, history)
    if checks.label_share_tolerance is not None:
        yield from _check_label_shares(table, checks.label_share_tolerance, history)


def _check_volume(rows: int, checks: TableChecks, history: DatasetHistory) -> Iterator[Finding]:
    if checks.min_rows is not None and rows < checks.min_rows:
        message = f"{rows:,} rows are usable; the spec requires at least {checks.min_rows:,}"
        yield error("row_count", message, None, rows)
    if checks.max_rows is not None and rows > checks.max_rows:
        yield error("row_count", f"{rows:,} rows are usable; the spec allows at most {checks.max_rows:,}", None, rows)
    if checks.row_count_factor is not None and history.rows:
        median = float(np.median(list(history.rows)))
        if rows > median * checks.row_count_factor or rows < median / checks.row_count_factor:
            message = (
                f"{rows:,} rows are usable, and the median of the earlier datasets is {median:,.0f}; the spec allows "
                f"{checks.row_count_factor:g} times more or fewer"
            )
            yield error("row_count", message, None, rows)


def _check_missing_share(column: Column, table: TypedTable) -> Iterator[Finding]:
    allowed = column.rules.max_null_share
    if allowed is None:
        return
    count = sum(part.null_count for part in stored_parts(table, column))
    if count > allowed * len(table):
        share = count / len(table)
        message = f"{share:.1%} of the values of {column.name!r} are missing; the spec allows {allowed:.1%}"
        yield Finding(column.rules.severity, "null_share", column.name, message, count, (), share)


def _check_duplicates(table: TypedTable, lines: npt.NDArray[np.int64], allowed: float) -> Iterator[Finding]:
    repeated = np.flatnonzero(duplicated_rows(table))
    share = len(repeated) / len(table)
    if share > allowed:
        rows = tuple((int(lines[row]), "") for row in repeated[:MAX_EXAMPLES].tolist())
        message = f"{len(repeated):,} rows ({share:.1%}) repeat an earlier row; the spec allows {allowed:.1%}"
        yield Finding("error", "duplicate_rows", None, message, len(repeated), (), share, rows)


def duplicated_rows(table: TypedTable) -> npt.NDArray[np.bool_]:
    """Return the mask of the rows that equal an earlier row in every column.

    Rows are compared by hashes of 64 bits: two of 25 million distinct rows share one with a probability of 1 in 60,000.
    """
    hashes = [np.empty(0, dtype=np.uint64)]
    for part in stored_tables(table):
        columns = [hash_values(part.column(column.name)) for column in table.schema.columns]
        hashes.append(fold_columns(columns, part.num_rows))
    return np.asarray(pd.Series(np.concatenate(hashes)).duplicated().to_numpy())


def _check_freshness(table: TypedTable, checks: TableChecks, history: DatasetHistory) -> Iterator[Finding]:
    name = checks.freshness_column or ""
    column = next((column for column in table.schema.columns if column.name == name), None)
    if column is None or column.type != "datetime":
        fact = "is not in the file" if column is None else f"holds {column.type} values"
        yield error("freshness", f"the freshness column {name!r} should hold dates, and {fact}", name)
        return
    newest = pc.max(stored_column(table, column)).as_py()
    if newest is None:
        yield error("freshness", f"every value of the freshness column {name!r} is missing", name)
    elif checks.max_age_days is not None and history.now is not None:
        age = (history.now - newest.astimezone(UTC)).total_seconds() / _SECONDS_PER_DAY
        if age > checks.max_age_days:
            message = (
                f"the newest value of {name!r} is {newest.date()}, {age:,.1f} days old; the spec allows "
                f"{checks.max_age_days:g}"
            )
            yield error("freshness", message, name)


def _check_label_shares(table: TypedTable, tolerance: float, history: DatasetHistory) -> Iterator[Finding]:
    earlier = history.profile.target.classes if history.profile and history.profile.target else {}
    total = sum(earlier.values())
    schema = table.schema
    if not schema.classes or not total:
        return
    names = class_texts(schema.target, schema.classes, table.columns[schema.target.name])
    for index, name in enumerate(schema.classes):
        count = int(np.count_nonzero(names == name))
        share, before = count / len(table), earlier.get(name, 0) / total
        if abs(share - before) > tolerance:
            message = (
                f"class {schema.quote_class(index)} of {schema.target.name!r} is {share:.1%} of the rows, and "
                f"was {before:.1%} in the dataset before; the spec allows a difference of {tolerance:.1%}"
            )
            yield Finding("error", "label_share", schema.target.name, message, count, (), share)


def find_shift(
    history: DatasetHistory, profile: DatasetProfile, threshold: float, going_on: Collection[str] = ()
) -> Iterator[Finding]:
    """Yield the columns whose population stability index against the dataset before exceeds a threshold.

    Of those that go on by themselves, as dates do, only the missing values are compared.
    """
    known = {column.name: column.known for column in profile.columns}
    for name, measured in measure_shifts(history.profile, profile).items():
        shift = replace(measured, values=0.0) if name in going_on else measured
        if not known[name] and shift.missing > threshold:
            message = f"every value of {name!r} is missing, and the dataset before has values: is it still filled?"
            yield warning("empty_column", message, name, profile.rows)
        elif shift.largest > threshold:
            message = (
                f"{_subject(name, shift)} shifted since the dataset before: population stability index "
                f"{shift.largest:.2f}, above {threshold:g}"
            )
            yield warning("shift", message, name)


def find_skew(
    history: DatasetHistory, profile: DatasetProfile, threshold: float | None, going_on: Collection[str] = ()
) -> Iterator[Finding]:
    """Yield the features whose captured requests differ from the dataset (train/serve skew)."""
    if threshold is None:
        return
    rows = history.captured.rows if history.captured else 0
    if rows < MIN_COMPARED_ROWS:
        captured = f"{rows:,} predictions were" if rows else "no prediction was"
        message = (
            f"skew was not checked: {captured} captured in the last {CAPTURED_DAYS} days, and {MIN_COMPARED_ROWS} are "
            "needed"
        )
        yield warning("skew", message, None, rows)
        return
    features = {column.name for column in profile.columns if column.role == "feature"}
    for name, measured in measure_shifts(profile, history.captured).items():
        shift = replace(measured, values=0.0) if name in going_on else measured
        if name in features and shift.largest > threshold:
            message = (
                f"{_subject(name, shift)} differ between requests and this dataset: population stability index "
                f"{shift.largest:.2f}, above {threshold:g}"
            )
            yield warning("skew", message, name)


def _subject(name: str, shift: ColumnShift) -> str:
    if shift.largest == shift.values:
        return f"the values of {name!r}"
    kind = "missing values" if shift.largest == shift.missing else "unseen categories"
    return f"the {kind} of {name!r}"


def profile_captures(
    store: ObjectStore, model: str, schema: TableSchema, now: datetime, *, since: datetime | None = None
) -> DatasetProfile:
    """Profile the features of the rows captured last.

    Hours are read from the newest to the oldest until there are :data:`MAX_CAPTURED_ROWS`, each prediction once. Rows
    before ``since`` belong to a deleted model of the same name; objects that cannot be read are left out.
    """
    start = now - timedelta(days=CAPTURED_DAYS)
    start = max(start, since) if since else start
    builder, report, seen = WindowBuilder(), ReadReport(), set[str]()
    end = now
    while end > start and len(seen) < MAX_CAPTURED_ROWS:
        begin = max(start, (end - timedelta(microseconds=1)).replace(minute=0, second=0, microsecond=0))
        for row in iterate_rows(store, model, begin, end, report):
            if row.prediction_id in seen:
                continue
            seen.add(row.prediction_id)
            builder.add(row)
            if len(seen) == MAX_CAPTURED_ROWS:
                break
        end = begin
    window = builder.build(model, start, now, report)
    return profile_features(schema, window.typed_features(schema), len(window))


def find_bias(table: TypedTable, sensitive_groups: Sequence[str], checks: TableChecks) -> Iterator[Finding]:
    """Yield under-represented groups of the declared columns, and columns with very different label rates."""
    known = {column.name: column for column in table.schema.columns}
    for name in sensitive_groups:
        if name not in known:
            yield error("bias", f"the sensitive group {name!r} is no column of the data", name)
            continue
        groups = _describe_groups(table, known[name])
        if len(groups) > MAX_SENSITIVE_GROUPS:
            message = f"{name!r} has {len(groups):,} distinct values, too many to compare as groups: bin them first"
            yield warning("bias", message, name, len(groups))
            continue
        few = groups[groups["rows"] / len(table) < checks.min_group_share]
        if len(few):
            named = ", ".join(f"{shown} ({rows:,} rows)" for shown, rows in few[["shown", "rows"]].to_numpy()[:5])
            message = f"groups of {name!r} with less than {checks.min_group_share:.1%} of the rows: {named}"
            yield warning("representation", message, name, len(few), few["shown"])
        if table.schema.task == "binary":
            yield from _find_unequal_rates(name, groups[groups["rows"] >= MIN_GROUP_ROWS], checks.min_label_rate_ratio)


def _describe_groups(table: TypedTable, column: Column) -> pd.DataFrame:
    """Return the groups of a column, the largest first: rows, rate of a binary target's second class, name to show."""
    values = table.columns[column.name]
    known = ~missing_mask(values)
    frame = pd.DataFrame({"value": values[known], "positive": table.target()[known] == 1})
    groups = pd.DataFrame(frame.groupby("value")["positive"].agg(["size", "mean"])).set_axis(["rows", "rate"], axis=1)
    groups["name"] = groups.index.to_numpy().astype(np.str_)
    groups["shown"] = MASK if column.sensitive else groups["name"].map(repr)
    return groups.sort_values(["rows", "name"], ascending=[False, True])


def _find_unequal_rates(name: str, groups: pd.DataFrame, least: float) -> Iterator[Finding]:
    if not len(groups):
        return
    ordered = groups.sort_values("rate", kind="stable")[["rate", "shown"]].to_numpy().tolist()
    (low, fewest), (high, most) = ordered[0], ordered[-1]
    if high > 0 and low / high < least:
        message = (
            f"the label rate of {name!r} is {low:.1%} for {fewest} and {high:.1%} for {most}: their "
            f"ratio {low / high:.2f} is below {least:g}"
        )
        yield warning("label_rate", message, name)
