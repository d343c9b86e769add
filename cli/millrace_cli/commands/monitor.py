"""`millrace monitor MODEL`: what is watched of a model, and what was found."""

import json
import tempfile
import time
import webbrowser
from pathlib import Path
from typing import Annotated, Any

import typer
from botocore.exceptions import ClientError
from rich.text import Text

from millrace_cli.api import ApiClient
from millrace_cli.console import err, out
from millrace_cli.errors import CliError
from millrace_cli.monitor_render import findings_table, incident_lines, verdicts_table
from millrace_cli.options import AsJson, ModelName, Profile, Region, Stack, target_of
from millrace_cli.target import Target

_LOOK_TIMEOUT_SECONDS = 900.0


def monitor(
    model: ModelName,
    *,
    now: Annotated[bool, typer.Option("--now", help="Look at once, instead of when the schedule does.")] = False,
    report: Annotated[
        Path | None, typer.Option("--report", metavar="FILE", help="Where to save the report's page.")
    ] = None,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the report's page.")] = True,
    as_json: AsJson = False,
    profile: Profile = None,
    stack: Stack = None,
    region: Region = None,
) -> None:
    """Show what is watched of a model in production and what was found, and open the report.

    The page is opened from a terminal only, or where it was saved with `--report`.

    Exit code 1: a look that was asked for failed.
    """
    where = target_of(profile, stack, region)
    with ApiClient.for_target(where) as api:
        if now:
            with err.status("looking"):
                look(api, model, where.poll_seconds)
        document = api.get(f"/models/{model}/monitoring")
    if as_json:
        out.print_json(json.dumps(document))
    else:
        show(model, document["report"])
    if report is None and browser and out.is_terminal and not as_json:
        report = Path(tempfile.mkdtemp(prefix="millrace-")) / f"{model}.html"
    if report is not None and document["report"] is not None:
        save_page(where, document["page"], report)
        err.print(Text(f"the report: {report}"), soft_wrap=True)
        if browser:
            webbrowser.open(report.resolve().as_uri())


def look(api: ApiClient, model: str, poll_seconds: float, timeout: float = _LOOK_TIMEOUT_SECONDS) -> None:
    """Look at a model at once, and wait until that is done.

    Raises
    ------
    CliError
        When it failed, or takes too long.
    """
    run = api.post(f"/models/{model}/monitoring", {})["run"]
    path, deadline = f"/models/{model}/monitoring/{run}", time.monotonic() + timeout
    while (status := api.get(path)["status"]) == "running":
        if time.monotonic() > deadline:
            raise CliError(f"looking at {model} takes longer than {timeout:.0f} s", "see: millrace local logs monitor")
        time.sleep(poll_seconds)
    if status != "succeeded":
        raise CliError(
            f"looking at {model} failed, or an alert could not be delivered", "see: millrace local logs monitor"
        )


def show(model: str, report: dict[str, Any] | None) -> None:
    """Print a report's verdicts, what is out of order, and the incidents."""
    if report is None:
        err.print(
            Text(
                f"nothing was judged of {model} yet: it takes traffic; to look at once: millrace monitor {model} --now"
            )
        )
        return
    out.print(verdicts_table(report))
    if found := findings_table(report):
        out.print(found)
    for line in incident_lines(report):
        out.print(Text(line), soft_wrap=True)


def save_page(where: Target, key: str, path: Path) -> None:
    """Write the report's page to a file.

    Raises
    ------
    CliError
        When it cannot be read, or written.
    """
    try:
        body = where.client("s3").get_object(Bucket=where.output("DataBucketName"), Key=key)["Body"].read()
    except ClientError as error:
        raise CliError(f"the report's page cannot be read: {error}", "the caller needs s3:GetObject on it") from error
    try:
        path.write_bytes(body)
    except OSError as error:
        raise CliError(f"{path} cannot be written: {error.strerror}") from error
