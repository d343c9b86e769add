"""The plan of an upload: its columns checked against options, specification and schema, and what that changes."""

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from millrace_cli.api import ApiClient
from millrace_cli.applied_spec import read_applied_spec
from millrace_cli.errors import ApiError, RefusedError
from millrace_cli.table_file import TableFormat, check_column, nearest_name

#: Names of the column that is predicted unless one is named; as in ``millrace.data.target``, whose import is slow.
TARGET_NAMES = ("target", "label", "y", "class")


@dataclass(frozen=True, slots=True)
class UploadOptions:
    """Options of an upload that name columns.

    Parameters
    ----------
    target, id_column : str or None
        Column to predict; column that identifies rows.
    ignore : sequence of str, default=()
        Columns to leave out.
    replaces_schema : bool, default=False
        Begins a new schema.
    """

    target: str | None = None
    id_column: str | None = None
    ignore: Sequence[str] = ()
    replaces_schema: bool = False


def plan_upload(
    api: ApiClient, model: str, file: Path, table: TableFormat, options: UploadOptions
) -> list[tuple[Sequence[str], Any]]:
    """Check a table's columns against the options and the model before the upload.

    Returns
    -------
    list of (path, value)
        Changes of the specification that the options require.

    Raises
    ------
    RefusedError
        When an option names a column that the file has not, contradicts the specification or the schema, or the
        target is not known.
    """
    target = options.target
    spec, known = read_applied_spec(api, model), None if options.replaces_schema else _schema_target(api, model)
    if target and spec.get("target") not in (None, target):
        raise RefusedError(
            f"the specification of {model} names the target {spec['target']!r}, not {target!r}",
            f"change it: millrace spec set {model} {shlex.quote(f'target={json.dumps(target)}')}",
        )
    if target and known and target.lower() != known.lower():
        raise RefusedError(
            f"{model} predicts {known!r}, not {target!r}",
            f"to begin a new schema with another target: {train_command(model, file, target)} --schema replace",
        )
    if len(table.columns) > 1:  # one column may be a delimiter that only the specification names
        wanted = target or spec.get("target") or known
        if wanted and wanted.lower() not in [name.lower() for name in table.columns]:
            near = nearest_name(wanted, table.columns)
            if near and (target or not known):
                raise RefusedError(
                    f"{file} has no column {wanted!r}; did you mean {near!r}?", train_command(model, file, near)
                )
            check_column(wanted, table.columns, file)
        if not wanted and not any(name.lower() in TARGET_NAMES for name in table.columns):
            raise RefusedError(
                f"{file} has no column named {', '.join(TARGET_NAMES[:-1])} or {TARGET_NAMES[-1]}, so the column to "
                f"predict is not known; the columns are {', '.join(table.columns)}",
                f"name it, such as: {train_command(model, file, table.columns[-1])}",
            )
        for name in [*options.ignore, *([options.id_column] if options.id_column else [])]:
            check_column(name, table.columns, file)
    changes: list[tuple[Sequence[str], Any]] = [(("columns", name, "role"), "ignored") for name in options.ignore]
    if options.id_column:
        changes.append((("id_column",), options.id_column))
    if target and not target.isascii():
        changes.append((("target",), target))
    return changes


def train_command(model: str, file: Path, target: str | None = None) -> str:
    """Return the command that uploads a file, quoted for a shell."""
    return shlex.join(["millrace", "train", model, str(file), *(["--target", target] if target else [])])


def _schema_target(api: ApiClient, model: str) -> str | None:
    try:
        columns = api.get(f"/models/{model}/schema")["columns"]
    except ApiError as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
        return None
    return next((str(column["name"]) for column in columns if column.get("role") == "target"), None)
