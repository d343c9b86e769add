"""`millrace release start | show | watch | pause | resume | promote | abort`: release a version gradually."""

import tempfile
import webbrowser
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from millrace.quantities import format_share
from rich.console import Group, RenderableType
from rich.text import Text

from millrace_cli.api import ApiClient
from millrace_cli.commands.replay import replay
from millrace_cli.errors import INTERRUPTED, RefusedError
from millrace_cli.options import ModelName, Reason, StackSession, VersionNumber, uses_stack
from millrace_cli.output import format_timestamp, make_table, out, say
from millrace_cli.release_progress import ACTIVE, ReleaseProgress, draw_release, follow_release

app = typer.Typer(no_args_is_help=True, help="Release versions gradually, and return from them.")
app.command()(replay)

#: A release changes every few minutes: polls of other commands for one of this.
_POLLS = 5
ReleaseId = Annotated[
    str | None, typer.Argument(metavar="[RELEASE]", help="Id of a release (default: the active one, else the newest).")
]


@app.command()
@uses_stack
def start(
    session: StackSession,
    model: ModelName,
    version: VersionNumber,
    *,
    reason: Reason,
    strategy: Annotated[
        str | None,
        typer.Option(
            "--strategy",
            metavar="NAME",
            help="Release by this strategy: blue_green, canary, linear, shadow, ab_test or bandit "
            "(default: that of the spec, or canary).",
        ),
    ] = None,
    steps: Annotated[
        str | None, typer.Option("--steps", metavar="5,25,50", help="Shares of a canary in percent.")
    ] = None,
    bake: Annotated[str | None, typer.Option("--bake", metavar="1h", help="Least time of a stage.")] = None,
    min_requests: Annotated[
        int | None, typer.Option("--min-requests", metavar="N", min=1, help="Least requests of the candidate a stage.")
    ] = None,
    shadow_first: Annotated[
        str | None, typer.Option("--shadow-first", metavar="24h", help="Captured requests that are replayed first.")
    ] = None,
    reward: Annotated[
        str | None, typer.Option("--reward", metavar="CLASS", help="Outcome that ab_test and bandit reward.")
    ] = None,
    versions: Annotated[
        str | None, typer.Option("--versions", metavar="8,9", help="Further candidates of a bandit.")
    ] = None,
) -> None:
    """Start to release a version beside the champion."""
    body: dict[str, Any] = {"version": version, "reason": reason}
    if steps is not None:
        body["steps"] = [_read_step(step) for step in steps.split(",")]
    if versions is not None:
        body["versions"] = [_read_version(number) for number in versions.split(",")]
    named = {"strategy": strategy, "bake": bake, "min_requests": min_requests}
    named |= {"shadow_first": shadow_first, "reward": reward}
    body |= {name: value for name, value in named.items() if value is not None}
    with session.api() as api:
        session.show(api.post(f"/models/{model}/releases", body), _describe_result)


@app.command()
@uses_stack
def show(
    session: StackSession,
    model: ModelName,
    release: ReleaseId = None,
    *,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Save the HTML page of the release to this file.")
    ] = None,
    browser: Annotated[bool, typer.Option("--browser", help="Open the HTML page of the release.")] = False,
) -> None:
    """Show the releases of a model, and the stages and the evidence of one."""
    with session.api() as api:
        if report is None and not browser:
            path = f"/models/{model}/releases" + (f"/{release}" if release else "")
            session.show(api.get(path), _describe_releases if release is None else _draw)
            return
        found = _find_release(api, model, release)
        document = api.get(f"/models/{model}/releases/{found['release_id']}")
    if session.as_json:
        session.show(document, _draw)
    file = report or Path(tempfile.mkdtemp(prefix="millrace-")) / f"{document['release_id']}.html"
    _save_page(document, file)
    say(f"saved the page: {file}")
    if browser:
        webbrowser.open(file.resolve().as_uri())


def _draw(release: dict[str, Any]) -> RenderableType:
    return draw_release(release, datetime.now(UTC))


def _save_page(release: dict[str, Any], file: Path) -> None:
    from millrace.reports import render_release_page  # noqa: PLC0415  # templates load slowly

    page = render_release_page(release, datetime.now(UTC))
    try:
        file.write_text(page, encoding="utf-8")
    except OSError as error:
        raise RefusedError(f"{file} cannot be written: {error.strerror}") from error


