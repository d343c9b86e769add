"""Parse strings as typed values, a whole column at a time; values that do not parse are reported, never guessed."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from millrace.quantities import MINUS, NUMBER_GROUPS, PLAIN, NumberStyle, rewriting
from millrace.schema import NUMBER_PATTERN

#: The format that stands for ISO 8601 in ``Column.formats``.
ISO_FORMAT = "iso"

_DATES = ("%Y/%m/%d", "%Y.%m.%d", "%d/%m/%Y", "%m/%d/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y")
#: With the year first or last: the reading with the shorter period is the right one.
_YEAR_FIRST = ("%y/%m/%d", "%y-%m-%d", "%y.%m.%d")
_SHORT_DATES = (*_YEAR_FIRST, "%d/%m/%y", "%m/%d/%y", "%d.%m.%y", "%d-%m-%y", "%m-%d-%y", "%d-%b-%y", "%d %b %y")
_NAMED_DATES = (
    "%b. %d, %Y",
    "%A, %B %d, %Y",
    "%a %d %b %Y",
    "%a, %d %b %Y",
    "%d %b %Y",
    "%d-%b-%Y",
    "%d %B %Y",
    "%b %d, %Y",
    "%B %d, %Y",
    "%b %d %Y",
    "%B %d %Y",
)
_CLOCKS = ("%H:%M", "%H:%M:%S", "%I:%M %p", "%I:%M:%S %p", "%I:%M%p", "%I:%M:%S%p")
_TIMES = ("", *(blank + clock for blank in (" ", ", ") for clock in _CLOCKS))
_WHOLE_FORMATS = (
    *(f"%Y-%m-%d{time}" for time in (" %I:%M %p", " %I:%M:%S %p")),
    *(f"%Y-%m-%d %H:%M:%S{rest}" for rest in (" UTC", ".%f UTC", " GMT", " %z")),
    *(f"%a, %d %b %Y %H:%M:%S {zone}" for zone in ("%z", "GMT", "UTC")),  # RFC 2822
    "%a, %d %b %Y %H:%M %z",
    "%d %b %Y %H:%M:%S %z",
    "%Y%m%dT%H%M%S",
    "%Y%m%dT%H%M%S%z",
    "%Y-%m-%d %H:%M:%S,%f",  # logs of Python
    "%Y-%m-%d %H:%M:%S (UTC)",
    "%d/%b/%Y:%H:%M:%S %z",  # logs of web servers
    "%a %b %d %H:%M:%S %Y",  # C's ctime
    "%a %b %d %H:%M:%S UTC %Y",
)

#: The ``strptime`` formats that are tried beside ISO 8601.
DATETIME_FORMATS = (
    *(date + time for date in (*_DATES, *_SHORT_DATES, *_NAMED_DATES) for time in _TIMES),
    *_WHOLE_FORMATS,
)
#: By directive the shape of what it reads: ``strptime`` itself takes much longer to say no.
_SHAPES = {"Y": r"\d{4}", "f": r"\d{1,6}", "z": r"(?:Z|[+-]\d\d:?\d\d)", "p": "(?:[AaPp][Mm])", "y": r"\d\d"}
_SHAPES |= dict.fromkeys("dmHIMS", r"\d{1,2}") | dict.fromkeys("aAbB", r"[^\W\d]{3,9}")
_FORMAT_SHAPES = {
    form: re.compile(re.sub(r"%(.)", lambda found: _SHAPES[found[1]], re.escape(form).replace("\\ ", " +")))
    for form in DATETIME_FORMATS
}

#: Strings that are booleans, the true one first.
BOOLEAN_PAIRS = (("true", "false"), ("yes", "no"), ("t", "f"), ("y", "n"))

_NUMBER = f"^{NUMBER_PATTERN}$"
INTEGER = r"^[+-]?[0-9]{1,18}$"
#: Codes rather than quantities.
LEADING_ZERO = r"^[+-]?0[0-9]+$"
#: Codes, unless the column has fractions too: printers of numbers write 12E12 with a point or a sign.
EXPONENT = r"^[0-9]+[eE][0-9]+$"
_ISO_DAY = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_ISO_TIME = r"[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,9})?)?(?:Z|[+-][0-9]{2}(?::?[0-9]{2})?)?"
_ISO = f"^{_ISO_DAY}(?:{_ISO_TIME})?$"
#: What pandas reads in any format, as the time at which it does.
_MOVING_TIMES = pa.array(["now", "today"])
_MAY_BE_A_DATE = re.compile(r"(?=.*[0-9]).{6,40}$")
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True)
class Parsed:
    """Parsed values of a column."""

    values: npt.NDArray[Any]  # shape (n_rows,); missing and invalid ones are NaN, NaT or ``''``
    bad: npt.NDArray[np.bool_]  # shape (n_rows,); mask of the invalid ones

    @property
    def bad_count(self) -> int:
        """Number of invalid values."""
        return int(self.bad.sum())


def matches(strings: pa.Array, pattern: str) -> npt.NDArray[np.bool_]:
    """Return the mask of the strings that match a pattern; missing ones do not."""
    return to_mask(pc.match_substring_regex(strings, pattern))


def to_mask(condition: pa.Array) -> npt.NDArray[np.bool_]:
    """Return an Arrow condition as a mask; null counts as false."""
    mask: npt.NDArray[np.bool_] = pc.fill_null(condition, False).to_numpy(zero_copy_only=False)
    return mask


def present(strings: pa.Array) -> npt.NDArray[np.bool_]:
    """Return the mask of the strings that are not missing."""
    return to_mask(pc.is_valid(strings))


def parse_numbers(strings: pa.Array) -> Parsed:
    """Parse numbers; infinite ones, and those beyond float32's range, are invalid."""
    return cast_numbers(strings) or parse_some_numbers(strings)


