"""A run while it goes on: redrawn in place on a terminal, one line a change elsewhere."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.status import Status
from rich.text import Text

from millrace_cli.render import format_value, styled, trials_table
from millrace_cli.watch import Snapshot

STAGES = ("queued", "validating", "planning", "training", "evaluating", "registering")

_WAITING = {
    "unseen": "waiting for the upload to be noticed",
    "pending": "another run is active; this upload waits for it",
    "started": "starting",
}


class RunProgress:
    """Shows the snapshots of one or more runs.

    Parameters
    ----------
    console : rich Console
        A terminal is redrawn; anything else gets lines.
    clock : callable
        Seconds; measures how long stages take, as seen from here.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._began = clock()
        self._entered: dict[str, dict[str, float]] = {}
        self._said: set[str] = set()
        self._live = Live(console=console, refresh_per_second=8, transient=True) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def show(self, snapshots: Sequence[Snapshot]) -> None:
        """Show the present state."""
        for snapshot in snapshots:
            if snapshot.run:
                self._entered.setdefault(snapshot.model, {}).setdefault(str(snapshot.run.get("stage")), self._clock())
        if self._live:
            self._live.update(Group(*(self._drawing(snapshot) for snapshot in snapshots)))
            return
        for snapshot in snapshots:
            for news in _news(snapshot):
                line = f"{snapshot.model}: {news}"
                if line not in self._said:
                    self._said.add(line)
                    self._console.print(Text(f"[{self._clock() - self._began:6.1f} s] {line}"))

    def _drawing(self, snapshot: Snapshot) -> RenderableType:
        if not snapshot.run:
            return Spinner("dots", Text(f"{snapshot.model}: {_waiting(snapshot)}"))
        lines: list[RenderableType] = [Text(f"{snapshot.model}  run {snapshot.run_id}", style="bold")]
        entered = self._entered[snapshot.model]
        reached = [stage for stage in STAGES if stage in entered]
        for stage, following in zip(reached, [*reached[1:], "finished"], strict=True):
            seconds = entered.get(following, self._clock()) - entered[stage]
            label = Text.assemble(f"{stage:<12}", (f"{seconds:5.1f} s", "dim"))
            is_current = following == "finished" and not snapshot.is_final
            lines.append(Spinner("dots", label) if is_current else Text.assemble(("✓ ", "green"), label))
        if snapshot.trials:
            lines.append(trials_table(snapshot.trials))
        if snapshot.is_final:
            lines.append(styled(_ending(snapshot)))
        return Group(*lines)


def _news(snapshot: Snapshot) -> Iterable[str]:
    """Say in lines what a snapshot holds; lines that were said before are left out by the caller."""
    if not snapshot.run:
        yield _waiting(snapshot)
        return
    if str(snapshot.run.get("stage")) in STAGES:
        yield str(snapshot.run["stage"])
    for trial in snapshot.trials:
        if trial.get("status") not in (None, "planned"):
            yield f"  {_name(trial)} {trial['status']}{_first_metric(trial)}{_reason(trial.get('reason'))}"
    if snapshot.is_final:
        yield _ending(snapshot)


def _ending(snapshot: Snapshot) -> str:
    return "waits for approval" if snapshot.awaits_approval else snapshot.status


def _name(trial: Mapping[str, Any]) -> str:
    later = f" (round {trial['round']})" if trial.get("round", 1) > 1 else ""
    return f"{trial.get('trial_id') or trial.get('candidate')}{later}"


def _first_metric(trial: Mapping[str, Any]) -> str:
    """Say what a trial reached, as soon as it has ended."""
    metrics = trial.get("metrics") or {}
    if trial["status"] != "succeeded" or not metrics:
        return ""
    name = next(iter(metrics))
    return f", {name} {format_value(metrics[name])}"


def _waiting(snapshot: Snapshot) -> str:
    return _WAITING.get(snapshot.cause_status, snapshot.reason)


def _reason(reason: object) -> str:
    return f": {reason}" if reason else ""


class Steps:
    """Says which step is going on, and how long each took.

    Parameters
    ----------
    console : rich Console
        A terminal shows a spinner; anything else gets a line when a step is done.
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
        """End the step before, begin this one."""
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
