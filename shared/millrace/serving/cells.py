"""Reading one JSON value as a column's type; a ``ValueError`` says in words what is wrong with it.

Text is read as training reads a cell: without the blanks around it, and :data:`millrace.schema.MISSING_WORDS` are
missing values.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from millrace.features import MISSING_STRING
from millrace.schema import MISSING_WORDS, Column
from millrace.serving.json_words import describe

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
