"""`millrace demo --batch`: score a million rows as one batch job, with its progress, on this machine."""

import csv
import io
from pathlib import Path

from rich.text import Text

from millrace_cli.api import ApiClient
from millrace_cli.commands.score import wait_for_job
from millrace_cli.commands.train import watch_uploads
from millrace_cli.errors import CliError
from millrace_cli.job_progress import job_report
from millrace_cli.local.project import Project
from millrace_cli.output import err, format_count, out
from millrace_cli.score_files import download_results, put_source
from millrace_cli.target import Target
from millrace_cli.upload import upload_table

ROWS = 1_000_000
_TIMEOUT_SECONDS = 1_800.0


def train_for_batch(project: Project, target: Target) -> Path:
    """Train the demonstration's churn model, and return a file of rows to score."""
    # scikit-learn loads slowly, and only the demonstration needs it.
    from millrace_cli.demo.examples import make_churn  # noqa: PLC0415  # as above

    project.demo_dir.mkdir(parents=True, exist_ok=True)
    dataset = make_churn(project.demo_dir)
    bucket = target.output("DataBucketName")
    with ApiClient.for_target(target) as api:
        upload = upload_table(target.client("s3"), bucket, dataset.model, dataset.upload, target=dataset.target)
        snapshot = watch_uploads(api, target, [upload], _TIMEOUT_SECONDS)[dataset.model]
    if snapshot.exit_code != 0:
        raise CliError(f"training of {dataset.model} failed", f"see: millrace runs {dataset.model} {snapshot.run_id}")
    return dataset.held_back


def write_many_rows(few: Path, path: Path, rows: int = ROWS) -> Path:
    """Write the rows of a small table over and over, each with an identifier of its own in the first column."""
    with few.open(encoding="utf-8", newline="") as file:
        header, *bodies = csv.reader(file)
    # The rest of each line is written once; only identifiers differ.
    ends = []
    for body in bodies:
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow(body[1:])
        ends.append(line.getvalue())
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerow(header)
        for begin in range(0, rows, len(ends)):
            numbered = enumerate(ends[: rows - begin], begin)
            file.write("".join(f"{number},{end}" for number, end in numbered))
    return path


def score_many_rows(target: Target, model: str, path: Path, folder: Path) -> None:
    """Score a file as a batch job, with its progress, and download the results."""
    s3, bucket = target.client("s3"), target.output("DataBucketName")
    out.print(Text(f"{format_count(ROWS, 'row')}, {path.stat().st_size / 1e6:,.0f} MB"))
    with ApiClient.for_target(target) as api:
        key = put_source(s3, bucket, model, str(path), err)
        job = api.post(f"/models/{model}/batches", {"source": key, "reason": "the demonstration"})
        job = wait_for_job(api, model, job["job_id"], target.poll_seconds, _TIMEOUT_SECONDS)
    out.print(job_report(job, bucket))
    if job["status"] != "succeeded" or job["summary"]["rows"] != ROWS:
        raise CliError("the batch job is not complete", f"see: millrace batches {model} {job['job_id']}")
    count = download_results(s3, bucket, job["destination"], folder, err)
    out.print(Text(f"downloaded {format_count(count, 'file')} to {folder}"), soft_wrap=True)
