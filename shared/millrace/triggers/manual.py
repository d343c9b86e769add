"""A person's request for a run, out of API Gateway's event."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from millrace.api_requests import read_caller, read_json_body
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
        request = ManualRequest.model_validate(read_json_body(event))
    except ValidationError as error:
        raise invalid_input("the request is not valid", error) from error
    return manual_trigger(model, event["requestContext"]["requestId"], request.reason, read_caller(event), now)
