"""`millrace train`: upload a table, follow the training run, report its result."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.text import Text

from millrace_cli.api import ApiClient
from millrace_cli.options import ModelName, StackSession, uses_stack
from millrace_cli.output import err, out, say
from millrace_cli.run_progress import RunProgress, Snapshot, follow_causes
from millrace_cli.run_report import run_report
from millrace_cli.target import Target
from millrace_cli.upload import Upload, check_upload, upload_table

DEFAULT_TIMEOUT_SECONDS = 3600.0


@uses_stack
def train(
    session: StackSession,
    model: ModelName,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="CSV, Parquet or JSON Lines file, or a folder of such files.")
    ],
    *,
    target: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Predict this column (default: target, label, y or class)."),
    ] = None,
    task: Annotated[
        Literal["binary", "multiclass", "regression"] | None,
        typer.Option(metavar="TASK", help="Train for this task: binary, multiclass or regression (default: inferred)."),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for the run to finish.")] = True,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", help="Wait for this many seconds.", min=1)
    ] = DEFAULT_TIMEOUT_SECONDS,
) -> None:
    """Upload a table and train a model on it.

    Exit code 0: trained, or awaiting approval. 1: failed. 2: the data was rejected; the reasons are listed.
    """
    check_upload(model, file)
    stack = session.target
    upload = upload_table(stack.client("s3"), stack.output("DataBucketName"), model, file, target=target, task=task)
    say(f"uploaded {file.name} to s3://{upload.bucket}/{upload.key}")
    if not wait:
        session.show({"model": model, "cause_id": upload.cause_id}, lambda _: f"follow the run: millrace runs {model}")
        return
    with session.api() as api:
        snapshot = watch_uploads(api, stack, [upload], timeout)[model]
    if session.as_json:
        out.print_json(json.dumps({"run": snapshot.run, "trials": snapshot.trials, "evaluation": snapshot.evaluation}))
    else:
        show_result(snapshot)
    raise typer.Exit(snapshot.exit_code)


def watch_uploads(api: ApiClient, target: Target, uploads: list[Upload], timeout: float) -> dict[str, Snapshot]:
    """Show the progress of the runs of uploads until all are final; returns the last snapshot by model."""
    causes = {upload.model: upload.cause_id for upload in uploads}
    snapshots: list[Snapshot] = []
    with RunProgress(err) as progress:
        for snapshots in follow_causes(api, causes, poll_seconds=target.poll_seconds, timeout_seconds=timeout):
            progress.show(snapshots)
    return {snapshot.model: snapshot for snapshot in snapshots}


def show_result(snapshot: Snapshot) -> None:
    """Print the report of a final run and the next command to run."""
    if snapshot.run is None:
        out.print(Text.assemble(f"{snapshot.model}: upload ", ("rejected", "yellow"), f": {snapshot.reason}"))
        return
    out.print(run_report(snapshot.model, snapshot.run, snapshot.trials, snapshot.evaluation))
    say(f"next: {next_command(snapshot)}", style="dim")


def next_command(snapshot: Snapshot) -> str:
    """Return the command that usually follows this result."""
    if snapshot.awaits_approval:
        return f'millrace approve {snapshot.model} {snapshot.run_id} --reason "..."; or: millrace reject ...'
    if snapshot.status == "succeeded" and snapshot.run and snapshot.run.get("version"):
        return f"millrace predict {snapshot.model} FILE"
    if snapshot.status == "rejected":
        return f"fix the file, then: millrace train {snapshot.model} FILE"
    return f"millrace runs {snapshot.model} {snapshot.run_id}; millrace local logs"
