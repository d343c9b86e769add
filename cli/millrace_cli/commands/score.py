"""`millrace score` and `millrace batches`: score files of any size, and list, cancel and repeat batch jobs."""

import json
import uuid
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import RenderableType

from millrace_cli.api import ApiClient
from millrace_cli.commands.runs import DefaultListGroup
from millrace_cli.errors import RefusedError
from millrace_cli.job_progress import JobDisplay, follow_job, job_report, jobs_table
from millrace_cli.options import ModelName, StackSession, uses_stack
from millrace_cli.output import err, format_count, out, say
from millrace_cli.score_files import check_source, check_target, copy_results, download_results, put_source
from millrace_cli.upload import check_model_name

DEFAULT_TIMEOUT_SECONDS = 24 * 3600.0
JobId = Annotated[str, typer.Argument(metavar="JOB", help="Id of the batch job.")]

app = typer.Typer(cls=DefaultListGroup, no_args_is_help=True, help="List, show, cancel and repeat batch jobs.")


@uses_stack
def score(
    session: StackSession,
    model: ModelName,
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE|FOLDER|S3-URL",
            help="CSV, Parquet or JSON Lines file, a folder of such files, or s3://bucket/key.",
        ),
    ],
    *,
    version: Annotated[int | None, typer.Option(metavar="N", min=1, help="Score with this version.")] = None,
    alias: Annotated[
        str | None, typer.Option(metavar="NAME", help="Score with the version of this alias (default: champion).")
    ] = None,
    join: Annotated[
        bool | None, typer.Option("--join/--no-join", help="Write the columns of the files too (default: the spec's).")
    ] = None,
    interval: Annotated[
        float | None,
        typer.Option(min=0.5, max=0.99, metavar="LEVEL", help="Write intervals or sets that hold the truth so often."),
    ] = None,
    explain: Annotated[
        bool | None,
        typer.Option("--explain/--no-explain", help="Write by how much each feature moves a prediction."),
    ] = None,
    capture: Annotated[
        Literal["none", "batch"] | None,
        typer.Option(
            "--capture", help="Have monitoring compare the rows with training: batch or none (default: the spec's)."
        ),
    ] = None,
    output_format: Annotated[
        Literal["parquet", "csv"] | None, typer.Option("--format", help="Write this format (default: the spec's).")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FOLDER", help="Download the results into this folder.")
    ] = None,
    to: Annotated[
        str | None, typer.Option("--to", metavar="S3-URL", help="Copy the results there, with your own rights.")
    ] = None,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Record this reason in the ledger.")] = "",
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for the job to end.")] = True,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", help="Wait for this many seconds.", min=1)
    ] = DEFAULT_TIMEOUT_SECONDS,
) -> None:
    """Score files of any size as a batch job.

    Exit code 0: every row has its line in the results, or the job is started with --no-wait. 1: the job failed or was
    cancelled; the reasons are listed. 2: there is nothing to score.
    """
    check_model_name(model)
    check_source(source)
    if version is not None and alias is not None:
        raise RefusedError("--version and --alias exclude each other", "leave one of them out")
    if not wait and (output or to):
        raise RefusedError("--output and --to need the job to end", "leave --no-wait out")
    target = session.target
    bucket, s3 = target.output("DataBucketName"), target.client("s3")
    check_target(to, bucket)
    options = {"version": version, "alias": alias, "join": join, "interval": interval, "explain": explain}
    options |= {"format": output_format, "capture": capture}
    with session.api() as api:
        api.get(f"/models/{model}")  # before gigabytes are sent
        key = put_source(s3, bucket, model, source, err)
        body = {name: value for name, value in options.items() if value is not None}
        # Of the same id, so that a request that is sent again is one job.
        body |= {"source": key, "reason": reason, "request_id": uuid.uuid4().hex}
        job = api.post(f"/models/{model}/batches", body)
        say(f"job {job['job_id']} scores s3://{bucket}/{key} with version {job['version']}")
        if not wait:
            session.show(job, lambda one: f"follow the job: millrace batches {model} {one['job_id']}")
            return
        job = wait_for_job(api, model, job["job_id"], target.poll_seconds, timeout)
    _show(session, job, bucket)
    if job["status"] != "succeeded":
        raise typer.Exit(1)
    if output is not None:
        count = download_results(s3, bucket, job["destination"], output, err)
        say(f"downloaded {format_count(count, 'file')} to {output}")
    if to is not None:
        count = copy_results(s3, bucket, job["destination"], to, err)
        say(f"copied {format_count(count, 'object')} to {to}")
    if output is None and to is None and not session.as_json:
        say(f"download them: millrace batches download {model} {job['job_id']} FOLDER", style="dim")


