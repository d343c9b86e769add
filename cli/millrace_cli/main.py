"""The `millrace` command line: commands by panel, and error reports with exit codes."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer
from botocore.exceptions import BotoCoreError, ClientError
from millrace import __version__
from millrace.errors import InvalidInputError, MillraceError
from typer.core import TyperGroup

from millrace_cli.commands import (
    card,
    cost,
    datasets,
    demo,
    dora,
    export,
    feedback,
    incidents,
    keys,
    local,
    mlflow,
    models,
    monitor,
    predict,
    release,
    runs,
    score,
    spec,
    train,
    ui,
    uninstall,
    verify,
    versions,
    why,
)
from millrace_cli.errors import INTERRUPTED, CliError, RefusedError
from millrace_cli.output import show_error

#: Commands and command groups by panel of `millrace --help`, in the order of the help.
PANELS: Mapping[str, Mapping[str, Callable[..., None] | typer.Typer]] = {
    "Start": {"demo": demo.demo, "local": local.app},
    "Train": {
        "train": train.train,
        "spec": spec.app,
        "data": datasets.app,
        "runs": runs.app,
        "compare": runs.compare,
    },
    "Serve and release": {
        "predict": predict.predict,
        "score": score.score,
        "batches": score.app,
        "models": models.models,
        "release": release.app,
        "export": export.export,
        "mlflow": mlflow.app,
        "promote": versions.promote,
        "rollback": versions.rollback,
        "retire": versions.retire,
    },
    "Watch": {
        "ui": ui.ui,
        "monitor": monitor.monitor,
        "incidents": incidents.incidents,
        "feedback": feedback.feedback,
    },
    "Govern": {
        "approve": versions.approve,
        "reject": versions.reject,
        "card": card.card,
        "history": models.history,
        "why": why.why,
    },
    "Operate": {
        "verify": verify.verify,
        "cost": cost.cost,
        "dora": dora.dora,
        "maturity": incidents.maturity,
        "gc": versions.gc,
        "delete": models.delete,
        "keys": keys.app,
        "uploads": models.uploads_app,
        "uninstall": uninstall.uninstall,
    },
}


class RootGroup(TyperGroup):
    """Root command group: reports errors as sentences, with a traceback only with ``--debug``."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002  # Typer's signature
        """Return the commands in the order of the panels."""
        return [name for commands in PANELS.values() for name in commands]

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
    if isinstance(error, ClientError):
        details = error.response.get("Error", {})
        show_error(f"AWS rejected {error.operation_name}: {details.get('Message') or details.get('Code')}")
    elif isinstance(error, OSError) and error.filename:
        show_error(f"{error.filename}: {str(error.strerror).lower()}", "check the path and its permissions")
        return RefusedError.exit_code
    elif isinstance(error, BotoCoreError):
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
    for panel, commands in PANELS.items():
        for name, command in commands.items():
            if isinstance(command, typer.Typer):
                root.add_typer(command, name=name, rich_help_panel=panel)
            else:
                root.command(name, rich_help_panel=panel)(command)
    return root


app = _build_app()
