"""Validation of the arguments of MLflow's API, in MLflow's wording, and MLflow's limits."""

import json
import posixpath
import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from millrace.errors import FieldError, InvalidInputError

_SEE = "See the API docs for more information about request parameters."


class Kind(NamedTuple):
    """The type of an argument; ``required`` refuses a missing one and an empty text."""

    type: Literal["text", "integer", "number", "boolean", "list"]
    required: bool = False


TEXT = Kind("text")
INTEGER = Kind("integer")
NUMBER = Kind("number")
BOOLEAN = Kind("boolean")
LIST = Kind("list")


def required(kind: Kind) -> Kind:
    """Return a kind of argument that may not be missing."""
    return kind._replace(required=True)


def missing_argument(path: str) -> InvalidInputError:
    """Return the error of an argument that is missing."""
    return InvalidInputError(f"Missing value for required parameter '{path}'. {_SEE}", [FieldError(path, "is missing")])


def invalid_argument(path: str, value: Any, reason: str = "") -> InvalidInputError:
    """Return the error of an argument that is no such value."""
    shown = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)[:200]
    message = f"Invalid value {shown} for parameter '{path}' supplied"
    message = f"{message}: {reason}" if reason else f"{message}."
    return InvalidInputError(f"{message} {_SEE}", [FieldError(path, reason or "is not valid")])


def read_arguments(
    kinds: Mapping[str, Kind], query: Mapping[str, list[str]], body: Mapping[str, Any], path: Mapping[str, str]
) -> dict[str, Any]:
    """Return the arguments of a request, each as its kind; raises ``InvalidInputError`` for the first that is not."""
    given: dict[str, Any] = dict(body)
    for name, values in query.items():
        given[name] = values if kinds.get(name) and kinds[name].type == "list" else values[0]
    given |= path
    for name, kind in kinds.items():
        value = given.get(name)
        if value is None or value == "":
            if kind.required:
                raise missing_argument(name)
            given.pop(name, None)
            continue
        given[name] = _convert(name, kind, value)
    return given


def _convert(name: str, kind: Kind, value: Any) -> Any:
    match kind.type:
        case "text" if isinstance(value, str):
            return value
        case "list" if isinstance(value, list):
            return value
        case "boolean" if isinstance(value, bool):
            return value
        case "boolean" if isinstance(value, str) and value.lower() in ("true", "false"):
            return value.lower() == "true"
        case "integer" if not isinstance(value, bool):
            whole = read_integer(value)
            if whole is not None:
                return whole
        case "number" if not isinstance(value, bool):
            try:
                return float(value)
            except (TypeError, ValueError, OverflowError):
                pass
    raise invalid_argument(name, value, f"Hint: Value was of type '{type(value).__name__}'.")


#: Of protobuf's int64.
_LARGEST = 2**63


def read_integer(value: Any) -> int | None:
    """Return a whole number of 64 bits, which may be text, or None."""
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        return None
    if isinstance(value, float) and number != value:
        return None
    return number if -_LARGEST <= number < _LARGEST else None


#: Limits of MLflow, in characters.
MAX_KEY = 250
MAX_EXPERIMENT_NAME = 500
MAX_EXPERIMENT_TAG = 20_000
MAX_PARAM = 6_000
MAX_TAG = 8_000
MAX_REGISTRY_TAG = 100_000

_NAME = re.compile(r"^[/\w.\- :]*$")
_NAME_HINT = (
    "Names may only contain alphanumerics, underscores (_), dashes (-), periods (.), spaces ( ), colon(:) and slashes "
    "(/)."
)


def validate_key(key: Any, path: str) -> str:
    """Return the key of a metric, parameter or tag; raises ``InvalidInputError`` for one that MLflow refuses."""
    if key is None or key == "":
        raise missing_argument(path)
    if not isinstance(key, str) or not _NAME.match(key):
        raise invalid_argument(path, key, _NAME_HINT)
    normal = posixpath.normpath(key)
    if normal != key or normal == "." or normal.startswith(("..", "/")):
        reason = (
            "Names may be treated as files in certain cases, and must not resolve to other names when treated as such."
        )
        raise invalid_argument(path, key, f"{reason} This name would resolve to {normal!r}")
    return validate_length(path, key, MAX_KEY)


def validate_length(path: str, value: str, limit: int) -> str:
    """Return a text; raises ``InvalidInputError`` for one that is longer than MLflow allows."""
    if len(value) > limit:
        message = f"'{path}' exceeds the maximum length of {limit} characters"
        raise InvalidInputError(message, [FieldError(path, f"is longer than {limit} characters")])
    return value


def read_pairs(values: Any, path: str) -> dict[str, str]:
    """Return a list of objects with ``key`` and ``value`` as a mapping; the last of one key counts."""
    if not isinstance(values, list | tuple):
        raise invalid_argument(path, values)
    pairs = {}
    for position, pair in enumerate(values):
        if not isinstance(pair, Mapping):
            raise invalid_argument(path, values)
        key = pair.get("key")
        if not isinstance(key, str) or not key:
            raise missing_argument(f"{path}[{position}].key")
        value = pair.get("value")
        pairs[key] = "" if value is None else str(value)
    return pairs


def read_texts(arguments: Mapping[str, Any], name: str) -> list[str]:
    """Return an argument that is a list of texts, empty where it is missing; raises ``InvalidInputError``."""
    given: list[str] = arguments.get(name, [])
    if not all(isinstance(one, str) for one in given):
        raise invalid_argument(name, given)
    return given


def write_pairs(pairs: Mapping[str, str]) -> list[dict[str, str]]:
    """Return a mapping as a list of objects with ``key`` and ``value``."""
    return [{"key": key, "value": value} for key, value in pairs.items()]
