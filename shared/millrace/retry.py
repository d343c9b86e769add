"""Repeat what somebody else was faster at."""

import random
import time
from collections.abc import Callable
from typing import TypeVar

from millrace.errors import ServiceUnavailableError

T = TypeVar("T")

FIRST_PAUSE_SECONDS = 0.02
_LONGEST_PAUSE_SECONDS = 2.0


def retry(
    attempt: Callable[[], T | None],
    message: str,
    *,
    attempts: int = 8,
    first_pause_seconds: float = FIRST_PAUSE_SECONDS,
    sleep: Callable[[float], None] | None = None,
) -> T:
    """Call ``attempt`` until it returns a result: None reports a conflict with another writer.

    Pauses double, with jitter so that two writers part.

    Raises
    ------
    ServiceUnavailableError
        With ``message``, when every attempt met a conflict.
    """
    for number in range(attempts):
        if number:
            jitter = random.uniform(0.5, 1.5)  # noqa: S311  # jitter is no secret
            (sleep or time.sleep)(min(first_pause_seconds * 2 ** (number - 1), _LONGEST_PAUSE_SECONDS) * jitter)
        result = attempt()
        if result is not None:
            return result
    raise ServiceUnavailableError(message)
