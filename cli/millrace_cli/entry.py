"""Entry point of the `millrace` program: handles Ctrl-C during the imports, which take a second."""

import os
import signal
import sys
from types import FrameType

from millrace_cli.errors import INTERRUPTED


def run() -> None:
    """Run the command line."""
    # A KeyboardInterrupt inside an import can look like a broken package, so the handler exits instead of raising.
    signal.signal(signal.SIGINT, _exit_interrupted)
    from millrace_cli.main import app  # noqa: PLC0415  # imported once the handler is set

    signal.signal(signal.SIGINT, signal.default_int_handler)
    app()


def _exit_interrupted(_signal: int, _frame: FrameType | None) -> None:
    sys.stderr.write("error: interrupted\n")
    sys.stderr.flush()
    os._exit(INTERRUPTED)
