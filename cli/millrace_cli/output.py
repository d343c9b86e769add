"""Terminal output: consoles, tables, values and step timings."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from datetime import time as time_of_day
from types import TracebackType
from typing import Any, Self

from millrace.quantities import format_number
from rich.console import Console, ConsoleOptions, RenderResult
from rich.status import Status
from rich.table import Table
from rich.text import Text

Document = Mapping[str, Any]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TWO_MINUTES = 120.0

#: Text of a missing value.
MISSING = "-"

_STATUS_STYLES = {
    "succeeded": "green",
    "promote": "green",
    "keep": "yellow",
    "rejected": "yellow",
    "reject": "red",
    "failed": "red",
    "running": "cyan",
    "awaiting approval": "yellow",
    "queued": "dim",
    "planned": "dim",
    "skipped": "yellow",
    "eliminated": "dim",
}

#: Columns of prose, which wrap. Values of other columns are copied and compared, so they stay on one line.
_PROSE_COLUMNS = frozenset(
    {"", "finding", "probabilities", "reason", "reasons", "observed", "shares", "status", "values"}
)
_LEAST_PROSE = 12


class UncroppedConsole(Console):
    """Console that wraps a table wider than the terminal instead of cropping it."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as :meth:`rich.console.Console.print`, uncropped."""
        super().print(*objects, **{"crop": False, **options})


class WholeTable(Table):
    """Table with every column: where they do not fit, it is wider than the terminal, which continues its lines."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render at the least width of the columns, or that of the terminal."""
        least = sum(column.min_width or _LEAST_PROSE for column in self.columns) + 2 * (len(self.columns) - 1)
        yield from super().__rich_console__(console, options.update(width=max(least, options.max_width)))


#: Results: tables, documents, predictions.
out = UncroppedConsole(highlight=False)

#: Progress and errors, so that results can be piped.
err = Console(stderr=True, highlight=False)


def say(message: str, style: str = "") -> None:
    """Print a message to standard error."""
    err.print(Text(message, style=style), soft_wrap=True)


def show_error(message: str, hint: str = "") -> None:
    """Print an error and its fix to standard error."""
    err.print(Text.assemble(("error: ", "bold red"), message), soft_wrap=True)
    if hint:
        err.print(Text.assemble(("  fix: ", "bold"), hint), soft_wrap=True)


def format_value(value: Any) -> str:
    """Format a table value: four significant digits for numbers, a dash for a missing value."""
    if value is None or value == "":
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return format_number(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {format_value(element)}" for key, element in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(format_value(element) for element in value)
    return str(value)


def format_epoch(seconds: float) -> str:
    """Format seconds since 1970 as a date, with the time of day unless it is midnight (UTC)."""
    instant = _EPOCH + timedelta(seconds=seconds)
    return f"{instant:%Y-%m-%d}" if instant.time() == time_of_day.min else f"{instant:%Y-%m-%d %H:%M}"


def format_seconds(seconds: float) -> str:
    """Format a duration as seconds, or as minutes from two minutes on."""
    return f"{seconds:.0f} s" if seconds < _TWO_MINUTES else f"{seconds / 60:.0f} min"


def command_text(command: str, style: str = "") -> Text:
    """Return a command as text that is never wrapped, so that it can be copied."""
    return Text(command, style=style, no_wrap=True, overflow="ignore")


def format_count(count: int, noun: str) -> str:
    """Format a count with its noun, in the singular for one."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def format_timestamp(timestamp: str | None) -> str:
    """Format an ISO 8601 timestamp in local time, to the minute."""
    return f"{datetime.fromisoformat(timestamp).astimezone():%Y-%m-%d %H:%M}" if timestamp else MISSING


def format_status(status: Any) -> Text:
    """Return a status in its colour."""
    return Text(format_value(status), style=_STATUS_STYLES.get(str(status), ""))


def make_table(title: str, headers: Iterable[str], rows: Iterable[Sequence[Any]]) -> Table:
    """Return a table of values and Rich texts."""
    table = WholeTable(
        title=title or None, title_justify="left", title_style="bold", header_style="bold", box=None, pad_edge=False
    )
    texts = [[value if isinstance(value, Text) else Text(format_value(value)) for value in row] for row in rows]
    for position, header in enumerate(headers):
        # A column that does not wrap is not cropped either: the terminal continues it on its next line.
        widest = 0 if header in _PROSE_COLUMNS else max([len(header), *(row[position].cell_len for row in texts)])
        table.add_column(header, overflow="fold", no_wrap=header not in _PROSE_COLUMNS, min_width=widest)
    for row in texts:
        table.add_row(*row)
    return table


def facts_table(rows: Iterable[Sequence[Any]], *, title: str = "", wraps: bool = True) -> Table:
    """Return a table of names and values without a header; values wrap unless they are to be copied."""
    table = make_table(title, ("name", "" if wraps else "value"), rows)
    table.show_header = False
    return table


class Steps:
    """Show the current step of a command and the duration of each finished step.

    Parameters
    ----------
    console : rich Console
        A terminal shows a spinner; other outputs get one line per finished step.
    clock : callable
        Returns seconds.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._current: str | None = None
        self._began = clock()
        self._status: Status | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end(succeeded=error is None)

    def begin(self, step: str) -> None:
        """Finish the current step and begin the next."""
        self._end(succeeded=True)
        self._current, self._began = step, self._clock()
        self._status = self._console.status(Text(step))
        self._status.start()

    def _end(self, *, succeeded: bool) -> None:
        if self._status:
            self._status.stop()
            self._status = None
        if self._current:
            mark = ("✓ ", "green") if succeeded else ("✗ ", "red")
            seconds = f"  {self._clock() - self._began:.1f} s"
            self._console.print(Text.assemble(mark, self._current, (seconds, "dim")))
        self._current = None
