"""`millrace train`: upload a table, follow the training run, report its result."""

import json
import shlex
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.text import Text

from millrace_cli.api import ApiClient
from millrace_cli.applied_spec import change_spec
from millrace_cli.options import ModelName, StackSession, uses_stack
from millrace_cli.output import err, out, say
from millrace_cli.run_progress import RunProgress, Snapshot, follow_causes
from millrace_cli.run_report import run_report
from millrace_cli.table_file import TableFormat, read_format
from millrace_cli.target import Target
from millrace_cli.training_data import training_data_report
from millrace_cli.upload import Upload, check_upload, folder_files, upload_table
from millrace_cli.upload_plan import UploadOptions, plan_upload, train_command

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
    id_column: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Identify rows by this column (recorded in the spec).")
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="Leave this column out (recorded in the spec). Repeatable."),
    ] = None,
    schema: Annotated[
        Literal["keep", "replace"],
        typer.Option(help="Hold the table to the model's schema, or begin a new one from it."),
    ] = "keep",
    force: Annotated[
        bool, typer.Option("--force", help="Train a new version although there is nothing new to learn.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for the run to finish.")] = True,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", help="Wait for this many seconds.", min=1)
    ] = DEFAULT_TIMEOUT_SECONDS,
) -> None:
    """Upload a table and train a model on it.

    Exit code 0: trained, awaiting approval, or nothing new to learn. 1: failed. 2: the data was rejected; the reasons
    are listed.
    """
    check_upload(model, file)
    table = read_upload_format(file)
    stack = session.target
    with session.api() as api:
        changes = plan_upload(
            api, model, file, table, UploadOptions(target, id_column, ignore or (), schema == "replace")
        )
        if changes:
            change_spec(api, model, changes, f"options of the upload of {file.name}")
        send = partial(
            upload_table,
            stack.client("s3"),
            stack.output("DataBucketName"),
            model,
            file,
            target=target if target is None or target.isascii() else None,  # metadata of S3 are ASCII
            task=task,
            schema="replace" if schema == "replace" else None,
            force=force,
        )
        upload = send()
        say(f"uploaded {file.name} ({table.describe()}) to s3://{upload.bucket}/{upload.key}")
        if not wait:
            session.show(
                {"model": model, "cause_id": upload.cause_id}, lambda _: f"follow the run: millrace runs {model}"
            )
            return
        snapshot = watch_uploads(api, stack, [upload], timeout, send)[model]
    if session.as_json:
        out.print_json(json.dumps(run_document(snapshot)))
    else:
        show_result(snapshot, file=file, target=target)
    raise typer.Exit(snapshot.exit_code)


def read_upload_format(path: Path) -> TableFormat:
    """Return the format of a file, or of a folder's first file.

    Raises
    ------
    RefusedError
        When the file is no table.
    """
    return read_format(folder_files(path)[0] if path.is_dir() else path)


def run_document(snapshot: Snapshot) -> dict[str, Any]:
    """Return a final run as a JSON document."""
    return {
        "run": snapshot.run,
        "training_data": snapshot.training_data,
        "trials": snapshot.trials,
        "evaluation": snapshot.evaluation,
    }


def watch_uploads(
    api: ApiClient, target: Target, uploads: list[Upload], timeout: float, send: Callable[[], Upload] | None = None
) -> dict[str, Snapshot]:
    """Show the progress of the runs of uploads until all are final; returns the last snapshot by model.

    Parameters
    ----------
    send : callable or None, default=None
        Repeats the one upload when the stack does not receive its event.
    """
    causes = {upload.model: upload.cause_id for upload in uploads}
    snapshots: list[Snapshot] = []
    with RunProgress(err) as progress:
        for snapshots in follow_causes(
            api,
            causes,
            poll_seconds=target.poll_seconds,
            timeout_seconds=timeout,
            upload_again=partial(_repeat_upload, send) if send else None,
        ):
            progress.show(snapshots)
    return {snapshot.model: snapshot for snapshot in snapshots}


def _repeat_upload(send: Callable[[], Upload], model: str, seconds: float) -> str:
    say(
        f"{model}: the stack did not receive the upload within {seconds:.0f} seconds, so it is uploaded again; "
        "S3 sends no events of a new stack's bucket for about five minutes"
    )
    return send().cause_id


def show_result(snapshot: Snapshot, *, file: Path = Path("FILE"), target: str | None = None) -> None:
    """Print the report of a final run and the next command to run."""
    if snapshot.run is None:
        out.print(Text.assemble(f"{snapshot.model}: upload ", ("rejected", "yellow"), f": {snapshot.reason}"))
        return
    if snapshot.training_data:
        out.print(training_data_report(snapshot.model, snapshot.training_data, file=str(file)), Text(), sep="\n")
    out.print(run_report(snapshot.model, snapshot.run, snapshot.trials, snapshot.evaluation))
    say(f"next: {next_command(snapshot, file, target)}", style="dim")


def next_command(snapshot: Snapshot, file: Path, target: str | None) -> str:
    """Return the command that usually follows this result."""
    if snapshot.awaits_approval:
        model, run = snapshot.model, snapshot.run_id
        return (
            f"millrace approve {model} {run} --reason 'reviewed the card'; "
            f"or: millrace reject {model} {run} --reason 'reviewed the card'"
        )
    if snapshot.status == "succeeded" and snapshot.run and snapshot.run.get("version"):
        # A request is refused for one bad row, and training left such rows out; a batch job names them.
        command = "score" if (snapshot.training_data or {}).get("quarantined_rows") else "predict"
        return shlex.join(["millrace", command, snapshot.model, str(file)])
    if snapshot.status == "skipped":
        return f"{train_command(snapshot.model, file, target)} --force"
    if snapshot.status == "rejected":
        return f"follow the reason above, then: {train_command(snapshot.model, file, target)}"
    return f"millrace runs {snapshot.model} {snapshot.run_id}; millrace local logs"
