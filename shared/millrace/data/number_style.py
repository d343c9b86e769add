"""How numbers are written in a file: which sign stands before the fraction, and which groups the digits.

A file's style is found out from its first rows, and only where they leave no doubt: ``1,5`` has a decimal comma and
``1,234.5`` grouped digits, but ``1,234`` could be either and is then reported instead of read.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from millrace.data.findings import Finding, warning
from millrace.schema import MISSING_WORDS
from millrace.spec.data import ReadSpec

#: Share of a column's first cells that must be written in a style for the column to have it.
_STYLE_SHARE = 0.95

_PLAIN = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_INTEGER = re.compile(r"[+-]?\d+")
_FRACTION = re.compile(r"[+-]?\d*\.(?:\d{1,2}|\d{4,})")
_COMMA_FRACTION = re.compile(r"[+-]?(?:\d{1,3}(?:\.\d{3})+|\d*),\d+")
_CERTAIN_COMMA = re.compile(r"[+-]?(?:\d{1,3}(?:\.\d{3})+,\d+|0*,\d+|\d{4,},\d+|\d+,(?:\d{1,2}|\d{4,}))")
_POINT_GROUPS = re.compile(r"[+-]?\d{1,3}(?:\.\d{3})+(?:,\d+)?")
_COMMA_GROUPS = re.compile(r"[+-]?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_CERTAIN_GROUPS = re.compile(r"[+-]?\d{1,3}(?:(?:,\d{3})+\.\d+|(?:,\d{3}){2,})")
_EITHER = re.compile(r"[+-]?\d{1,3},\d{3}")


@dataclass(frozen=True, slots=True)
class NumberStyle:
    """How numbers are written.

    Parameters
    ----------
    decimal : str, default='.'
        Before the fraction.
    thousands : str, default=''
        Between groups of three digits; empty where digits are not grouped.
    """

    decimal: str = "."
    thousands: str = ""

    @property
    def example(self) -> str:
        """A number written so."""
        return f"1{self.thousands}234{self.decimal}5"

    def rewrite(self, cells: pa.Array) -> pa.Array:
        """Write numbers plainly; whatever is not written in this style becomes a word that is no number."""
        if self == PLAIN:
            return cells
        group, mark = re.escape(self.thousands), re.escape(self.decimal)
        whole = rf"[0-9]{{1,3}}(?:{group}[0-9]{{3}})+|[0-9]+" if self.thousands else "[0-9]+"
        pattern = rf"\A[+-]?(?:(?:{whole})(?:{mark}[0-9]*)?|{mark}[0-9]+)(?:[eE][+-]?[0-9]+)?\z"
        plain = pc.replace_substring(cells, self.thousands, "") if self.thousands else cells
        plain = pc.replace_substring(plain, self.decimal, ".")
        return pc.if_else(pc.match_substring_regex(cells, pattern), plain, pc.if_else(pc.is_valid(cells), "?", cells))


PLAIN = NumberStyle()


def detect_style(records: Sequence[Sequence[str]], read: ReadSpec) -> tuple[NumberStyle, tuple[Finding, ...]]:
    """Find out how a file's numbers are written.

    Parameters
    ----------
    records : sequence of sequence of str
        The first rows, all of the header's width.
    read : ReadSpec
        What the user says wins.
    """
    if read.decimal or read.thousands:
        return NumberStyle(read.decimal or ("," if read.thousands == "." else "."), read.thousands or ""), ()
    if not any("," in "".join(record) for record in records):
        return PLAIN, ()
    columns = [[cell.strip() for cell in column] for column in zip(*records, strict=True)]
    columns = [[cell for cell in column if cell not in MISSING_WORDS] for column in columns]
    with_comma = [column for column in columns if _all(column, _INTEGER, _COMMA_FRACTION, _POINT_GROUPS)]
    with_groups = [column for column in columns if _all(column, _PLAIN, _COMMA_GROUPS)]
    comma = [column for column in with_comma if _any(column, _CERTAIN_COMMA)]
    groups = [column for column in with_groups if _any(column, _CERTAIN_GROUPS)]
    points = [column for column in columns if _all(column, _PLAIN) and _any(column, _FRACTION)]
    if comma and (groups or points):
        message = "some columns write numbers as 1,5 and others as 1.5: say in the spec (read: decimal) which it is"
        return PLAIN, (warning("mixed_number_styles", message),)
    if comma:
        grouped = any(_any(column, _POINT_GROUPS) for column in comma)
        return _found(NumberStyle(",", "." if grouped else ""))
    return _found(NumberStyle(".", ",")) if groups else _in_doubt(columns)


def _in_doubt(columns: Sequence[Sequence[str]]) -> tuple[NumberStyle, tuple[Finding, ...]]:
    doubtful = [column for column in columns if _all(column, _INTEGER, _EITHER) and _any(column, _EITHER)]
    if doubtful:
        message = f"{doubtful[0][0]!r} could be a fraction or a thousand: say in the spec (read: decimal or thousands)"
        return PLAIN, (warning("ambiguous_numbers", message),)
    return PLAIN, ()


def _found(style: NumberStyle) -> tuple[NumberStyle, tuple[Finding, ...]]:
    message = f"numbers are written as {style.example} and were read so; the spec (read: decimal) can say otherwise"
    return style, (warning("number_style", message),)


def _all(column: Sequence[str], *patterns: re.Pattern[str]) -> bool:
    written = sum(any(pattern.fullmatch(cell) for pattern in patterns) for cell in column)
    return bool(column) and written >= _STYLE_SHARE * len(column)


def _any(column: Sequence[str], pattern: re.Pattern[str]) -> bool:
    return any(pattern.fullmatch(cell) for cell in column)
