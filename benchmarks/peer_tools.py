"""Environments of the tools that stand beside Millrace in the benchmarks: one for each, made by uv from its lock."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
UV = ROOT / ".venv" / "bin" / "uv"


def make_interpreter(locks: Path, tool: str, work: Path) -> Path:
    """Return a tool's own interpreter, below ``work``: made the first time, and again when its lock changes.

    The lock is ``<tool>.txt`` in ``locks``. What it lists is installed as it is, without anything else.
    """
    if tool == "millrace":
        return ROOT / ".venv" / "bin" / "python"
    environment, lock = work / tool, locks / f"{tool}.txt"
    python, stamp = environment / "bin" / "python", environment / "requirements.txt"
    if not stamp.exists() or stamp.read_bytes() != lock.read_bytes():
        subprocess.run([UV, "venv", "-q", "--clear", "--python", sys.executable, environment], check=True)
        subprocess.run([UV, "pip", "sync", "-q", "--require-hashes", "--python", python, lock], check=True)
        stamp.write_bytes(lock.read_bytes())
    return python
