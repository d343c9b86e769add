"""API Gateway's REST proxy events: a request out of one, a reply into one."""

import base64
import binascii
import json
import zlib
from collections.abc import Mapping
from typing import Any, Protocol

from millrace.errors import (
    InvalidInputError,
    MillraceError,
    PayloadTooLargeError,
    UnsupportedMediaTypeError,
)
from millrace.json_text import write_json
from millrace.serving.error_detail import ErrorDetail, told_of
from millrace.serving.request import JSON, Request

#: A request's body, unpacked; API Gateway itself takes no more.
MAX_BODY_BYTES = 10_000_000
#: What a function may answer: 6 MB, less what the envelope around the body needs.
MAX_REPLY_BYTES = 5_500_000


class ErrorWriter(Protocol):
    """Puts an error into a dialect's words."""

    def __call__(self, error: MillraceError, document: Mapping[str, Any]) -> tuple[int, Mapping[str, Any]]:
        """Return status and body; ``document`` is what a caller may know of ``error``."""
        ...


def read_request(event: Mapping[str, Any]) -> Request:
    """Read an event.

    Raises
    ------
    InvalidInputError
        When the body's encoding is broken.
    UnsupportedMediaTypeError
        When the body is compressed with anything but gzip.
    PayloadTooLargeError
        When it unpacks to more than :data:`MAX_BODY_BYTES`.
    """
    headers = {str(name).lower(): value for name, value in (event.get("headers") or {}).items()}
    body = _unpack(_body_bytes(event), headers.get("content-encoding"))
    return Request(body, headers, event.get("pathParameters") or {}, event.get("queryStringParameters") or {})


def success_response(reply: Mapping[str, Any] | str) -> dict[str, Any]:
    """Return the response for a reply's body: a JSON document, or plain text.

    Raises
    ------
    PayloadTooLargeError
        When it is larger than a function may answer.
    """
    if isinstance(reply, str):
        return _response(200, reply, {"Content-Type": "text/plain"})
    body = write_json(reply)
    # The body travels as a string inside the function's JSON answer, where quotes and backslashes take two bytes.
    size = len(body) + body.count('"') + body.count("\\") if len(body) * 2 > MAX_REPLY_BYTES else len(body)
    if size > MAX_REPLY_BYTES:
        raise PayloadTooLargeError(f"the reply would take {size} bytes of {MAX_REPLY_BYTES}: send fewer rows at once")
    return _response(200, body)


def error_response(error: MillraceError, write: ErrorWriter, detail: ErrorDetail = "full") -> dict[str, Any]:
    """Return the response for an error, in a dialect's words."""
    status, body = write(error, told_of(error, detail))
    headers = {"Retry-After": "1"} if error.retryable else {}
    return _response(status, json.dumps(body), headers)


def _response(status: int, body: str, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
    return {
        "statusCode": status,
        "headers": {"Content-Type": JSON, "Cache-Control": "no-store", **(headers or {})},
        "body": body,
        "isBase64Encoded": False,
    }


def _body_bytes(event: Mapping[str, Any]) -> bytes:
    body = event.get("body") or ""
    try:
        if event.get("isBase64Encoded"):
            return base64.b64decode(body, validate=True)
        return str(body).encode()
    except binascii.Error as error:
        raise InvalidInputError("the body is said to be base64, and is not") from error
    except UnicodeEncodeError as error:
        raise InvalidInputError("the body is not text in UTF-8") from error


def _unpack(body: bytes, encoding: str | None) -> bytes:
    name = (encoding or "identity").strip().lower()
    if name == "gzip":
        body = _gunzip(body)
    elif name != "identity":
        raise UnsupportedMediaTypeError("the body may be compressed with gzip or not at all")
    if len(body) > MAX_BODY_BYTES:
        raise PayloadTooLargeError(f"a request's body may hold {MAX_BODY_BYTES} bytes: send the rows in batches")
    return body


def _gunzip(body: bytes) -> bytes:
    """Unpack no more than one byte past the limit, whatever the header promises."""
    unpacker = zlib.decompressobj(wbits=31)
    try:
        unpacked = unpacker.decompress(body, MAX_BODY_BYTES + 1)
    except zlib.error as error:
        raise InvalidInputError("the body is said to be gzip, and is not") from error
    if len(unpacked) <= MAX_BODY_BYTES and not unpacker.eof:
        raise InvalidInputError("the body's gzip stream ends too early")
    return unpacked
