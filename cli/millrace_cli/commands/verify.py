"""`millrace verify`: run the checks of a stack's first day."""

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.status import Status
from rich.text import Text

from millrace_cli.errors import RefusedError
from millrace_cli.options import StackSession, uses_stack
from millrace_cli.output import Document, err, format_count, make_table, say
from millrace_cli.verification.checks import CHECKS, STACK_DELETION
from millrace_cli.verification.context import Check, CheckResult, Verification, clean_up, run_checks

_MARKS = {"passed": ("✓ ", "green"), "failed": ("✗ ", "red"), "skipped": ("- ", "yellow")}


@uses_stack
def verify(
    session: StackSession,
    *,
    skip: Annotated[
        list[str] | None, typer.Option(metavar="CHECK", help="Leave this check out, such as parameters. Repeatable.")
    ] = None,
    delete_stack: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Delete the stack at the end; its buckets and table are kept. Repeat its name."
        ),
    ] = None,
) -> None:
    """Run the checks of a stack's first day, and remove what they create.

    They train one small model, send predictions and feedback, and change the stack's parameters PredictMemorySize and
    LogLevel for some minutes (--skip parameters keeps them). The caller needs an administrator's permissions.

    Exit code 1: a check failed.
    """
    checks = [check for check in CHECKS if check.name not in (skip or ())]
    for name in set(skip or ()) - {check.name for check in CHECKS}:
        raise RefusedError(f"there is no check {name!r}", f"name one of: {', '.join(check.name for check in CHECKS)}")
    if delete_stack not in (None, session.target.stack):
        raise RefusedError(
            f"the stack is {session.target.stack}, not {delete_stack}",
            f"repeat it: --delete-stack {session.target.stack}",
        )
    with ExitStack() as resources:
        api = resources.enter_context(session.api())
        folder = Path(resources.enter_context(tempfile.TemporaryDirectory(prefix="millrace-verify-")))
        model = f"first-day-{datetime.now(UTC):%Y%m%d-%H%M%S}"
        verification = Verification(session.target, api, folder, model)
        say(f"checking the stack {session.target.stack} in {session.target.region} with the model {model}")
        try:
            with Status("", console=err) as status:
                results = run_checks(verification, checks, _Progress(status))
        finally:
            left = clean_up(verification)
        if delete_stack:
            with Status("", console=err) as status:
                results += run_checks(verification, [STACK_DELETION], _Progress(status))
    document = {"results": [_describe(result) for result in results], "left": left}
    session.show(document, lambda _: _draw(results, left))
    raise typer.Exit(int(any(result.status == "failed" for result in results)))


class _Progress:
    """Lines of progress: the running check in a spinner on a terminal, and each result."""

    def __init__(self, status: Status) -> None:
        self._status = status

    def begin(self, check: Check) -> None:
        self._status.update(check.name)

    def end(self, result: CheckResult) -> None:
        line = Text.assemble(
            _MARKS[result.status], result.check.name, (f"  {result.seconds:.1f} s  ", "dim"), result.detail
        )
        err.print(line, soft_wrap=True)


def _describe(result: CheckResult) -> Document:
    return {
        "check": result.check.name,
        "status": result.status,
        "seconds": round(result.seconds, 1),
        "observed": result.detail,
        "remedy": result.check.remedy if result.status == "failed" else None,
    }


def _draw(results: Sequence[CheckResult], left: Sequence[str]) -> RenderableType:
    rows = [
        (
            result.check.name,
            Text(result.status, _MARKS[result.status][1]),
            f"{result.seconds:.1f}",
            f"{result.detail}; to do: {result.check.remedy}" if result.status == "failed" else result.detail,
        )
        for result in results
    ]
    counts = [
        format_count(sum(result.status == status for result in results), "check") + f" {status}" for status in _MARKS
    ]
    return Group(
        make_table("", ("check", "result", "seconds", "observed"), rows),
        Text(),
        Text(", ".join(counts)),
        Text("not removed: " + "; ".join(left)),
    )
