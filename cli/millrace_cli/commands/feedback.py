"""`millrace feedback MODEL [FILE]`: what became true of predictions, and of how many it is known."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from rich.console import Group, RenderableType
from rich.progress import Progress
from rich.text import Text

from millrace_cli.api import ApiClient
from millrace_cli.console import err, out
from millrace_cli.errors import ApiError, CliError
from millrace_cli.options import AsJson, ModelName, Profile, Region, Stack, target_of
from millrace_cli.render import make_table
from millrace_cli.reports import Report, read_reports

REPORTS_A_REQUEST = 1_000
#: Wrong lines that are shown; the rest are counted.
_SHOWN = 20

_ROW = re.compile(r"^row (\d+): (.+)\Z", re.DOTALL)


@dataclass(slots=True)
class Sending:
    """What became of a file's reports."""

    received: int = 0
    wrong: list[tuple[int, str, str]] = field(default_factory=list)

    @property
    def wrong_lines(self) -> int:
        """How many lines have something wrong."""
        return len({line for line, _, _ in self.wrong})


def feedback(
    model: ModelName,
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="CSV or JSON lines; without it, coverage is shown.")
    ] = None,
    *,
    hours: Annotated[int, typer.Option("--hours", min=1, help="How far coverage looks back.")] = 168,
    as_json: AsJson = False,
    profile: Profile = None,
    stack: Stack = None,
    region: Region = None,
) -> None:
    """Send what became true of predictions; or show for how many of them it is known."""
    with ApiClient.for_target(target_of(profile, stack, region)) as api:
        if file is None:
            document = api.get(f"/models/{model}/feedback", {"hours": str(hours)})
            if as_json:
                out.print_json(json.dumps(document))
            else:
                out.print(coverage_report(document))
            return
        row_name, outcome_name = model_names(api, model)
        found = read_reports(file, row_name, outcome_name)
        with Progress(console=err, transient=True) as progress:
            task = progress.add_task(f"sending {file.name}", total=len(found.reports))
            sending = send(api, model, found.reports, lambda done: progress.update(task, completed=done))
    if as_json:
        wrong = [{"line": line, "field": name, "message": message} for line, name, message in sending.wrong]
        out.print_json(json.dumps({"received": sending.received, "without_outcome": found.unknown, "wrong": wrong}))
    else:
        _print_receipt(model, sending, found.unknown, found.ignored)
    if sending.wrong:
        raise CliError(f"{sending.wrong_lines} lines of {file} are wrong and were not kept", "mend them; send it again")


def send(
    api: ApiClient, model: str, reports: Sequence[Report], show: Any = lambda _: None, size: int = REPORTS_A_REQUEST
) -> Sending:
    """Send reports in several requests; wrong ones are left out, once the API has named them."""
    sending = Sending()
    for start in range(0, len(reports), size):
        part = list(reports[start : start + size])
        while part:
            try:
                answer = api.post(f"/models/{model}/feedback", {"feedback": [report.body for report in part]})
            except ApiError as error:
                part = _without_wrong(part, error, sending)
                continue
            sending.received += int(answer["received"])
            break
        show(start + size)
    return sending


def _without_wrong(part: list[Report], error: ApiError, sending: Sending) -> list[Report]:
    """Return the reports that nothing is wrong with; raises the error when it names none."""
    named = [(int(match[1]), match[2], message) for name, message in error.fields if (match := _ROW.match(name))]
    if error.status != httpx.codes.BAD_REQUEST or not named:
        raise error
    sending.wrong += [(part[row].line, name, message) for row, name, message in named]
    rows = {row for row, _, _ in named}
    return [report for row, report in enumerate(part) if row not in rows]


def model_names(api: ApiClient, model: str) -> tuple[str | None, str | None]:
    """Return what a model calls its id column and its target."""
    columns = api.get(f"/models/{model}/schema").get("columns") or []
    by_role = {column.get("role", "feature"): column["name"] for column in columns}
    return by_role.get("identifier"), by_role.get("target")


def coverage_report(document: dict[str, Any]) -> RenderableType:
    """Return how many predictions have an outcome, by day and by version, and what was left over."""
    if not document["predictions"]:
        return Text(f"no predictions of {document['model']} were captured since {document['start'][:16]} UTC")
    told = document["feedback"]
    about = "about " if document["captures"]["kept_share"] < 1 else ""
    summary = (
        f"{about}{document['labelled']} of {document['predictions']} predictions have an outcome"
        f" ({document['coverage']:.1%}); of {told['records']} reports {told['superseded']} were replaced by later ones"
        f" and {told['unmatched']} met no prediction of this time"
    )
    headers = ("predictions", "labelled", "coverage")
    days = [(part["day"], *(_counts(part))) for part in document["days"]]
    versions = [(str(part["version"]), *(_counts(part))) for part in document["versions"]]
    return Group(
        Text(summary, style="bold"),
        make_table("", ("day", *headers), days),
        make_table("", ("version", *headers), versions),
    )


def _counts(part: dict[str, Any]) -> tuple[int, int, str]:
    return part["predictions"], part["labelled"], f"{part['coverage']:.1%}"


def _print_receipt(model: str, sending: Sending, unknown: int, ignored: Sequence[str]) -> None:
    out.print(
        Text(f"{sending.received} reports received; see how many predictions they met: millrace feedback {model}")
    )
    if unknown:
        err.print(Text(f"{unknown} lines have no outcome yet and were left out", style="dim"))
    if ignored:
        err.print(Text(f"columns that say nothing of outcomes: {', '.join(ignored)}", style="dim"))
    if sending.wrong:
        out.print(make_table("Wrong", ("line", "field", "why"), sending.wrong[:_SHOWN]))
        if len(sending.wrong) > _SHOWN:
            out.print(Text(f"and {len(sending.wrong) - _SHOWN} more"))
