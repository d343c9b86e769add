"""Limits of a trial: it stops itself with a reason before its function is killed without one."""

import ctypes
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from millrace.errors import TrainingFailedError

#: Kept back to record the end of a stopped trial.
RESERVE_SECONDS = 20.0
#: Share of the function's memory that a trial may hold.
MEMORY_SHARE = 0.94
TICK_SECONDS = 0.05
REPEAT_SECONDS = 1.0

_STATM = Path("/proc/self/statm")
_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")
_PAGE = 4096


class LambdaLimits(Protocol):
    """The part of a Lambda context that limits are made of."""

    memory_limit_in_mb: int

    def get_remaining_time_in_millis(self) -> int:
        """Return the time that the function has left."""
        ...


class TrialStoppedError(TrainingFailedError):
    """A trial reached its limit of time or memory."""

    def __init__(self, message: str = "stopped at a limit") -> None:
        # Python makes it without arguments, where it is raised in another thread.
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class TrialLimits:
    """Time and process memory of a trial; None is without limit."""

    seconds: float | None = None
    memory_mb: float | None = None

    @classmethod
    def of_function(cls, context: LambdaLimits) -> Self:
        """Return the limits of a Lambda function, less a reserve."""
        seconds = context.get_remaining_time_in_millis() / 1000
        # The reserve is for functions that may run for minutes; a shorter one still needs to try.
        return cls(max(seconds - RESERVE_SECONDS, seconds / 2), int(context.memory_limit_in_mb) * MEMORY_SHARE)


class LimitGuard:
    """Context manager that stops its thread when a limit is reached.

    Fitting is a loop in Python around steps in C that last milliseconds (a tree, an iteration, a gradient step), so an
    exception raised between two steps is soon enough. Another thread raises it, because a signal would reach only the
    main thread. A :class:`TrialStoppedError` leaves the ``with`` block.
    """

    def __init__(self, limits: TrialLimits, memory: Callable[[], float | None] | None = None) -> None:
        self._limits = limits
        self._memory = memory or resident_mb
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._reason = ""
        self._thread_id = 0

    def __enter__(self) -> Self:
        _reset_peak_memory()
        self._thread_id = threading.get_ident()
        self._began = time.monotonic()
        threading.Thread(target=self._enforce, daemon=True, name="trial-limits").start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._lock:
            self._over.set()
            if self._reason:
                # The block may have ended by itself before the exception was raised: then it is taken back.
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread_id), None)
        if isinstance(error, TrialStoppedError):
            raise TrialStoppedError(self._reason) from None

    def _enforce(self) -> None:
        while not self._over.wait(TICK_SECONDS):
            reason = self._reached()
            if reason:
                with self._lock:
                    if not self._over.is_set():
                        self._reason = reason
                        exception = ctypes.py_object(TrialStoppedError)
                        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._thread_id), exception)
                # Raised again should a library swallow it.
                self._over.wait(REPEAT_SECONDS)

    def _reached(self) -> str:
        seconds, memory_mb = self._limits.seconds, self._limits.memory_mb
        if seconds is not None and time.monotonic() - self._began > seconds:
            return f"stopped after {seconds:,.0f} s, shortly before the function's time limit"
        held = self._memory()
        if memory_mb is not None and held is not None and held > memory_mb:
            return f"stopped at {held:,.0f} MB of memory, shortly before the function's memory limit"
        return ""


def resident_mb() -> float | None:
    """Return this process's resident memory; None where the system does not report it."""
    try:
        return int(_STATM.read_text().split()[1]) * _PAGE / 2**20
    except OSError:
        return None


def peak_memory_mb() -> float | None:
    """Return the largest resident memory since the guard was entered; None where the system does not report it."""
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")), None)


def _reset_peak_memory() -> None:
    try:
        _CLEAR_REFS.write_text("5")
    except OSError:  # not every system allows it
        return
