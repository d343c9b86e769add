"""Where output goes: results to standard output, progress and faults to standard error."""

from rich.console import Console

#: Results: tables, documents, predictions.
out = Console(highlight=False)

#: Progress and faults, so that results can be piped.
err = Console(stderr=True, highlight=False)
