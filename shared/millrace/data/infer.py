"""Infer columns and target: types, roles, task and classes.

A column is numeric (or dates) when at least 95 % of its known values are; the others are then malformed rows. With less
than that it is a category or text; text of several words is a feature. Ambiguous values are never guessed: dates whose
day and month could be swapped are reported and left out.
"""

import os
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import pyarrow as pa

from millrace.data.column_summary import MAX_CATEGORY_LENGTH, NO_MARKS, ColumnSummary
from millrace.data.doubts import AMBIGUOUS, PARSED_SHARE, column_doubts
from millrace.data.findings import Finding, error, quoted, warning
from millrace.data.notation import detect_column_style, stated_style
from millrace.data.parsers import BOOLEAN_PAIRS
from millrace.data.raw import RowBatch, TableReader
from millrace.quantities import PLAIN, NumberStyle
from millrace.schema import NULL_MARKS, NULL_STRINGS, Column, ColumnType, Role
from millrace.spec.data import ReadSpec

_DETECTED = ReadSpec()
#: Share of numbers that look like codes past which a column holds codes.
CODE_SHARE = 0.01
MAX_CATEGORIES = 1_000
#: A table this small may have a category for every row.
SMALL_TABLE = 20

_ALL_DIFFER = "every value differs"
_IDENTIFIER_NAME = re.compile(r"(?:^|.*[_\-. ])(?:id|uuid)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class InferredColumn:
    """A column as inferred, with findings."""

    column: Column
    findings: tuple[Finding, ...] = ()


def infer_columns(
    table: TableReader, target: str, id_column: str | None = None, read: ReadSpec = _DETECTED
) -> tuple[list[Column], list[Finding]]:
    """Infer every column's type and role; at most one is the identifier.

    The table is read once, or twice when a column of numbers ends in strings. Without ``id_column`` the identifier is
    the first column that is unique and named like one; without ``read.date_order`` ambiguous dates are left out.
    """
    summaries = summarise_columns(table, table.names, read)
    inferred = [
        infer_from_summary(name, summary, is_target=name == target, read=read) for name, summary in summaries.items()
    ]
    inferred = [_with_notation(one, summaries[one.column.name], table.numbers) for one in inferred]
    inferred = [_leave_out(one) if one.column.name in table.doubtful_numbers else one for one in inferred]
    columns = _with_one_identifier([one.column for one in inferred], target, id_column)
    columns = [
        _as_identifier(column, summaries[column.name]) if column.role == "identifier" else column for column in columns
    ]
    nameless = [name for name in table.unnamed if summaries[name].present]
    unnamed = [
        error("header", f"{name.replace('_', ' ')} has values and no name: give it one", name) for name in nameless
    ]
    return columns, [*unnamed, *(finding for one in inferred for finding in one.findings)]


def _with_notation(inferred: InferredColumn, summary: ColumnSummary, of_file: NumberStyle) -> InferredColumn:
    """Keep the notation of a column of numbers, by which requests and later uploads are read."""
    column, own = inferred.column, summary.notation
    if column.type not in ("integer", "number"):
        return inferred
    if own is None:
        return inferred if of_file == PLAIN else replace(inferred, column=replace(column, notation=of_file))
    shown = f"as {own.example}" + (" with signs behind or in parentheses" if own.accounting else "")
    unit = f", {own.unit!r} left out" if own.unit else ""
    message = (
        f"the numbers of {column.name!r} are written {shown} and were read so{unit}; to keep them as strings, set "
        f"columns: {{{column.name}: {{type: category}}}}"
    )
    finding = warning("number_style", message, column.name)
    return InferredColumn(replace(column, notation=own), (*inferred.findings, finding))


def _leave_out(inferred: InferredColumn) -> InferredColumn:
    """Leave out a column of numbers whose points may be between thousands."""
    column = inferred.column
    if column.type not in ("integer", "number"):
        return inferred
    reason = "values such as 1.234 are ambiguous, fractions or thousands: set read: {decimal: '.'} or {thousands: '.'}"
    role: Role = "target" if column.role == "target" else "ignored"
    finding = warning("ambiguous_numbers", f"the column {column.name!r} is left out: {reason}", column.name)
    return InferredColumn(replace(column, type="text", role=role, reason=reason), (finding,))


def infer_some(table: TableReader, names: Sequence[str], read: ReadSpec = _DETECTED) -> list[Column]:
    """Infer a few columns, none of them the target; nothing is read when there are none."""
    summaries = summarise_columns(table, names, read)
    return [infer_from_summary(name, summary, read=read).column for name, summary in summaries.items()]


def summarise_columns(table: TableReader, names: Sequence[str], read: ReadSpec = _DETECTED) -> dict[str, ColumnSummary]:
    """Summarise some columns of a table."""
    if not names:
        return {}
    # Where the spec says what is missing, nothing else is.
    marks = pa.array(sorted(NULL_STRINGS | NULL_MARKS)) if read.null_values is None else NO_MARKS
    summaries = _read_summaries(table, dict.fromkeys(names), marks, strings=False)
    again = [name for name, summary in summaries.items() if summary.strings_needed(PARSED_SHARE)]
    if again:
        summaries |= _read_summaries(table, dict.fromkeys(again), marks, strings=True)
    stated = stated_style(read)
    styles = {
        name: style
        for name, summary in summaries.items()
        if not summary.numeric(PARSED_SHARE) and (style := detect_column_style(summary.known_examples, stated))
    }
    if styles:
        written = _read_summaries(table, styles, marks, strings=False)
        summaries |= {name: summary for name, summary in written.items() if summary.numeric(PARSED_SHARE)}
    return summaries


def _read_summaries(
    table: TableReader, names: Mapping[str, NumberStyle | None], marks: pa.Array, *, strings: bool
) -> dict[str, ColumnSummary]:
    """Summarise columns, each by a notation of its own or by the file's."""
    summaries = {
        name: ColumnSummary(bool(_IDENTIFIER_NAME.match(name)), strings, notation) for name, notation in names.items()
    }
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for batch in table.batches():
            # Most of it is Arrow's work, which lets other threads run meanwhile.
            for _ in pool.map(partial(_summarise, batch, marks), summaries.items()):
                pass
    return summaries


def _summarise(batch: RowBatch, marks: pa.Array, named: tuple[str, ColumnSummary]) -> None:
    name, summary = named
    strings = batch.column(name)
    summary.add(strings, batch.numbers, marks, batch.null_counts.get(name) if len(marks) else None)


def infer_from_summary(
    name: str, summary: ColumnSummary, *, is_target: bool = False, read: ReadSpec = _DETECTED
) -> InferredColumn:
    """Infer one column from its summary."""
    if not summary.present:
        role: Role = "target" if is_target else "ignored"
        return InferredColumn(Column(name, "text", role, nullable=True, reason="every value is missing"))
    typed = _infer_type(name, summary, read.date_order)
    column = replace(typed.column, role="target") if is_target else _with_role(typed.column, summary)
    return InferredColumn(column, (*typed.findings, *column_doubts(column, summary)))


def _as_identifier(column: Column, summary: ColumnSummary) -> Column:
    """Return an identifier; whole numbers are integers even where a writer made fractions of them."""
    whole = column.type == "number" and summary.whole == summary.numbers
    return replace(column, type="integer") if whole else column


def _infer_type(name: str, summary: ColumnSummary, date_order: str | None) -> InferredColumn:
    if plain := _as_number(name, summary) or _as_boolean(name, summary):
        return InferredColumn(plain)
    if dates := _as_datetime(name, summary, date_order):
        return dates
    few = summary.present < SMALL_TABLE or summary.distinct <= summary.present / 2
    if summary.distinct <= MAX_CATEGORIES and few and summary.longest <= MAX_CATEGORY_LENGTH:
        return InferredColumn(Column(name, "category", nullable=summary.nullable))
    return InferredColumn(Column(name, "text", "ignored", nullable=summary.nullable, reason=_text_reason(summary)))


def _as_boolean(name: str, summary: ColumnSummary) -> Column | None:
    if summary.distinct - len(summary.marks) > len(("True", "true", "TRUE", "False", "false", "FALSE")):
        return None
    strings: set[str] = set(summary.distinct_strings)
    lowered = {string.lower() for string in strings - summary.marks.keys()}
    for true_name, false_name in BOOLEAN_PAIRS:
        if lowered == {true_name, false_name}:
            boolean = Column(name, "boolean", nullable=summary.nullable or bool(summary.marks))
            if true_name == "true":
                return boolean
            return replace(
                boolean,
                categories=tuple(sorted(strings - summary.marks.keys())),
                true_values=(true_name,),
                false_values=(false_name,),
            )
    return None


def _as_number(name: str, summary: ColumnSummary) -> Column | None:
    if not summary.numeric(PARSED_SHARE) or summary.codes > CODE_SHARE * summary.parsable:
        return None
    kind: ColumnType = "integer" if summary.integers == summary.numbers else "number"
    return Column(name, kind, nullable=summary.nullable or bool(summary.marks))


def _as_datetime(name: str, summary: ColumnSummary, date_order: str | None) -> InferredColumn | None:
    counts = summary.formats
    needed = PARSED_SHARE * summary.parsable
    best = max(counts.fitting.values(), default=0)
    if not best or best < needed:
        return _in_two_formats(name, summary, needed)
    winners = counts.likely([form for form, count in counts.fitting.items() if count == best])
    if date_order is not None:
        first = "%d" if date_order == "day_first" else "%m"
        winners = [form for form in winners if form.startswith(first)] or winners
    rivals = [form for form in winners[1:] if counts.differing[min(winners[0], form), max(winners[0], form)]]
    if not rivals:
        nullable = summary.nullable or bool(summary.marks)
        return InferredColumn(Column(name, "datetime", nullable=nullable, formats=(winners[0],)))
    return _ambiguous(name, summary, (winners[0], rivals[0]))


def _in_two_formats(name: str, summary: ColumnSummary, needed: float) -> InferredColumn | None:
    """Accept dates in two formats when no value differs between them."""
    counts = summary.formats
    pairs = [pair for pair, count in counts.together.items() if count >= needed]
    if not pairs:
        return None
    best = min(pairs, key=counts.differing.__getitem__)
    if counts.differing[best]:
        return _ambiguous(name, summary, best)
    formats = tuple(sorted(best, key=lambda form: -counts.fitting[form]))
    written = " and ".join(f"{form} ({counts.fitting[form]:,} values)" for form in formats)
    finding = warning("two_date_formats", f"the dates of {name!r} have two formats, {written}; both are read", name)
    return InferredColumn(Column(name, "datetime", nullable=summary.nullable, formats=formats), (finding,))


def _ambiguous(name: str, summary: ColumnSummary, forms: tuple[str, str]) -> InferredColumn:
    reason = f"{AMBIGUOUS}: {forms[0]} and {forms[1]} fit every value; write dates as YYYY-MM-DD"
    finding = warning("ambiguous_dates", f"the column {name!r} is left out: {reason}", name, examples=summary.examples)
    return InferredColumn(Column(name, "text", "ignored", nullable=summary.nullable, reason=reason), (finding,))


def _with_role(column: Column, summary: ColumnSummary) -> Column:
    """Choose between feature, identifier and ignored."""
    if _IDENTIFIER_NAME.match(column.name) and summary.unique:
        return replace(column, role="identifier", reason="named like an identifier, and unique")
    strings = column.type in ("category", "text") and not column.reason.startswith(AMBIGUOUS)
    if strings and summary.longest <= MAX_CATEGORY_LENGTH and summary.present >= SMALL_TABLE and summary.unique:
        column = replace(column, type="text", role="ignored", reason=_ALL_DIFFER)
    if strings and column.type == "text" and summary.is_prose and not summary.constant:
        return replace(column, role="feature", reason="")
    if summary.constant and not (column.nullable and column.type == "category"):
        return replace(column, role="ignored", reason=f"constant: every value is {quoted([summary.first or ''])}")
    return column


def _with_one_identifier(columns: list[Column], target: str, id_column: str | None) -> list[Column]:
    """Keep the first identifier, or that of the spec; the others would only repeat it."""
    if id_column != target:
        columns = [
            replace(column, role="identifier", reason="named by the spec") if column.name == id_column else column
            for column in columns
        ]
    found = [column for column in columns if column.role == "identifier"]
    if len(found) < 2:  # noqa: PLR2004  # two of a kind
        return columns
    kept = next((column for column in found if column.name == id_column), found[0])
    reason = f"identifies rows, as {kept.name!r} does already"
    return [
        replace(column, role="ignored", reason=reason) if column in found and column is not kept else column
        for column in columns
    ]


def _text_reason(summary: ColumnSummary) -> str:
    if summary.longest > MAX_CATEGORY_LENGTH:
        return (
            f"free text: a value is {summary.longest:,} characters long (categories have at most {MAX_CATEGORY_LENGTH})"
        )
    return (
        f"free text: {'more than ' if summary.too_many else ''}{summary.distinct:,} different values in "
        f"{summary.present:,} rows (categories have at most {MAX_CATEGORIES:,}, and each twice on average)"
    )
