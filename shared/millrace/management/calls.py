"""A request to the management API, and the table of those that are answered."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from millrace.api_requests import read_caller, read_json_body
from millrace.names import validate_model_name
from millrace.ports import MonitoringPipeline, ObjectStore, Registry, Schedules, TaskCallback
from millrace.registry.promotion import Acting
from millrace.spec import invalid_input

#: Of a reason in the ledger.
MAX_REASON = 1_000


@dataclass(frozen=True, slots=True)
class Call:
    """A request, and what it is answered from.

    Parameters
    ----------
    event : mapping
        API Gateway's.
    callback, schedules, monitoring : callable
        Make what only some requests need, and not every function is deployed with.
    """

    event: Mapping[str, Any]
    registry: Registry
    data_store: ObjectStore
    model_store: ObjectStore
    now: datetime
    callback: Callable[[], TaskCallback]
    schedules: Callable[[], Schedules]
    monitoring: Callable[[], MonitoringPipeline]

    @property
    def actor(self) -> str:
        """Who signed the request."""
        return read_caller(self.event)

    @property
    def body(self) -> dict[str, Any]:
        """The request's body; raises ``InvalidInputError`` when it is no JSON object."""
        return read_json_body(self.event)

    def query(self, name: str) -> str | None:
        """Return a parameter of the query, or None."""
        value = (self.event.get("queryStringParameters") or {}).get(name)
        return None if value is None else str(value)

    def existing(self, model: str) -> str:
        """Return the name of a model that exists; raises ``ModelNotFoundError``."""
        return self.registry.get_state(validate_model_name(model)).model


@dataclass(frozen=True, slots=True)
class Route:
    """One request that is answered: ``answer`` takes the call, then the parameters of the path by name."""

    method: Literal["GET", "POST", "PUT", "DELETE"]
    path: str
    answer: Callable[..., dict[str, Any]]


class Reasoned(BaseModel):
    """Base of the bodies of requests that change something: nobody does that without saying why."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    reason: str = Field(min_length=1, max_length=MAX_REASON, pattern=r"\S")

    @classmethod
    def read(cls, call: Call) -> Self:
        """Read a request's body.

        Raises
        ------
        InvalidInputError
            Names every bad field.
        """
        try:
            return cls.model_validate(call.body)
        except ValidationError as error:
            raise invalid_input("the request is not valid", error) from error

    def acting(self, call: Call) -> Acting:
        """Return who acts, when and why."""
        return Acting(call.actor, self.reason.strip(), call.now)
