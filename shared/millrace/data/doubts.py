"""Doubts about the meaning of a column's values, each with the line of spec that removes it."""

import calendar
import json
import re
from collections.abc import Iterator, Sequence

from millrace.data.column_summary import ColumnSummary
from millrace.data.findings import Finding, quoted, warning
from millrace.data.notation import CURRENCIES, Dressing, is_unit, style_of_digits
from millrace.data.parsers import date_form, fits_form
from millrace.schema import NUMBER_PATTERN, Column

#: Share of a column's known values that must parse for it to be numeric, or a date.
PARSED_SHARE = 0.95
#: Beginning of the reason why ambiguous dates are left out.
AMBIGUOUS = "day and month could change places"
#: Share of a column's examples that must look like numbers or dates for a doubt to be reported.
_ALIKE_SHARE = 0.8
#: Findings that end where the spec states a column's type.
TYPE_DOUBTS = frozenset({"number_style", "nearly_numbers", "codes", "unread_dates", "float32"})
_LETTERS = r"[^\W\d_]{3,12}\.?"
_DAY = r"\d{1,2}(?:\.|st|nd|rd|th|er|º|ª)?"
_DATE_LIKE = re.compile(
    rf"(?=.{{4,60}}$)['\"]?(?:{_LETTERS},? )?(?:"
    rf"\d{{4}}[-/. ]{{1,2}}(?:\d{{1,2}}|{_LETTERS})[-/. ]{{1,2}}\d{{1,2}}(?!\d|\.\d)"  # the year first
    rf"|{_DAY}[-/. ]{{1,2}}(?:de )?(?:\d{{1,2}}|{_LETTERS}),?[-/. ]{{1,2}}(?:de )?(?:\d{{4}}|\d\d)(?!\d|\.\d)"
    rf"|{_LETTERS} {_DAY},? .*\d{{4}}"  # the month first
    r"|\d{4} ?[年년] ?\d{1,2} ?[月월]"
    r"|\d{8}T?\d{4,6}Z?$"
    r"|\d{4}-?W\d\d-?\d?$"
    r"|\d{1,2}:\d\d(?::\d\d(?:\.\d+)?)?(?: ?[AaPp][Mm])?$"
    r").*"
)
_WEEK = re.compile(r"\d{4}-?W\d\d")
_ASIAN_DATE = re.compile(r".*[年년月월]")
#: English names of dates, as strptime reads them.
_DATE_NAMES = frozenset(
    name.lower()
    for names in (
        calendar.month_name,
        calendar.month_abbr,
        calendar.day_name,
        calendar.day_abbr,
        ("AM", "PM", "T", "Z"),
    )
    for name in names
) | {"st", "nd", "rd", "th", "at", "sept", "w", "a", "p", "m"}
#: Quotes that are none of delimited text.
_QUOTES = frozenset(
    {('"', '"'), ("'", "'"), ("\u201c", "\u201d"), ("\u201e", "\u201c"), ("\u00ab", "\u00bb"), ("\u2018", "\u2019")}
)

#: Distinct large whole numbers that may be codes.
MAX_CODES = 50


