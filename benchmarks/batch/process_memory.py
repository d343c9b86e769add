"""Memory of a process that is measured."""

from pathlib import Path


def memory_mb(name: str) -> float:
    """Return a figure of this process's memory; ``ru_maxrss`` would begin with that of the process that started it."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) / 1_024 for line in status.splitlines() if line.startswith(name))
