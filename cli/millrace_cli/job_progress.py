"""Progress of batch jobs: polls the API until a job has ended, and reports what it did."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from millrace_cli.api import ApiClient
from millrace_cli.errors import CliError
from millrace_cli.live_display import LiveDisplay
from millrace_cli.output import format_count, format_seconds, format_status, format_timestamp, make_table

_HEARTBEAT_SECONDS = 10.0
_STEPS: Mapping[str, str] = {
    "queued": "waiting for the execution to start",
    "planning": "reading the files",
    "scoring": "scoring",
}


@dataclass(frozen=True, slots=True)
class JobProgress:
    """Progress of a job as far as it can be measured: rows follow from parts, which are of about the same size."""

    job: Mapping[str, Any]
    seconds: float  # since the first part was seen

    @property
    def share(self) -> float:
        """Scored share of the parts, from 0 to 1."""
        parts = self.job.get("parts") or 0
        return self.job.get("scored_parts", 0) / parts if parts else 0.0

    def describe(self) -> str:
        """Return a line: parts, rows, rows per second, seconds left."""
        status = str(self.job["status"])
        parts, scored = self.job.get("parts"), self.job.get("scored_parts", 0)
        if status != "scoring" or not parts:
            counted = f", {format_count(self.job['rows'], 'row')} so far" if self.job.get("rows") else ""
            return _STEPS.get(status, status) + counted * (status == "planning")
        facts = [f"{scored:,} of {format_count(parts, 'part')}"]
        rows = self.job.get("rows")
        if rows:
            facts.append(f"about {rows * self.share:,.0f} of {format_count(rows, 'row')}")
        if self.share and self.seconds:
            if rows:
                facts.append(f"{rows * self.share / self.seconds:,.0f} rows/s")
            facts.append(f"about {format_seconds(self.seconds / self.share * (1 - self.share))} left")
        return ", ".join(facts)


def follow_job(
    api: ApiClient,
    model: str,
    job_id: str,
    *,
    poll_seconds: float,
    timeout_seconds: float,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[JobProgress]:
    """Yield the progress of a job until it has ended; raises ``CliError`` after ``timeout_seconds``, and it goes on."""
    began, scoring_since = clock(), None
    while True:
        job = api.get(f"/models/{model}/batches/{job_id}")
        if job["status"] == "scoring" and scoring_since is None:
            scoring_since = clock()
        yield JobProgress(job, clock() - scoring_since if scoring_since is not None else 0.0)
        if job["is_finished"]:
            return
        if clock() - began > timeout_seconds:
            raise CliError(
                f"job {job_id} has not ended within {format_seconds(timeout_seconds)}; it goes on",
                f"follow it: millrace batches {model} {job_id}",
            )
        sleep(poll_seconds)


class JobDisplay(LiveDisplay):
    """Display of a job: redrawn in place on a terminal, one line per change elsewhere."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._clock = console, clock
        self._began = self._printed_at = clock()
        self._printed = ""
        self._live = Live(console=console, refresh_per_second=8, transient=True) if console.is_terminal else None

    def show(self, progress: JobProgress) -> None:
        """Show the present progress."""
        now = self._clock()
        if self._live:
            line = Table.grid(padding=(0, 1))
            line.add_row(
                Text(str(progress.job["job_id"]), style="bold"),
                ProgressBar(total=1.0, completed=progress.share, width=30),
                Text(f"{progress.describe()}  {now - self._began:.0f} s"),
            )
            self._live.update(line)
            return
        step = f"{progress.job['status']} {progress.job.get('scored_parts', 0)}"
        if step != self._printed or now - self._printed_at >= _HEARTBEAT_SECONDS:
            self._printed, self._printed_at = step, now
            self._console.print(Text(f"[{now - self._began:6.1f} s] {progress.describe()}"), soft_wrap=True)


def jobs_table(jobs: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Return a table of jobs."""
    headers = ("job", "requested", "status", "version", "rows", "refused", "files")
    return make_table(
        "",
        headers,
        [
            (
                job["job_id"],
                format_timestamp(job["requested_at"]),
                format_status(job["status"]),
                job["version"],
                f"{rows:,}" if (rows := job["summary"].get("rows", job.get("rows"))) is not None else None,
                job["summary"].get("refused"),
                job["source"],
            )
            for job in jobs
        ],
    )


def job_report(job: Mapping[str, Any], bucket: str) -> RenderableType:
    """Return the report of a job: its outcome, the predictions, refused rows by reason, and where the results lie."""
    summary = job["summary"]
    named = f" ({job['alias']})" if job.get("alias") else ""
    lines: list[RenderableType] = [
        Text.assemble(f"{job['job_id']}: ", format_status(job["status"]), f", version {job['version']}{named}")
    ]
    lines += [Text(f"  {reason}") for reason in job["reasons"]]
    if summary.get("rows") is not None:
        counts = f"{format_count(summary['rows'], 'row')}, {summary.get('refused', 0):,} refused"
        lines.append(Text(counts + _speed(job)))
        if captured := summary.get("captured"):
            count = format_count(captured, "row")
            lines.append(Text(f"{count} captured, compared with training by: millrace monitor {job['model']}"))
        lines += _predictions(summary.get("predictions") or {})
        refused = sorted((summary.get("refused_by_reason") or {}).items(), key=lambda one: -one[1])
        if refused:
            lines.append(make_table("refused rows", ("rows", "reason"), [(count, reason) for reason, count in refused]))
    lines += [Text.assemble(("warning: ", "yellow"), warning) for warning in summary.get("warnings") or ()]
    if job["status"] == "succeeded":
        lines.append(Text(f"results: s3://{bucket}/{job['destination']}", no_wrap=True, overflow="ignore"))
    return Group(*lines)


def _speed(job: Mapping[str, Any]) -> str:
    rows, seconds = job["summary"].get("rows"), job["summary"].get("seconds")
    usd = (job["summary"].get("cost") or {}).get("usd")
    speed = f", {rows / seconds:,.0f} rows a second of computing" if rows and seconds else ""
    return speed + (f", about {usd:.4f} USD" if usd else "")


def _predictions(predictions: Mapping[str, Any]) -> list[RenderableType]:
    """Return the distribution of predictions: shares of classes, or least, mean and greatest value."""
    rows, labels = predictions.get("rows") or 0, predictions.get("decisions") or predictions.get("labels") or {}
    if labels and rows:
        counts = sorted(labels.items(), key=lambda one: -one[1])
        return [
            make_table("predictions", ("class", "rows", "share"), [(n, f"{c:,}", f"{c / rows:.1%}") for n, c in counts])
        ]
    if rows and predictions.get("least") is not None:
        values = (predictions["least"], predictions["total"] / rows, predictions["greatest"])
        return [make_table("predictions", ("least", "mean", "greatest"), [values])]
    return []
