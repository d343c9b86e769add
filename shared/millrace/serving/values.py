"""Reading one JSON value as a column's type, and the rules that values must meet.

Strings are read as training reads a field of an upload: without surrounding blanks, and
:data:`millrace.schema.NULL_STRINGS` are missing values.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from millrace.features import MISSING_STRING, missing_mask
from millrace.schema import NULL_STRINGS, Column, TableSchema

#: A typed value: datetimes are UTC and have no zone; None is a missing datetime.
TypedValue = float | str | datetime | None
Values = npt.NDArray[Any]
BoolArray = npt.NDArray[np.bool_]

#: A category longer than this (and than every one seen in training) is refused: a matrix of strings is as wide as its
#: longest.
MAX_TEXT_LENGTH = 1_000
#: The largest number that float32 holds.
FLOAT32_MAX = 3.4028234663852886e38

_MISSING_NUMBER = float("nan")
#: Allowed values that a message lists.
_LISTED_VALUES = 10
_TYPE_NAMES: dict[type, str] = {
    type(None): "null",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "a list",
    dict: "an object",
}


def json_type(value: Any) -> str:
    """Return the type of a JSON value, never the value: ``a string``, ``null``."""
    return _TYPE_NAMES.get(type(value), "another type")


def value_reader(column: Column) -> Callable[[Any], TypedValue]:
    """Return the function that reads one value of ``column`` that is not null; it raises ``ValueError``."""
    if column.type in ("integer", "number"):
        return _read_number
    if column.type == "boolean":
        return _boolean_reader(column)
    if column.type == "datetime":
        return _datetime_reader(column)
    # A text may be of any length: a model gets numbers for it.
    return _string_reader(None if column.type == "text" else max([MAX_TEXT_LENGTH, *map(len, column.categories)]))


def missing_value(column: Column) -> TypedValue:
    """Return the missing value of ``column``."""
    if column.type == "datetime":
        return None
    return MISSING_STRING if column.type in ("category", "text") else _MISSING_NUMBER


def _read_number(value: Any) -> float:
    if type(value) not in (int, float):
        raise ValueError(f"expects a number, got {json_type(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = float("inf")
    if abs(number) > FLOAT32_MAX:
        raise ValueError("expects a number that a 32-bit float can hold")
    return number + 0.0  # makes a negative zero positive, as training does


def _boolean_reader(column: Column) -> Callable[[Any], float]:
    known = dict.fromkeys(("true", *column.true_values), 1.0) | dict.fromkeys(("false", *column.false_values), 0.0)
    trained = " or ".join([*column.true_values[:1], *column.false_values[:1]])
    expected = f"expects true or false (or {trained})" if trained else "expects true or false"

    def read(value: Any) -> float:
        if type(value) is str:
            text = value.strip()
            number = _MISSING_NUMBER if text in NULL_STRINGS else known.get(text.lower())
            if number is None:
                raise ValueError(f"{expected}, got another string")
            return number
        if type(value) not in (bool, int, float) or value not in (0, 1):
            raise ValueError(f"{expected}, got {json_type(value)}")
        return float(value)

    return read


def _string_reader(max_length: int | None) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if type(value) is not str:
            raise ValueError(f"expects a string, got {json_type(value)}")
        if max_length is not None and len(value) > max_length:
            raise ValueError(f"expects a string of at most {max_length} characters")
        try:
            if not value.isascii():
                value.encode()
        except UnicodeEncodeError as error:
            raise ValueError("expects a string of whole Unicode characters, got half a surrogate pair") from error
        text = value.strip()
        # NumPy's strings, which training has, end before their trailing NULs.
        return MISSING_STRING if text in NULL_STRINGS else text.rstrip("\0")

    return read


def _datetime_reader(column: Column) -> Callable[[Any], datetime | None]:
    # The formats of training come first, in its order: 20240203 is a day in ISO 8601 too, but perhaps another.
    formats = tuple(dict.fromkeys((*column.formats, "iso")))

    def read(value: Any) -> datetime | None:
        if type(value) is not str:
            raise ValueError(f"expects a date as a string, got {json_type(value)}")
        text = value.strip()
        if text in NULL_STRINGS:
            return None
        for name in formats:
            try:
                timestamp = datetime.fromisoformat(text) if name == "iso" else datetime.strptime(text, name)  # noqa: DTZ007 - the next line gives it a zone
                timestamp = timestamp.astimezone(UTC) if timestamp.tzinfo else timestamp
            except (ValueError, OverflowError):
                continue
            return timestamp.replace(tzinfo=None)
        raise ValueError(f"expects a date in {' or '.join(formats).replace('iso', 'ISO 8601')}")

    return read


@dataclass(frozen=True, slots=True)
class ValueRule:
    """A rule of the spec: the expectation as a message, and the function that returns the mask of violations."""

    message: str
    violations: Callable[[Values], BoolArray]


def value_rules(column: Column) -> tuple[ValueRule, ...]:
    """Return the rules for a feature's typed values; none when the spec has none."""
    rules = column.rules
    found: list[ValueRule] = []
    if rules.nullable is False:
        found.append(ValueRule("may not be missing", missing_mask))
    if column.type in ("integer", "number", "datetime"):
        if rules.minimum is not None:
            found.append(_bound(column, rules.minimum, np.less, "at least"))
        if rules.maximum is not None:
            found.append(_bound(column, rules.maximum, np.greater, "at most"))
    if rules.allowed and column.type != "datetime":
        found.append(_membership(column, rules.allowed))
    return tuple(found)


