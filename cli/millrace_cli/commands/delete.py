"""`millrace delete MODEL`: a model stops serving, its schedules go, its story and its data stay."""

import sys
from typing import Annotated, Any

import typer
from rich.text import Text

from millrace_cli.api import ApiClient
from millrace_cli.console import err
from millrace_cli.errors import CliError
from millrace_cli.options import AsJson, ModelName, Profile, Reason, Region, Stack, api_of, show
from millrace_cli.render import format_moment, format_value

_MEANS = """\
  - it stops serving within seconds, and its aliases are gone
  - its retraining and monitoring schedules are removed; a run that goes on is stopped, and what waits starts nothing
  - its versions are retired: `millrace gc {model}` deletes their artifacts once the retention is over
  - uploads, datasets, captured predictions and feedback stay in the buckets, under their lifecycle rules
  - its ledger stays, and the numbers of its versions are never used again"""


def delete(
    model: ModelName,
    *,
    reason: Reason,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJson = False,
    profile: Profile = None,
    stack: Stack = None,
    region: Region = None,
) -> None:
    """Delete a model: it stops serving, and nothing of it begins any more.

    Asks to type its name first. What was half done is finished by the same command again.
    """
    with api_of(profile, stack, region) as api:
        if not yes:
            _insist_on_the_name(api, model)
        show(api.delete(f"/models/{model}", {"reason": reason}), as_json, _draw_deletion)


def _insist_on_the_name(api: ApiClient, model: str) -> None:
    """Say what deleting means, and let nobody go on who does not type the name.

    Raises
    ------
    CliError
        When nobody is there to be asked, or something else was typed.
    """
    state = api.get(f"/models/{model}")
    champion = (state.get("aliases") or {}).get("champion")
    serves = f"version {champion} of {state['latest_version']} serves" if champion else "nothing of it serves"
    err.print(Text(f"{model}: {serves}. When it is deleted,"))
    err.print(Text(_MEANS.format(model=model)), soft_wrap=True)
    if not _somebody_is_there():
        raise CliError("nobody is there to type the name", "to delete it without being asked: --yes")
    if typer.prompt("Type its name to delete it", err=True) != model:
        raise CliError(f"{model} was not deleted: that is not its name")


def _somebody_is_there() -> bool:
    return sys.stdin.isatty()


def _draw_deletion(deletion: dict[str, Any]) -> Text:
    model, moment = deletion["model"], format_moment(deletion["deleted_at"])
    if deletion["outcome"] == "already":
        text = Text(f"{model}: deleted already, at {moment}")
    else:
        text = Text(f"{model}: deleted; version {format_value(deletion['from_version'])} served until now")
    if deletion["stopped_run"]:
        text.append(f"\n  stopped: run {deletion['stopped_run']}")
    if deletion["waiting"]:
        text.append(f"\n  start nothing: {deletion['waiting']} cause(s) that waited for it")
    for schedule in deletion["schedules"]:
        text.append(f"\n  schedule {schedule}")
    if deletion["retired"]:
        text.append(f"\n  retired: {', '.join(map(str, deletion['retired']))}")
    return text.append(f"\n  what it was: millrace why {model}")
