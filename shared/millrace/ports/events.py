"""Telling whoever listens: events on a bus."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, for listeners outside; ``docs/events.md`` lists all of them.

    Parameters
    ----------
    detail_type : str
        What happened, such as ``ModelPromoted``.
    detail : mapping
        Plain JSON, no data of users. Has ``event_version`` (of its own form), ``event_id`` (an event that is
        published twice has the same one) and ``model``.
    """

    detail_type: str
    detail: Mapping[str, Any]
    occurred_at: datetime


class EventPublisher(Protocol):
    """Publishes events, at least once."""

    def publish(self, events: Sequence[Event]) -> None:
        """Publish all of ``events``; none of them is no work.

        Raises
        ------
        ServiceUnavailableError
            When some could not be published now. Others may have been: publish all of them again, listeners know
            an event that comes twice by its ``event_id``.
        """
        ...
