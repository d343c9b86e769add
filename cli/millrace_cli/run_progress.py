"""Progress of training runs: polls the API, and shows each change until the run finishes."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal

from millrace.entities import FINISHED_STATUSES
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from millrace_cli.api import ApiClient
from millrace_cli.errors import ApiError, CliError
from millrace_cli.live_display import LiveDisplay
from millrace_cli.output import format_seconds, format_status, format_value
from millrace_cli.run_report import AWAITING_APPROVAL, trials_table
from millrace_cli.training_data import read_training_data, training_data_line

CauseView = Literal["unseen", "pending", "started", "skipped"]

_STAGES = ("queued", "validating", "planning", "training", "evaluating", "registering")

#: Waits for an upload's event before the upload is repeated. S3 sends no events of a new bucket for about five minutes,
#: and those are lost:
#: https://docs.aws.amazon.com/AmazonS3/latest/userguide/enable-event-notifications-eventbridge.html
_UPLOAD_AGAIN_SECONDS = (60.0, 120.0, 240.0)

#: Off a terminal, a line at least this often shows that the command is alive.
_HEARTBEAT_SECONDS = 10.0
_FINISHED_TRIALS = frozenset({"succeeded", "failed", "skipped", "eliminated"})

_CAUSE_MESSAGES = {
    "unseen": "waiting for the stack to receive the upload",
    "pending": "waiting for the active run to finish",
    "started": "starting",
}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """State of an upload and its run at one poll.

    Parameters
    ----------
    cause_status : {'unseen', 'pending', 'started', 'skipped'}
        ``unseen`` until the stack receives the upload's event.
    run, trials, evaluation
        As in ``GET /models/{model}/runs/{run_id}``; empty before the run exists.
    training_data : mapping or None
        What the run inferred from its data; None before they are validated.
    reason : str
        Reason for which the cause was skipped or waits.
    """

    model: str
    cause_status: CauseView
    reason: str = ""
    run_id: str | None = None
    run: Mapping[str, Any] | None = None
    trials: tuple[Mapping[str, Any], ...] = ()
    evaluation: Mapping[str, Any] | None = None
    training_data: Mapping[str, Any] | None = None

    @property
    def status(self) -> str:
        """Status of the run; empty before there is one."""
        return str(self.run["status"]) if self.run else ""

    @property
    def awaits_approval(self) -> bool:
        """True while the run waits for a person's approval."""
        return self.run is not None and self.run.get("stage") == AWAITING_APPROVAL

    @property
    def is_final(self) -> bool:
        """True when the run is finished, was not started, or waits for approval."""
        return self.cause_status == "skipped" or self.status in FINISHED_STATUSES or self.awaits_approval

    @property
    def exit_code(self) -> int:
        """Exit code for scripts: 0 succeeded, nothing new or awaiting approval, 2 rejected, 1 otherwise."""
        if self.awaits_approval:
            return 0
        if self.cause_status == "skipped" or self.status == "rejected":
            return 2
        return 0 if self.status in ("succeeded", "skipped") else 1


