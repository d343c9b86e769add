"""A person's request for a run, out of API Gateway's event."""

import base64
import binascii
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from millrace.errors import FieldError, InvalidInputError
from millrace.spec import invalid_input
from millrace.triggers.parse import TrainingTrigger, manual_trigger


class ManualRequest(BaseModel):
    """Body of ``POST /models/{model}/runs``; may be left out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reason: str = Field(default="", max_length=1000)


def read_request(model: str, event: Mapping[str, Any], now: datetime) -> TrainingTrigger:
    """Read a request.

    Raises
    ------
    InvalidInputError
        When there is a body and it is not as :class:`ManualRequest` says.
    """
    try:
        request = ManualRequest.model_validate(_read_body(event))
    except ValidationError as error:
        raise invalid_input("the request is not valid", error) from error
    context = event["requestContext"]
    identity = context.get("identity") or {}
    actor = identity.get("userArn") or identity.get("apiKeyId") or "api"
    return manual_trigger(model, context["requestId"], request.reason, actor, now)


def _read_body(event: Mapping[str, Any]) -> Any:
    body = event.get("body") or "{}"
    try:
        request = json.loads(base64.b64decode(body, validate=True) if event.get("isBase64Encoded") else body)
    except (ValueError, RecursionError, binascii.Error) as error:
        raise InvalidInputError("the body is not JSON", [FieldError("body", "not JSON")]) from error
    if not isinstance(request, dict):
        raise InvalidInputError("the body has to be a JSON object", [FieldError("body", "not an object")])
    return request
