"""`millrace promote | rollback | retire | gc | approve | reject`: what people decide about versions."""

from typing import Annotated, Any

import typer
from millrace.names import CHAMPION
from rich.text import Text

from millrace_cli.api import ApiClient
from millrace_cli.options import (
    AsJson,
    ModelName,
    Profile,
    Reason,
    Region,
    RunId,
    Stack,
    VersionNumber,
    api_of,
    show,
)
from millrace_cli.render import format_moment, format_value

Expected = Annotated[
    int | None,
    typer.Option("--expected", metavar="N", min=1, help="Do it only while version N is the champion."),
]


def promote(
    model: ModelName,
    version: VersionNumber,
    *,
    reason: Reason,
    expected: Expected = None,
    as_json: AsJson = False,
    profile: Profile = None,
    stack: Stack = None,
    region: Region = None,
) -> None:
    """Make a version the champion: the one that serves."""
    body = {"version": version, "reason": reason, "expected_champion": expected}
    with api_of(profile, stack, region) as api:
        show(api.post(f"/models/{model}/promote", body), as_json, _draw_change)


def rollback(
    model: ModelName,
    *,
    reason: Reason,
    to: Annotated[int | None, typer.Option("--to", metavar="N", min=1, help="Default: the champion before.")] = None,
    as_json: AsJson = False,
    profile: Profile = None,
    stack: Stack = None,
    region: Region = None,
) -> None:
    """Make an earlier champion the champion again."""
    with api_of(profile, stack, region) as api:
        # Named, so that a request whose answer was lost can be sent again without going back twice.
        body = {"to": to, "reason": reason, "expected_champion": _champion(api, model)}
        show(api.post(f"/models/{model}/rollback", body), as_json, _draw_change)


def retire(
    model: ModelName,
    version: VersionNumber,
    *,
    reason: Reason,
    as_json: AsJson = False,
    profile: Profile = None,
    stack: Stack = None,
    region: Region = None,
) -> None:
    """Retire a version for good: it never serves again."""
    with api_of(profile, stack, region) as api:
        show(api.post(f"/models/{model}/retire", {"version": version, "reason": reason}), as_json, _draw_retirement)


def approve(
    model: ModelName,
    run: RunId,
    *,
    reason: Reason,
    expected: Expected = None,
    as_json: AsJson = False,
    profile: Profile = None,
    stack: Stack = None,
    region: Region = None,
) -> None:
    """Let the version that a run waits with serve."""
    body = {"decision": "approve", "reason": reason, "expected_champion": expected}
    with api_of(profile, stack, region) as api:
        show(api.post(f"/models/{model}/runs/{run}/approval", body), as_json, _draw_answer)


def reject(
    model: ModelName,
    run: RunId,
    *,
    reason: Reason,
    as_json: AsJson = False,
    profile: Profile = None,
    stack: Stack = None,
    region: Region = None,
) -> None:
    """Do not let the version that a run waits with serve."""
    body = {"decision": "reject", "reason": reason}
    with api_of(profile, stack, region) as api:
        show(api.post(f"/models/{model}/runs/{run}/approval", body), as_json, _draw_answer)


def gc(
    model: ModelName,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would be deleted.")] = False,
    reason: Annotated[str, typer.Option("--reason", help="Why, for the ledger.")] = "asked for by hand",
    as_json: AsJson = False,
    profile: Profile = None,
    stack: Stack = None,
    region: Region = None,
) -> None:
    """Delete artifacts that nothing refers to: of versions retired long ago, of trials of old runs."""
    with api_of(profile, stack, region) as api:
        show(_collect(api, model, {"dry_run": dry_run, "reason": reason}), as_json, _draw_collection)


def _collect(api: ApiClient, model: str, body: dict[str, Any]) -> dict[str, Any]:
    """Ask until nothing is left to collect; one call deletes so many objects and no more."""
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


def _champion(api: ApiClient, model: str) -> int | None:
    return (api.get(f"/models/{model}").get("aliases") or {}).get(CHAMPION)


def _draw_change(change: dict[str, Any]) -> Text:
    model, version = change["model"], change["to_version"]
    if change["outcome"] == "already":
        return Text(f"{model}: version {version} is the champion already; nothing changed")
    what = "rolled back to" if change["outcome"] == "rolled_back" else "promoted"
    text = Text.assemble(
        f"{model}: {what} ", (f"version {version}", "bold green"), f"; before: {format_value(change['from_version'])}"
    )
    for reason in change["passed_over"]:
        text.append(f"\n  passed over: {reason}")
    return text


def _draw_retirement(retirement: dict[str, Any]) -> Text:
    already = " already" if retirement["outcome"] == "already" else ""
    return Text(f"{retirement['model']}: version {retirement['version']} is retired{already}")


def _draw_collection(collection: dict[str, Any]) -> Text:
    did = "would delete" if collection["dry_run"] else "deleted"
    at_least = "" if collection["is_complete"] else "at least "
    text = Text(
        f"{collection['model']}: {did} {at_least}{collection['objects']} object(s), {collection['size'] / 1e6:.1f} MB"
    )
    for what in ("versions", "runs"):
        if collection[what]:
            text.append(f"\n  {what}: {', '.join(map(str, collection[what]))}")
    return text


def _draw_answer(answer: dict[str, Any]) -> Text:
    who = f"{answer['decided_by']}, {format_moment(answer['decided_at'])}"
    if answer["outcome"] == "already":
        return Text(f"{answer['model']}: version {answer['version']} was answered so already, by {who}")
    return Text(f"{answer['model']}: version {answer['version']} is {answer['outcome']}, by {who}")
