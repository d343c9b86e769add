"""`millrace runs MODEL [RUN_ID]`: training runs, or one with everything about it."""

from typing import Annotated, Any

import typer
from rich.console import RenderableType
from rich.text import Text

from millrace_cli.console import err
from millrace_cli.options import AsJson, ModelName, Profile, Region, Stack, api_of, show
from millrace_cli.render import run_report, runs_table


def runs(
    model: ModelName,
    run_id: Annotated[str | None, typer.Argument(help="One run, with its trials and the gate's decision.")] = None,
    *,
    as_json: AsJson = False,
    profile: Profile = None,
    stack: Stack = None,
    region: Region = None,
) -> None:
    """List a model's training runs, newest first, or show one."""
    with api_of(profile, stack, region) as api:
        if run_id is None:
            document = api.get(f"/models/{model}/runs")
            if not document["runs"] and not as_json:
                err.print(Text(f"no runs yet; start one: millrace train {model} FILE"))
                return
            show(document, as_json, lambda listed: runs_table(listed["runs"]))
            return
        show(api.get(f"/models/{model}/runs/{run_id}"), as_json, lambda found: _draw_run(model, found))


def _draw_run(model: str, document: dict[str, Any]) -> RenderableType:
    return run_report(model, document["run"], document.get("trials") or (), document.get("evaluation"))
