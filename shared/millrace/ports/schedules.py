"""Schedules of single models."""

from dataclasses import dataclass
from typing import Literal, Protocol

Purpose = Literal["retraining", "monitoring"]
PURPOSES: tuple[Purpose, ...] = ("retraining", "monitoring")


@dataclass(frozen=True, slots=True)
class Schedule:
    """When something is done for one model.

    Parameters
    ----------
    expression : str
        ``rate(...)``, ``cron(...)`` or ``at(...)``.
    time_zone : str
        A name of the IANA time zone database.
    """

    model: str
    purpose: Purpose
    expression: str
    time_zone: str = "UTC"


class Schedules(Protocol):
    """Fires what it is told to, when it is told to; at most one schedule a model and purpose."""

    def get(self, model: str, purpose: Purpose) -> Schedule | None:
        """Return a model's schedule for that purpose, if it has one."""
        ...

    def put(self, schedule: Schedule) -> None:
        """Create a schedule, or replace the one its model has for that purpose.

        Raises
        ------
        InvalidInputError
            When the expression is refused.
        """
        ...

    def delete(self, model: str, purpose: Purpose) -> None:
        """Remove a model's schedule for that purpose; none is no error."""
        ...
