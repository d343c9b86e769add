"""API Gateway's REST proxy events: reading requests, and writing replies and errors."""

import base64
import binascii
import json
import zlib
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Literal

from millrace.errors import InvalidInputError, MillraceError, PayloadTooLargeError, UnsupportedMediaTypeError
from millrace.json_text import write_json
from millrace.serving.protocols import Protocol
from millrace.serving.request import JSON, Request

#: Whether errors and warnings name columns; reduced ones hold nothing that reveals the schema.
ErrorDetail = Literal["full", "reduced"]

#: Largest body of a request after decompression; API Gateway itself takes no more.
MAX_BODY_BYTES = 10_000_000
#: Largest body of a reply: a function may return 6 MB, with the envelope around the body.
MAX_REPLY_BYTES = 5_500_000


def read_request(event: Mapping[str, Any]) -> Request:
    """Read an event; raises for a body whose encoding is broken or unknown, or that is too large decompressed."""
    headers = {str(name).lower(): value for name, value in (event.get("headers") or {}).items()}
    body = _decompress(_body_bytes(event), headers.get("content-encoding"))
    return Request(body, headers, event.get("pathParameters") or {}, event.get("queryStringParameters") or {})


def success_response(reply: Mapping[str, Any] | str) -> dict[str, Any]:
    """Return the response for a reply's body, a JSON document or plain text; raises ``PayloadTooLargeError``."""
    if isinstance(reply, str):
        return _response(200, reply, {"Content-Type": "text/plain"})
    body = write_json(reply)
    # The body travels as a string inside the function's JSON result, where quotes and backslashes take two bytes.
    size = len(body) + body.count('"') + body.count("\\") if len(body) * 2 > MAX_REPLY_BYTES else len(body)
    if size > MAX_REPLY_BYTES:
        raise PayloadTooLargeError(f"the reply would take {size} bytes of {MAX_REPLY_BYTES}: send fewer rows at once")
    return _response(200, body)


def error_response(error: MillraceError, protocol: Protocol, detail: ErrorDetail = "full") -> dict[str, Any]:
    """Return the response for an error, in the protocol's form."""
    status, body = protocol.write_error(error, _serialise_error(error, detail))
    return _response(status, json.dumps(body), {"Retry-After": "1"} if error.retryable else {})


def _serialise_error(error: MillraceError, detail: ErrorDetail) -> Mapping[str, Any]:
    """Return what a caller may know of an error: its cause where the caller can fix it."""
    document = error.to_dict()
    if error.http_status == HTTPStatus.INTERNAL_SERVER_ERROR:
        return {**document, "message": "the request failed; the service's log has the reason"}
    if detail == "reduced" and isinstance(error, InvalidInputError):
        message = "the model cannot read the request; the service's log has the reason"
        return {"error_code": error.error_code, "message": message}
    return document


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
        raise InvalidInputError("the body is declared as base64, and is not") from error
    except UnicodeEncodeError as error:
        raise InvalidInputError("the body is not text in UTF-8") from error


def _decompress(body: bytes, encoding: str | None) -> bytes:
    name = (encoding or "identity").strip().lower()
    if name not in ("gzip", "identity"):
        raise UnsupportedMediaTypeError("the body may be compressed with gzip or not at all")
    if name == "gzip":
        decompressor = zlib.decompressobj(wbits=31)
        try:
            # No more than one byte past the limit, whatever the header declares.
            body = decompressor.decompress(body, MAX_BODY_BYTES + 1)
        except zlib.error as error:
            raise InvalidInputError("the body is declared as gzip, and is not") from error
        if len(body) <= MAX_BODY_BYTES and not decompressor.eof:
            raise InvalidInputError("the body's gzip stream ends too early")
    if len(body) > MAX_BODY_BYTES:
        raise PayloadTooLargeError(f"a request's body may hold {MAX_BODY_BYTES} bytes: send the rows in batches")
    return body
