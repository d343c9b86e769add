"""Fast JSON for requests: orjson where it agrees with the standard library, which is used elsewhere.

Output is ASCII, so that a text's length is its length in bytes.
"""

import json
import re
from collections.abc import Callable
from itertools import chain
from typing import Any

import orjson

_KEY_END = re.compile(r'"[ \t\r\n]*:')


def _quick_values(value: Any) -> Any:
    if not hasattr(value, "to_json"):
        raise TypeError(f"JSON cannot hold a value of type {type(value).__name__}")
    return value.to_json()


def _array_values(value: Any) -> Any:
    if not hasattr(value, "tolist"):
        raise TypeError(f"JSON cannot hold a value of type {type(value).__name__}")
    return value.tolist()


_write = json.JSONEncoder(separators=(",", ":"), allow_nan=False, check_circular=False, default=_array_values).encode


def write_json(value: Any) -> str:
    """Return a document as ASCII without blanks; numbers that are not finite become null.

    An array of NumPy is a list; the numbers of one of float32 have as many digits as tell them apart in float32. An
    object with ``to_json`` and ``tolist`` is what those return; the first may be a text (``orjson.Fragment``).
    Raises ``TypeError`` for a value that JSON cannot hold, ``ValueError`` for a number that is not finite in a document
    that orjson cannot write.
    """
    try:
        text = orjson.dumps(value, _quick_values, orjson.OPT_SERIALIZE_NUMPY)
    except TypeError:  # lone surrogates, integers past 64 bits, subclasses of float
        return _write(value)
    return text.decode("ascii") if text.isascii() else _write(orjson.loads(text))


def read_json(text: str, read_strictly: Callable[[str], Any]) -> Any:
    """Read a document in which no object repeats a key.

    An integer past 64 bits is read as the nearest float, as RFC 8259 allows. ``read_strictly`` reads a document that
    may hold a repeated key or is not plain JSON (``NaN``, lone surrogates), or raises.
    """
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError:
        return read_strictly(text)
    # As many members were kept as were written: none was written twice.
    return document if has_members(text, _count_members(document, text.count("{"))) else read_strictly(text)


def has_members(text: str, members: int) -> bool:
    """Return whether all objects that a document's text writes have so many members together.

    Every member has a colon, and every key that was written ends in a quote and a colon. Colons inside of strings may
    make the result False, too.
    """
    colons = text.count(":")
    if colons == members:
        return True
    written = text.count('":')
    return (written if colons == written else len(_KEY_END.findall(text))) == members


def _count_members(document: Any, n_objects: int) -> int:
    """Count the members of all objects, stopping at the last object; -1 if there are fewer objects."""
    if n_objects == 1 and type(document) is dict:
        return len(document)
    members, found = 0, 0
    level: list[Any] = [document]
    while found < n_objects and level:
        objects = [value for value in level if type(value) is dict]
        found += len(objects)
        members += sum(map(len, objects))
        if found < n_objects:
            parts = [value.values() if type(value) is dict else value for value in level if type(value) in (dict, list)]
            level = list(chain.from_iterable(parts))
    return members if found == n_objects else -1
