"""`millrace release replay`: replay captured requests through a version, and show how it would have decided."""

import tempfile
import time
import webbrowser
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from millrace_cli.api import ApiClient
from millrace_cli.commands.datasets import save_report
from millrace_cli.errors import CliError
from millrace_cli.options import ModelName, StackSession, uses_stack
from millrace_cli.output import (
    MISSING,
    err,
    facts_table,
    format_count,
    format_timestamp,
    format_value,
    make_table,
    out,
    say,
)

_TIMEOUT_SECONDS = 3_600.0
#: Without any sign of life the function did not start.
_SILENT_SECONDS = 1_200.0
FINISHED = frozenset({"succeeded", "void", "refused", "failed"})
_PERCENT = 100
_MAX_ROWS = 10
_NOT_REPLAYED = 1


@uses_stack
def replay(
    session: StackSession,
    model: ModelName,
    version: Annotated[
        int | None,
        typer.Argument(metavar="[VERSION]", help="Number of the version; without, list.", min=1),
    ] = None,
    *,
    since: Annotated[
        str, typer.Option("--since", metavar="7d", help="Replay requests since then: 24h, 7d, or a timestamp.")
    ] = "7d",
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for the report.")] = True,
    replay_id: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="Show this replay instead of starting one.")
    ] = None,
    report: Annotated[Path | None, typer.Option(metavar="FILE", help="Save the HTML report to this file.")] = None,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the HTML report.")] = True,
) -> None:
    """Replay captured requests through a version, beside the champion: nobody is exposed, and no release is needed.

    Exit code 1: the requests cannot be replayed, or the replay is void.
    """
    with session.api() as api:
        if version is None and replay_id is None:
            session.show(api.get(f"/models/{model}/replays"), _list_replays)
            return
        if replay_id is None:
            document = api.post(f"/models/{model}/replays", {"version": version, "since": since})
            if not wait:
                session.show(document, _describe_request)
                return
            replay_id = str(document["replay"]["replay_id"])
        document = follow_replay(api, model, replay_id, session.target.poll_seconds)
    one = document["replay"]
    session.show(document, describe_replay_report)
    if report is None and browser and out.is_terminal and not session.as_json:
        report = Path(tempfile.mkdtemp(prefix="millrace-")) / f"{model}-{one['candidate']}-replay.html"
    if report is not None:
        save_report(session.target, document["page"], report)
        say(f"saved the report: {report}")
        if browser and out.is_terminal:
            webbrowser.open(report.resolve().as_uri())
    if one["status"] != "succeeded":
        raise typer.Exit(_NOT_REPLAYED)


def follow_replay(
    api: ApiClient, model: str, replay_id: str, poll_seconds: float, timeout: float = _TIMEOUT_SECONDS
) -> dict[str, Any]:
    """Wait for a replay, showing its progress; return its document.

    Raises
    ------
    CliError
        When it does not finish in time.
    """
    begun = changed = time.monotonic()
    last: tuple[Any, Any] = ("", 0)
    with err.status("replaying") as status:
        while True:
            document = api.get(f"/models/{model}/replays/{replay_id}")
            now, shown = time.monotonic(), document["replay"]
            if shown["status"] in FINISHED:
                return document
            if (state := (shown["status"], shown["progress"])) != last:
                last, changed = state, now
                rows = format_count(shown["counts"]["replayed"], "row")
                status.update(f"replaying: {shown['progress']:.0%} of the time span, {rows}")
            if now - begun > timeout or now - changed > _SILENT_SECONDS:
                hint = f"it may go on; its state: millrace release replay {model} --id {replay_id}"
                raise CliError(f"replay {replay_id} of {model} did not finish: {shown['status']}", hint)
            time.sleep(poll_seconds)


def _list_replays(document: dict[str, Any]) -> RenderableType:
    found = document["replays"]
    if not found:
        return Text(f"{document['model']} has had no replay; versions to replay: millrace models {document['model']}")
    rows = [
        (
            one["replay_id"],
            one["status"],
            f"{one['candidate']} beside {one['baseline']}",
            format_timestamp(one["since"]),
            one["rows"],
            MISSING if one["agreement"] is None else _share(one["agreement"]),
        )
        for one in found
    ]
    headers = ("replay", "status", "versions", "requests since", "rows", "same decision")
    return make_table(f"replays of {document['model']}", headers, rows)


def _describe_request(document: dict[str, Any]) -> Text:
    one = document["replay"]
    versions = f"version {one['candidate']} beside version {one['baseline']}"
    said = f": {versions}, requests since {format_timestamp(one['since'])}"
    return Text.assemble(f"{one['model']}: replay {one['replay_id']} ", (one["status"], "bold"), said)


