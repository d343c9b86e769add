"""`millrace runs MODEL [RUN_ID]`: training runs, or one with everything about it."""

import json
from typing import Annotated

import typer
from rich.text import Text

from millrace_cli.api import ApiClient
from millrace_cli.console import err, out
from millrace_cli.options import AsJson, ModelName, Profile, Region, Stack, target_of
from millrace_cli.render import run_report, runs_table
from millrace_cli.watch import read_run


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
    with ApiClient.for_target(target_of(profile, stack, region)) as api:
        if run_id is None:
            document = api.get(f"/models/{model}/runs")
            if as_json:
                out.print_json(json.dumps(document))
            elif document["runs"]:
                out.print(runs_table(document["runs"]))
            else:
                err.print(Text(f"no runs yet; start one: millrace train {model} FILE"))
            return
        if as_json:
            out.print_json(json.dumps(api.get(f"/models/{model}/runs/{run_id}")))
            return
        snapshot = read_run(api, model, run_id)
        assert snapshot.run is not None  # noqa: S101  # read_run has just read it
        out.print(run_report(model, snapshot.run, snapshot.trials, snapshot.evaluation))
