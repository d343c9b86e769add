"""The `millrace` command line: commands by panel, and error reports with exit codes."""

import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import Annotated, Any, NamedTuple

import typer
from millrace import __version__
from millrace.errors import InvalidInputError, MillraceError
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from millrace_cli.errors import INTERRUPTED, CliError, RefusedError
from millrace_cli.output import show_error


class Place(NamedTuple):
    """Place of a command or a group: a module of :mod:`millrace_cli.commands`, a name in it, and its line of help."""

    module: str
    attribute: str
    help: str


#: Commands and command groups by panel of `millrace --help`, in the order of the help. A module is imported when its
#: command runs: all of them together take longer to import than most commands to run.
PANELS: Mapping[str, Mapping[str, Place]] = {
    "Start": {
        "demo": Place(
            "demo", "demo", "Demonstrate the whole loop: train, predict, detect drift, retrain, release, refuse."
        ),
        "local": Place("local", "app", "Run the stack on this machine, without an AWS account."),
    },
    "Train": {
        "train": Place("train", "train", "Upload a table and train a model on it."),
        "spec": Place("spec", "app", "Show, apply and change a model's specification."),
        "data": Place("datasets", "app", "Inspect and compare datasets, and show the schema."),
        "runs": Place("runs", "app", "List, show and reproduce training runs."),
        "compare": Place("runs", "compare", "Compare the data, parameters and metrics of two runs."),
    },
    "Serve and release": {
        "predict": Place("predict", "predict", "Request predictions from a model's API."),
        "score": Place("score", "score", "Score files of any size as a batch job."),
        "batches": Place("score", "app", "List, show, cancel and repeat batch jobs."),
        "models": Place("models", "models", "List models, or the versions of one model."),
        "release": Place("release", "app", "Release versions gradually, and return from them."),
        "export": Place(
            "export",
            "export",
            "Write a version as a directory that another tool loads, such as `mlflow.pyfunc.load_model`.",
        ),
        "mlflow": Place("mlflow", "app", "Convert models for MLflow's registry."),
        "promote": Place("versions", "promote", "Promote a version to champion, the version that serves."),
        "rollback": Place("versions", "rollback", "Roll back to an earlier champion."),
        "retire": Place("versions", "retire", "Retire a version permanently."),
    },
    "Watch": {
        "ui": Place("ui", "ui", "Run the console of a stack and open it in the browser; Ctrl-C ends it."),
        "monitor": Place("monitor", "monitor", "Show the monitoring verdicts of a model and open its report."),
        "incidents": Place(
            "incidents",
            "incidents",
            "List a model's incidents, or write the protocol of one: timeline, effect, cause, what was done.",
        ),
        "feedback": Place("feedback", "feedback", "Report ground truth for predictions, or show its coverage."),
    },
    "Govern": {
        "approve": Place("versions", "approve", "Approve the version of a run that awaits approval."),
        "reject": Place("versions", "reject", "Reject the version of a run that awaits approval."),
        "card": Place("card", "card", "Write the model card of a version, or the evaluation of a run."),
        "history": Place(
            "models", "history", "Show a model's ledger, or its champion at a given time, or verify the ledger."
        ),
        "why": Place("why", "why", "Explain a model's history by causes, runs and outcomes."),
    },
    "Operate": {
        "verify": Place("verify", "verify", "Run the checks of a stack's first day, and remove what they create."),
        "cost": Place("cost", "cost", "Show what the stack costs at rest, and what its models cost in a month."),
        "dora": Place(
            "dora",
            "dora",
            "Show the DORA metrics of models, from their ledgers: deployments, lead time, failures, time to restore.",
        ),
        "maturity": Place(
            "incidents",
            "maturity",
            "Show where a model's operation stands, from what the stack does, "
            "and the next step for each missing practice.",
        ),
        "gc": Place("versions", "gc", "Delete unreferenced artifacts of retired versions and old runs."),
        "delete": Place("models", "delete", "Delete a model and its schedules, and retire its versions."),
        "keys": Place("keys", "app", "Create, list, scope and revoke API keys for clients that cannot sign."),
        "uploads": Place("models", "uploads_app", "Inspect rejected uploads."),
        "uninstall": Place(
            "uninstall",
            "uninstall",
            "Delete a stack: stop its executions, remove its schedules, "
            "and delete or keep its data, models and tables.",
        ),
    },
}


