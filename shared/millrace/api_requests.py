"""Requests to API Gateway's REST API, read from its events."""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from millrace.errors import FieldError, InvalidInputError


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
        """Return a parameter of the query string, or None."""
        value = (self.event.get("queryStringParameters") or {}).get(name)
        return None if value is None else str(value)
