"""Lifecycle of the local stack: start and deploy, stop, current state."""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass

from millrace_cli.errors import CliError
from millrace_cli.local import deploy as sam
from millrace_cli.local import ministack
from millrace_cli.local.process import is_running, stop_processes
from millrace_cli.local.project import LocalState, Project, read_state, state_path, write_state
from millrace_cli.local.tls import CertificatePaths


@dataclass(frozen=True, slots=True)
class UpResult:
    """Result of :func:`up`.

    Parameters
    ----------
    started, built, deployed : bool
        Steps that were necessary.
    seconds : float
        Duration.
    """

    state: LocalState
    started: bool
    built: bool
    deployed: bool
    seconds: float


def live_state(project: Project) -> LocalState | None:
    """Return the state of the running local stack, deployed or not; None when it is not running.

    Raises
    ------
    CliError
        When its process is running but does not respond. Treating it as stopped would lose its data.
    """
    state = read_state(project.local_dir)
    if state is None or not is_running(state.pid, state.started):
        return None
    patience = ministack.PATIENCE_SECONDS
    if not ministack.responds_within(state, patience):
        raise CliError(
            f"the local stack is running (process {state.pid}), but did not respond within {patience:.0f} seconds",
            "wait until it is less busy; or restart it: millrace local down, then millrace local up",
        )
    return state


def up(project: Project, port: int | None, report: Callable[[str], None]) -> UpResult:
    """Start the local stack unless it is running; build and deploy if a source changed.

    Parameters
    ----------
    port : int or None
        Port to listen on; None for 4566 or the next free one.
    report : callable
        Receives the name of each step.

    Raises
    ------
    CliError
        When a step fails. A stack whose start fails is stopped again; one whose deployment fails keeps running.
    """
    began = time.monotonic()
    # Both tools are located first, so that a missing one fails before the start.
    fingerprint = sam.LocalBuild(project).current_fingerprint()
    project.tool("sam")
    state = live_state(project)
    started = state is None
    if state is None:
        report("start MiniStack")
        state = _start(project, port)
    elif port not in (None, state.port):
        raise CliError(
            f"the local stack is already running on port {state.port}",
            f"omit --port; or restart it: millrace local down, then millrace local up --port {port}",
        )
    if state.deployed == fingerprint:
        return UpResult(state, started=False, built=False, deployed=False, seconds=time.monotonic() - began)
    built = not sam.LocalBuild(project).is_current(fingerprint)
    if built:
        report("sam build: functions, shared library and layers for this machine")
        sam.build(project, fingerprint)
    report(f"sam deploy: stack {state.stack}")
    sam.deploy(project, state)
    state = state.with_changes(deployed=fingerprint)
    write_state(project.local_dir, state)
    return UpResult(state, started, built, deployed=True, seconds=time.monotonic() - began)


def down(project: Project) -> int:
    """Stop every process of the local stack and remove its temporary files; builds and logs stay.

    Works after a crash too: processes are found by their environment, not by the recorded state.

    Returns
    -------
    int
        Count of the stopped processes.
    """
    local_dir = project.local_dir
    stopped = stop_processes(local_dir)
    ministack.forget_ended_servers()
    certificates = CertificatePaths.under(local_dir).key.parent
    for folder in (ministack.workers_dir(local_dir), ministack.temporary_dir(local_dir), certificates):
        shutil.rmtree(folder, ignore_errors=True)
    sam.LocalBuild(project).remove_old_layers()
    state_path(local_dir).unlink(missing_ok=True)
    return stopped


def _start(project: Project, port: int | None) -> LocalState:
    down(project)  # clean up after a crash
    program = project.tool("ministack")
    project.local_dir.mkdir(parents=True, exist_ok=True)
    try:
        state = ministack.start_ministack(
            program, project.local_dir, ministack.choose_port(port), sam.stack_name(project)
        )
        state = ministack.create_administrator(state)
    except BaseException:
        down(project)
        raise
    write_state(project.local_dir, state)
    return state