def _bound(column: Column, limit: float, compare: Callable[[Any, Any], Any], adverb: str) -> ValueRule:
    bound: Any = limit
    shown = f"{limit:g}"
    if column.type == "datetime":
        bound = np.datetime64(round(limit * 1e6), "us")
        shown = f"{datetime.fromtimestamp(limit, UTC):%Y-%m-%dT%H:%M:%SZ}"
    # Comparisons with NaN and "not a time" are false: a missing value breaks no bound.
    return ValueRule(f"expects {adverb} {shown}", lambda values: np.asarray(compare(values, bound), np.bool_))


def _membership(column: Column, allowed: tuple[str, ...]) -> ValueRule:
    more = f" and {len(allowed) - _LISTED_VALUES} more" if len(allowed) > _LISTED_VALUES else ""
    message = f"expects one of {', '.join(map(repr, allowed[:_LISTED_VALUES]))}{more}"
    known = _typed(column, allowed)
    return ValueRule(message, lambda values: ~missing_mask(values) & ~np.isin(values, known))


def _typed(column: Column, allowed: tuple[str, ...]) -> Values:
    """Return the allowed values in the column's type, without those that are none of it."""
    if column.type in ("category", "text"):
        return np.array(allowed, dtype=np.str_)
    if column.type == "boolean":
        lowered = {text.strip().lower() for text in allowed}
        trues = {text.lower() for text in (*column.true_values, "true", "1")}
        falses = {text.lower() for text in (*column.false_values, "false", "0")}
        return np.array([*([1.0] if lowered & trues else []), *([0.0] if lowered & falses else [])])
    return np.array([number for text in allowed if (number := _parse_number(text)) is not None], dtype=np.float64)


def _parse_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def example_row(schema: TableSchema) -> dict[str, Any]:
    """Return a row that a model of this schema can score."""
    return {column.name: _example_value(column) for column in schema.features}


def _example_value(column: Column) -> Any:
    middle = None
    if column.minimum is not None and column.maximum is not None:
        middle = (column.minimum + column.maximum) / 2
    if column.type == "datetime":
        timestamp = datetime(2026, 1, 31, 12, tzinfo=UTC) if middle is None else datetime.fromtimestamp(middle, UTC)
        return timestamp.replace(microsecond=0).isoformat().replace("+00:00", "Z")
    if middle is not None and column.type in ("integer", "number"):
        return round(middle) if column.type == "integer" else middle
    category = next((category for category in column.categories if category), "other")
    return {"integer": 1, "number": 1.5, "boolean": True, "text": "a few words", "category": category}[column.type]
