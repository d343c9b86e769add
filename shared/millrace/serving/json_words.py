"""The names of JSON's kinds of values, for messages to people."""

from typing import Any

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