def column_doubts(column: Column, summary: ColumnSummary) -> Iterator[Finding]:
    """Yield the doubts about a column's values, each with the line of spec that removes it."""
    name = column.name
    if column.role == "identifier":
        return
    if column.role == "target" and column.type not in ("category", "text"):
        yield from _missing_targets(name, summary)
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
        yield from _dates_in_digits(column, summary)
        fractions = summary.numbers - summary.integers - summary.exponents
        if codes := summary.leading_zeros + (0 if fractions else summary.exponents):
            yield warning(
                "codes",
                f"{codes:,} values of {name!r} may be codes, such as 007 or 12E5, and were read as numbers; where they "
                f"are codes, set columns: {{{name}: {{type: category}}}}",
                name,
                codes,
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


def _missing_targets(name: str, summary: ColumnSummary) -> Iterator[Finding]:
    """Yield a doubt on strings of a target of numbers or booleans that may be a class of their own."""
    strings = summary.taken + summary.marks
    if strings:
        yield warning(
            "null_values",
            f"{strings.total():,} values of the target {name!r}, {quoted(sorted(strings))}, were read as missing, and "
            "their rows are quarantined; where they are a class, list what is missing instead: read: "
            f"{{null_values: ['']}} and columns: {{{name}: {{type: category}}}}",
            name,
            strings.total(),
        )


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
    if all(len(example) > 1 and (example[0], example[-1]) in _QUOTES for example in examples):
        cause = (
            ", as a blank stands before them: write no blank after a delimiter"
            if examples[0][0] == '"'
            else ": write double ones, or none"
        )
        message = f"the values of {name!r}, such as {examples[0]!r}, keep their quotes{cause}"
        yield warning("quotes", message, name, examples=examples)
        return
    dressing = Dressing.of(examples)
    plain = [example for example in examples if re.fullmatch(NUMBER_PATTERN, example)]
    others = [example for example in examples if example not in plain]
    if not _unit_of(others) and len(plain) >= len(examples) / 2 and others:
        yield warning(
            "nearly_numbers",
            f"{summary.numbers / summary.parsable:.0%} of {name!r} are numbers, others are {quoted(others[:3])}: where "
            f"these are missing, set read: {{null_values: {['', *others[:3]]}}}, else write numbers alone",
            name,
            examples=others,
        )
    elif sum(bool(_DATE_LIKE.fullmatch(example)) for example in examples) >= _ALIKE_SHARE * len(examples):
        if not column.reason.startswith(AMBIGUOUS):
            cause = _remedy_of_dates(name, examples)
            message = f"the values of {name!r}, such as {examples[0]!r}, look like dates {cause}"
            yield warning("unread_dates", message, name, examples=examples)
    elif dressing.share >= _ALIKE_SHARE and (remedy := _remedy_of_numbers(name, dressing)):
        message = f"the values of {name!r}, such as {quoted(others[:2] or examples[:2])}, look like numbers {remedy}"
        yield warning("nearly_numbers", message, name, examples=examples)


def _remedy_of_numbers(name: str, dressing: Dressing) -> str | None:
    """Return why numbers with signs or units were not read, and what to do; None where they are none after all."""
    units = dressing.units
    if any(match["before"] and match["before"] not in CURRENCIES for match in dressing.found):
        return None  # letters before digits are a code, not a unit
    if len(units) > 1:
        return f"in several units, {quoted(sorted(units))}: write one unit in a column, or none"
    if style_of_digits(dressing.digits) is None:
        return (
            "whose points or commas are ambiguous, fractions or thousands: set read: {thousands: ','} or "
            "{thousands: '.'}, or read: {decimal: ','} or {decimal: '.'}"
        )
    for unit in units:
        line = f"columns: {{{name}: {{unit: {json.dumps(unit, ensure_ascii=False)}}}}}"
        return f"with {unit!r}: to read the numbers alone, set {line}"
    return None


def _unit_of(values: Sequence[str]) -> str | None:
    """Return the one unit of numbers; None where a value is something else."""
    dressing = Dressing.of(values)
    known = dressing.share == 1.0 and len(dressing.units) == 1 and not any(match["before"] for match in dressing.found)
    unit = next(iter(dressing.units), "") if known else ""
    return unit if unit[:1].isalpha() or is_unit(unit) else None


def _remedy_of_dates(name: str, examples: Sequence[str]) -> str:
    """Return why dates were not read, and what to do."""
    example = examples[0]
    strings = re.findall(r"[^\W\d_]+", example)
    zones = [string for string in strings if string.isupper() and len(string) > len("AM")]
    zones += re.findall(r"[A-Z][a-z]+/[A-Z]\w+$", example)
    if zones:
        return f"with a time zone's name, {zones[-1]!r}, of which there may be several: write an offset, such as +01:00"
    if _WEEK.match(example):
        return "by weeks: write the first day of each as YYYY-MM-DD"
    if re.search(r"\d(?:st|nd|rd|th)\b", example):
        return "with ordinal numbers: write them as YYYY-MM-DD"
    form = date_form(example)
    if form and sum(fits_form(other, form) for other in examples) >= _ALIKE_SHARE * len(examples):
        return f"of a form that is not known: set columns: {{{name}: {{type: datetime, formats: ['{form}']}}}}"
    if _ASIAN_DATE.match(example) or any(string.lower() not in _DATE_NAMES for string in strings):
        return "in words that are not English: write them as YYYY-MM-DD"
    line = f"columns: {{{name}: {{type: datetime, formats: ['%d.%m.%Y %H:%M']}}}}"
    return f"of a form that is not known: set {line} with your form"


def _dates_in_digits(column: Column, summary: ColumnSummary) -> Iterator[Finding]:
    """Yield a doubt on whole numbers that are all dates, such as 20230131."""
    examples = summary.known_examples
    for form, digits in (("%Y%m%d", 8), ("%Y%m%d%H%M%S", 14)):
        dates = [example for example in examples if len(example) == digits and example[:2] in ("19", "20")]
        if len(dates) == len(examples) > 1 and all(fits_form(example, form) for example in examples):
            yield warning(
                "unread_dates",
                f"the values of {column.name!r}, such as {examples[0]!r}, were read as numbers; where they are dates, "
                f"set columns: {{{column.name}: {{type: datetime, formats: ['{form}']}}}}",
                column.name,
                examples=examples,
            )
