"""`millrace models [MODEL]`, `millrace history MODEL`, `millrace uploads refused`: what the registry knows."""

import json
from typing import Annotated

import typer
from rich.text import Text

from millrace_cli.api import ApiClient
from millrace_cli.console import err, out
from millrace_cli.options import AsJson, ModelName, Profile, Region, Stack, target_of
from millrace_cli.render import ledger_table, models_table, versions_table

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
    with ApiClient.for_target(target_of(profile, stack, region)) as api:
        if model is None:
            document = api.get("/models")
        else:
            document = {"model": api.get(f"/models/{model}"), **api.get(f"/models/{model}/versions")}
    if as_json:
        out.print_json(json.dumps(document))
    elif model is None:
        if not document["models"]:
            err.print(Text("no models yet; make one: millrace train MODEL FILE"))
            return
        out.print(models_table(document["models"]))
    else:
        out.print(models_table([document["model"]]))
        out.print()
        out.print(versions_table(document["versions"]))


def history(
    model: ModelName,
    *,
    as_json: AsJson = False,
    profile: Profile = None,
    stack: Stack = None,
    region: Region = None,
) -> None:
    """Show a model's ledger: who did what, when and why."""
    with ApiClient.for_target(target_of(profile, stack, region)) as api:
        document = api.get(f"/models/{model}/ledger")
    if as_json:
        out.print_json(json.dumps(document))
    else:
        out.print(ledger_table(document["entries"]))


@uploads_app.command("refused")
def refused(as_json: AsJson = False, profile: Profile = None, stack: Stack = None, region: Region = None) -> None:
    """List uploads that no model could be found for, with the reasons."""
    with ApiClient.for_target(target_of(profile, stack, region)) as api:
        document = api.get("/uploads/refused")
    if as_json:
        out.print_json(json.dumps(document))
    elif not document["refused"]:
        err.print(Text("no upload was refused"))
    else:
        out.print(ledger_table(document["refused"]))
