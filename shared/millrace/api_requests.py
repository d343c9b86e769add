"""Requests to API Gateway's REST API, read from its events."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from millrace.errors import FieldError, InvalidInputError

#: Parameters become parts of keys, which hold 1,024 bytes, and numbers, of which Python reads 4,300 digits.
_MAX_PARAMETER_BYTES = 200


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """A request with a JSON body."""

    event: Mapping[str, Any]

    @property
    def caller(self) -> str:
        """The ARN that signed the request, else the API key's id, else ``api``."""
        identity = self.event["requestContext"].get("identity") or {}
        return str(identity.get("userArn") or identity.get("apiKeyId") or "api")

    @property
    def request_id(self) -> str:
        """API Gateway's id of the request."""
        return str(self.event["requestContext"].get("requestId", ""))

    @property
    def body(self) -> dict[str, Any]:
        """The body, an empty object when there is none; raises ``InvalidInputError`` when it is no JSON object."""
        body = self.event.get("body") or "{}"
        try:
            document = json.loads(base64.b64decode(body, validate=True) if self.event.get("isBase64Encoded") else body)
        except (ValueError, RecursionError) as error:
            raise InvalidInputError("the body is not JSON", [FieldError("body", "not JSON")]) from error
        if not isinstance(document, dict):
            raise InvalidInputError("the body has to be a JSON object", [FieldError("body", "not an object")])
        return document

    def parameter(self, name: str) -> str | None:
        """Return a parameter of the query string, or None; ``InvalidInputError`` for one that no key could hold."""
        value = (self.event.get("queryStringParameters") or {}).get(name)
        if value is None:
            return None
        try:
            if len(str(value).encode()) <= _MAX_PARAMETER_BYTES:
                return str(value)
        except UnicodeEncodeError:
            pass
        message = f"expects text in UTF-8, of at most {_MAX_PARAMETER_BYTES} bytes"
        raise InvalidInputError(f"{name} {message}", [FieldError(name, message)])
