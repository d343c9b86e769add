"""Shared options and arguments, and the connection to the stack that they name."""

import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, wraps
from typing import Annotated, Any, Concatenate, ParamSpec

import typer
from millrace.names import validate_model_name
from rich.console import RenderableType

from millrace_cli.api import ApiClient
from millrace_cli.local.project import find_project
from millrace_cli.local.stack import live_state
from millrace_cli.output import out
from millrace_cli.target import Target, resolve_target

P = ParamSpec("P")

_PANEL = "Stack (default: the local one)"


def check_model(name: str | None) -> str | None:
    """Return a name; raises ``InvalidNameError`` when no model can have it: it becomes part of a path."""
    return None if name is None else validate_model_name(name)


ModelName = Annotated[str, typer.Argument(metavar="MODEL", help="Name of the model.", callback=check_model)]
VersionNumber = Annotated[int, typer.Argument(metavar="VERSION", help="Number of the version.", min=1)]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="Id of the run.")]
Reason = Annotated[
    str, typer.Option("--reason", metavar="TEXT", help="Record this reason in the ledger.", show_default=False)
]

#: Parameters that :func:`uses_stack` adds, by name: annotation and default.
_STACK_PARAMETERS: dict[str, tuple[Any, Any]] = {
    "as_json": (Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")], False),
    "profile": (
        Annotated[str | None, typer.Option(metavar="NAME", help="Use this AWS profile.", rich_help_panel=_PANEL)],
        None,
    ),
    "stack": (
        Annotated[
            str | None, typer.Option(metavar="NAME", help="Use this CloudFormation stack.", rich_help_panel=_PANEL)
        ],
        None,
    ),
    "region": (
        Annotated[str | None, typer.Option(metavar="NAME", help="Use this AWS region.", rich_help_panel=_PANEL)],
        None,
    ),
}


@dataclass
class StackSession:
    """Connection of a command to the stack that its options name, opened on first use."""

    profile: str | None = None
    stack: str | None = None
    region: str | None = None
    as_json: bool = False

    @cached_property
    def target(self) -> Target:
        """The stack; raises ``CliError`` when there is none."""
        return find_target(self.profile, self.stack, self.region)

    def api(self) -> ApiClient:
        """Return a client of the stack's API, to use as a context manager."""
        return ApiClient.for_target(self.target)

    def show(self, document: Any, render: Callable[[Any], RenderableType | None]) -> None:
        """Print a response: as JSON with ``--json``, else as ``render`` draws it; None prints nothing."""
        if self.as_json:
            out.print_json(json.dumps(document))
        elif (drawing := render(document)) is not None:
            out.print(drawing, soft_wrap=isinstance(drawing, str))


def uses_stack(command: Callable[Concatenate[StackSession, P], None]) -> Callable[..., None]:
    """Give a command a :class:`StackSession` and its options: ``--profile``, ``--stack``, ``--region``, ``--json``."""
    return _with_parameters(command, list(_STACK_PARAMETERS))


def uses_stack_without_json(command: Callable[Concatenate[StackSession, P], None]) -> Callable[..., None]:
    """Decorate as :func:`uses_stack`, for a command with its own output format."""
    return _with_parameters(command, [name for name in _STACK_PARAMETERS if name != "as_json"])


def _with_parameters(command: Callable[..., None], added: list[str]) -> Callable[..., None]:
    @wraps(command)
    def run(**arguments: Any) -> None:
        session = StackSession(**{name: arguments.pop(name) for name in added})
        command(session, **arguments)

    signature = inspect.signature(command, eval_str=True)
    parameters = list(signature.parameters.values())[1:]
    for name in added:
        annotation, default = _STACK_PARAMETERS[name]
        parameters.append(
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        )
    # Typer reads both: the signature for defaults, the annotations for types.
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]  # read by inspect
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters} | {"return": None}
    return run


def find_target(profile: str | None, stack: str | None, region: str | None) -> Target:
    """Return the stack that the options name; raises ``CliError`` when there is none."""
    project = find_project()
    return resolve_target(profile, stack, region, live_state(project) if project else None)