def follow_causes(
    api: ApiClient,
    causes: Mapping[str, str],
    *,
    poll_seconds: float,
    timeout_seconds: float,
    upload_again: Callable[[str, float], str] | None = None,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[list[Snapshot]]:
    """Yield snapshots of causes and their runs until every run is final.

    Parameters
    ----------
    causes : mapping of str to str
        Cause id by model.
    upload_again : callable or None, default=None
        Repeats the upload of a model whose cause stays unseen, and returns its new cause id; takes the model and the
        seconds since its last upload. The first cause that the stack sees is followed.

    Raises
    ------
    CliError
        After ``timeout_seconds``; the runs continue.
    """
    began = clock()
    uploads = {model: _Uploads([cause_id], began) for model, cause_id in causes.items()}
    snapshots: dict[str, Snapshot] = {}
    while True:
        for model, upload in uploads.items():
            if model not in snapshots or not snapshots[model].is_final:
                snapshots[model] = upload.read(api, model, snapshots.get(model))
        yield list(snapshots.values())
        unfinished = [snapshot for snapshot in snapshots.values() if not snapshot.is_final]
        if not unfinished:
            return
        now = clock()
        if now >= began + timeout_seconds:
            raise CliError(
                _timeout_message(unfinished, timeout_seconds), f"check it later: millrace runs {unfinished[0].model}"
            )
        for snapshot in unfinished:
            upload = uploads[snapshot.model]
            if upload_again and snapshot.cause_status == "unseen" and upload.is_overdue(now):
                upload.cause_ids.append(upload_again(snapshot.model, now - upload.sent_at))
                upload.sent_at = now
        sleep(poll_seconds)


@dataclass(slots=True)
class _Uploads:
    """Causes of one table's uploads: one, or more when the stack does not see the first."""

    cause_ids: list[str]
    sent_at: float

    def is_overdue(self, now: float) -> bool:
        """Return True when the last upload has been unseen for too long, and may be repeated."""
        repeated = len(self.cause_ids) - 1
        return repeated < len(_UPLOAD_AGAIN_SECONDS) and now - self.sent_at >= _UPLOAD_AGAIN_SECONDS[repeated]

    def read(self, api: ApiClient, model: str, earlier: Snapshot | None) -> Snapshot:
        """Return the snapshot of the first cause that the stack has seen, and follow no other from then on."""
        for cause_id in self.cause_ids:
            snapshot = read_cause(api, model, cause_id, earlier)
            if snapshot.cause_status != "unseen":
                self.cause_ids = [cause_id]
                break
        return snapshot


def _timeout_message(unfinished: list[Snapshot], seconds: float) -> str:
    # An upload that the stack never receives is another fault than a slow run.
    if all(snapshot.cause_status == "unseen" for snapshot in unfinished):
        return f"the stack did not receive the upload within {seconds:.0f} seconds; check that it is fully deployed"
    return f"the run did not finish within {seconds:.0f} seconds; it continues without this command"


def read_cause(api: ApiClient, model: str, cause_id: str, earlier: Snapshot | None = None) -> Snapshot:
    """Return the current snapshot of a cause; takes the training data from an earlier one."""
    try:
        record = api.get(f"/models/{model}/causes/{cause_id}")
    except ApiError as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
        return Snapshot(model, "unseen")
    status, reason, run_id = record["status"], record.get("reason") or "", record.get("run_id")
    if run_id is None:
        return Snapshot(model, status, reason)
    document = api.get(f"/models/{model}/runs/{run_id}")
    return Snapshot(
        model,
        status,
        reason,
        run_id,
        document["run"],
        tuple(document.get("trials") or ()),
        document.get("evaluation"),
        (earlier.training_data if earlier else None) or read_training_data(api, document["run"]),
    )


class RunProgress(LiveDisplay):
    """Display of the snapshots of one or more runs.

    Parameters
    ----------
    console : rich Console
        A terminal is redrawn in place; other outputs get one line per change.
    clock : callable
        Returns seconds; measures the stages as this command observes them.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        self._began = clock()
        self._stage_times: dict[str, dict[str, float]] = {}
        self._printed: set[str] = set()
        self._printed_at = self._began
        self._live = Live(console=console, refresh_per_second=8, transient=True) if console.is_terminal else None

    def show(self, snapshots: Sequence[Snapshot]) -> None:
        """Show the current snapshots."""
        for snapshot in snapshots:
            if snapshot.run:
                stage = str(snapshot.run.get("stage"))
                self._stage_times.setdefault(snapshot.model, {}).setdefault(stage, self._clock())
        if self._live:
            self._live.update(Group(*(self._draw(snapshot) for snapshot in snapshots)))
            return
        for snapshot in snapshots:
            for message in _messages(snapshot):
                line = f"{snapshot.model}: {message}"
                if line not in self._printed:
                    self._printed.add(line)
                    self._print(line)
        if self._clock() - self._printed_at >= _HEARTBEAT_SECONDS:
            for snapshot in snapshots:
                if not snapshot.is_final:
                    self._print(f"{snapshot.model}: still {self._current_step(snapshot)}")

    def _print(self, line: str) -> None:
        self._printed_at = self._clock()
        self._console.print(Text(f"[{self._printed_at - self._began:6.1f} s] {line}"), soft_wrap=True)

    def _current_step(self, snapshot: Snapshot) -> str:
        if not snapshot.run:
            return _cause_message(snapshot)
        return f"{snapshot.run.get('stage')}{self._time_left(snapshot)}"

    def _time_left(self, snapshot: Snapshot) -> str:
        """Return the estimated rest of the training stage, from the trials that are finished; empty when unknown."""
        began = self._stage_times.get(snapshot.model, {}).get("training")
        finished = sum(trial.get("status") in _FINISHED_TRIALS for trial in snapshot.trials)
        if began is None or not finished or not snapshot.run or snapshot.run.get("stage") != "training":
            return ""
        open_trials = len(snapshot.trials) - finished
        seconds = (self._clock() - began) / finished * open_trials
        return f", {finished} of {len(snapshot.trials)} trials, about {format_seconds(seconds)} left"

    def _draw(self, snapshot: Snapshot) -> RenderableType:
        if not snapshot.run:
            waited = (f"  {self._clock() - self._began:5.1f} s", "dim")
            return Spinner("dots", Text.assemble(f"{snapshot.model}: {_cause_message(snapshot)}", waited))
        lines: list[RenderableType] = [Text(f"{snapshot.model}  run {snapshot.run_id}", style="bold")]
        times = self._stage_times[snapshot.model]
        reached = [stage for stage in _STAGES if stage in times]
        for stage, following in zip(reached, [*reached[1:], "finished"], strict=True):
            seconds = times.get(following, self._clock()) - times[stage]
            is_current = following == "finished" and not snapshot.is_final
            left = self._time_left(snapshot) if is_current else ""
            label = Text.assemble(f"{stage:<12}", (f"{seconds:5.1f} s{left}", "dim"))
            lines.append(Spinner("dots", label) if is_current else Text.assemble(("✓ ", "green"), label))
        if snapshot.training_data:
            lines.append(Text(training_data_line(snapshot.training_data)))
            lines += [Text(f"warning: {message}", "yellow") for message in snapshot.training_data["warnings"]]
        if snapshot.trials:
            lines.append(trials_table(snapshot.trials))
        if snapshot.is_final:
            lines.append(format_status(_final_status(snapshot)))
        return Group(*lines)


def _messages(snapshot: Snapshot) -> Iterable[str]:
    """Yield a line for the stage and for each trial; the caller drops the lines it has printed."""
    if not snapshot.run:
        yield _cause_message(snapshot)
        return
    if str(snapshot.run.get("stage")) in _STAGES:
        yield str(snapshot.run["stage"])
    if snapshot.training_data:
        yield training_data_line(snapshot.training_data)
        yield from (f"  warning: {message}" for message in snapshot.training_data["warnings"])
    for trial in snapshot.trials:
        if trial.get("status") not in (None, "planned"):
            reason = f": {trial['reason']}" if trial.get("reason") else ""
            yield f"  {_trial_name(trial)} {trial['status']}{_first_metric(trial)}{reason}"
    if snapshot.is_final:
        yield _final_status(snapshot)


def _final_status(snapshot: Snapshot) -> str:
    return "awaiting approval" if snapshot.awaits_approval else snapshot.status


def _trial_name(trial: Mapping[str, Any]) -> str:
    later = f" (round {trial['round']})" if trial.get("round", 1) > 1 else ""
    return f"{trial.get('trial_id') or trial.get('candidate')}{later}"


def _first_metric(trial: Mapping[str, Any]) -> str:
    metrics = trial.get("metrics") or {}
    if trial["status"] != "succeeded" or not metrics:
        return ""
    name = next(iter(metrics))
    return f", {name} {format_value(metrics[name])}"


def _cause_message(snapshot: Snapshot) -> str:
    return _CAUSE_MESSAGES.get(snapshot.cause_status, snapshot.reason)
