"""The caller and the JSON body of API Gateway's events."""

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

from millrace.errors import FieldError, InvalidInputError


def read_caller(event: Mapping[str, Any]) -> str:
    """Return the caller of a request: the ARN that signed it, else the API key's id, else ``api``."""
    identity = event["requestContext"].get("identity") or {}
    return str(identity.get("userArn") or identity.get("apiKeyId") or "api")


def read_json_body(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return a request's body, an empty object when there is none.

    Raises ``InvalidInputError`` when it is not JSON, or no object.
    """
    body = event.get("body") or "{}"
    try:
        document = json.loads(base64.b64decode(body, validate=True) if event.get("isBase64Encoded") else body)
    except (ValueError, RecursionError, binascii.Error) as error:
        raise InvalidInputError("the body is not JSON", [FieldError("body", "not JSON")]) from error
    if not isinstance(document, dict):
        raise InvalidInputError("the body has to be a JSON object", [FieldError("body", "not an object")])
    return document
