"""`millrace local up | down | status | logs`: the stack on this machine."""

import time
from typing import Annotated, Any

import typer
from rich.text import Text

from millrace_cli.console import err, out
from millrace_cli.errors import CliError
from millrace_cli.local import stack
from millrace_cli.local.deploy import LocalBuild
from millrace_cli.local.logs import LogReader
from millrace_cli.local.ministack import log_path
from millrace_cli.local.process import marked_processes
from millrace_cli.progress import Steps
from millrace_cli.project import Project, require_project
from millrace_cli.render import make_table
from millrace_cli.target import Target, local_target

app = typer.Typer(no_args_is_help=True, help="The stack on this machine, without an AWS account.")

_FOLLOW_SECONDS = 1.0


@app.command()
def up(
    port: Annotated[
        int | None, typer.Option(help="Port on 127.0.0.1; default 4566 or the next free one.", min=1, max=65535)
    ] = None,
) -> None:
    """Start the local stack and deploy to it; again, deploy what has changed."""
    result = start(require_project(), port)
    changes = "deployed" if result.deployed else "nothing has changed"
    err.print(Text.assemble(("local stack is up", "green"), f" ({changes}, {result.seconds:.1f} s)"))
    out.print(Text(f"API: {local_target(result.state).api_url}"))


def start(project: Project, port: int | None) -> stack.UpResult:
    """Bring the stack up, saying each step."""
    with Steps(err) as steps:
        return stack.up(project, port, steps.begin)


@app.command()
def down() -> None:
    """Stop the local stack; everything in it is gone. Builds and logs stay."""
    count = stack.down(require_project())
    err.print(Text(f"stopped {count} processes" if count else "nothing was running"))


@app.command()
def status() -> None:
    """Show whether the local stack runs, and what is in it. Exit code 1 when it does not run."""
    project = require_project()
    state = stack.live_state(project)
    if state is None:
        err.print(Text("the local stack is not running; start it: millrace local up"))
        raise typer.Exit(1)
    is_current = state.deployed == LocalBuild(project).wanted()
    deployed = "up to date" if is_current else "out of date: millrace local up" if state.deployed else "nothing yet"
    rows = [
        ("endpoint", state.endpoint),
        ("stack", state.stack),
        ("deployed", deployed),
        ("processes", len(marked_processes(project.local_dir))),
        ("log", str(log_path(project.local_dir))),
    ]
    if state.deployed:
        target = local_target(state)
        rows += [
            ("API", target.api_url),
            *((name, value) for name, value in target.outputs.items() if name != "ApiUrl"),
        ]
    out.print(make_table("", ("", ""), rows))


@app.command()
def logs(
    function: Annotated[str | None, typer.Argument(help="Part of a function's name; all without it.")] = None,
    lines: Annotated[int, typer.Option("--lines", "-n", help="How many of the last lines.", min=1)] = 100,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Keep showing new lines.")] = False,
    ministack: Annotated[bool, typer.Option("--ministack", help="MiniStack's own log instead.")] = False,
) -> None:
    """Show what the functions logged."""
    project = require_project()
    if ministack:
        _show_ministack_log(project, lines)
        return
    state = stack.live_state(project)
    if state is None:
        raise CliError("the local stack is not running", "its own log is still there: millrace local logs --ministack")
    show_logs(local_target(state), function, lines, follow)


def show_logs(target: Target, function: str | None, lines: int, follow: bool) -> None:
    """Print the functions' last log lines, then new ones when asked to."""
    reader = LogReader(target.client("logs"), target.client("cloudformation"), target.stack)
    for entry in reader.read(function)[-lines:]:
        _print_line(entry)
    while follow:
        time.sleep(_FOLLOW_SECONDS)
        for entry in reader.read(function):
            _print_line(entry)


def _print_line(entry: Any) -> None:
    out.print(Text.assemble((f"{entry.function}  ", "cyan"), entry.message), soft_wrap=True)


def _show_ministack_log(project: Project, lines: int) -> None:
    try:
        text = log_path(project.local_dir).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise CliError("there is no log yet", "start the stack: millrace local up") from error
    for line in text.splitlines()[-lines:]:
        out.print(Text(line), soft_wrap=True)
