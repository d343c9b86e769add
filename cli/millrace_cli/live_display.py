"""Base of the displays of what goes on: a terminal is redrawn while the command waits."""

from types import TracebackType
from typing import Self

from rich.live import Live


class LiveDisplay:
    """Context manager that draws ``_live`` while it is open. Off a terminal that is None, and nothing is drawn."""

    _live: Live | None = None

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()
