"""Pages of lists: how many entries a response has, and the token of the next page."""

import base64
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import orjson

from millrace.errors import FieldError, InvalidInputError
from millrace.tracking.arguments import invalid_argument

EntryT = TypeVar("EntryT")

#: Of the entries of a response, in bytes of JSON: a function may return 6 MB.
MAX_BYTES = 4_500_000


def read_limit(arguments: Mapping[str, Any], default: int, most: int) -> int:
    """Return how many entries a response may have; raises ``InvalidInputError`` unless it is from 1 to ``most``."""
    limit = int(arguments.get("max_results", default))
    if not 1 <= limit <= most:
        raise invalid_argument("max_results", limit, f"It must be at least 1 and at most {most}, but got value {limit}")
    return limit


def read_token(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a page's token, empty for the first page; raises ``InvalidInputError`` for another text."""
    token = arguments.get("page_token")
    if not token:
        return {}
    try:
        content = json.loads(base64.b64decode(token, validate=True))
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise InvalidInputError(
            "Invalid page token, could not base64-decode", [FieldError("page_token", "is no token of a page")]
        )
    return content


def read_offset(arguments: Mapping[str, Any]) -> int:
    """Return the position of the first entry; raises ``InvalidInputError`` for a token without one."""
    offset = read_token(arguments).get("offset", 0)
    if not isinstance(offset, int) or offset < 0:
        raise InvalidInputError(
            "Invalid page token, it has no offset", [FieldError("page_token", "is no token of a page")]
        )
    return offset


def write_token(content: Mapping[str, Any]) -> str:
    """Return the token of a page."""
    return base64.b64encode(json.dumps(content, separators=(",", ":")).encode()).decode()


def cut_page(
    entries: Sequence[EntryT], arguments: Mapping[str, Any], limit: int
) -> tuple[Sequence[EntryT], dict[str, str]]:
    """Return the entries of a page, and the member that has the token of the next one, if there is one."""
    offset = read_offset(arguments)
    page = entries[offset : offset + limit]
    return page, _next_page(offset + len(page), len(entries))


def describe_page(
    entries: Sequence[EntryT], arguments: Mapping[str, Any], limit: int, describe: Callable[[EntryT], Any]
) -> tuple[list[Any], dict[str, str]]:
    """Return a page as JSON, with no more entries than a response holds but at least one; see :func:`cut_page`."""
    offset = read_offset(arguments)
    described = describe_entries(entries[offset : offset + limit], describe)
    return described, _next_page(offset + len(described), len(entries))


def describe_entries(entries: Iterable[EntryT], describe: Callable[[EntryT], Any]) -> list[Any]:
    """Return the first entries as JSON, as many as a response holds but at least one."""
    described, size = list[Any](), 0
    for entry in entries:
        text = orjson.dumps(describe(entry))
        size += len(text)
        if described and size > MAX_BYTES:
            break
        described.append(orjson.Fragment(text))
    return described


def _next_page(end: int, length: int) -> dict[str, str]:
    return {"next_page_token": write_token({"offset": end})} if end < length else {}
