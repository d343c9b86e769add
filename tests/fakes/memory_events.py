"""An event bus that only remembers what was published on it."""

from collections.abc import Sequence

from millrace.errors import ServiceUnavailableError
from millrace.ports import Event


class MemoryEvents:
    """Implements :class:`millrace.ports.EventPublisher`; refuses everything while :attr:`is_down`."""

    def __init__(self) -> None:
        self.published: list[Event] = []
        self.is_down = False

    def publish(self, events: Sequence[Event]) -> None:
        if self.is_down and events:
            raise ServiceUnavailableError("EventBridge is busy")
        self.published.extend(events)

    @property
    def names(self) -> list[str]:
        """What happened, in order."""
        return [event.detail_type for event in self.published]
