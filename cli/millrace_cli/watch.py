"""Watching a cause become a run, and a run become a version, by asking the API."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from millrace.registry.entities import FINISHED_STATUSES
from millrace_cli.api import ApiClient
from millrace_cli.errors import ApiError, CliError

_NOT_FOUND = 404

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
    def is_final(self) -> bool:
        """Whether nothing more will happen."""
        return self.cause_status == "skipped" or self.status in FINISHED_STATUSES

    @property
    def exit_code(self) -> int:
        """What a script is told: 0 succeeded, 2 refused, 1 anything else."""
        if self.cause_status == "skipped" or self.status == "rejected":
            return 2
        return 0 if self.status == "succeeded" else 1


def follow_cause(
    api: ApiClient,
    model: str,
    cause_id: str,
    *,
    poll_seconds: float,
    timeout_seconds: float,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Snapshot]:
    """Yield what is known about a cause and its run, until the run has finished.

    Raises
    ------
    CliError
        When it takes longer than ``timeout_seconds``; the run itself goes on.
    """
    deadline = clock() + timeout_seconds
    while True:
        snapshot = read_cause(api, model, cause_id)
        yield snapshot
        if snapshot.is_final:
            return
        if clock() >= deadline:
            raise CliError(
                f"no end after {timeout_seconds:.0f} seconds; the run goes on without being watched",
                f"look again: millrace runs {model}" + (f" {snapshot.run_id}" if snapshot.run_id else ""),
            )
        sleep(poll_seconds)


def read_cause(api: ApiClient, model: str, cause_id: str) -> Snapshot:
    """Return what is known about a cause now."""
    try:
        document = api.get(f"/models/{model}/causes/{cause_id}")
    except ApiError as error:
        if error.status != _NOT_FOUND:
            raise
        return Snapshot(model, "unseen")
    record = document.get("cause", document)
    status, reason, run_id = record["status"], record.get("reason") or "", record.get("run_id")
    if run_id is None:
        return Snapshot(model, status, reason)
    return read_run(api, model, run_id, status, reason)


def read_run(api: ApiClient, model: str, run_id: str, cause_status: CauseView = "started", reason: str = "") -> Snapshot:
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