def wait_for_job(api: ApiClient, model: str, job_id: str, poll_seconds: float, timeout: float) -> dict[str, Any]:
    """Show the progress of a job until it has ended, and return it."""
    job: Any = {}
    with JobDisplay(err) as display:
        for progress in follow_job(api, model, job_id, poll_seconds=poll_seconds, timeout_seconds=timeout):
            job = progress.job
            display.show(progress)
    return dict(job)


def _show(session: StackSession, job: dict[str, Any], bucket: str) -> None:
    if session.as_json:
        out.print_json(json.dumps(job))
    else:
        out.print(job_report(job, bucket))


@app.command("list")
@uses_stack
def list_batches(
    session: StackSession,
    model: ModelName,
    job_id: Annotated[str | None, typer.Argument(metavar="JOB", help="Id of one job to show.")] = None,
) -> None:
    """List a model's batch jobs, newest first (short: `millrace batches MODEL`)."""
    with session.api() as api:
        if job_id is not None:
            _show(session, api.get(f"/models/{model}/batches/{job_id}"), session.target.output("DataBucketName"))
            return
        document = api.get(f"/models/{model}/batches")
    if document["batches"] or session.as_json:
        session.show(document, lambda listed: jobs_table(listed["batches"]))
    else:
        say(f"{model} has no batch jobs; start one: millrace score {model} FILE")


@app.command("download")
@uses_stack
def download(
    session: StackSession,
    model: ModelName,
    job_id: JobId,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder for the files; it is created.")],
) -> None:
    """Write the results of a batch job into a folder."""
    target = session.target
    with session.api() as api:
        job = api.get(f"/models/{model}/batches/{job_id}")
    if job["status"] != "succeeded":
        raise RefusedError(f"job {job_id} is {job['status']}: it has no complete results", f"millrace batches {model}")
    bucket = target.output("DataBucketName")
    count = download_results(target.client("s3"), bucket, job["destination"], folder, err)
    say(f"downloaded {format_count(count, 'file')} to {folder}")


@app.command("cancel")
@uses_stack
def cancel(
    session: StackSession,
    model: ModelName,
    job_id: JobId,
    *,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Record this reason in the ledger.")] = "",
) -> None:
    """Stop a batch job; `retry` scores what is missing later."""
    with session.api() as api:
        session.show(api.post(f"/models/{model}/batches/{job_id}/cancel", {"reason": reason}), _describe_change)


@app.command("retry")
@uses_stack
def retry(
    session: StackSession,
    model: ModelName,
    job_id: JobId,
    *,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for the job to end.")] = True,
) -> None:
    """Run a batch job that failed or was cancelled again, for the parts that are missing."""
    target = session.target
    with session.api() as api:
        job = api.post(f"/models/{model}/batches/{job_id}/retry", {})
        if not wait:
            session.show(job, _describe_change)
            return
        job = wait_for_job(api, model, job_id, target.poll_seconds, DEFAULT_TIMEOUT_SECONDS)
    _show(session, job, target.output("DataBucketName"))
    if job["status"] != "succeeded":
        raise typer.Exit(1)


def _describe_change(job: Any) -> RenderableType:
    return f"{job['job_id']} is {job['status']}" + "".join(f"; {reason}" for reason in job["reasons"])
