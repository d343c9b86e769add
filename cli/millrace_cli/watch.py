"""Watching a cause become a run, and a run become a version, by asking the API."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from millrace.entities import FINISHED_STATUSES

from millrace_cli.api import ApiClient
from millrace_cli.errors import ApiError, CliError

_NOT_FOUND = 404
AWAITING_APPROVAL = "awaiting_approval"

CauseView = Literal["unseen", "pending", "started", "skipped"]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is known at one moment.

    Parameters
    ----------
    cause_status : CauseView
        ``unseen`` until the upload's event arrived.
    run, trials, evaluation
        As ``GET /models/{model}/runs/{run_id}`` has them; empty before a run exists.
    reason : str
        Why a cause was skipped or waits.
    """

    model: str
    cause_status: CauseView
    reason: str = ""
    run_id: str | None = None
    run: Mapping[str, Any] | None = None
    trials: tuple[Mapping[str, Any], ...] = ()
    evaluation: Mapping[str, Any] | None = None

    @property
    def status(self) -> str:
        """The run's status; empty before there is one."""
        return str(self.run["status"]) if self.run else ""

    @property
    def awaits_approval(self) -> bool:
        """Whether nothing more will happen until a person answers."""
        return self.run is not None and self.run.get("stage") == AWAITING_APPROVAL

    @property
    def is_final(self) -> bool:
        """Whether nothing more will happen, or not by itself."""
        return self.cause_status == "skipped" or self.status in FINISHED_STATUSES or self.awaits_approval

    @property
    def exit_code(self) -> int:
        """What a script is told: 0 succeeded or waiting for a person, 2 refused, 1 anything else."""
        if self.awaits_approval:
            return 0
        if self.cause_status == "skipped" or self.status == "rejected":
            return 2
        return 0 if self.status == "succeeded" else 1


def follow_causes(
    api: ApiClient,
    causes: Mapping[str, str],
    *,
    poll_seconds: float,
    timeout_seconds: float,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[list[Snapshot]]:
    """Yield what is known about causes and their runs, until every run has finished.

    Parameters
    ----------
    causes : mapping of str to str
        Cause id by model.

    Raises
    ------
    CliError
        When it takes longer than ``timeout_seconds``; the runs themselves go on.
    """
    deadline = clock() + timeout_seconds
    known: dict[str, Snapshot] = {}
    while True:
        for model, cause_id in causes.items():
            if model not in known or not known[model].is_final:
                known[model] = read_cause(api, model, cause_id)
        yield list(known.values())
        unfinished = [snapshot for snapshot in known.values() if not snapshot.is_final]
        if not unfinished:
            return
        if clock() >= deadline:
            raise CliError(_too_long(unfinished, timeout_seconds), f"look again: millrace runs {unfinished[0].model}")
        sleep(poll_seconds)


def _too_long(unfinished: list[Snapshot], seconds: float) -> str:
    """Say what was reached; an upload that nobody noticed is another fault than a run that takes its time."""
    if all(snapshot.cause_status == "unseen" for snapshot in unfinished):
        return f"the upload was not noticed within {seconds:.0f} seconds; was the stack deployed completely?"
    return f"no end after {seconds:.0f} seconds; the run goes on without being watched"


def read_cause(api: ApiClient, model: str, cause_id: str) -> Snapshot:
    """Return what is known about a cause now."""
    try:
        record = api.get(f"/models/{model}/causes/{cause_id}")
    except ApiError as error:
        if error.status != _NOT_FOUND:
            raise
        return Snapshot(model, "unseen")
    status, reason, run_id = record["status"], record.get("reason") or "", record.get("run_id")
    if run_id is None:
        return Snapshot(model, status, reason)
    return read_run(api, model, run_id, status, reason)


def read_run(
    api: ApiClient, model: str, run_id: str, cause_status: CauseView = "started", reason: str = ""
) -> Snapshot:
    """Return what is known about a run now."""
    document = api.get(f"/models/{model}/runs/{run_id}")
    return Snapshot(
        model,
        cause_status,
        reason,
        run_id,
        document["run"],
        tuple(document.get("trials") or ()),
        document.get("evaluation"),
    )
