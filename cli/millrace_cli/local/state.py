"""What is known about the local stack that was started last, in ``.millrace/local/state.json``."""

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

LOCAL_REGION = "us-east-1"


@dataclass(frozen=True, slots=True)
class LocalState:
    """One local stack.

    Parameters
    ----------
    pid : int
        Of MiniStack, which leads its own process group.
    started : str
        When that process started, as the operating system tells it; a later process with the same pid differs.
    stack : str
        The CloudFormation stack's name.
    authority : str
        Path of the certificate authority that clients have to trust.
    access_key_id, secret_access_key : str
        Throw-away credentials of this stack's administrator; they open nothing else.
    deployed : str, default=""
        Fingerprint of what was deployed last; empty before the first deployment succeeded.
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

    @property
    def endpoint(self) -> str:
        """The URL that stands for every AWS service."""
        return f"https://127.0.0.1:{self.port}"

    def with_changes(self, **changes: Any) -> Self:
        """Return a copy with some fields changed."""
        return replace(self, **changes)


def state_path(local_dir: Path) -> Path:
    """Return where the state is kept."""
    return local_dir / "state.json"


def read_state(local_dir: Path) -> LocalState | None:
    """Return the recorded state; None when there is none or it cannot be read."""
    try:
        document = json.loads(state_path(local_dir).read_text(encoding="utf-8"))
        return LocalState(**document)
    except (OSError, ValueError, TypeError):
        return None


def write_state(local_dir: Path, state: LocalState) -> None:
    """Record the state, whole or not at all, readable by this user only."""
    local_dir.mkdir(parents=True, exist_ok=True)
    temporary = state_path(local_dir).with_suffix(".tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(asdict(state), file, indent=2)
    temporary.replace(state_path(local_dir))
