"""`millrace train MODEL FILE`: upload, watch, report."""

import json
from typing import Annotated, Literal

import typer
from rich.text import Text

from millrace_cli.api import ApiClient
from millrace_cli.console import err, out
from millrace_cli.options import AsJson, ModelName, Profile, Region, Stack, TableFile, target_of
from millrace_cli.progress import RunProgress
from millrace_cli.render import run_report
from millrace_cli.target import Target
from millrace_cli.upload import Upload, check_upload, upload_table
from millrace_cli.watch import Snapshot, follow_causes

DEFAULT_TIMEOUT_SECONDS = 3600.0

TargetColumn = Annotated[
    str | None,
    typer.Option("--target", help="Column to predict; default: target, label, y or class.", metavar="COLUMN"),
]
TaskName = Annotated[
    Literal["binary", "multiclass", "regression"] | None, typer.Option("--task", help="Default: inferred.")
]


def train(
    model: ModelName,
    file: TableFile,
    *,
    target: TargetColumn = None,
    task: TaskName = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Watch the run until it has finished.")] = True,
    timeout: Annotated[float, typer.Option(help="Seconds to watch.", min=1)] = DEFAULT_TIMEOUT_SECONDS,
    as_json: AsJson = False,
    profile: Profile = None,
    stack: Stack = None,
    region: Region = None,
) -> None:
    """Upload a table and watch the model being trained on it.

    Exit code 0: trained, or waiting for approval. 1: failed. 2: the data was refused; the reasons are shown.
    """
    check_upload(model, file)
    where = target_of(profile, stack, region)
    upload = upload_table(where.client("s3"), where.output("DataBucketName"), model, file, target=target, task=task)
    err.print(Text(f"uploaded {file.name} to s3://{upload.bucket}/{upload.key}"), soft_wrap=True)
    if not wait:
        out.print_json(json.dumps({"model": model, "cause_id": upload.cause_id})) if as_json else _say_next(model)
        return
    with ApiClient.for_target(where) as api:
        snapshot = watch_uploads(api, where, [upload], timeout)[model]
    if as_json:
        out.print_json(json.dumps({"run": snapshot.run, "trials": snapshot.trials, "evaluation": snapshot.evaluation}))
    else:
        show_outcome(snapshot)
    raise typer.Exit(snapshot.exit_code)


def watch_uploads(api: ApiClient, target: Target, uploads: list[Upload], timeout: float) -> dict[str, Snapshot]:
    """Show the runs of uploads until they have finished; return the last snapshot by model."""
    causes = {upload.model: upload.cause_id for upload in uploads}
    snapshots: list[Snapshot] = []
    with RunProgress(err) as progress:
        for snapshots in follow_causes(api, causes, poll_seconds=target.poll_seconds, timeout_seconds=timeout):
            progress.show(snapshots)
    return {snapshot.model: snapshot for snapshot in snapshots}


def show_outcome(snapshot: Snapshot) -> None:
    """Print a finished run: the report, and the next command to try."""
    if snapshot.run is None:
        out.print(Text.assemble(f"{snapshot.model}: upload ", ("refused", "yellow"), f": {snapshot.reason}"))
        return
    out.print(run_report(snapshot.model, snapshot.run, snapshot.trials, snapshot.evaluation))
    err.print(Text(f"next: {next_command(snapshot)}", style="dim"), soft_wrap=True)


def next_command(snapshot: Snapshot) -> str:
    """Return the command that makes sense after this outcome."""
    if snapshot.awaits_approval:
        return f'millrace approve {snapshot.model} {snapshot.run_id} --reason "..."; or: millrace reject ...'
    if snapshot.status == "succeeded" and snapshot.run and snapshot.run.get("version"):
        return f"millrace predict {snapshot.model} FILE"
    if snapshot.status == "rejected":
        return f"mend the file, then: millrace train {snapshot.model} FILE"
    return f"millrace runs {snapshot.model} {snapshot.run_id}; millrace local logs"


def _say_next(model: str) -> None:
    out.print(Text(f"look at the run: millrace runs {model}"))
