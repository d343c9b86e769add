"""`millrace export`: a version as a directory that another tool loads."""

from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from millrace.card import Artifact
from millrace.exports.mlflow_model import mlflow_files
from millrace.layout import version_key
from millrace.manifest import MANIFEST, MODEL, SIGNATURE, Manifest

from millrace_cli.errors import CliError, RefusedError
from millrace_cli.options import ModelName, StackSession, uses_stack_without_json
from millrace_cli.output import say
from millrace_cli.target import Target, read_object


class ExportForm(StrEnum):
    """Form of an exported version."""

    mlflow = "mlflow"


@uses_stack_without_json
def export(
    session: StackSession,
    model: ModelName,
    version: Annotated[str, typer.Argument(metavar="VERSION", help="Number or alias of the version.")],
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="New or empty directory.", file_okay=False)],
    *,
    to: Annotated[ExportForm, typer.Option("--to", help="Write this form.", show_default=False)],
) -> None:
    """Write a version as a directory that another tool loads, such as `mlflow.pyfunc.load_model`."""
    if directory.exists() and any(directory.iterdir()):
        raise RefusedError(f"{directory} is not empty", "name a new directory")
    with session.api() as api:
        registered = api.get(f"/models/{model}/versions/{version}")
    files = _FORMS[to](session.target, registered)
    for name, body in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    say(f"wrote {model} version {registered['version']} to {directory}")
    say(f"load it: mlflow.pyfunc.load_model({str(directory)!r})")


def _mlflow_files(target: Target, registered: dict[str, Any]) -> dict[str, bytes]:
    """Return the files of the directory; raises ``CliError`` where an artifact is not the one that was registered."""
    model, number = registered["model"], registered["version"]

    def read(name: str, expected: Artifact) -> bytes:
        body = read_object(target, target.output("ModelsBucketName"), version_key(model, number, name))
        if not expected.matches(body):
            raise CliError(f"{name} of {model} version {number} is not what was registered", "export another version")
        return body

    manifest = Manifest.read(read(MANIFEST, Artifact(sha256=registered["manifest_sha256"])))
    return mlflow_files(
        read(SIGNATURE, manifest.artifacts[SIGNATURE]),
        read(MODEL, manifest.artifacts[MODEL]),
        model=model,
        version=number,
        created_at=datetime.fromisoformat(registered["created_at"]),
        metadata={"semantic_version": registered["semantic_version"], "run_id": registered["run_id"]},
    )


_FORMS = {ExportForm.mlflow: _mlflow_files}
