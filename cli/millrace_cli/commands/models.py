"""`millrace models [MODEL]`, `millrace history MODEL`, `millrace uploads refused`: what the registry knows."""

from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from millrace_cli.console import err
from millrace_cli.options import AsJson, ModelName, Profile, Region, Stack, api_of, show
from millrace_cli.render import ledger_table, models_table, moment_report, versions_table

uploads_app = typer.Typer(no_args_is_help=True, help="Files that were uploaded.")


def models(
    model: Annotated[str | None, typer.Argument(help="One model, with its versions.")] = None,
    *,
    as_json: AsJson = False,
    profile: Profile = None,
    stack: Stack = None,
    region: Region = None,
) -> None:
    """List models, or one model's versions."""
    with api_of(profile, stack, region) as api:
        if model is None:
            show(api.get("/models"), as_json, _draw_models)
            return
        document = {"model": api.get(f"/models/{model}"), **api.get(f"/models/{model}/versions")}
    show(document, as_json, _draw_model)


def history(
    model: ModelName,
    *,
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="TIME", help="What served then: 2026-05-03T14:15+02:00; without a zone, UTC."),
    ] = None,
    as_json: AsJson = False,
    profile: Profile = None,
    stack: Stack = None,
    region: Region = None,
) -> None:
    """Show a model's ledger, who did what, when and why; or what served at a time, trained on what, let in by whom."""
    with api_of(profile, stack, region) as api:
        if at is None:
            show(api.get(f"/models/{model}/ledger"), as_json, lambda document: ledger_table(document["entries"]))
        else:
            show(api.get(f"/models/{model}/history", {"at": at}), as_json, moment_report)


@uploads_app.command("refused")
def refused(as_json: AsJson = False, profile: Profile = None, stack: Stack = None, region: Region = None) -> None:
    """List uploads that no model could be found for, with the reasons."""
    with api_of(profile, stack, region) as api:
        show(api.get("/uploads/refused"), as_json, _draw_refused)


def _draw_models(document: dict[str, Any]) -> RenderableType | None:
    if not document["models"]:
        err.print(Text("no models yet; make one: millrace train MODEL FILE"))
        return None
    return models_table(document["models"])


def _draw_model(document: dict[str, Any]) -> RenderableType:
    return Group(models_table([document["model"]]), Text(), versions_table(document["versions"]))


def _draw_refused(document: dict[str, Any]) -> RenderableType | None:
    if not document["refused"]:
        err.print(Text("no upload was refused"))
        return None
    return ledger_table(document["refused"])
