"""JSON bodies, read more strictly than ``json`` does: nothing that a caller wrote is dropped in silence."""

import json
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

from millrace.errors import FieldError, InvalidInputError, UnsupportedMediaTypeError
from millrace.json_text import read_json
from millrace.serving.json_words import describe
from millrace.serving.request import JSON, Request

#: Faults that a reply lists.
LISTED_FAULTS = 100


def read_object(request: Request) -> dict[str, Any]:
    """Read a body that is one JSON object; a ``NaN`` literal, which Python's clients write, counts as null.

    Raises
    ------
    UnsupportedMediaTypeError
        When the content is declared as something other than JSON in UTF-8.
    InvalidInputError
        When it is no JSON, no object, or repeats a key within an object.
    """
    if request.media_type != JSON:
        raise UnsupportedMediaTypeError(f"only {JSON!r} in UTF-8 is read here")
    document = _parse(request.text)
    if not isinstance(document, dict):
        raise InvalidInputError(f"the request has to be a JSON object, not {describe(document)}")
    return document


def refuse_unknown_keys(document: Mapping[str, Any], known: AbstractSet[str], field: str = "") -> None:
    """Refuse an object that holds other keys than ``known``; ``field`` says where it stands."""
    unknown = document.keys() - known
    if unknown:
        prefix = f"{field}." if field else ""
        faults = [FieldError(f"{prefix}{key[:100]}", "is not a part of a request") for key in sorted(unknown)]
        raise InvalidInputError("the request holds unknown keys", faults[:LISTED_FAULTS])


def read_parameters(document: Mapping[str, Any], field: str) -> Mapping[str, Any]:
    """Return the object that says how a request is to be answered; nothing where there is none."""
    parameters = document.get(field)
    if not isinstance(parameters, dict | None):
        raise wrong(field, f"expects an object, got {describe(parameters)}")
    return parameters or {}


def wrong(field: str, message: str) -> InvalidInputError:
    """Return the error of one field."""
    return InvalidInputError(f"{field} {message}", [FieldError(field, message)])


def _parse(text: str) -> Any:
    if not text.strip():
        raise InvalidInputError("the request has no body")
    try:
        return read_json(text, _DECODER.decode)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise InvalidInputError(f"the body is not JSON: {error.msg} at {place}") from error
    except ValueError as error:  # an integer of thousands of digits
        raise InvalidInputError("the body holds a number that is too long to read") from error
    except RecursionError as error:
        raise InvalidInputError("the body is nested too deeply") from error


def _constant(literal: str) -> float | None:
    return None if literal == "NaN" else float(literal)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        seen: set[str] = set()
        repeated = {name for name, _ in pairs if name in seen or seen.add(name)}  # type: ignore[func-returns-value]  # add returns None
        faults = [FieldError(name[:100], "stands twice in the same object") for name in sorted(repeated)]
        raise InvalidInputError("an object of the request repeats a key", faults[:LISTED_FAULTS])
    return members


_DECODER = json.JSONDecoder(object_pairs_hook=_unique_keys, parse_constant=_constant)
