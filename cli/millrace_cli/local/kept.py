"""State that a local stack keeps between its runs (`millrace local up --keep`)."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.config import Config
from botocore.exceptions import ClientError

from millrace_cli.aws_session import key_session, make_client
from millrace_cli.local import ministack
from millrace_cli.local.project import LocalState, read_state, state_path, write_state

_DEPLOYED_SUFFIX = "_COMPLETE"


@dataclass(frozen=True, slots=True)
class KeptState:
    """Folder of a local stack's kept state.

    Parameters
    ----------
    folder : Path
        Has MiniStack's state, the objects of S3, and the stack's recorded state.
    """

    folder: Path

    @classmethod
    def under(cls, local_dir: Path) -> "KeptState":
        """Return the kept state of the local stack in ``local_dir``."""
        return cls(local_dir / "kept")

    @property
    def exists(self) -> bool:
        """True when a stack has kept its state here."""
        return state_path(self.folder).exists()

    def environment(self) -> Mapping[str, str]:
        """Return the settings with which MiniStack restores and saves its state."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return {
            "PERSIST_STATE": "1",
            "STATE_DIR": str(self.folder / "state"),
            "S3_PERSIST": "1",
            "S3_DATA_DIR": str(self.folder / "s3"),
        }

    def read(self) -> LocalState | None:
        """Return the recorded state of the stack that was kept; None when there is none."""
        return read_state(self.folder)

    def write(self, state: LocalState) -> None:
        """Record the state of the running stack."""
        write_state(self.folder, state)

    def delete(self) -> None:
        """Delete the kept state."""
        shutil.rmtree(self.folder, ignore_errors=True)


def resume(state: LocalState, kept: LocalState | None) -> LocalState:
    """Return the state of a restarted stack with the kept credentials and deployment.

    Where the kept state is older than its record, because the stack was killed, what is missing is made again: an
    administrator is created, or the stack is deployed again.
    """
    if kept is None:
        return ministack.create_administrator(state)
    resumed = state.with_changes(
        access_key_id=kept.access_key_id, secret_access_key=kept.secret_access_key, deployed=kept.deployed
    )
    session = key_session(resumed.access_key_id, resumed.secret_access_key, resumed.region)
    local = {"endpoint_url": resumed.endpoint, "verify": resumed.authority, "config": Config(proxies={})}

    def client(service: str) -> Any:
        return make_client(session, service, **local)

    try:
        client("sts").get_caller_identity()
        client("iam").get_user(UserName=ministack.ADMINISTRATOR)
    except ClientError:
        return ministack.create_administrator(state)
    try:
        (stack,) = client("cloudformation").describe_stacks(StackName=resumed.stack)["Stacks"]
        is_complete = str(stack["StackStatus"]).endswith(_DEPLOYED_SUFFIX)
    except ClientError:
        is_complete = False
    return resumed if is_complete else resumed.with_changes(deployed="")