@app.command("watch")
@uses_stack
def watch_release(session: StackSession, model: ModelName, release: ReleaseId = None) -> None:
    """Show a release and its evidence as they change, until it ends; Ctrl-C leaves the release alone.

    Exit code 2: it did not complete.
    """
    poll_seconds = _POLLS * session.target.poll_seconds
    with session.api() as api:
        first = _find_release(api, model, release)
        try:
            with ReleaseProgress(out, as_json=session.as_json) as progress:
                for one in follow_release(api, first, poll_seconds):
                    progress.show(one)
        except KeyboardInterrupt:
            say(f"release {first['release_id']} goes on; watch it again: millrace release watch {model}")
            raise typer.Exit(INTERRUPTED) from None
    if one["status"] != "completed":
        raise typer.Exit(RefusedError.exit_code)


@app.command()
@uses_stack
def pause(session: StackSession, model: ModelName, *, reason: Reason) -> None:
    """Pause the active release at its present share; its guards go on."""
    _change(session, model, "pause", reason)


@app.command()
@uses_stack
def resume(session: StackSession, model: ModelName, *, reason: Reason) -> None:
    """Resume a paused release."""
    _change(session, model, "resume", reason)


@app.command()
@uses_stack
def promote(session: StackSession, model: ModelName, *, reason: Reason) -> None:
    """Promote the candidate of the active release at once."""
    _change(session, model, "promote", reason)


@app.command()
@uses_stack
def abort(session: StackSession, model: ModelName, *, reason: Reason) -> None:
    """Abort the active release: the champion serves every request again."""
    _change(session, model, "abort", reason)


def _change(session: StackSession, model: str, action: str, reason: str) -> None:
    with session.api() as api:
        document = api.post(f"/models/{model}/releases/active/{action}", {"reason": reason})
        session.show(document, _describe_result)


def _find_release(api: ApiClient, model: str, release: str | None) -> dict[str, Any]:
    """Return a release by its id: by default the active one, else the newest."""
    if release is not None:
        return api.get(f"/models/{model}/releases/{release}")
    releases: list[dict[str, Any]] = api.get(f"/models/{model}/releases")["releases"]
    if not releases:
        way = f"choose a version to start one with: millrace models {model}"
        raise RefusedError(f"{model} has had no release", way)
    return releases[0]


def _read_version(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no number of a version: write --versions 8,9") from error


def _read_step(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no number of percent: write --steps 5,25,50") from error


def _describe_result(result: dict[str, Any]) -> Text:
    release, outcome = result["release"], result["outcome"]
    said = "was so already" if outcome == "already" else outcome
    share = format_share(release["weight"])
    served = f"version {release['candidate']} at {share}, the rest by version {release['baseline']}"
    served += f"; {release['decision']}" if outcome == "started" else ""
    name = f"{release['model']}: release {release['release_id']} "
    if release["status"] in ACTIVE:
        return Text.assemble(name, (said, "bold"), f"; {served}")
    # The decision of an abort begins with that word itself.
    ended = release["decision"].removeprefix(f"{release['status']}: ")
    stated = "" if said == release["status"] else f"; {release['status']}"
    return Text.assemble(name, (said, "bold"), f"{stated}: {ended}")


def _describe_releases(document: dict[str, Any]) -> RenderableType:
    releases = document["releases"]
    if not releases:
        return Text(f"{document['model']} has had no release")
    rows = [
        (
            one["release_id"],
            one["status"],
            f"{one['baseline']} -> {one['candidate']}",
            format_share(one["weight"]),
            format_timestamp(one["started_at"]),
            one["decision"],
        )
        for one in releases
    ]
    headers = ("release", "status", "versions", "share", "started", "last decision")
    parts: list[RenderableType] = [make_table(f"releases of {document['model']}", headers, rows)]
    if releases[0]["status"] in ACTIVE:
        parts.append(_draw(releases[0]))
    if pending := document.get("pending_candidate"):
        parts.append(Text(f"version {pending['version']} waits for the active release to end"))
    return Group(*parts)
