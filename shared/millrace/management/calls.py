"""Requests to the management API, and its routes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from millrace.api_requests import read_caller, read_json_body
from millrace.documents import to_plain
from millrace.names import validate_cause_id, validate_model_name, validate_run_id
from millrace.ports import MonitoringPipeline, ObjectStore, Schedules, TaskCallback
from millrace.registry.store import Registry


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """A request, read from API Gateway's event."""

    event: Mapping[str, Any]

    @property
    def caller(self) -> str:
        """The signer of the request."""
        return read_caller(self.event)

    @property
    def request_id(self) -> str:
        """API Gateway's id of the request."""
        return str((self.event.get("requestContext") or {}).get("requestId", ""))

    @property
    def body(self) -> dict[str, Any]:
        """The body; raises ``InvalidInputError`` when it is no JSON object."""
        return read_json_body(self.event)

    def parameter(self, name: str) -> str | None:
        """Return a parameter of the query string, or None."""
        value = (self.event.get("queryStringParameters") or {}).get(name)
        return None if value is None else str(value)


@dataclass(frozen=True, slots=True)
class Call:
    """A request with the ports that serve it."""

    request: ApiRequest
    registry: Registry
    data_store: ObjectStore
    model_store: ObjectStore
    now: datetime
    #: Build ports that only some requests need, and not every function is deployed with.
    callback: Callable[[], TaskCallback]
    schedules: Callable[[], Schedules]
    monitoring: Callable[[], MonitoringPipeline]

    def existing(self, model: str) -> str:
        """Return the name of a model; raises ``ModelNotFoundError`` unless it exists."""
        return self.registry.get_state(model).model


_VALIDATORS: Mapping[str, Callable[[str], str]] = {
    "model": validate_model_name,
    "run_id": validate_run_id,
    "cause_id": validate_cause_id,
}


@dataclass(frozen=True, slots=True)
class ApiRoute:
    """A method and path of the API; ``handle`` takes the call and the path's parameters by name."""

    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    handle: Callable[..., Any]

    def respond(self, call: Call, parameters: Mapping[str, str]) -> dict[str, Any]:
        """Return the body of the response; raises ``InvalidNameError`` for a name that cannot exist."""
        checked = {name: _VALIDATORS.get(name, str)(value) for name, value in parameters.items()}
        body: dict[str, Any] = to_plain(self.handle(call, **checked))
        return body
