"""Reading one JSON value as a column's type; a ``ValueError`` says in words what is wrong with it.

Text is read as training reads a cell: without the blanks around it, and :data:`millrace.schema.MISSING_WORDS` are
missing values.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.errors import FieldError, InvalidInputError
from millrace.features import MISSING_STRING, missing_cells
from millrace.schema import MISSING_WORDS, Column

_WORDS: dict[type, str] = {
    type(None): "null",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "a list",
    dict: "an object",
}


def describe(value: Any) -> str:
    """Return what kind of JSON value this is, never the value: ``a string``, ``null``."""
    return _WORDS.get(type(value), "something else")


#: A value as it is typed: moments are UTC and have no zone; None is a missing moment.
Cell = float | str | datetime | None

#: A category longer than this (and than every one seen in training) is refused: a matrix of strings is as wide as its
#: longest.
MAX_TEXT_LENGTH = 1_000

#: The largest number that float32 holds.
FLOAT32_MAX = 3.4028234663852886e38

_MISSING_NUMBER = float("nan")


def cell_reader(column: Column) -> Callable[[Any], Cell]:
    """Return the function that reads one value of ``column`` that is not null; it raises ``ValueError``."""
    if column.type in ("integer", "number"):
        return _read_number
    if column.type == "boolean":
        return _boolean_reader(column)
    if column.type == "datetime":
        return _datetime_reader(column)
    return _word_reader(None if column.type == "text" else max([MAX_TEXT_LENGTH, *map(len, column.categories)]))


def missing_cell(column: Column) -> Cell:
    """Return what stands for a missing value of ``column``."""
    if column.type == "datetime":
        return None
    return MISSING_STRING if column.type in ("category", "text") else _MISSING_NUMBER


def _read_number(value: Any) -> float:
    if type(value) not in (int, float):
        raise ValueError(f"expects a number, got {describe(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = float("inf")
    if abs(number) > FLOAT32_MAX:
        raise ValueError("expects a number that a 32-bit float can hold")
    return number + 0.0  # makes a negative zero positive, as training does


def _boolean_reader(column: Column) -> Callable[[Any], float]:
    words = dict.fromkeys(("true", *column.true_values), 1.0) | dict.fromkeys(("false", *column.false_values), 0.0)
    trained = " or ".join([*column.true_values[:1], *column.false_values[:1]])
    expected = f"expects true or false (or {trained})" if trained else "expects true or false"

    def read(value: Any) -> float:
        if type(value) is str:
            text = value.strip()
            word = _MISSING_NUMBER if text in MISSING_WORDS else words.get(text.lower())
            if word is None:
                raise ValueError(f"{expected}, got another word")
            return word
        if type(value) not in (bool, int, float) or value not in (0, 1):
            raise ValueError(f"{expected}, got {describe(value)}")
        return float(value)

    return read


def _word_reader(longest: int | None) -> Callable[[Any], str]:
    """Return the reader of a category, or of a text, which may be of any length: a model is given numbers for it."""

    def read(value: Any) -> str:
        if type(value) is not str:
            raise ValueError(f"expects a string, got {describe(value)}")
        if longest is not None and len(value) > longest:
            raise ValueError(f"expects a string of at most {longest} characters")
        if not value.isascii():
            _check_unicode(value)
        text = value.strip()
        # NumPy's strings, which training has, end before their trailing NULs.
        return MISSING_STRING if text in MISSING_WORDS else text.rstrip("\0")

    return read


def _check_unicode(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError("expects a string of whole Unicode characters, got half a surrogate pair") from error


def _datetime_reader(column: Column) -> Callable[[Any], datetime | None]:
    # What was seen in training comes first, in its order: 20240203 is a day in ISO 8601 too, but perhaps another.
    formats = tuple(dict.fromkeys((*column.formats, "iso")))

    def read(value: Any) -> datetime | None:
        if type(value) is not str:
            raise ValueError(f"expects a date as a string, got {describe(value)}")
        text = value.strip()
        if text in MISSING_WORDS:
            return None
        for name in formats:
            try:
                moment = datetime.fromisoformat(text) if name == "iso" else datetime.strptime(text, name)  # noqa: DTZ007 - the next line gives it a zone
                moment = moment.astimezone(UTC) if moment.tzinfo else moment
            except (ValueError, OverflowError):
                continue
            return moment.replace(tzinfo=None)
        raise ValueError(f"expects a date in {' or '.join(formats).replace('iso', 'ISO 8601')}")

    return read


#: Faults that a refusal lists; the rest are counted.
MAX_FAULTS = 100
#: Faults that are told of one row, where the others are answered.
MAX_FAULTS_A_ROW = 20


class Faults:
    """What was found so far.

    Parameters
    ----------
    by_row : bool
        Whether every bad row has to be known, because the others will be answered.
    """

    def __init__(self, by_row: bool) -> None:
        self._by_row = by_row
        self._listed: list[FieldError] = []
        self._rows: dict[int, list[FieldError]] = {}
        self._of_all = 0
        self.total = 0

    def add(self, row: int, column: str, message: str) -> None:
        """Take down a bad value."""
        self.total += 1
        if len(self._listed) < MAX_FAULTS:
            self._listed.append(FieldError(f"row {row}: {column}", message))
        if self._by_row:
            of_row = self._rows.setdefault(row, [])
            if len(of_row) < MAX_FAULTS_A_ROW:
                of_row.append(FieldError(column, message))

    def add_column(self, column: str, message: str) -> None:
        """Take down what is wrong with every row."""
        self.total += 1
        self._of_all += 1
        if len(self._listed) < MAX_FAULTS:
            self._listed.append(FieldError(column, message))

    def bad_rows(self, n_rows: int) -> Mapping[int, tuple[FieldError, ...]]:
        """Return the faults of each bad row.

        Raises
        ------
        InvalidInputError
            When no row is good, or bad rows are not to be told apart.
        """
        if not self.total:
            return {}
        if not self._by_row or self._of_all or len(self._rows) == n_rows:
            rest = self.total - len(self._listed)
            more = f"; {rest} more are not listed" if rest else ""
            raise InvalidInputError(f"the rows have {count(self.total, 'bad field')}{more}", self._listed)
        return {row: tuple(faults) for row, faults in sorted(self._rows.items())}


def count(number: int, noun: str) -> str:
    """Return ``1 value``, ``2 values``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


