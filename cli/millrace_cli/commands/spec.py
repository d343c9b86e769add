"""`millrace spec show MODEL`, `millrace spec apply MODEL FILE`: what was said about a model."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from millrace.errors import InvalidInputError
from millrace.spec import ModelSpec
from rich.text import Text

from millrace_cli.console import err, out
from millrace_cli.errors import RefusedError
from millrace_cli.options import AsJson, ModelName, Profile, Region, Stack, api_of
from millrace_cli.render import NOTHING, format_moment

app = typer.Typer(no_args_is_help=True, help="What was said about a model: columns, checks, split, gate.")

_MAX_FILE_BYTES = 1_000_000


@app.command("show")
def show(
    model: ModelName,
    *,
    full: Annotated[bool, typer.Option("--full", help="Show defaults too.")] = False,
    as_json: AsJson = False,
    profile: Profile = None,
    stack: Stack = None,
    region: Region = None,
) -> None:
    """Print a model's spec as YAML, which `millrace spec apply` takes back."""
    with api_of(profile, stack, region) as api:
        document = api.get(f"/models/{model}/spec")
    if as_json:
        out.print_json(json.dumps(document))
        return
    moment, who = format_moment(document["changed_at"]), document["changed_by"] or NOTHING
    err.print(Text(f"revision {document['revision']}, {moment}, by {who}", style="dim"), soft_wrap=True)
    out.print(Text(spec_as_yaml(document["spec"], full=full), end=""), soft_wrap=True)


@app.command("apply")
def apply(
    model: ModelName,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The spec, as YAML or JSON.")],
    *,
    reason: Annotated[str, typer.Option(help="Why, for the ledger.")] = "",
    as_json: AsJson = False,
    profile: Profile = None,
    stack: Stack = None,
    region: Region = None,
) -> None:
    """Replace a model's spec with a file's; a model that does not exist yet is created.

    Exit code 2: the file was refused; every bad field is named.
    """
    spec = read_spec(file)
    with api_of(profile, stack, region) as api:
        document = api.put(f"/models/{model}/spec", {"spec": spec, "reason": reason})
    if as_json:
        out.print_json(json.dumps(document))
        return
    for line in change_lines(model, document):
        out.print(Text(line), soft_wrap=True)


def read_spec(file: Path) -> dict[str, Any]:
    """Return a spec file's content, checked before it is sent.

    Raises
    ------
    RefusedError
        When there is no such file, it is no YAML, or it is no spec; names every bad field.
    """
    if not file.is_file():
        raise RefusedError(f"{file} does not exist")
    if file.stat().st_size > _MAX_FILE_BYTES:
        raise RefusedError(f"{file} is larger than any spec")
    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RefusedError(f"{file} is not YAML: {error}") from error
    if document is None:
        document = {}
    if not isinstance(document, dict):
        raise RefusedError(f"{file} is no spec: it should say something like `target: churned`")
    try:
        return ModelSpec.parse(document).model_dump(mode="json", exclude_unset=True)
    except InvalidInputError as error:
        lines = [f"{file} is not a valid spec", *(f"  {fault.field}: {fault.message}" for fault in error.fields)]
        raise RefusedError("\n".join(lines)) from error


def spec_as_yaml(document: dict[str, Any], *, full: bool) -> str:
    """Return a spec as YAML: what differs from the defaults, or everything."""
    shown = document if full else ModelSpec.parse(document).model_dump(mode="json", exclude_defaults=True)
    return yaml.safe_dump(shown, sort_keys=False, allow_unicode=True) if shown else "# everything has its default\n"


def change_lines(model: str, document: dict[str, Any]) -> list[str]:
    """Return what a changed spec means, in lines."""
    schedules = [f"  schedule of {change}" for change in document.get("schedules", [])]
    if not document["changes"]:
        return [f"{model}: nothing changed; the spec stays at revision {document['revision']}", *schedules]
    lines = [f"{model}: the spec is at revision {document['revision']}", *(f"  {line}" for line in document["changes"])]
    lines += schedules
    effect = document["schema"]
    if effect["kind"] == "compatible":
        lines.append("the next upload gets a new revision of the schema; earlier data stays usable:")
    elif effect["kind"] == "incompatible":
        lines.append("the next upload starts a new version of the schema, without the earlier data:")
    return [*lines, *(f"  {detail}" for detail in effect["details"])]
