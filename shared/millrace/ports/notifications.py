"""Telling people."""

from typing import Protocol


class Notifier(Protocol):
    """Sends a message to whoever asked for them."""

    def notify(self, subject: str, text: str) -> None:
        """Send a message, at least once.

        Raises
        ------
        ServiceUnavailableError
            When it could not be sent now.
        """
        ...
