"""`millrace promote | rollback | retire | approve | reject | gc`: manage the versions of a model."""

from collections.abc import Callable
from typing import Annotated, Any

import typer
from millrace.names import CHAMPION
from rich.text import Text

from millrace_cli.api import ApiClient
from millrace_cli.options import ModelName, Reason, RunId, StackSession, VersionNumber, uses_stack
from millrace_cli.output import format_count, format_timestamp, format_value

Expected = Annotated[
    int | None,
    typer.Option("--expected", metavar="N", min=1, help="Fail unless version N is the champion."),
]


@uses_stack
def promote(
    session: StackSession, model: ModelName, version: VersionNumber, *, reason: Reason, expected: Expected = None
) -> None:
    """Promote a version to champion, the version that serves."""
    body = {"version": version, "reason": reason, "expected_champion": expected}
    _post(session, f"/models/{model}/promote", body, _describe_promotion)


@uses_stack
def rollback(
    session: StackSession,
    model: ModelName,
    *,
    reason: Reason,
    to: Annotated[
        int | None,
        typer.Option("--to", metavar="N", min=1, help="Roll back to version N (default: the previous champion)."),
    ] = None,
) -> None:
    """Roll back to an earlier champion."""
    with session.api() as api:
        # With the champion named, a repeated request whose response was lost does not roll back twice.
        champion = (api.get(f"/models/{model}").get("aliases") or {}).get(CHAMPION)
        body = {"to": to, "reason": reason, "expected_champion": champion}
        session.show(api.post(f"/models/{model}/rollback", body), _describe_promotion)


@uses_stack
def retire(session: StackSession, model: ModelName, version: VersionNumber, *, reason: Reason) -> None:
    """Retire a version permanently."""
    _post(session, f"/models/{model}/retire", {"version": version, "reason": reason}, _describe_retirement)


@uses_stack
def approve(session: StackSession, model: ModelName, run: RunId, *, reason: Reason, expected: Expected = None) -> None:
    """Approve the version of a run that awaits approval."""
    body = {"decision": "approve", "reason": reason, "expected_champion": expected}
    _post(session, f"/models/{model}/runs/{run}/approval", body, _describe_decision)


@uses_stack
def reject(session: StackSession, model: ModelName, run: RunId, *, reason: Reason) -> None:
    """Reject the version of a run that awaits approval."""
    _post(session, f"/models/{model}/runs/{run}/approval", {"decision": "reject", "reason": reason}, _describe_decision)


@uses_stack
def gc(
    session: StackSession,
    model: ModelName,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the artifacts without deleting them.")] = False,
    reason: Annotated[
        str, typer.Option("--reason", metavar="TEXT", help="Record this reason in the ledger.")
    ] = "requested by hand",
) -> None:
    """Delete unreferenced artifacts of retired versions and old runs."""
    with session.api() as api:
        session.show(_collect(api, model, {"dry_run": dry_run, "reason": reason}), _describe_collection)


def _post(session: StackSession, path: str, body: dict[str, Any], describe: Callable[[dict[str, Any]], Text]) -> None:
    with session.api() as api:
        session.show(api.post(path, body), describe)


def _collect(api: ApiClient, model: str, body: dict[str, Any]) -> dict[str, Any]:
    """Repeat the request until nothing is left; one request deletes a limited number of objects."""
    total = api.post(f"/models/{model}/gc", body)
    while not total["is_complete"] and not body["dry_run"]:
        more = api.post(f"/models/{model}/gc", body)
        total = {
            **more,
            "versions": sorted({*total["versions"], *more["versions"]}),
            "runs": sorted({*total["runs"], *more["runs"]}),
            "objects": total["objects"] + more["objects"],
            "size": total["size"] + more["size"],
        }
    return total


def _describe_promotion(promotion: dict[str, Any]) -> Text:
    model, version = promotion["model"], promotion["to_version"]
    if promotion["outcome"] == "already":
        return Text(f"{model}: version {version} is the champion already; nothing changed")
    action = "rolled back to" if promotion["outcome"] == "rolled_back" else "promoted"
    before = format_value(promotion["from_version"])
    text = Text.assemble(f"{model}: {action} ", (f"version {version}", "bold green"), f"; before: {before}")
    for reason in promotion["passed_over"]:
        text.append(f"\n  skipped: {reason}")
    return text


def _describe_retirement(retirement: dict[str, Any]) -> Text:
    already = " already" if retirement["outcome"] == "already" else ""
    return Text(f"{retirement['model']}: version {retirement['version']} is retired{already}")


def _describe_decision(decision: dict[str, Any]) -> Text:
    by = f"by {decision['decided_by']}, {format_timestamp(decision['decided_at'])}"
    version = f"{decision['model']}: version {decision['version']}"
    if decision["outcome"] == "already":
        return Text(f"{version} already has this decision, {by}")
    return Text(f"{version} is {decision['outcome']}, {by}")


def _describe_collection(collection: dict[str, Any]) -> Text:
    action = "would delete" if collection["dry_run"] else "deleted"
    at_least = "" if collection["is_complete"] else "at least "
    size = f"{format_count(collection['objects'], 'object')}, {collection['size'] / 1e6:.1f} MB"
    text = Text(f"{collection['model']}: {action} {at_least}{size}")
    for kind in ("versions", "runs"):
        if collection[kind]:
            text.append(f"\n  {kind}: {', '.join(map(str, collection[kind]))}")
    return text