def parse_some_numbers(strings: pa.Array) -> Parsed:
    """Parse numbers among other strings, as :func:`parse_numbers` does."""
    strings = with_plain_minus(strings)
    numeric = matches(strings, _NUMBER)
    unsigned = pc.replace_substring_regex(strings, r"^\+", "")
    values = pc.if_else(pa.array(numeric), unsigned, pa.scalar(None, pa.string())).cast(pa.float64())
    numbers = values.to_numpy(zero_copy_only=False).astype(np.float64)
    usable = numeric & (np.abs(numbers) <= _LARGEST)
    # Adding zero makes negative zero positive, so that equal numbers are equal bytes.
    return Parsed(np.where(usable, numbers, np.nan) + 0.0, present(strings) & ~usable)


def with_plain_minus(strings: pa.Array) -> pa.Array:
    """Return strings with a hyphen for Unicode's minus before a number."""
    if not pc.any(pc.match_substring(strings, MINUS)).as_py():
        return strings
    return pc.replace_substring_regex(strings, rf"^{MINUS}([0-9.])", r"-\1")


@dataclass(frozen=True, slots=True)
class NumericView:
    """Numbers that are all valid: finite, and within float32's range."""

    #: shape (n_rows,); missing ones are NaN. May share Arrow's memory, so that it must not be written.
    values: npt.NDArray[np.float64]
    least: float  # of those that are not missing; NaN when all are
    greatest: float


def view_numbers(numbers: pa.Array) -> NumericView | None:
    """Return Arrow's doubles as a numpy view, without copying where none is missing; None when one is invalid."""
    values = numbers.to_numpy(zero_copy_only=False)
    if numbers.null_count == len(numbers):
        return NumericView(values.astype(np.float64, copy=False), np.nan, np.nan)
    if numbers.null_count and np.count_nonzero(np.isnan(values)) > numbers.null_count:
        return None
    # A NaN that is not a missing value is the least and the greatest of its column, and compares with nothing.
    least, greatest = (
        (np.fmin.reduce(values), np.fmax.reduce(values)) if numbers.null_count else (values.min(), values.max())
    )
    return NumericView(values, float(least), float(greatest)) if least >= -_LARGEST and greatest <= _LARGEST else None


def cast_numbers(strings: pa.Array) -> Parsed | None:
    """Parse strings that are all numbers by Arrow's cast, five times as fast; None when one is not."""
    try:
        numbers = view_numbers(strings.cast(pa.float64()))
    except pa.ArrowInvalid:
        return None
    if numbers is None:
        return None
    return Parsed(numbers.values + 0.0, np.zeros(len(strings), dtype=np.bool_))


def parse_booleans(strings: pa.Array, true_values: Sequence[str], false_values: Sequence[str]) -> Parsed:
    """Parse booleans as 0, 1 or NaN; ``true`` and ``false`` are valid besides the strings given."""
    lowered = pc.utf8_lower(strings)
    is_true = to_mask(pc.is_in(lowered, value_set=pa.array({*true_values, "true"})))
    is_false = to_mask(pc.is_in(lowered, value_set=pa.array({*false_values, "false"})))
    values = np.where(is_true, 1.0, np.where(is_false, 0.0, np.nan))
    return Parsed(values, present(strings) & ~is_true & ~is_false)


