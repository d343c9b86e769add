"""Checkout that the local stack deploys, and the recorded state of that stack."""

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

from millrace_cli.errors import CliError

LOCAL_REGION = "us-east-1"


@dataclass(frozen=True, slots=True)
class Project:
    """Checkout of Millrace.

    Parameters
    ----------
    root : Path
        The folder with ``template.yaml``.
    local_name : str, default="local"
        Name of the local stack within the checkout; the tests use one of their own.
    """

    root: Path
    local_name: str = "local"

    @property
    def local_dir(self) -> Path:
        """Folder of the local stack's files."""
        return self.root / ".millrace" / self.local_name

    @property
    def demo_dir(self) -> Path:
        """Folder of the demonstration's tables."""
        return self.root / ".millrace" / "demo"

    def tool(self, environment: str, program: str | None = None) -> Path:
        """Return the path of a tool's program in its own environment.

        Raises
        ------
        CliError
            When the tool is not installed.
        """
        path = self.root / ".millrace" / "tools" / environment / "bin" / (program or environment)
        if not path.exists():
            raise CliError(f"{environment} is not installed for this checkout", f"run: make -C {self.root} tools")
        return path


def find_project(start: Path | None = None) -> Project | None:
    """Return the checkout around ``start`` (default: the working directory), else the one of this package."""
    places = [start or Path.cwd(), Path(__file__).resolve().parent]
    for place in places:
        for folder in (place, *place.parents):
            if (folder / "template.yaml").exists() and (folder / "shared" / "millrace").is_dir():
                return Project(folder)
    return None


def require_project() -> Project:
    """Return the checkout; raises ``CliError`` when there is none."""
    project = find_project()
    if project is None:
        raise CliError("this folder is not in a Millrace checkout", "run this in the folder with template.yaml")
    return project


@dataclass(frozen=True, slots=True)
class LocalState:
    """State of the local stack that was started last.

    Parameters
    ----------
    pid : int
        Process id of MiniStack, which leads its own process group.
    started : str
        Start time of that process, in the operating system's format; a later process with the same pid differs.
    stack : str
        Name of the CloudFormation stack.
    authority : str
        Path of the certificate authority that clients must trust.
    access_key_id, secret_access_key : str
        Throw-away credentials of this stack's administrator; they are valid nowhere else.
    deployed : str, default=""
        Fingerprint of the last deployment; empty before the first one succeeded.
    keeps : bool, default=False
        True when the stack keeps its state between runs.
    """

    pid: int
    started: str
    port: int
    stack: str
    authority: str
    access_key_id: str = ""
    secret_access_key: str = ""
    region: str = LOCAL_REGION
    deployed: str = ""
    keeps: bool = False

    @property
    def endpoint(self) -> str:
        """URL of every AWS service."""
        return f"https://127.0.0.1:{self.port}"

    def with_changes(self, **changes: Any) -> Self:
        """Return a copy with some fields changed."""
        return replace(self, **changes)


def state_path(local_dir: Path) -> Path:
    """Return the path of the state file."""
    return local_dir / "state.json"


def read_state(local_dir: Path) -> LocalState | None:
    """Read the recorded state; returns None when there is none or it is invalid."""
    try:
        document = json.loads(state_path(local_dir).read_text(encoding="utf-8"))
        return LocalState(**document)
    except (OSError, ValueError, TypeError):
        return None


def write_state(local_dir: Path, state: LocalState) -> None:
    """Write the state atomically, readable by this user only."""
    local_dir.mkdir(parents=True, exist_ok=True)
    temporary = state_path(local_dir).with_suffix(".tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(asdict(state), file, indent=2)
    temporary.replace(state_path(local_dir))


def interruption(project: Project) -> str:
    """Return what happened to a stack that ended without `millrace local down`; empty for one that was stopped."""
    state = read_state(project.local_dir)
    if state is None:
        return ""
    fate = "its data is kept" if state.keeps else "its models and data are lost, as it ran without --keep"
    return f": MiniStack (process {state.pid}) ended unexpectedly; {fate}"


def restart_command(project: Project | None) -> str:
    """Return the command that starts the stack again as it was started."""
    state = read_state(project.local_dir) if project else None
    return "millrace local up --keep" if state and state.keeps else "millrace local up"
