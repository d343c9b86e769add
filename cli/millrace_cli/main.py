"""The `millrace` command: groups of commands, and what becomes of their faults."""

from typing import Annotated, Any

import typer
from botocore.exceptions import BotoCoreError, ClientError
from millrace import __version__
from millrace.errors import MillraceError
from rich.text import Text
from typer.core import TyperGroup

from millrace_cli.commands import (
    acts,
    card,
    compare,
    data,
    delete,
    demo,
    feedback,
    local,
    models,
    monitor,
    predict,
    runs,
    simulate,
    spec,
    train,
    why,
)
from millrace_cli.console import err
from millrace_cli.entry import INTERRUPTED
from millrace_cli.errors import CliError


class FaultsAsSentences(TyperGroup):
    """Shows a fault as what it is and how to mend it; a traceback only with ``--debug``."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; end the program with the fault's exit code."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            show_fault("interrupted")
            raise typer.Exit(INTERRUPTED) from None
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:
            if ctx.params.get("debug") or _is_usage_error(error):
                raise
            code = _report(error)
            raise typer.Exit(code) from error


def _is_usage_error(error: Exception) -> bool:
    """Tell whether Typer shows this error itself."""
    return hasattr(error, "format_message") and hasattr(error, "exit_code")


def _report(error: Exception) -> int:
    if isinstance(error, CliError):
        show_fault(error.message, error.hint)
        return error.exit_code
    if isinstance(error, MillraceError):
        show_fault(error.message)
    elif isinstance(error, ClientError):
        fault = error.response.get("Error", {})
        show_fault(f"AWS refused {error.operation_name}: {fault.get('Message') or fault.get('Code')}")
    elif isinstance(error, BotoCoreError):
        show_fault(f"cannot reach AWS: {error}", "check --profile and --region")
    else:
        show_fault(f"unexpected {type(error).__name__}: {error}", "for the traceback: millrace --debug ...")
    return 1


def show_fault(message: str, hint: str = "") -> None:
    """Print a fault and how to mend it to standard error."""
    err.print(Text.assemble(("error: ", "bold red"), message), soft_wrap=True)
    if hint:
        err.print(Text.assemble(("  fix: ", "bold"), hint), soft_wrap=True)


app = typer.Typer(
    cls=FaultsAsSentences,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Upload a table, get a governed, monitored prediction API that retrains itself.",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", envvar="MILLRACE_DEBUG", help="Show tracebacks.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Take the options that stand before the command."""


local.app.command("simulate")(simulate.simulate)
app.add_typer(local.app, name="local")
app.add_typer(models.uploads_app, name="uploads")
app.add_typer(data.app, name="data")
app.add_typer(runs.app, name="runs")
app.add_typer(spec.app, name="spec")
app.command("train")(train.train)
app.command("predict")(predict.predict)
app.command("feedback")(feedback.feedback)
app.command("models")(models.models)
app.command("history")(models.history)
app.command("promote")(acts.promote)
app.command("rollback")(acts.rollback)
app.command("retire")(acts.retire)
app.command("gc")(acts.gc)
app.command("delete")(delete.delete)
app.command("approve")(acts.approve)
app.command("reject")(acts.reject)
app.command("monitor")(monitor.monitor)
app.command("why")(why.why)
app.command("card")(card.card)
app.command("compare")(compare.compare)
app.command("demo")(demo.demo)
