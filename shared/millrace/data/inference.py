"""Inferring columns: which type the cells of a column have, and what part it plays.

A column is numeric (or dates) when at least 95 % of its present cells are; the others are then malformed rows. With
less than that it is a category or text; text that is written in several words is a feature. Nothing is guessed where
two readings are equally good: dates whose day and month could change places are reported and left out.
"""

import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import pyarrow as pa

from millrace.data.cells import BOOLEAN_WORDS
from millrace.data.findings import Finding, quoted, warning
from millrace.data.raw import RawTable, RowBatch, TableReader
from millrace.data.summaries import ColumnSummary, summarise
from millrace.schema import Column, Role

#: Share of a column's present cells that must parse for it to be numeric, or a date.
PARSED_SHARE = 0.95
#: Share of numbers with leading zeros past which a column holds codes.
CODE_SHARE = 0.01
MAX_CATEGORIES = 1_000
MAX_CATEGORY_LENGTH = 128
#: A table this small may have a category for every row.
SMALL_TABLE = 20

_AMBIGUOUS = "day and month could change places"
_ALL_DIFFER = "every value differs"
_IDENTIFIER_NAME = re.compile(r"(?:^|.*[_\-. ])(?:id|uuid)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class InferredColumn:
    """A column as inferred, and what was remarkable about it."""

    column: Column
    findings: tuple[Finding, ...] = ()


def infer_columns(
    table: RawTable | TableReader, target: str, id_column: str | None = None, date_order: str | None = None
) -> tuple[list[Column], list[Finding]]:
    """Infer every column's type and role.

    Parameters
    ----------
    table : RawTable or TableReader
        The upload; it is read once, or twice when a column of numbers ends in words.
    target : str
        The column to predict.
    id_column : str or None, default=None
        The column that names rows; None takes the first that is unique and named like one.
    date_order : {'day_first', 'month_first'} or None, default=None
        How to read a date whose day and month could change places; None leaves such a column out.

    Returns
    -------
    tuple of list of Column, list of Finding
        At most one column is the identifier.
    """
    summaries = summarise_columns(table, table.names)
    columns: list[Column] = []
    findings: list[Finding] = []
    for name, summary in summaries.items():
        inferred = conclude(name, summary, is_target=name == target, date_order=date_order)
        columns.append(inferred.column)
        findings.extend(inferred.findings)
    return _with_one_identifier(columns, target, id_column), findings


def infer_some(table: RawTable | TableReader, names: Sequence[str], date_order: str | None = None) -> list[Column]:
    """Infer a few columns, none of them the target; nothing is read when there are none."""
    summaries = summarise_columns(table, names)
    return [conclude(name, summary, date_order=date_order).column for name, summary in summaries.items()]


def summarise_columns(table: RawTable | TableReader, names: Sequence[str]) -> dict[str, ColumnSummary]:
    """Read a table and summarise some of its columns."""
    if not names:
        return {}
    summaries = _read_summaries(table, names, words=False)
    again = [name for name, summary in summaries.items() if summary.words_needed(PARSED_SHARE)]
    if again:
        summaries |= _read_summaries(table, again, words=True)
    return summaries


def _read_summaries(table: RawTable | TableReader, names: Sequence[str], *, words: bool) -> dict[str, ColumnSummary]:
    summaries = {name: ColumnSummary(bool(_IDENTIFIER_NAME.match(name)), words) for name in names}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for batch in table.batches():
            # Most of it is Arrow's work, which lets other threads run meanwhile.
            for _ in pool.map(partial(_summarise, batch), summaries.items()):
                pass
    return summaries


def _summarise(batch: RowBatch, named: tuple[str, ColumnSummary]) -> None:
    name, summary = named
    summary.add(batch.column(name), batch.numbers)


def infer_column(name: str, cells: pa.Array, *, is_target: bool = False) -> InferredColumn:
    """Infer one column from its cells."""
    return conclude(name, summarise(cells), is_target=is_target)


def conclude(
    name: str, summary: ColumnSummary, *, is_target: bool = False, date_order: str | None = None
) -> InferredColumn:
    """Infer one column from what is known of its cells."""
    if not summary.present:
        role: Role = "target" if is_target else "ignored"
        return InferredColumn(Column(name, "text", role, nullable=True, reason="every value is missing"))
    typed = _infer_type(name, summary, date_order)
    if is_target:
        return InferredColumn(replace(typed.column, role="target"), typed.findings)
    return InferredColumn(_with_role(typed.column, summary), typed.findings)


def _infer_type(name: str, summary: ColumnSummary, date_order: str | None) -> InferredColumn:
    numeric = _as_number(name, summary)
    if numeric:
        return InferredColumn(numeric)
    boolean = _as_boolean(name, summary)
    if boolean:
        return InferredColumn(boolean)
    moment = _as_datetime(name, summary, date_order)
    if moment:
        return moment
    few = summary.present < SMALL_TABLE or summary.distinct <= summary.present / 2
    if summary.distinct <= MAX_CATEGORIES and few and summary.longest <= MAX_CATEGORY_LENGTH:
        return InferredColumn(Column(name, "category", nullable=summary.nullable))
    return InferredColumn(Column(name, "text", "ignored", nullable=summary.nullable, reason=_text_reason(summary)))


def _as_boolean(name: str, summary: ColumnSummary) -> Column | None:
    if summary.distinct > len(("True", "true", "TRUE", "False", "false", "FALSE")):
        return None
    words = set(summary.distinct_words)
    lowered = {word.lower() for word in words}
    for true_word, false_word in BOOLEAN_WORDS:
        if lowered == {true_word, false_word}:
            if true_word == "true":
                return Column(name, "boolean", nullable=summary.nullable)
            return Column(
                name,
                "boolean",
                nullable=summary.nullable,
                categories=tuple(sorted(words)),
                true_values=(true_word,),
                false_values=(false_word,),
            )
    return None


def _as_number(name: str, summary: ColumnSummary) -> Column | None:
    if summary.numbers < PARSED_SHARE * summary.present or summary.leading_zeros > CODE_SHARE * summary.present:
        return None
    return Column(name, "integer" if summary.integers == summary.numbers else "number", nullable=summary.nullable)


def _as_datetime(name: str, summary: ColumnSummary, date_order: str | None) -> InferredColumn | None:
    counts = summary.formats
    needed = PARSED_SHARE * summary.present
    best = max(counts.fitting.values(), default=0)
    if best < needed:
        return _in_two_formats(name, summary, needed)
    winners = [form for form, count in counts.fitting.items() if count == best]
    if date_order is not None:
        first = "%d" if date_order == "day_first" else "%m"
        winners = [form for form in winners if form.startswith(first)] or winners
    rivals = [form for form in winners[1:] if counts.differing[_pair(winners[0], form)]]
    if not rivals:
        return InferredColumn(Column(name, "datetime", nullable=summary.nullable, formats=(winners[0],)))
    return _ambiguous(name, summary, (winners[0], rivals[0]))


def _in_two_formats(name: str, summary: ColumnSummary, needed: float) -> InferredColumn | None:
    """Take dates that are written in two ways, when no cell reads differently in them."""
    counts = summary.formats
    pairs = sorted(
        (pair for pair, count in counts.together.items() if count >= needed), key=counts.differing.__getitem__
    )
    if not pairs:
        return None
    best = pairs[0]
    if counts.differing[best]:
        return _ambiguous(name, summary, best)
    formats = tuple(sorted(best, key=lambda form: -counts.fitting[form]))
    told = " and ".join(f"{form} ({counts.fitting[form]:,} values)" for form in formats)
    finding = warning("two_date_formats", f"the dates of {name!r} are written in two ways, {told}; both are read", name)
    return InferredColumn(Column(name, "datetime", nullable=summary.nullable, formats=formats), (finding,))


def _ambiguous(name: str, summary: ColumnSummary, forms: tuple[str, str]) -> InferredColumn:
    reason = f"{_AMBIGUOUS}: {forms[0]} and {forms[1]} fit every value; write dates as YYYY-MM-DD"
    finding = warning("ambiguous_dates", f"the column {name!r} is left out: {reason}", name, examples=summary.examples)
    return InferredColumn(Column(name, "text", "ignored", nullable=summary.nullable, reason=reason), (finding,))


def _pair(one: str, other: str) -> tuple[str, str]:
    return (one, other) if one < other else (other, one)


def _with_role(column: Column, summary: ColumnSummary) -> Column:
    """Decide between feature, identifier and ignored."""
    if _IDENTIFIER_NAME.match(column.name) and summary.unique:
        return replace(column, role="identifier", reason="named like an identifier, and unique")
    words = column.type in ("category", "text") and not column.reason.startswith(_AMBIGUOUS)
    if words and summary.longest <= MAX_CATEGORY_LENGTH and summary.present >= SMALL_TABLE and summary.unique:
        column = replace(column, type="text", role="ignored", reason=_ALL_DIFFER)
    if words and column.type == "text" and summary.wordy and not summary.constant:
        return replace(column, role="feature", reason="")
    if summary.constant and not (column.nullable and column.type == "category"):
        return replace(column, role="ignored", reason=f"constant: every value is {quoted([summary.first or ''])}")
    return column


def _with_one_identifier(columns: list[Column], target: str, id_column: str | None) -> list[Column]:
    """Keep the first identifier, or the one that the spec names; the others would only repeat it."""
    if id_column is not None and id_column != target:
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
        f"free text: {summary.distinct_in_words} different values in {summary.present:,} rows (categories have at most "
        f"{MAX_CATEGORIES:,}, and each twice on average)"
    )