class Commands(Mapping[str, Any]):
    """Commands by name, each imported at its first use."""

    def __init__(self) -> None:
        self._panels = {name: panel for panel, commands in PANELS.items() for name in commands}

    def __getitem__(self, name: str) -> Any:
        return load_command(self._panels[name], name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._panels)

    def __len__(self) -> int:
        return len(self._panels)


@cache
def load_command(panel: str, name: str) -> Any:
    """Import a command or a group, and return it as Typer makes it."""
    place = PANELS[panel][name]
    found = getattr(import_module(f"millrace_cli.commands.{place.module}"), place.attribute)
    return make_command(panel, name, found)


def make_command(panel: str, name: str, found: Callable[..., None] | typer.Typer) -> Any:
    """Return a function with annotations, or a group of them, as a command."""
    group = typer.Typer(pretty_exceptions_enable=False)
    group.callback()(lambda: None)  # else the only command of a group would be the group
    if isinstance(found, typer.Typer):
        group.add_typer(found, name=name, rich_help_panel=panel)
    else:
        group.command(name, rich_help_panel=panel)(found)
    return get_command(group).commands[name]  # type: ignore[attr-defined]  # a group


@cache
def _listed() -> dict[str, Any]:
    """Return what the help lists: commands that have a name, a panel and a line, and do nothing."""
    return {
        name: TyperCommand(name, help=place.help, rich_help_panel=panel, rich_markup_mode="rich")
        for panel, commands in PANELS.items()
        for name, place in commands.items()
    }


#: Of the whole program.
COMMANDS: Any = Commands()


class RootGroup(TyperGroup):
    """Root command group: reports errors as sentences, with a traceback only with ``--debug``."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = COMMANDS

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002  # Typer's signature
        """Return the commands in the order of the panels."""
        return [name for commands in PANELS.values() for name in commands]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help without an import of any command."""
        self.commands = _listed()
        try:
            super().format_help(ctx, formatter)
        finally:
            self.commands = COMMANDS

    def invoke(self, ctx: Any) -> Any:
        """Run the command; exits with the error's exit code."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            show_error("interrupted")
            raise typer.Exit(INTERRUPTED) from None
        except (typer.Exit, typer.Abort, BrokenPipeError):  # Typer ends quietly when a reader such as head has enough
            raise
        except Exception as error:
            if ctx.params.get("debug") or _is_usage_error(error):
                raise
            raise typer.Exit(_report(error)) from error


def _is_usage_error(error: Exception) -> bool:
    """Return True for errors that Typer reports itself."""
    return hasattr(error, "format_message") and hasattr(error, "exit_code")


def _report(error: Exception) -> int:
    """Print an error; returns its exit code."""
    if isinstance(error, CliError):
        show_error(error.message, error.hint)
        return error.exit_code
    if isinstance(error, MillraceError):
        show_error(error.message)
        return RefusedError.exit_code if isinstance(error, InvalidInputError) else 1
    # Errors of a package that no command imported cannot be its.
    botocore = sys.modules.get("botocore.exceptions")
    if botocore and isinstance(error, botocore.ClientError):
        details = error.response.get("Error", {})
        show_error(f"AWS rejected {error.operation_name}: {details.get('Message') or details.get('Code')}")
    elif isinstance(error, OSError) and error.filename:
        show_error(f"{error.filename}: {str(error.strerror).lower()}", "check the path and its permissions")
        return RefusedError.exit_code
    elif botocore and isinstance(error, botocore.BotoCoreError):
        show_error(f"cannot reach AWS: {error}", "check --profile and --region")
    else:
        show_error(f"unexpected {type(error).__name__}: {error}", "show the traceback: millrace --debug ...")
    return 1


def _print_version(requested: bool) -> None:
    if requested:
        typer.echo(__version__)
        raise typer.Exit


def _root_options(
    debug: Annotated[bool, typer.Option("--debug", envvar="MILLRACE_DEBUG", help="Show tracebacks.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Train, serve, monitor and retrain tabular models in your own AWS account."""


def _build_app() -> typer.Typer:
    root = typer.Typer(cls=RootGroup, no_args_is_help=True, pretty_exceptions_enable=False)
    root.callback()(_root_options)
    return root


app = _build_app()
