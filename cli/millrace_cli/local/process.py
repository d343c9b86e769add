"""Processes of the local stack: identification and termination.

MiniStack leads a process group that contains the functions' workers. The operating system reuses process ids, so a
process is identified by its id and its start time, and an orphaned worker by an environment variable.
"""

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

#: Environment variable of MiniStack and its workers: the folder of their local stack.
LOCAL_DIR_VARIABLE = "MILLRACE_LOCAL_DIR"

_PROC = Path("/proc")
_HAS_PROC = (_PROC / "self" / "environ").exists()
_POLL_SECONDS = 0.05
_KILL_SECONDS = 10.0


def start_time(pid: int) -> str:
    """Return a process's start time in the operating system's format; empty when there is no such process."""
    if _HAS_PROC:
        fields = _stat_fields(pid)
        return "" if fields is None or fields[0] == "Z" else fields[19]
    return _ps("-o", "lstart=", "-p", str(pid))


def is_running(pid: int, started: str) -> bool:
    """Return True when the process with this id and start time is running."""
    return bool(started) and start_time(pid) == started


def list_processes(local_dir: Path) -> list[int]:
    """Return the ids of the processes of the local stack in ``local_dir``."""
    variable = f"{LOCAL_DIR_VARIABLE}={local_dir}"
    if _HAS_PROC:
        return [pid for pid in _all_pids() if variable.encode() in _environment(pid).split(b"\0")]
    lines = _ps("-axEww", "-o", "pid=,command=").splitlines()
    return [int(line.split(None, 1)[0]) for line in lines if f" {variable} " in f"{line} "]


def save_and_stop(pid: int, started: str, *, patience_seconds: float) -> bool:
    """Signal a MiniStack that keeps its state to save it and exit; returns True when it did within the patience."""
    deadline = time.monotonic() + patience_seconds
    if is_running(pid, started):
        _signal([pid], signal.SIGUSR2)
    while is_running(pid, started):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def stop_processes(local_dir: Path, *, patience_seconds: float = 1.0) -> int:
    """Terminate the processes of the local stack in ``local_dir``; kills those that outlast the patience.

    Returns
    -------
    int
        Count of the processes.
    """
    ours = {pid: start_time(pid) for pid in list_processes(local_dir) if pid != os.getpid()}
    _signal(list(ours), signal.SIGTERM)
    if not _wait_until_gone(local_dir, ours, patience_seconds):
        _signal(list_processes(local_dir), signal.SIGKILL)
        _wait_until_gone(local_dir, ours, _KILL_SECONDS)
    return len(ours)


def _wait_until_gone(local_dir: Path, started: dict[int, str], patience_seconds: float) -> bool:
    deadline = time.monotonic() + patience_seconds
    # A process that exits loses its environment some milliseconds before it lets go of its ports and ends.
    while list_processes(local_dir) or any(is_running(pid, start) for pid, start in started.items()):
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _all_pids() -> list[int]:
    return [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit()]


def _environment(pid: int) -> bytes:
    try:
        return (_PROC / str(pid) / "environ").read_bytes()
    except OSError:  # it ended, or belongs to another user
        return b""


def _stat_fields(pid: int) -> list[str] | None:
    """Return the fields of /proc/<pid>/stat after the name, which may contain any character."""
    try:
        return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def _ps(*arguments: str) -> str:
    # S603, S607: fixed arguments and numbers only, and the path of ps depends on the system.
    finished = subprocess.run(["ps", *arguments], capture_output=True, text=True, check=False)  # noqa: S603, S607  # see above
    return finished.stdout.strip()
