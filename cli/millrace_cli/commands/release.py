"""`millrace release start | show | pause | resume | promote | abort`: release a version gradually."""

import math
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from millrace_cli.options import ModelName, Reason, StackSession, VersionNumber, uses_stack
from millrace_cli.output import facts_table, format_timestamp, format_value, make_table

app = typer.Typer(no_args_is_help=True, help="Release versions gradually, and return from them.")

_PERCENT = 100
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
            help="Release by this strategy: canary or linear (default: that of the spec, or canary).",
        ),
    ] = None,
    steps: Annotated[
        str | None, typer.Option("--steps", metavar="5,25,50", help="Shares of a canary in percent.")
    ] = None,
    bake: Annotated[str | None, typer.Option("--bake", metavar="1h", help="Least time of a stage.")] = None,
    min_requests: Annotated[
        int | None, typer.Option("--min-requests", metavar="N", min=1, help="Least requests of the candidate a stage.")
    ] = None,
) -> None:
    """Start to release a version beside the champion."""
    body: dict[str, Any] = {"version": version, "reason": reason}
    if steps is not None:
        body["steps"] = [_read_step(step) for step in steps.split(",")]
    named = {"strategy": strategy, "bake": bake, "min_requests": min_requests}
    body |= {name: value for name, value in named.items() if value is not None}
    with session.api() as api:
        session.show(api.post(f"/models/{model}/releases", body), _describe_result)


@app.command()
@uses_stack
def show(session: StackSession, model: ModelName, release: ReleaseId = None) -> None:
    """Show the releases of a model, and the evidence of one."""
    with session.api() as api:
        if release is not None:
            session.show(api.get(f"/models/{model}/releases/{release}"), _describe_release)
        else:
            session.show(api.get(f"/models/{model}/releases"), _describe_releases)


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


def _read_step(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no number of percent: write --steps 5,25,50") from error


def _share(weight: float) -> str:
    return f"{weight * _PERCENT:.4g} %"


def _describe_result(result: dict[str, Any]) -> Text:
    release, outcome = result["release"], result["outcome"]
    said = "was so already" if outcome == "already" else outcome
    served = f"version {release['candidate']} at {_share(release['weight'])}, the rest by version {release['baseline']}"
    ended = f"{release['status']}: {release['decision']}"
    is_active = release["status"] in ("running", "paused")
    name = f"{release['model']}: release {release['release_id']} "
    return Text.assemble(name, (said, "bold"), f"; {served if is_active else ended}")


def _describe_releases(document: dict[str, Any]) -> RenderableType:
    releases = document["releases"]
    if not releases:
        return Text(f"{document['model']} has had no release")
    rows = [
        (
            one["release_id"],
            one["status"],
            f"{one['baseline']} -> {one['candidate']}",
            _share(one["weight"]),
            format_timestamp(one["started_at"]),
            one["decision"],
        )
        for one in releases
    ]
    headers = ("release", "status", "versions", "share", "started", "last decision")
    parts: list[RenderableType] = [make_table(f"releases of {document['model']}", headers, rows)]
    if releases[0]["status"] in ("running", "paused"):
        parts.append(_describe_release(releases[0]))
    if pending := document.get("pending_candidate"):
        parts.append(Text(f"version {pending['version']} waits for the active release to end"))
    return Group(*parts)


def _describe_release(release: dict[str, Any]) -> RenderableType:
    steps = ", ".join(_share(step) for step in release["steps"])
    requests = release["stage_requests"]
    facts = facts_table(
        [
            ("release", release["release_id"]),
            ("status", release["status"]),
            ("versions", f"{release['candidate']} beside {release['baseline']}"),
            ("stage", f"{release['stage'] + 1} of {len(release['steps'])} ({steps}), at {_share(release['weight'])}"),
            ("stage since", format_timestamp(release["stage_since"])),
            ("requests evaluated", f"{requests['candidate']} of the candidate, {requests['champion']} of the champion"),
            ("slow", f"over {format_value(release['slow_over_ms'])} ms"),
            ("last decision", release["decision"]),
        ]
    )
    limit = math.log(max(1, len(release["guards"])) / release["alpha"])
    rows = [
        (
            guard["guard"],
            f"{guard['candidate_bad']} of {guard['candidate_requests']}",
            f"{guard['champion_bad']} of {guard['champion_requests']}",
            f"{math.exp(min(guard['log_e'], 50)):.3g}",
            f"{math.exp(limit):.3g}",
        )
        for guard in release["guards"]
    ]
    headers = ("guard", "candidate", "champion", "e-value", "rolls back at")
    return Group(facts, make_table("guards", headers, rows))
