"""`millrace monitor`: show a model's monitoring verdicts, findings and incidents, and open the report."""

import json
import tempfile
import time
import webbrowser
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from millrace_cli.api import ApiClient
from millrace_cli.commands.datasets import save_report
from millrace_cli.errors import CliError
from millrace_cli.options import ModelName, StackSession, uses_stack
from millrace_cli.output import Document, err, format_timestamp, format_value, make_table, out, say

_TIMEOUT_SECONDS = 900.0
_MAX_FINDINGS, _MAX_JOBS = 15, 10
_STATUS_STYLES = {"alarm": "red", "breach": "yellow", "ok": "green", "unknown": "dim"}


@uses_stack
def monitor(
    session: StackSession,
    model: ModelName,
    *,
    now: Annotated[bool, typer.Option("--now", help="Start a monitoring run and wait for it.")] = False,
    report: Annotated[Path | None, typer.Option(metavar="FILE", help="Save the HTML report to this file.")] = None,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the HTML report.")] = True,
) -> None:
    """Show the monitoring verdicts of a model and open its report.

    The report opens from a terminal, or where `--report` saves it.

    Exit code 1: the monitoring run of `--now` failed.
    """
    target = session.target
    with session.api() as api:
        if now:
            with err.status("monitoring"):
                run_monitoring(api, model, target.poll_seconds)
        document = api.get(f"/models/{model}/monitoring")
    if session.as_json:
        out.print_json(json.dumps(document))
    else:
        show_report(model, document["report"])
        show_jobs(document.get("batch"))
    if report is None and browser and out.is_terminal and not session.as_json:
        report = Path(tempfile.mkdtemp(prefix="millrace-")) / f"{model}.html"
    if report is not None and document["report"] is not None:
        save_report(target, document["page"], report)
        say(f"saved the report: {report}")
        if browser:
            webbrowser.open(report.resolve().as_uri())


def run_monitoring(api: ApiClient, model: str, poll_seconds: float, timeout: float = _TIMEOUT_SECONDS) -> None:
    """Start a monitoring run and wait until it has finished.

    Raises
    ------
    CliError
        When the run fails or exceeds the timeout.
    """
    run = api.post(f"/models/{model}/monitoring", {})["run"]
    path, deadline = f"/models/{model}/monitoring/{run}", time.monotonic() + timeout
    while (status := api.get(path)["status"]) == "running":
        if time.monotonic() > deadline:
            raise CliError(
                f"the monitoring run of {model} exceeds {timeout:.0f} seconds", "check: millrace local logs monitor"
            )
        time.sleep(poll_seconds)
    if status != "succeeded":
        raise CliError(
            f"the monitoring run of {model} failed, or an alert was not delivered", "check: millrace local logs monitor"
        )


def show_report(model: str, report: dict[str, Any] | None) -> None:
    """Print a report's verdicts, breaches and incidents."""
    if report is None:
        say(f"{model} has no monitoring report: it needs traffic; to monitor now: millrace monitor {model} --now")
        return
    out.print(verdicts_table(report))
    if headline := report.get("headline"):  # a stack of an earlier release has none
        statuses = [status for status in _STATUS_STYLES if status in {one["status"] for one in report["verdicts"]}]
        out.print(Text(str(headline), style=_STATUS_STYLES[statuses[0]] if statuses else ""), soft_wrap=True)
    if report.get("too_few_rows"):
        out.print(Text(str(report["too_few_rows"]), style="yellow"), soft_wrap=True)
    if breaches := breaches_table(report):
        out.print(Text(), breaches, sep="\n")
    if report["incidents"]:
        out.print()
    for line in incident_lines(report):
        out.print(Text(line), soft_wrap=True)


def show_jobs(report: dict[str, Any] | None) -> None:
    """Print the captured batch jobs and their incidents; nothing where none was captured."""
    if not report:
        return
    rows = [
        (
            job["job_id"],
            format_timestamp(job["end"]),
            job["version"],
            f"{job['rows']:,}",
            ", ".join(dict.fromkeys(_subject(key) for key in job["breaches"])) or "none",
        )
        for job in reversed(report["jobs"][-_MAX_JOBS:])
    ]
    out.print(
        Text(), make_table("Captured batch jobs", ("job", "ended", "version", "rows", "breaches"), rows), sep="\n"
    )
    for finding in report["findings"]:
        if finding["status"] == "breach":
            out.print(Text(str(finding["message"])), soft_wrap=True)
    for incident in report["incidents"]:
        state = f"resolved {format_timestamp(incident['resolved_at'])}" if incident["resolved_at"] else "open"
        subjects = ", ".join(dict.fromkeys(incident["subjects"]))
        line = f"{incident['event']}: {state}, since {format_timestamp(incident['since'])} ({subjects})"
        out.print(Text(line), soft_wrap=True)


def verdicts_table(report: Document) -> Table:
    """Return a table of the verdicts: status, breaches, threshold, minimum of rows."""
    rows = [
        (
            verdict["verdict"].replace("_", " "),
            Text(str(verdict["status"]), style=_STATUS_STYLES.get(str(verdict["status"]), "")),
            f"{verdict['breaches']} of {verdict['judged']}" if verdict["judged"] else "",
            format_value(verdict["threshold"]),
            format_value(verdict["min_rows"]),
        )
        for verdict in report["verdicts"]
    ]
    title = f"{report['model']} version {report['version']}, monitored {format_timestamp(report['made_at'])}"
    return make_table(title, ("verdict", "status", "breaches", "threshold", "min rows"), rows)


def breaches_table(report: Document) -> Table | None:
    """Return a table of the findings beyond their threshold; None when there are none."""
    breaches = [finding for finding in report["findings"] if finding["status"] == "breach"]
    if not breaches:
        return None
    rows = [
        (
            finding["verdict"].replace("_", " "),
            finding["subject"],
            format_value(finding["value"]),
            format_value(finding["threshold"]),
            finding["rows"],
            finding["message"],
        )
        for finding in breaches[:_MAX_FINDINGS]
    ]
    more = len(breaches) - _MAX_FINDINGS
    title = "Breaches" + (f" (and {more} more in the report)" if more > 0 else "")
    return make_table(title, ("verdict", "subject", "value", "threshold", "rows", "finding"), rows)


def incident_lines(report: Document) -> Iterator[str]:
    """Yield a line for each incident, open ones first, followed by its actions."""
    for incident in sorted(report["incidents"], key=lambda incident: incident["resolved_at"] is not None):
        since = format_timestamp(incident["since"])
        if incident["resolved_at"]:
            yield f"{incident['event']}: resolved {format_timestamp(incident['resolved_at'])}, open since {since}"
        else:
            names = dict.fromkeys(_subject(key) for key in incident["troubles"])
            subjects = ", ".join(list(names)[:_MAX_FINDINGS])
            yield f"{incident['event']}: open since {since} ({subjects}); millrace why {report['model']}"
        for action in incident.get("actions", ()):
            yield f"  {action}"


def _subject(key: str) -> str:
    verdict, _, subject = key.partition(":")
    if subject in ("", "quality"):
        return verdict.replace("_", " ")
    # The metric alone would not say if it was measured or estimated.
    is_metric = verdict in ("live_quality", "estimated_quality")
    return f"{verdict}: {subject}".replace("_", " ") if is_metric else subject
