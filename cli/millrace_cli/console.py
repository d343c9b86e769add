"""Where output goes: results to standard output, progress and faults to standard error."""

from typing import Any

from rich.console import Console


class WholeConsole(Console):
    """Cuts nothing off: a table that is wider than the terminal goes on in the next line."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as :meth:`rich.console.Console.print`, uncropped."""
        super().print(*objects, **{"crop": False, **options})


#: Results: tables, documents, predictions.
out = WholeConsole(highlight=False)

#: Progress and faults, so that results can be piped.
err = Console(stderr=True, highlight=False)
