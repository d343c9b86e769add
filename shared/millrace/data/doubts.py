"""Doubts about the meaning of a column's values, each with the line of spec that removes it."""

import json
import re
from collections.abc import Iterator

from millrace.data.column_summary import ColumnSummary
from millrace.data.findings import Finding, quoted, warning
from millrace.data.notation import Dressing, style_of_digits
from millrace.schema import NUMBER_PATTERN, Column

#: Share of a column's known values that must parse for it to be numeric, or a date.
PARSED_SHARE = 0.95
#: Beginning of the reason why ambiguous dates are left out.
AMBIGUOUS = "day and month could change places"
#: Share of a column's examples that must look like numbers or dates for a doubt to be reported.
_ALIKE_SHARE = 0.8
#: Findings that end where the spec states a column's type.
TYPE_DOUBTS = frozenset({"number_style", "nearly_numbers", "codes", "unread_dates", "float32"})
_DATE_LIKE = re.compile(
    r"(?=.{6,40}$)(?:[A-Za-z]{3,9},? )?"
    r"(?:\d{1,4}[-/. ]{1,2}(?:\d{1,2}|[A-Za-z]{3,9})[-/. ]{1,2}\d{1,4}|[A-Za-z]{3,9}\.? \d{1,2},? ).*"
)

#: Distinct large whole numbers that may be codes.
MAX_CODES = 50


def column_doubts(column: Column, summary: ColumnSummary) -> Iterator[Finding]:
    """Yield the doubts about a column's values, each with the line of spec that removes it."""
    name = column.name
    if column.role == "identifier":
        return
    if column.type in ("integer", "number"):
        is_lost = summary.centred_values < summary.float64_values
        may_be_codes = column.type == "integer" and summary.float64_values <= MAX_CODES
        if summary.float32_values < summary.float64_values and column.role == "feature" and (is_lost or may_be_codes):
            values, single, left = summary.float64_values, summary.float32_values, summary.centred_values
            read = f"{left:,} less a constant" if is_lost else "models read them less a constant"
            yield warning(
                "float32",
                f"as 32-bit floats {values:,} values of {name!r} become {single:,}, and {read}; where they are codes "
                f"set columns: {{{name}: {{type: category}}}}",
                name,
            )
        return
    if column.type not in ("category", "text"):
        return
    if summary.taken and (column.role == "target" or column.type == "category"):
        count = summary.taken.total()
        yield warning(
            "null_values",
            f"{count:,} values of {name!r}, {quoted(sorted(summary.taken))}, were read as missing; where they are "
            "categories, list what is missing instead: read: {null_values: ['']}",
            name,
            count,
        )
    if summary.marks and column.type == "category":
        count, marks = summary.marks.total(), sorted(summary.marks)
        yield warning(
            "missing_marks",
            f"{count:,} values of {name!r}, {quoted(marks)}, were read as categories; where they mean a missing value, "
            f"set read: {{null_values: {['', *marks]}}}",
            name,
            count,
        )
    yield from _unread_values(column, summary)


def _unread_values(column: Column, summary: ColumnSummary) -> Iterator[Finding]:
    """Yield a doubt on strings of which most are numbers or dates in another notation."""
    name = column.name
    examples = [example for example in summary.examples if example not in summary.marks]
    if not examples:
        return
    if summary.codes and summary.numbers >= PARSED_SHARE * summary.parsable:
        if any("e" in example.lower() for example in examples):
            example = next(example for example in examples if "e" in example.lower())
            yield warning(
                "codes",
                f"the values of {name!r}, such as {example!r}, were read as codes, not as numbers; where they are "
                f"numbers, set columns: {{{name}: {{type: number}}}}",
                name,
            )
        return
    if all(len(example) > 1 and example[0] == example[-1] == '"' for example in examples):
        yield warning(
            "quotes",
            f"the values of {name!r}, such as {examples[0]!r}, keep their quotes, as a blank stands before them: write "
            "no blank after a delimiter",
            name,
            examples=examples,
        )
        return
    dressing = Dressing.of(examples)
    plain = [example for example in examples if re.fullmatch(NUMBER_PATTERN, example)]
    others = [example for example in examples if example not in plain]
    if Dressing.of(others).share < _ALIKE_SHARE and len(plain) >= len(examples) / 2 and others:
        yield warning(
            "nearly_numbers",
            f"{summary.numbers / summary.parsable:.0%} of {name!r} are numbers, others are {quoted(others[:3])}: where "
            f"these are missing, set read: {{null_values: {['', *others[:3]]}}}, else write numbers alone",
            name,
            examples=others,
        )
    elif sum(bool(_DATE_LIKE.fullmatch(example)) for example in examples) >= _ALIKE_SHARE * len(examples):
        if not column.reason.startswith(AMBIGUOUS):
            yield warning(
                "unread_dates",
                f"the values of {name!r}, such as {examples[0]!r}, look like dates of a form that is not known: set "
                f"columns: {{{name}: {{type: datetime, formats: ['%d.%m.%Y %H:%M']}}}} with your form",
                name,
                examples=examples,
            )
    elif dressing.share >= _ALIKE_SHARE and (remedy := _remedy_of_numbers(name, dressing)):
        message = f"the values of {name!r}, such as {quoted(others[:2] or examples[:2])}, look like numbers {remedy}"
        yield warning("nearly_numbers", message, name, examples=examples)


def _remedy_of_numbers(name: str, dressing: Dressing) -> str | None:
    """Return why numbers with signs or units were not read, and what to do; None where they are none after all."""
    units = dressing.units
    if len(units) > 1:
        return f"in several units, {quoted(sorted(units))}: write one unit in a column, or none"
    if style_of_digits(dressing.digits) is None:
        return (
            "whose points or commas are ambiguous, fractions or thousands: set read: {thousands: ','} or "
            "{thousands: '.'}, or read: {decimal: ','} or {decimal: '.'}"
        )
    for unit in units:
        if any(match["before"] for match in dressing.found):
            return None  # a letter before digits is a code, not a unit
        line = f"columns: {{{name}: {{unit: {json.dumps(unit, ensure_ascii=False)}}}}}"
        return f"with {unit!r}: to read the numbers alone, set {line}"
    return None