Values = npt.NDArray[Any]
BoolArray = npt.NDArray[np.bool_]

#: Allowed values that a message lists.
_LISTED = 10


@dataclass(frozen=True, slots=True)
class ValueRule:
    """One demand.

    Parameters
    ----------
    demand : str
        In words, as a bad field's message.
    breaks : callable
        Tells which typed values break it.
    """

    demand: str
    breaks: Callable[[Values], BoolArray]


def value_rules(column: Column) -> tuple[ValueRule, ...]:
    """Return what is demanded of a feature's typed values; nothing when the spec said nothing."""
    rules = column.rules
    found: list[ValueRule] = []
    if rules.nullable is False:
        found.append(ValueRule("may not be missing", missing_cells))
    if column.type in ("integer", "number", "datetime"):
        if rules.minimum is not None:
            found.append(_bound(column, rules.minimum, np.less, "at least"))
        if rules.maximum is not None:
            found.append(_bound(column, rules.maximum, np.greater, "at most"))
    if rules.allowed and column.type != "datetime":
        found.append(_among(column, rules.allowed))
    return tuple(found)


def _bound(column: Column, limit: float, compare: Callable[[Any, Any], Any], words: str) -> ValueRule:
    if column.type == "datetime":
        moment = np.datetime64(round(limit * 1e6), "us")
        shown = f"{datetime.fromtimestamp(limit, UTC):%Y-%m-%dT%H:%M:%SZ}"
        # Comparisons with "not a time" are false, as they are with NaN: a missing value breaks no bound.
        return ValueRule(f"expects {words} {shown}", lambda values: np.asarray(compare(values, moment), np.bool_))
    return ValueRule(f"expects {words} {limit:g}", lambda values: np.asarray(compare(values, limit), np.bool_))


def _among(column: Column, allowed: tuple[str, ...]) -> ValueRule:
    more = f" and {len(allowed) - _LISTED} more" if len(allowed) > _LISTED else ""
    demand = f"expects one of {', '.join(map(repr, allowed[:_LISTED]))}{more}"
    known = _typed(column, allowed)
    return ValueRule(demand, lambda values: ~missing_cells(values) & ~np.isin(values, known))


def _typed(column: Column, allowed: tuple[str, ...]) -> Values:
    """Return the allowed values as the column's values are typed; what is no such value allows nothing."""
    if column.type in ("category", "text"):
        return np.array(allowed, dtype=np.str_)
    if column.type == "boolean":
        true_words = {word.lower() for word in (*column.true_values, "true", "1")}
        false_words = {word.lower() for word in (*column.false_values, "false", "0")}
        lowered = {word.strip().lower() for word in allowed}
        return np.array([*([1.0] if lowered & true_words else []), *([0.0] if lowered & false_words else [])])
    return np.array([number for word in allowed if (number := _number(word)) is not None], dtype=np.float64)


def _number(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None