def describe_replay_report(document: dict[str, Any]) -> RenderableType:
    """Return the tables of a replay's report."""
    one = document["replay"]
    parts: list[RenderableType] = [_facts(one)]
    if one["reason"]:
        parts.append(Text(one["reason"], style="red" if one["status"] == "void" else "yellow"))
    if one["metrics"]:
        parts.append(_metrics(one))
    if one["changes"]:
        parts.append(_changes(one))
    if one["slices"]:
        parts.append(_slices(one))
    if one["counts"]["refused"]:
        refused = [(each["version"], each["rows"], each["reason"]) for each in one["counts"]["refused"]]
        parts.append(make_table("rows that a version cannot read", ("version", "rows", "reason"), refused))
    parts += [Text(f"note: {note}", style="dim") for note in one["notes"]]
    return Group(*parts)


def _changes(one: dict[str, Any]) -> RenderableType:
    replayed = one["counts"]["replayed"]
    rows = [
        (each["champion"], each["candidate"], each["rows"], _share(each["rows"] / replayed))
        for each in one["changes"][:_MAX_ROWS]
    ]
    return make_table("changed decisions", ("champion", "candidate", "rows", "share"), rows)


def _slices(one: dict[str, Any]) -> RenderableType:
    is_regression = one["task"] == "regression"
    write = format_value if is_regression else _share
    rows = [
        (each["name"], each["rows"], write(each["changed"]), format_value(each["difference"]))
        for each in one["slices"][:_MAX_ROWS]
    ]
    headers = ("slice", "rows", "mean change" if is_regression else "changed", "signed change")
    return make_table("where it changes most", headers, rows)


def _facts(one: dict[str, Any]) -> RenderableType:
    counts, test, deviations = one["counts"], one["self_test"], one["deviations"]
    decisions = one["agreement"]
    known = f"{one['labelled']:,} with ground truth"
    tested = f"{test['equal']:,} of {test['compared']:,} equal, {test['rounded']:,} rounded"
    rows = [
        ("replay", f"version {one['candidate']} beside {one['baseline']}, {one['status']}"),
        ("requests", f"{format_timestamp(one['since'])} to {format_timestamp(one['until'])}"),
        ("rows", f"{counts['replayed']:,} replayed of {counts['rows']:,} captured; {known}"),
        ("self-test", f"{tested}, {test['different']:,} different"),
    ]
    if decisions is not None:
        rows.append(("same decision", _share(decisions)))
    if deviations is not None:
        changes = [f"{name} {format_value(deviations[key])}" for name, key in _DEVIATIONS]
        rows.append(("change", ", ".join(changes)))
    shifts = [f"{each['output']} {each['psi']:.3f}" for each in one["shifts"][:_MAX_ROWS]]
    if shifts:
        rows.append(("PSI of outputs", ", ".join(shifts)))
    if one["not_finite"]:
        rows.append(("not a number", f"{one['not_finite']:,} rows of the candidate"))
    rows += [(f"estimate, version {each['version']}", _estimate(each)) for each in one["estimates"]]
    if (quality := one["quality"]) and quality["pairs"]:
        interval = f"{format_value(quality['low'])} to {format_value(quality['high'])}"
        rows.append(("paired gain", f"{quality['metric']} {format_value(quality['gain'])} ({interval} at all times)"))
    return facts_table(rows)


_DEVIATIONS = (("median", "median"), ("p90", "p90"), ("p99", "p99"), ("largest", "largest"))


def _estimate(one: dict[str, Any]) -> str:
    if one["value"] is None:
        return str(one["reason"])
    interval = f"{format_value(one['low'])} to {format_value(one['high'])}"
    return f"{one['metric']} {format_value(one['value'])} ({interval}), {format_value(one['holdout'])} on its holdout"


def _metrics(one: dict[str, Any]) -> RenderableType:
    rows = [
        (
            each["metric"],
            each["champion"],
            each["candidate"],
            each["gain"],
            MISSING if each["low"] is None else f"{format_value(each['low'])} to {format_value(each['high'])}",
        )
        for each in one["metrics"]
    ]
    title = f"quality on {one['metric_rows']:,} labelled rows (paired bootstrap, 95 %)"
    return make_table(title, ("metric", "champion", "candidate", "gain", "interval of the gain"), rows)


def _share(part: float) -> str:
    return f"{part * _PERCENT:.4g} %"
