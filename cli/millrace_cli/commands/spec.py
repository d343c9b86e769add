"""`millrace spec`: show, apply and change a model's specification."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from millrace.spec import ModelSpec
from rich.text import Text

from millrace_cli.applied_spec import change_spec, validate_spec
from millrace_cli.errors import RefusedError
from millrace_cli.options import ModelName, StackSession, uses_stack
from millrace_cli.output import MISSING, format_timestamp, out, say

app = typer.Typer(no_args_is_help=True, help="Show, apply and change a model's specification.")

_MAX_FILE_BYTES = 1_000_000
#: Parts of a column's field: ``columns``, the column's name, the field.
_COLUMN_FIELD_PARTS = 3


@app.command("show")
@uses_stack
def show(
    session: StackSession,
    model: ModelName,
    *,
    full: Annotated[bool, typer.Option("--full", help="Include fields with their default values.")] = False,
) -> None:
    """Print a model's specification as YAML, which `millrace spec apply` accepts."""
    with session.api() as api:
        document = api.get(f"/models/{model}/spec")
    if session.as_json:
        out.print_json(json.dumps(document))
        return
    timestamp, author = format_timestamp(document["changed_at"]), document["changed_by"] or MISSING
    say(f"revision {document['revision']}, {timestamp}, by {author}", style="dim")
    out.print(Text(spec_as_yaml(document["spec"], full=full), end=""), soft_wrap=True)


@app.command("apply")
@uses_stack
def apply(
    session: StackSession,
    model: ModelName,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="YAML or JSON file with the specification.")],
    *,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Record this reason in the ledger.")] = "",
) -> None:
    """Replace a model's specification with a file; create the model if it does not exist.

    Exit code 2: the file is invalid; every invalid field is listed.
    """
    spec = read_spec(file)
    with session.api() as api:
        document = api.put(f"/models/{model}/spec", {"spec": spec, "reason": reason})
    session.show(document, lambda applied: "\n".join(change_lines(model, applied)))


@app.command("set")
@uses_stack
def set_fields(
    session: StackSession,
    model: ModelName,
    fields: Annotated[
        list[str],
        typer.Argument(
            metavar="FIELD=VALUE...",
            help="Fields, such as primary_metric=log_loss or columns.age.role=ignored; null restores the default.",
        ),
    ],
    *,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Record this reason in the ledger.")] = "",
) -> None:
    """Replace single fields of a model's specification; create the model if it does not exist.

    Exit code 2: a field is invalid; every invalid field is listed.
    """
    changes = [parse_field(text) for text in fields]
    with session.api() as api:
        document = change_spec(api, model, changes, reason)
    session.show(document, lambda applied: "\n".join(change_lines(model, applied)))


def parse_field(text: str) -> tuple[tuple[str, ...], Any]:
    """Return the path and the value of ``FIELD=VALUE``; the value is YAML.

    Raises
    ------
    RefusedError
        When the text has another form.
    """
    field, separator, value = text.partition("=")
    if not separator or not field:
        raise RefusedError(f"{text!r} is not FIELD=VALUE", "write a field and its value, such as seed=1")
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise RefusedError(f"the value of {field} is not YAML: {error}", "put it in quotes") from error
    parts = field.split(".")
    if parts[0] == "columns" and len(parts) > _COLUMN_FIELD_PARTS:
        parts = ["columns", ".".join(parts[1:-1]), parts[-1]]  # a column's name may have points
    return tuple(parts), parsed


def read_spec(file: Path) -> dict[str, Any]:
    """Read and validate a specification file.

    Raises
    ------
    RefusedError
        When there is no such file, or it is not a valid specification; lists every invalid field.
    """
    if file.stat().st_size > _MAX_FILE_BYTES:
        raise RefusedError(f"{file} is larger than {_MAX_FILE_BYTES // 1_000_000} MB")
    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, ValueError) as error:
        raise RefusedError(f"{file} is not YAML: {error}") from error
    except RecursionError as error:
        raise RefusedError(f"{file} nests too deeply to be a specification") from error
    if document is None:
        document = {}
    if not isinstance(document, dict):
        raise RefusedError(f"{file} is not a specification", "write fields, such as `target: churned`")
    return validate_spec(document, str(file))


def spec_as_yaml(document: dict[str, Any], *, full: bool) -> str:
    """Return a specification as YAML; without ``full``, only fields that differ from their defaults."""
    shown = document if full else ModelSpec.parse(document).model_dump(mode="json", exclude_defaults=True)
    return yaml.safe_dump(shown, sort_keys=False, allow_unicode=True) if shown else "# every field has its default\n"


def change_lines(model: str, document: dict[str, Any]) -> list[str]:
    """Return the changes of an applied specification and their effect on the schema, as lines."""
    schedules = [f"  schedule of {change}" for change in document.get("schedules", [])]
    if not document["changes"]:
        return [f"{model}: nothing changed; the specification stays at revision {document['revision']}", *schedules]
    lines = [f"{model}: the specification is now at revision {document['revision']}"]
    lines += [*(f"  {line}" for line in document["changes"]), *schedules]
    effect = document["schema"]
    if effect["kind"] == "compatible":
        lines.append("the next upload creates a new revision of the schema; earlier data remains usable:")
    elif effect["kind"] == "incompatible":
        lines.append("the next upload creates a new version of the schema; earlier data is no longer used:")
    return [*lines, *(f"  {detail}" for detail in effect["details"])]
