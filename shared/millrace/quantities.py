"""Numbers as text: the notations that people write them in, and numbers and ranges for messages and pages."""

import math
import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

#: Numbers outside these have too many digits to be written plainly.
_SMALLEST_PLAIN, _LARGEST_PLAIN = 1e-6, 1e15
_DIGITS = 4
#: An amount from which cents are exact enough.
_DIME = 0.1
_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400


#: Unicode's minus, and blanks that may stand between digits or before a unit.
MINUS = "\u2212"
BLANKS = " \u00a0\u2007\u2009\u202f"
_BLANK = f"[{BLANKS}]"
_APOSTROPHES = "['\u2019]"
#: Marks between groups of digits, as classes of letters.
_GROUP_MARKS = {" ": _BLANK, "'": _APOSTROPHES}


@dataclass(frozen=True, slots=True)
class NumberStyle:
    """Notation of numbers, as a file, a column or a request has them."""

    decimal: str = "."  # before the fraction
    thousands: str = ""  # between groups of three digits; empty where digits are not grouped
    unit: str = ""  # a currency, ``%`` or a unit, before or after the number; numbers without it are read too
    accounting: bool = False  # negative numbers stand in parentheses, or have their sign at the end

    @property
    def example(self) -> str:
        """A number in this notation."""
        return f"1{self.thousands}234{self.decimal}5" + (f" {self.unit}" if self.unit else "")

    def plain(self, text: str) -> str | None:
        """Rewrite one number in Python's notation; None when it is none in this one."""
        first, number, last = rewriting(self)
        for pattern, replacement in first:
            text = re.sub(pattern, replacement, text)
        if not re.match(number, text):
            return None
        for pattern, replacement in ((number, NUMBER_GROUPS), *last):
            text = re.sub(pattern, replacement, text)
        return text


PLAIN = NumberStyle()
#: What is kept of a number: the sign before or after the unit, and the digits.
NUMBER_GROUPS = r"\1\2\3"
Replacements = tuple[tuple[str, str], ...]


@lru_cache(maxsize=1_000)
def rewriting(style: NumberStyle) -> tuple[Replacements, str, Replacements]:
    """Return what makes a number plain, for Python's and for RE2's expressions.

    The replacements before, the pattern of a whole number in the notation, with :data:`NUMBER_GROUPS`, and the
    replacements after it.
    """
    mark = re.escape(style.decimal)
    group = _GROUP_MARKS.get(style.thousands, re.escape(style.thousands))
    fraction = rf"(?:{mark}[0-9]*)?"
    number = rf"(?:[0-9]+{fraction}|{mark}[0-9]+)(?:[eE][+-]?[0-9]+)?"
    if style.thousands:
        # Indian groups have two digits, the last one three.
        pairs = rf"|[0-9]{{1,2}}(?:{group}[0-9]{{2}})+{group}[0-9]{{3}}" if style.thousands == "," else ""
        number = rf"(?:[0-9]{{1,3}}(?:{group}[0-9]{{3}})+{pairs}){fraction}|{number}"
    unit, sign = re.escape(style.unit), rf"(?:[+-]{_BLANK}?)?"
    before, after = (rf"(?:{unit}{_BLANK}*)?", rf"(?:{_BLANK}*{unit})?") if unit else ("", "")
    pattern = rf"^(?:({sign}){before}|{before}({sign}))({number}){after}$"
    first: Replacements = ((MINUS, "-"),)
    if style.accounting:
        first = (*first, (r"^\((.*)\)$", r"-\1"), (rf"^([^(-]*[^(-]){_BLANK}*-$", r"-\1"))
    last: Replacements = ((_BLANK, ""),)
    if style.thousands:
        last = (*last, (group, ""))
    return first, pattern, (*last, (mark, ".")) if style.decimal != "." else last


def format_number(value: float, digits: int = _DIGITS, *, is_date: bool = False, grouped_from: float = 10_000.0) -> str:
    """Format a number plainly, with four significant digits and thousands grouped; seconds since 1970 as a date.

    No digit before the point is rounded away, so that amounts of money can be read.
    """
    if is_date:
        with suppress(OverflowError, ValueError, OSError):  # what no calendar holds stays a number
            return f"{datetime.fromtimestamp(value, UTC):%Y-%m-%d}"
    if not math.isfinite(value) or (value and not _SMALLEST_PLAIN <= abs(value) < _LARGEST_PLAIN):
        return f"{value:.{digits}g}"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value)))) if value != int(value) else 0
    rounded = round(value, decimals) + 0.0  # no minus before a zero
    written = f"{rounded:{',' if abs(rounded) >= grouped_from else ''}.{decimals}f}"
    return written.rstrip("0").rstrip(".") if decimals else written


def format_duration(seconds: float) -> str:
    """Format a duration by its two largest units: ``45 s``, ``34 min``, ``5 h 20 min``, ``2 d 4 h``."""
    if seconds < 2 * _MINUTE:
        return f"{seconds:.0f} s"
    for unit, name, smaller, its_name in ((_DAY, "d", _HOUR, "h"), (_HOUR, "h", _MINUTE, "min")):
        if seconds >= unit:
            whole = round(seconds / smaller)
            first, rest = divmod(whole, round(unit / smaller))
            return f"{first} {name} {rest} {its_name}" if rest else f"{first} {name}"
    return f"{seconds / _MINUTE:.0f} min"


def format_usd(usd: float) -> str:
    """Format an amount: to the cent from a dime on, with two significant digits below."""
    digits = 2 if abs(usd) >= _DIME or not usd else min(6, 1 - math.floor(math.log10(abs(usd))))
    return f"{usd:,.{digits}f}"


def format_share(share: float) -> str:
    """Format a share from 0 to 1 in percent: ``25 %``."""
    return f"{100 * share:.4g} %"


def format_range(low: float, high: float, *, is_date: bool = False) -> str:
    """Format a range, of which an end may be infinite."""
    first, last = (format_number(end, is_date=is_date) for end in (low, high))
    if low == high:
        return f"{first} only"
    return f"at most {last}" if math.isinf(low) else f"at least {first}" if math.isinf(high) else f"{first} to {last}"
