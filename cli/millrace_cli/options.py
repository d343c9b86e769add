"""Options that many commands share, and the stack that they name."""

from pathlib import Path
from typing import Annotated

import typer

from millrace_cli.local.stack import live_state
from millrace_cli.project import find_project
from millrace_cli.target import Target, resolve_target

_PANEL = "Which stack (without these: the local one)"

Profile = Annotated[str | None, typer.Option(help="AWS profile.", rich_help_panel=_PANEL)]
Stack = Annotated[str | None, typer.Option(help="CloudFormation stack.", rich_help_panel=_PANEL)]
Region = Annotated[str | None, typer.Option(help="AWS region.", rich_help_panel=_PANEL)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
ModelName = Annotated[str, typer.Argument(metavar="MODEL", help="The model's name.")]
TableFile = Annotated[
    Path, typer.Argument(metavar="FILE", help="A CSV, Parquet or JSON Lines file, or a folder of them: one dataset.")
]


def target_of(profile: str | None, stack: str | None, region: str | None) -> Target:
    """Return the stack that the options name; raises ``CliError`` when there is none."""
    project = find_project()
    return resolve_target(profile, stack, region, live_state(project) if project else None)
