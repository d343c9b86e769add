"""Reading an outcome as the model's schema types its target."""

import math
from collections.abc import Callable
from typing import Any

from millrace.captures.records import Outcome
from millrace.schema import MISSING_WORDS, TableSchema

#: Classes that a message lists.
_LISTED = 10


def outcome_reader(schema: TableSchema) -> Callable[[Any], Outcome]:
    """Return the function that reads one outcome; it raises ``ValueError``, which says in words what is wrong.

    A class may be written as the reply writes its label, or as the training data did: ``7``, ``7.0`` and ``"7"`` are
    one class of a target of whole numbers, ``true`` and the word for it one of a boolean target. Numbers may be text,
    as in a CSV file.
    """
    if schema.task == "regression":
        return _read_number
    known = {name: name for name in schema.classes}
    if schema.target.type == "boolean":
        known = {name.lower(): name for name in schema.classes}
        known |= {word: name for word, name in _boolean_words(schema).items() if word not in known}
    listed = ", ".join(map(repr, schema.classes[:_LISTED]))
    more = f" or {len(schema.classes) - _LISTED} others" if len(schema.classes) > _LISTED else ""

    def read(value: Any) -> str:
        text = _class_text(value, schema)
        if text is None or text in MISSING_WORDS - set(known):
            raise ValueError("is missing")
        name = known.get(text.lower() if schema.target.type == "boolean" else text)
        if name is None:
            raise ValueError(f"expects one of {listed}{more}")
        return name

    return read


def _boolean_words(schema: TableSchema) -> dict[str, str]:
    """Return the class that true and false stand for; the schema has the false one first, or says its words."""
    target = schema.target
    words: dict[str, str] = {}
    for name in schema.classes:
        is_true = name.lower() in target.true_values if target.true_values else name == "true"
        words |= dict.fromkeys(
            ("true", "1", *target.true_values) if is_true else ("false", "0", *target.false_values), name
        )
    return words


def _class_text(value: Any, schema: TableSchema) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool) and schema.target.type == "boolean":
        return "true" if value else "false"
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _number_text(value)
    if not isinstance(value, str):
        raise ValueError("expects a word or a number")  # noqa: TRY004 - callers catch one kind of error
    text = value.strip()
    if text not in schema.classes and schema.target.type in ("integer", "number"):
        try:
            return _number_text(float(text))
        except ValueError:
            return text
    return text


def _number_text(value: float) -> str:
    return str(int(value)) if math.isfinite(value) and float(value).is_integer() else repr(value)


def _read_number(value: Any) -> float:
    if value is None or (isinstance(value, str) and value.strip() in MISSING_WORDS):
        raise ValueError("is missing")
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("expects a number")  # noqa: TRY004 - as above
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise ValueError("expects a number") from None
    if not math.isfinite(number):
        raise ValueError("expects a finite number")
    return number
