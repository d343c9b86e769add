"""Routes of the management API, and the calls that they handle."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, TypedDict

from millrace.api_requests import ApiRequest
from millrace.documents import to_plain
from millrace.names import (
    validate_cause_id,
    validate_job_id,
    validate_key_id,
    validate_model_name,
    validate_release_id,
    validate_replay_id,
    validate_run_id,
)
from millrace.ports import EventPublisher, MonitoringPipeline, ObjectStore, Schedules, TaskCallback
from millrace.registry.store import Registry
from millrace.settings import CostSettings


class Stores(TypedDict):
    """The stores that hold versions, as arguments."""

    registry: Registry
    model_store: ObjectStore


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
    publisher: Callable[[], EventPublisher]
    costs: CostSettings = field(default_factory=CostSettings)

    @property
    def stores(self) -> Stores:
        """The stores that hold versions, as arguments."""
        return {"registry": self.registry, "model_store": self.model_store}

    def existing(self, model: str) -> str:
        """Return the name of a model; raises ``ModelNotFoundError`` unless it exists."""
        return self.registry.get_state(model).model


_VALIDATORS: Mapping[str, Callable[[str], str]] = {
    "model": validate_model_name,
    "run_id": validate_run_id,
    "job_id": validate_job_id,
    "cause_id": validate_cause_id,
    "release_id": validate_release_id,
    "replay_id": validate_replay_id,
    "key_id": validate_key_id,
}


@dataclass(frozen=True, slots=True)
class ApiRoute:
    """A method and path of the API; ``handle`` takes the call and the path's parameters by name."""

    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    handle: Callable[..., Any]
    status: int = 200

    def respond(self, call: Call, parameters: Mapping[str, str]) -> dict[str, Any]:
        """Return the body of the response; raises ``InvalidNameError`` for a name that cannot exist."""
        checked = {name: _VALIDATORS.get(name, str)(value) for name, value in parameters.items()}
        body: dict[str, Any] = to_plain(self.handle(call, **checked))
        return body
