"""The local stack as a whole: up, down, and how it stands."""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass

from millrace_cli.errors import CliError
from millrace_cli.local import deploy as sam
from millrace_cli.local import ministack
from millrace_cli.local.process import is_running, stop_processes
from millrace_cli.local.state import LocalState, read_state, state_path, write_state
from millrace_cli.local.tls import CertificatePaths
from millrace_cli.project import Project

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class UpResult:
    """What ``up`` did.

    Parameters
    ----------
    started, built, deployed : bool
        Which steps were needed.
    seconds : float
        How long it took.
    """

    state: LocalState
    started: bool
    built: bool
    deployed: bool
    seconds: float


def live_state(project: Project) -> LocalState | None:
    """Return the state of the local stack that runs, whether or not it was deployed to; else None.

    Raises
    ------
    CliError
        When its process runs but does not answer. It is never taken for stopped: what is in it would be lost.
    """
    state = read_state(project.local_dir)
    if state is None or not is_running(state.pid, state.started):
        return None
    patience = ministack.PATIENCE_SECONDS
    if not ministack.answers_within(state, patience):
        raise CliError(
            f"the local stack runs (process {state.pid}), but did not answer for {patience:.0f} seconds",
            "wait until it is less busy; or begin anew: millrace local down, then millrace local up",
        )
    return state


def up(project: Project, port: int | None, report: Report) -> UpResult:
    """Start the stack if it does not run, build and deploy if anything changed.

    Parameters
    ----------
    port : int or None
        The port to take; None takes 4566 or the next free one.
    report : callable
        Is told each step in words.

    Raises
    ------
    CliError
        When a step fails. A stack that was started for it is stopped again, unless it can be mended in place.
    """
    began = time.monotonic()
    # Both tools are looked for first: a fault that can be known now should not cost a start.
    wanted = sam.LocalBuild(project).wanted()
    project.tool("sam")
    state = live_state(project)
    started = state is None
    if state is None:
        report("starting MiniStack")
        state = _start(project, port)
    elif port not in (None, state.port):
        raise CliError(
            f"the local stack already runs on port {state.port}",
            f"leave --port out; or move it: millrace local down, then millrace local up --port {port}",
        )
    if state.deployed == wanted:
        return UpResult(state, started=False, built=False, deployed=False, seconds=time.monotonic() - began)
    built = not sam.LocalBuild(project).is_current(wanted)
    if built:
        report("sam build: functions, shared library and layers for this machine")
        sam.build(project, wanted)
    report(f"sam deploy: stack {state.stack}")
    sam.deploy(project, state)
    state = state.with_changes(deployed=wanted)
    write_state(project.local_dir, state)
    return UpResult(state, started, built, deployed=True, seconds=time.monotonic() - began)


def down(project: Project) -> int:
    """End every process of the stack and remove its temporary files; builds and logs stay.

    Works as well after a crash: processes are found by what they are, not by what was recorded.

    Returns
    -------
    int
        How many processes were ended.
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
    down(project)  # what an earlier stack left when it crashed
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
