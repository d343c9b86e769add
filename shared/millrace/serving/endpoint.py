"""Settings that replies of ``predict`` are made from, and the response of a reply."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

from millrace.errors import PayloadTooLargeError
from millrace.json_text import write_json
from millrace.key_scopes import KeyScopes
from millrace.serving.cache import ModelCache
from millrace.serving.request import JSON

#: Whether errors and warnings name columns; reduced ones hold nothing that reveals the schema.
ErrorDetail = Literal["full", "reduced"]

#: Largest body of a reply: a function may return 6 MB, with the envelope around the body.
MAX_REPLY_BYTES = 5_500_000


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Models, scopes of keys and settings that replies are made from.

    Without ``captures`` no rules of a model capture anything; ``model_metrics`` writes metrics by model.
    """

    models: ModelCache
    keys: KeyScopes
    max_rows: int
    make_id: Callable[[], str]
    error_detail: ErrorDetail = "full"
    captures: bool = True
    model_metrics: bool = False


def success_response(
    reply: Mapping[str, Any] | str, headers: Mapping[str, str] = MappingProxyType({})
) -> dict[str, Any]:
    """Return the response for a reply's body, a JSON document or plain text; raises ``PayloadTooLargeError``."""
    if isinstance(reply, str):
        return write_response(200, reply, {"Content-Type": "text/plain"})
    body = write_json(reply)
    # The body travels as a string inside the function's JSON result, where quotes and backslashes take two bytes.
    size = len(body) + body.count('"') + body.count("\\") if len(body) * 2 > MAX_REPLY_BYTES else len(body)
    if size > MAX_REPLY_BYTES:
        raise PayloadTooLargeError(f"the reply would take {size} bytes of {MAX_REPLY_BYTES}: send fewer rows at once")
    return write_response(200, body, headers)


def write_response(status: int, body: str, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return a response of the function; ``headers`` add to those of every one."""
    return {
        "statusCode": status,
        "headers": {"Content-Type": JSON, "Cache-Control": "no-store", **(headers or {})},
        "body": body,
        "isBase64Encoded": False,
    }
