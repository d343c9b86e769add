"""Where the `millrace` program begins: a second of imports passes before anything else can answer Ctrl-C."""

import os
import signal
import sys
from types import FrameType

INTERRUPTED = 130


def run() -> None:
    """Run the command line."""
    # Raised inside an import, KeyboardInterrupt may be taken for a broken package; so nothing is raised here.
    signal.signal(signal.SIGINT, _leave)
    from millrace_cli.main import app  # noqa: PLC0415  # only now is there somebody to answer

    signal.signal(signal.SIGINT, signal.default_int_handler)
    app()


def _leave(_signal: int, _frame: FrameType | None) -> None:
    sys.stderr.write("error: interrupted\n")
    sys.stderr.flush()
    os._exit(INTERRUPTED)
