"""Lifecycle of the local stack: start and deploy, stop, current state."""

import errno
import fcntl
import shlex
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from millrace_cli.errors import CliError
from millrace_cli.local import deploy as sam
from millrace_cli.local import ministack
from millrace_cli.local.certificate_paths import CertificatePaths
from millrace_cli.local.kept import KeptState, resume
from millrace_cli.local.process import is_running, list_processes, save_and_stop, stop_processes
from millrace_cli.local.project import LocalState, Project, read_state, state_path, write_state

#: Seconds that MiniStack may take to save its state at its end.
_SAVE_SECONDS = 60.0
_AGAIN = "then start again: millrace local up"


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
        if not is_running(state.pid, state.started):
            return None  # it ended meanwhile
        raise CliError(
            f"the local stack is running (process {state.pid}), but did not respond within {patience:.0f} seconds",
            "wait until it is less busy; or restart it: millrace local down, then millrace local up",
        )
    return state


def up(project: Project, port: int | None, report: Callable[[str], None], *, keep: bool = False) -> UpResult:
    """Start the local stack unless it is running; build and deploy if a source changed.

    Another command that starts or stops the same stack is waited for.

    Parameters
    ----------
    port : int or None
        Port to listen on; None for 4566 or the next free one.
    report : callable
        Receives the name of each step.
    keep : bool, default=False
        Keeps the state between runs, and restores the one that was kept.

    Raises
    ------
    CliError
        When a step fails. A stack whose start fails is stopped again; one whose deployment fails keeps running.
    """
    with _lock(project, report), _explained(project):
        return _up(project, port, report, keep)


def _up(project: Project, port: int | None, report: Callable[[str], None], keep: bool) -> UpResult:
    began = time.monotonic()
    # Both tools are located first, so that a missing one fails before the start.
    fingerprint = sam.LocalBuild(project).current_fingerprint()
    project.tool("sam")
    state = live_state(project)
    started = state is None
    if state is None:
        report("start MiniStack")
        state = _start(project, port, keep)
    elif keep and not state.keeps:
        raise CliError(
            "the local stack is running, but does not keep its state",
            "start it anew, without the models it has now: millrace local down; millrace local up --keep",
        )
    elif port not in (None, state.port):
        raise CliError(
            f"the local stack is already running on port {state.port}",
            f"omit --port; or restart it: millrace local down, then millrace local up --port {port}",
        )
    if state.deployed == fingerprint:
        return UpResult(state, started, built=False, deployed=False, seconds=time.monotonic() - began)
    built = not sam.LocalBuild(project).is_current(fingerprint)
    if built:
        report("sam build: functions, shared library and layers for this machine")
        sam.build(project, fingerprint)
    report(f"sam deploy: stack {state.stack}")
    sam.deploy(project, state)
    state = state.with_changes(deployed=fingerprint)
    _record(project, state)
    return UpResult(state, started, built, deployed=True, seconds=time.monotonic() - began)


def down(project: Project, *, delete: bool = False, report: Callable[[str], None] = lambda _: None) -> int:
    """Stop every process of the local stack and remove its temporary files; builds, logs and kept state stay.

    Works after a crash too: processes are found by their environment, not by the recorded state.

    Parameters
    ----------
    delete : bool, default=False
        Deletes the kept state too.

    Returns
    -------
    int
        Count of the stopped processes.
    """
    with _lock(project, report), _explained(project):
        stopped = _stop(project)
        if delete:
            KeptState.under(project.local_dir).delete()
        return stopped


def _stop(project: Project) -> int:
    local_dir, count = project.local_dir, 0
    state = read_state(local_dir)
    if state is not None and state.keeps and is_running(state.pid, state.started):
        # Workers are stopped afterwards: MiniStack saves its state while it ends.
        count = len(list_processes(local_dir))
        save_and_stop(state.pid, state.started, patience_seconds=_SAVE_SECONDS)
    stopped = max(count, stop_processes(local_dir))
    ministack.forget_ended_servers()
    certificates = CertificatePaths.under(local_dir).key.parent
    for folder in (ministack.workers_dir(local_dir), ministack.temporary_dir(local_dir), certificates):
        shutil.rmtree(folder, ignore_errors=True)
    sam.LocalBuild(project).remove_old_layers()
    state_path(local_dir).unlink(missing_ok=True)
    return stopped


def _start(project: Project, port: int | None, keep: bool) -> LocalState:
    _stop(project)  # clean up after a crash
    # -P: this package's modules must not stand for MiniStack's.
    program = [str(project.tool("ministack", "python")), "-P", ministack_program_path()]
    project.local_dir.mkdir(parents=True, exist_ok=True)
    kept_state = KeptState.under(project.local_dir)
    kept: LocalState | None = None
    settings: Mapping[str, str] = {}
    if keep:
        kept, settings = kept_state.read(), kept_state.environment()
        program.append("--keep")
        if port is None and kept is not None and ministack.is_port_free(kept.port):
            port = kept.port
    try:
        state = ministack.start_ministack(
            program, project.local_dir, ministack.choose_port(port), sam.stack_name(project), settings
        )
        state = (resume(state, kept) if keep else ministack.create_administrator(state)).with_changes(keeps=keep)
    except BaseException:
        _stop(project)
        raise
    _record(project, state)
    return state


def ministack_program_path() -> str:
    """Return the path of the program that runs MiniStack."""
    return str(Path(__file__).with_name("ministack_program.py"))


def _record(project: Project, state: LocalState) -> None:
    write_state(project.local_dir, state)
    if state.keeps:
        KeptState.under(project.local_dir).write(state)


@contextmanager
def _lock(project: Project, report: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of the stack, so that commands at the same time do not stop each other's processes."""
    path = project.local_dir.with_name(f"{project.local_dir.name}.lock")
    with _explained(project):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("w", encoding="utf-8")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("wait for another command that starts or stops the local stack")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _explained(project: Project) -> Iterator[None]:
    """Report errors of the file system with their remedy."""
    folder = project.root / ".millrace"
    try:
        yield
    except OSError as error:
        place = error.filename or folder
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise CliError(
                f"the disk of {place} is full", f"free some space: df -h {shlex.quote(str(project.root))}; {_AGAIN}"
            ) from error
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise CliError(
                f"{place} cannot be written: {error.strerror}",
                f"make {folder} writable: chmod -R u+w {shlex.quote(str(folder))}; {_AGAIN}; "
                "or use a checkout in a folder of your own",
            ) from error
        raise
