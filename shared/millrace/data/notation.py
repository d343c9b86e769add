"""Detect the notation of numbers, of a file by its first rows and of a column by its first values.

Where a notation is uncertain, there is none: the column is left out, and a finding says which line of spec decides.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from millrace.data.findings import Finding, warning
from millrace.quantities import BLANKS, MINUS, PLAIN, NumberStyle
from millrace.schema import NULL_MARKS, NULL_STRINGS, NUMBER_PATTERN
from millrace.spec.data import ReadSpec

#: Share of a column's first values in a notation for the column to have it.
_STYLE_SHARE = 0.95

_PLAIN = re.compile(NUMBER_PATTERN)
_GROUPED_INTEGER = re.compile(r"[+-]?\d+")
_FRACTION = re.compile(r"[+-]?\d*\.(?:\d{1,2}|\d{4,})")
_COMMA_FRACTION = re.compile(r"[+-]?(?:\d{1,3}(?:\.\d{3})+|\d*),\d+")
_CERTAIN_COMMA = re.compile(r"[+-]?(?:\d{1,3}(?:\.\d{3})+,\d+|0*,\d+|\d{4,},\d+|\d+,(?:\d{1,2}|\d{4,}))")
_POINT_GROUPS = re.compile(r"[+-]?\d{1,3}(?:\.\d{3})+(?:,\d+)?")
_COMMA_GROUPS = re.compile(r"[+-]?(?:\d{1,3}(?:,\d{3})+|\d{1,2}(?:,\d{2})+,\d{3})(?:\.\d+)?")
_CERTAIN_GROUPS = re.compile(r"[+-]?(?:\d{1,3}(?:(?:,\d{3})+\.\d+|(?:,\d{3}){2,})|\d{1,2}(?:,\d{2})+,\d{3}(?:\.\d+)?)")
_EITHER = re.compile(r"[+-]?\d{1,3},\d{3}")
_CERTAIN_POINTS = re.compile(r"^\s*[+-]?(?:0?\.\d{3}|\d*\.(?:\d{1,2}|\d{4,}))\s*$", re.MULTILINE)
_CERTAIN_COMMAS = re.compile(rf"^\s*{_CERTAIN_COMMA.pattern}\s*$", re.MULTILINE)
_SMALL_INTEGER = re.compile(r"[+-]?(?:0|[1-9]\d{0,2})")


def detect_style(records: Sequence[Sequence[str]], read: ReadSpec) -> tuple[NumberStyle, tuple[Finding, ...]]:
    """Detect the notation of a file's numbers.

    Parameters
    ----------
    records : sequence of sequence of str
        The first rows, all of the header's width.
    read : ReadSpec
        Takes precedence.
    """
    if stated := stated_style(read):
        return stated, ()
    if not any("," in "".join(record) for record in records):
        return PLAIN, ()
    columns = [[value.strip() for value in column] for column in zip(*records, strict=True)]
    columns = [[value for value in column if value not in NULL_STRINGS] for column in columns]
    with_comma = [column for column in columns if _all(column, _GROUPED_INTEGER, _COMMA_FRACTION, _POINT_GROUPS)]
    with_groups = [column for column in columns if _all(column, _PLAIN, _COMMA_GROUPS)]
    comma = [column for column in with_comma if _any(column, _CERTAIN_COMMA)]
    groups = [column for column in with_groups if _any(column, _CERTAIN_GROUPS)]
    points = [column for column in columns if _all(column, _PLAIN) and _any(column, _FRACTION)]
    if comma and (groups or points):
        message = "some columns write numbers as 1,5 and others as 1.5: set read: decimal in the spec"
        return PLAIN, (warning("mixed_number_styles", message),)
    if comma:
        grouped = any(_any(column, _POINT_GROUPS) for column in with_comma)
        return _found(NumberStyle(",", "." if grouped else ""))
    return _found(NumberStyle(".", ",")) if groups else _in_doubt(columns)


def stated_style(read: ReadSpec) -> NumberStyle | None:
    """Return the notation that the spec states."""
    if not (read.decimal or read.thousands):
        return None
    return NumberStyle(read.decimal or ("," if read.thousands == "." else "."), read.thousands or "")


def doubtful_columns(
    names: Sequence[str], records: Sequence[Sequence[str]], style: NumberStyle, read: ReadSpec
) -> frozenset[str]:
    """Return the columns whose decimal signs may be between thousands.

    Of all their values, those below a thousand have no decimals, and the others exactly three: neither a printer of
    fractions writes so, nor would another column's notation prove it.
    """
    if read.decimal or read.thousands:
        return frozenset()
    either = re.compile(rf"[+-]?[1-9]\d{{0,2}}{re.escape(style.decimal)}\d{{3}}")
    # One search of all values together finds out that most columns have no such value.
    first = re.compile(rf"^\s*{either.pattern}\s*$", re.MULTILINE)
    found = []
    for name, column in zip(names, zip(*records, strict=True), strict=bool(records)):
        if first.search("\n".join(column)):
            values = [value for value in map(str.strip, column) if value not in NULL_STRINGS | NULL_MARKS]
            if _all(values, _SMALL_INTEGER, either) and _any(values, _SMALL_INTEGER) and _any(values, either):
                found.append(name)
    return frozenset(found)


def plain_columns(names: Sequence[str], records: Sequence[Sequence[str]], style: NumberStyle) -> frozenset[str]:
    """Return the columns with decimal points for sure, by their own values or by those of other columns."""
    if style != PLAIN or not records:
        return frozenset()
    columns = {name: "\n".join(values) for name, values in zip(names, zip(*records, strict=True), strict=True)}
    pointed = frozenset(name for name, values in columns.items() if _CERTAIN_POINTS.search(values))
    commas = any("," in values and _CERTAIN_COMMAS.search(values) for values in columns.values())
    return frozenset(names) if pointed and not commas else pointed


def _in_doubt(columns: Sequence[Sequence[str]]) -> tuple[NumberStyle, tuple[Finding, ...]]:
    doubtful = [column for column in columns if _all(column, _GROUPED_INTEGER, _EITHER) and _any(column, _EITHER)]
    if doubtful:
        message = (
            f"{doubtful[0][0]!r} is ambiguous, a fraction or a thousand: set read: decimal (or thousands) in the spec"
        )
        return PLAIN, (warning("ambiguous_numbers", message),)
    return PLAIN, ()


def _found(style: NumberStyle) -> tuple[NumberStyle, tuple[Finding, ...]]:
    message = f"numbers are written as {style.example} and were read so; read: decimal in the spec overrides this"
    return style, (warning("number_style", message),)


def _all(column: Sequence[str], *patterns: re.Pattern[str]) -> bool:
    either = _one_of(patterns).fullmatch
    return bool(column) and sum(either(value) is not None for value in column) >= _STYLE_SHARE * len(column)


@lru_cache(maxsize=50)
def _one_of(patterns: tuple[re.Pattern[str], ...]) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{pattern.pattern})" for pattern in patterns))


def _any(column: Sequence[str], pattern: re.Pattern[str]) -> bool:
    return any(pattern.fullmatch(value) for value in column)


_CURRENCY_NAMES = """
$ € £ ¥ ₹ ₽ ₩ ₺ ₴ ₫ ₪ ₱ ฿ USD EUR GBP CHF JPY CNY INR SEK NOK DKK PLN CZK HUF RON BGN TRY RUB UAH AUD CAD NZD BRL MXN
ZAR KRW HKD SGD ILS THB US$ R$ A$ C$ kr zł Kč Ft lei Fr. Rs Rs. ₨
"""
#: A single letter is a unit only after a blank, as "12A" is a seat.
_UNIT_NAMES = """
% ‰ ° °C °F K mm cm m km in ft yd mi m² km² m³ cm² ha sqm sqft mg g kg t lb lbs oz st ml cl dl l L gal ms s sec min h hr
hrs hour hours day days d wk weeks months year years yrs kW kWh W Wh MW MWh V A mA mAh Hz kHz MHz GHz B kB KB MB GB TB
mph kph km/h m/s kcal cal kJ J Pa kPa hPa bar psi bpm px dpi pts pcs mmHg mmol/L mg/dL cc hp PS nm rpm mpg ppm dB
"""
CURRENCIES, _UNITS = frozenset(_CURRENCY_NAMES.split()), frozenset(_UNIT_NAMES.split())
_SPACED = rf"[{BLANKS}]*"
_APOSTROPHES = "'\u2019"
_SIGN = rf"(?:[+{MINUS}-]{_SPACED})?"
#: A letter of a unit, and one that it begins with.
_LETTER, _FIRST = rf"[^\d\s,{_APOSTROPHES}()+{MINUS}-]", rf"[^\d\s.,{_APOSTROPHES}()+{MINUS}-]"
_DRESSED = re.compile(
    rf"(?P<open>\(?){_SIGN}(?P<before>{_FIRST}{_LETTER}{{0,3}})?{_SPACED}{_SIGN}"
    rf"(?P<digits>[0-9](?:[0-9.,_{_APOSTROPHES}{BLANKS}]*[0-9])?[.,]?|[.,][0-9]+)(?P<blank>{_SPACED})"
    rf"(?P<after>{_FIRST}{_LETTER}{{0,19}})?{_SPACED}(?P<last>[-)]?)"
)
_GROUPED = {
    "_": re.compile(r"[0-9]{1,3}(?:_[0-9]{3})+(?:[.,][0-9]*)?"),
    " ": re.compile(rf"[0-9]{{1,3}}(?:[{BLANKS}][0-9]{{3}})+(?:[.,][0-9]*)?"),
    "'": re.compile(rf"[0-9]{{1,3}}(?:[{_APOSTROPHES}][0-9]{{3}})+(?:[.,][0-9]*)?"),
}


@dataclass(frozen=True, slots=True)
class Dressing:
    """Numbers with signs or units around their digits, of which those values that are none are left out."""

    found: Sequence[re.Match[str]]
    share: float  # of the values

    @classmethod
    def of(cls, values: Sequence[str]) -> "Dressing":
        """Take some values apart, none of them missing."""
        found = [match for value in values if (match := _DRESSED.fullmatch(value.strip()))]
        return cls(found, len(found) / len(values) if values else 0.0)

    @property
    def units(self) -> Counter[str]:
        """Counts of the values with each sign or unit."""
        return Counter(unit for match in self.found for unit in {match["before"], match["after"]} if unit)

    @property
    def digits(self) -> list[str]:
        """The digits of each number, with the marks between them."""
        return [match["digits"] for match in self.found]


def detect_column_style(values: Sequence[str], stated: NumberStyle | None) -> NumberStyle | None:
    """Detect the notation of a column's numbers by its first values, none of them missing.

    All of them, but for one in twenty, have to be numbers with one sign or unit, the same everywhere, or with none.
    None for other strings, for plain numbers and where the notation is uncertain.
    """
    dressing = Dressing.of(values)
    found, units = dressing.found, dressing.units
    if not found or dressing.share < _STYLE_SHARE:
        return None
    unit = next(iter(units), "")
    if len(units) > 1 or (unit and (units[unit] < _STYLE_SHARE * len(found) or not _is_unit(unit, found))):
        return None
    if any((match["open"] == "(") != (match["last"] == ")") for match in found):
        return None
    digits = stated or style_of_digits(dressing.digits)
    if digits is None:
        return None
    style = replace(digits, unit=unit, accounting=any(match["last"] for match in found))
    return None if style == PLAIN else style


def is_unit(unit: str) -> bool:
    """Return whether a string is a currency, per cent or a unit."""
    return unit in CURRENCIES or unit in _UNITS


def _is_unit(unit: str, found: Sequence[re.Match[str]]) -> bool:
    if unit in CURRENCIES:
        return True
    # A unit stands behind its number.
    behind = not any(match["before"] for match in found)
    letter = len(unit) == 1 and unit.isalpha()
    return behind and unit in _UNITS and not (letter and any(not match["blank"] for match in found))


def style_of_digits(numbers: Sequence[str]) -> NumberStyle | None:
    """Return the notation of numbers without sign and unit; None where it is uncertain."""
    for mark, pattern in _GROUPED.items():
        grouped = [number for number in numbers if pattern.fullmatch(number)]
        if grouped:
            fractions = [number for number in numbers if re.search(r"[.,]", number)]
            comma = any("," in number for number in fractions)
            point = any("." in number for number in fractions)
            return None if comma and point else NumberStyle("," if comma else ".", mark)
    style, findings = detect_style([[number] for number in numbers], ReadSpec())
    doubtful = doubtful_columns([""], [[number] for number in numbers], style, ReadSpec())
    if doubtful or any(finding.check == "ambiguous_numbers" for finding in findings):
        return None
    return style
