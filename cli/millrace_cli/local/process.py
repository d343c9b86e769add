"""Processes of the local stack: which are ours, and how they end.

MiniStack leads a process group, and the functions' workers are members of it. A process id alone proves
nothing, because the system hands it out again; so a process counts as ours only if it also started at the
recorded moment, and an orphaned worker only if its environment carries our mark.
"""

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

#: In the environment of MiniStack and so of every worker: the folder of the local stack they belong to.
MARK = "MILLRACE_LOCAL_DIR"

_PROC = Path("/proc")
_HAS_PROC = (_PROC / "self" / "environ").exists()
_POLL_SECONDS = 0.05
_KILLED_SECONDS = 10.0


def start_moment(pid: int) -> str:
    """Return when a process started, as the system tells it; empty when there is no such process."""
    if _HAS_PROC:
        fields = _stat_fields(pid)
        return "" if fields is None or fields[0] == "Z" else fields[19]
    return _ps("-o", "lstart=", "-p", str(pid))


def is_running(pid: int, started: str) -> bool:
    """Tell whether the very process that started then still runs."""
    return bool(started) and start_moment(pid) == started


def marked_processes(local_dir: Path) -> list[int]:
    """Return the processes whose environment says that they belong to the local stack in ``local_dir``."""
    mark = f"{MARK}={local_dir}"
    if _HAS_PROC:
        return [pid for pid in _all_pids() if mark.encode() in _environment(pid).split(b"\0")]
    lines = _ps("-axEww", "-o", "pid=,command=").splitlines()
    return [int(line.split(None, 1)[0]) for line in lines if f" {mark} " in f"{line} "]


def stop_processes(local_dir: Path, *, patience_seconds: float = 1.0) -> int:
    """End every process of the local stack in ``local_dir``: politely, then not; there is nothing it has to save.

    Returns
    -------
    int
        How many processes there were.
    """
    pids = [pid for pid in marked_processes(local_dir) if pid != os.getpid()]
    _signal(pids, signal.SIGTERM)
    if not _wait_until_gone(local_dir, patience_seconds):
        _signal(marked_processes(local_dir), signal.SIGKILL)
        _wait_until_gone(local_dir, _KILLED_SECONDS)
    return len(pids)


def _wait_until_gone(local_dir: Path, patience_seconds: float) -> bool:
    deadline = time.monotonic() + patience_seconds
    while marked_processes(local_dir):
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
    except OSError:  # it ended, or belongs to somebody else
        return b""


def _stat_fields(pid: int) -> list[str] | None:
    """Return the fields of /proc/<pid>/stat from the state on; the name before it may hold anything."""
    try:
        return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def _ps(*arguments: str) -> str:
    # S603, S607: fixed arguments and numbers only, and ps lies where the system puts it.
    finished = subprocess.run(["ps", *arguments], capture_output=True, text=True, check=False)  # noqa: S603, S607  # see above
    return finished.stdout.strip()
