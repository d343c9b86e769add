"""Options that many commands share, the stack that they name, and how answers are shown."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import RenderableType

from millrace_cli.api import ApiClient
from millrace_cli.console import out
from millrace_cli.local.stack import live_state
from millrace_cli.project import find_project
from millrace_cli.target import Target, resolve_target

_PANEL = "Which stack (without these: the local one)"

Profile = Annotated[str | None, typer.Option(help="AWS profile.", rich_help_panel=_PANEL)]
Stack = Annotated[str | None, typer.Option(help="CloudFormation stack.", rich_help_panel=_PANEL)]
Region = Annotated[str | None, typer.Option(help="AWS region.", rich_help_panel=_PANEL)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
ModelName = Annotated[str, typer.Argument(metavar="MODEL", help="The model's name.")]
VersionNumber = Annotated[int, typer.Argument(metavar="VERSION", help="The version's number.", min=1)]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="The run's id.")]
Reason = Annotated[str, typer.Option("--reason", help="Why, for the ledger.", show_default=False)]
TableFile = Annotated[
    Path, typer.Argument(metavar="FILE", help="A CSV, Parquet or JSON Lines file, or a folder of them: one dataset.")
]


def target_of(profile: str | None, stack: str | None, region: str | None) -> Target:
    """Return the stack that the options name; raises ``CliError`` when there is none."""
    project = find_project()
    return resolve_target(profile, stack, region, live_state(project) if project else None)


@contextmanager
def api_of(profile: str | None, stack: str | None, region: str | None) -> Iterator[ApiClient]:
    """Open the API of the stack that the options name, for a while."""
    with ApiClient.for_target(target_of(profile, stack, region)) as api:
        yield api


def show(document: Any, as_json: bool, render: Callable[[Any], RenderableType | None]) -> None:
    """Print an answer: as JSON where that was asked for, else as ``render`` draws it, if it draws anything."""
    if as_json:
        out.print_json(json.dumps(document))
    elif (drawing := render(document)) is not None:
        out.print(drawing, soft_wrap=isinstance(drawing, str))
