"""Inferring columns: which type the cells of a column have, and what part it plays.

A column is numeric (or dates) when at least 95 % of its present cells are; the others are then malformed rows. With
less than that it is a category or text. Nothing is guessed where two readings are equally good: dates whose day and
month could change places are reported and left out.
"""

import re
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from millrace.data.cells import (
    BOOLEAN_WORDS,
    candidate_formats,
    integer_cells,
    leading_zero_cells,
    parse_datetimes,
    parse_numbers,
    present,
)
from millrace.data.findings import Finding, quoted, warning
from millrace.data.raw import RawTable
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
_IDENTIFIER_NAME = re.compile(r"(?:^|.*[_\-. ])(?:id|uuid)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class InferredColumn:
    """A column as inferred, and what was remarkable about it."""

    column: Column
    findings: tuple[Finding, ...] = ()


def infer_columns(table: RawTable, target: str) -> tuple[list[Column], list[Finding]]:
    """Infer every column's type and role.

    Parameters
    ----------
    table : RawTable
        The upload.
    target : str
        The column to predict.

    Returns
    -------
    tuple of list of Column, list of Finding
        At most one column is the identifier: one that is named so, else the first of unique strings.
    """
    columns: list[Column] = []
    findings: list[Finding] = []
    for name in table.names:
        inferred = infer_column(name, table.column(name), is_target=name == target)
        columns.append(inferred.column)
        findings.extend(inferred.findings)
    return _with_one_identifier(columns), findings


def infer_column(name: str, cells: pa.Array, *, is_target: bool = False) -> InferredColumn:
    """Infer one column from its cells."""
    known = cells.filter(pa.array(present(cells)))
    nullable = len(known) < len(cells)
    distinct = pc.count_distinct(known).as_py()
    if not len(known):
        role: Role = "target" if is_target else "ignored"
        return InferredColumn(Column(name, "text", role, nullable=True, reason="every value is missing"))
    typed = _infer_type(name, known, distinct, nullable=nullable)
    if is_target:
        return InferredColumn(replace(typed.column, role="target"), typed.findings)
    return InferredColumn(_with_role(typed.column, known, distinct), typed.findings)


def _infer_type(name: str, known: pa.Array, distinct: int, *, nullable: bool) -> InferredColumn:
    boolean = _as_boolean(name, known, distinct, nullable=nullable)
    if boolean:
        return InferredColumn(boolean)
    numeric = _as_number(name, known, nullable=nullable)
    if numeric:
        return InferredColumn(numeric)
    moment = _as_datetime(name, known, nullable=nullable)
    if moment:
        return moment
    longest = pc.max(pc.utf8_length(known)).as_py()
    few = len(known) < SMALL_TABLE or distinct <= len(known) / 2
    if distinct <= MAX_CATEGORIES and few and longest <= MAX_CATEGORY_LENGTH:
        return InferredColumn(Column(name, "category", nullable=nullable))
    return InferredColumn(
        Column(name, "text", "ignored", nullable=nullable, reason=_text_reason(distinct, len(known), longest))
    )


def _as_boolean(name: str, known: pa.Array, distinct: int, *, nullable: bool) -> Column | None:
    if distinct > len(("True", "true", "TRUE", "False", "false", "FALSE")):
        return None
    words = set(pc.unique(known).to_pylist())
    lowered = {word.lower() for word in words}
    for true_word, false_word in BOOLEAN_WORDS:
        if lowered == {true_word, false_word}:
            if true_word == "true":
                return Column(name, "boolean", nullable=nullable)
            return Column(
                name,
                "boolean",
                nullable=nullable,
                categories=tuple(sorted(words)),
                true_values=(true_word,),
                false_values=(false_word,),
            )
    return None


def _as_number(name: str, known: pa.Array, *, nullable: bool) -> Column | None:
    parsed = parse_numbers(known)
    numbers = len(known) - parsed.bad_count
    if numbers < PARSED_SHARE * len(known) or leading_zero_cells(known).sum() > CODE_SHARE * len(known):
        return None
    integers = int((integer_cells(known) & ~parsed.bad).sum())
    return Column(name, "integer" if integers == numbers else "number", nullable=nullable)


def _as_datetime(name: str, known: pa.Array, *, nullable: bool) -> InferredColumn | None:
    examples = pc.unique(known.slice(0, 200)).to_pylist()
    formats = list(dict.fromkeys(form for example in examples[:20] for form in candidate_formats(example)))
    fitting = {form: int((~parse_datetimes(known, [form]).bad).sum()) for form in formats}
    needed = PARSED_SHARE * len(known)
    best = max(fitting.values(), default=0)
    if best < needed:
        return None
    winners = [form for form, count in fitting.items() if count == best]
    first = parse_datetimes(known, winners[:1]).values
    rivals = [
        form for form in winners[1:] if not np.array_equal(first, parse_datetimes(known, [form]).values, equal_nan=True)
    ]
    if not rivals:
        return InferredColumn(Column(name, "datetime", nullable=nullable, formats=(winners[0],)))
    reason = f"{_AMBIGUOUS}: {winners[0]} and {rivals[0]} fit every value; write dates as YYYY-MM-DD"
    finding = warning("ambiguous_dates", f"the column {name!r} is left out: {reason}", name, examples=examples)
    return InferredColumn(Column(name, "text", "ignored", nullable=nullable, reason=reason), (finding,))


def _with_role(column: Column, known: pa.Array, distinct: int) -> Column:
    """Decide between feature, identifier and ignored."""
    unique = distinct == len(known) and not column.nullable and len(known) > 1
    if unique and _IDENTIFIER_NAME.match(column.name):
        return replace(column, role="identifier", reason="named like an identifier, and unique")
    words = column.type in ("category", "text") and not column.reason.startswith(_AMBIGUOUS)
    if unique and words and _short(known) and len(known) >= SMALL_TABLE:
        return replace(column, role="identifier", reason="every row has another value")
    if distinct == 1 and not (column.nullable and column.type == "category"):
        return replace(column, role="ignored", reason=f"constant: every value is {quoted([known[0].as_py()])}")
    return column


def _short(known: pa.Array) -> bool:
    return bool(pc.max(pc.utf8_length(known)).as_py() <= MAX_CATEGORY_LENGTH)


def _with_one_identifier(columns: list[Column]) -> list[Column]:
    """Keep the best identifier; the others would only repeat it."""
    found = [column for column in columns if column.role == "identifier"]
    if len(found) < 2:  # noqa: PLR2004  # two of a kind
        return columns
    kept = next((column for column in found if _IDENTIFIER_NAME.match(column.name)), found[0])
    reason = f"identifies rows, as {kept.name!r} does already"
    return [
        replace(column, role="ignored", reason=reason) if column in found and column is not kept else column
        for column in columns
    ]


def _text_reason(distinct: int, known: int, longest: int) -> str:
    if longest > MAX_CATEGORY_LENGTH:
        return f"free text: a value is {longest:,} characters long (categories have at most {MAX_CATEGORY_LENGTH})"
    return (
        f"free text: {distinct:,} different values in {known:,} rows (categories have at most {MAX_CATEGORIES:,}, "
        "and each twice on average)"
    )