def parse_datetimes(strings: pa.Array, formats: Sequence[str]) -> Parsed:
    """Parse timestamps as datetime64[us] in UTC, each by the first format that fits it."""
    times = np.full(len(strings), np.datetime64("NaT", "us"), dtype="datetime64[us]")
    texts = pd.Series(strings.to_numpy(zero_copy_only=False), dtype=object)
    fixed = present(strings) & ~to_mask(pc.is_in(strings, value_set=_MOVING_TIMES))
    for form in formats:
        unparsed = np.isnat(times) & (matches(strings, _ISO) if form == ISO_FORMAT else fixed)
        if unparsed.any():
            times[unparsed] = _to_timestamps(texts[unparsed], form)
    return Parsed(times, present(strings) & np.isnat(times))


@lru_cache(maxsize=10_000)
def candidate_formats(example: str) -> tuple[str, ...]:
    """Return the date formats that a value fits: the only ones worth trying on its column."""
    if re.match(_ISO, example):
        return (ISO_FORMAT,)
    if not _MAY_BE_A_DATE.match(example):
        return ()
    return tuple(
        form for form, shape in _FORMAT_SHAPES.items() if shape.fullmatch(example) and fits_form(example, form)
    )


#: Parts of dates in the order in which they are recognised, with what they are replaced by.
_PARTS = (
    (r"\b\d{1,2}:\d\d:\d\d ?[AaPp][Mm]\b", "%I:%M:%S %p"),
    (r"\b\d{1,2}:\d\d ?[AaPp][Mm]\b", "%I:%M %p"),
    (r"\b\d{1,2}:\d\d:\d\d\.\d{1,6}\b", "%H:%M:%S.%f"),
    (r"\b\d{1,2}:\d\d:\d\d\b", "%H:%M:%S"),
    (r"\b\d{1,2}:\d\d$", "%H:%M"),
    (r"(?<= )\d{1,2}\.\d\d$", "%H.%M"),
    (r"\b(?:Mon|Tues?|Wednes|Thurs?|Fri|Satur|Sun)day\b", "%A"),
    (r"\b(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)\b", "%a"),
    (r"\b(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)\b", "%b"),
    (r"\b(?:January|February|March|April|June|July|August|September|October|November|December)\b", "%B"),
    (r"\b(?:19|20)\d\d\b", "%Y"),
    (r"[+-]\d\d:?\d\d$", "%z"),
    (r"(?<!%)\b\d{1,2}\b", "%d"),
    (r"(?<!%)\b\d{1,2}\b", "%m"),
    (r"(?<!%)\b\d{1,2}\b", "%H"),
)


def date_form(example: str) -> str | None:
    """Return a form that a date may be written in, with the day before the month; None when none is found."""
    form = example
    for pattern, directive in _PARTS:
        named = ("%b" in form or "%B" in form) if directive == "%m" else "%H" in form if directive == "%H" else False
        if not named:
            form = re.sub(pattern, directive, form, count=1)
    if form.startswith("%Y"):
        form = form.replace("%d", "%\0", 1).replace("%m", "%d", 1).replace("%\0", "%m", 1) if "%m" in form else form
    return form if "%" in form and fits_form(example, form) and not re.search(r"(?<!%)\d", form) else None


def fits_form(example: str, form: str) -> bool:
    """Return whether a string is a date of a form."""
    try:
        datetime.strptime(example, form)  # noqa: DTZ007  # only whether it parses
    except (ValueError, re.error):
        return False
    return True


def _to_timestamps(texts: "pd.Series[Any]", form: str) -> npt.NDArray[np.datetime64]:
    times = pd.to_datetime(texts, format="ISO8601" if form == ISO_FORMAT else form, errors="coerce", utc=True)
    return times.dt.tz_localize(None).to_numpy().astype("datetime64[us]")


def rewrite(style: NumberStyle, strings: pa.Array) -> pa.Array:
    """Rewrite numbers in Python's notation; strings of another notation become invalid ones."""
    first, number, last = rewriting(style)
    for pattern, replacement in first:
        strings = pc.replace_substring_regex(strings, pattern, replacement)
    fits = pc.match_substring_regex(strings, number)
    plain = strings
    for pattern, replacement in ((number, NUMBER_GROUPS), *last):
        plain = pc.replace_substring_regex(plain, pattern, replacement)
    return pc.if_else(fits, plain, pc.if_else(pc.is_valid(strings), "?", strings))


def rewrite_by_first(styles: Sequence[NumberStyle], strings: pa.Array) -> pa.Array:
    """Rewrite each number by the first notation that it has."""
    if styles == (PLAIN,):
        return strings  # what is no number stays as it is, and is found as such
    written = rewrite(styles[0], strings)
    for style in styles[1:]:
        written = pc.if_else(pc.equal(written, "?"), rewrite(style, strings), written)
    return written
