"""MiniStack server: start, readiness, administrator."""

import atexit
import contextlib
import json
import os
import socket
import ssl
import subprocess
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path

from botocore.config import Config

from millrace_cli.aws_session import key_session, make_client
from millrace_cli.errors import CliError
from millrace_cli.http_client import HttpClient, HttpError
from millrace_cli.local.process import LOCAL_DIR_VARIABLE, is_running, start_time
from millrace_cli.local.project import LOCAL_REGION, LocalState

DEFAULT_PORT = 4566
ADMINISTRATOR = "millrace-local"
#: Seconds that a busy stack may take to respond.
PATIENCE_SECONDS = 30.0

#: MiniStack accepts every request of this key; it creates the administrator, whose requests are authorised.
_ROOT_KEY = "test"
_PORTS_TRIED = 50
_READY_SECONDS = 30.0
_READY_TIMEOUT_SECONDS = 2.0
_POLL_SECONDS = 0.1
_LOG_LINES_SHOWN = 15

#: Started servers, which outlive this command.
_servers: list[subprocess.Popen[bytes]] = []


def log_path(local_dir: Path) -> Path:
    """Return the path of MiniStack's log."""
    return local_dir / "ministack.log"


def temporary_dir(local_dir: Path) -> Path:
    """Return the folder for temporary files of builds and deployments."""
    return local_dir / "tmp"


def workers_dir(local_dir: Path) -> Path:
    """Return the folder for temporary files of MiniStack and the functions' workers."""
    return local_dir / "workers"


def clean_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without AWS settings and Python paths, so that the local stack never uses an account."""
    dropped = ("AWS_", "SAM_", "MINISTACK_", "LAMBDA_", "PYTHON", "VIRTUAL_ENV")
    kept = {name: value for name, value in environment.items() if not name.startswith(dropped)}
    return kept | {
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
    }


def is_port_free(port: int) -> bool:
    """Return True when ``port`` on 127.0.0.1 is free."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def choose_port(requested: int | None) -> int:
    """Return the port to listen on: the requested one, else the first free one from 4566.

    Raises
    ------
    CliError
        When the requested port is in use, or no port is free.
    """
    if requested is not None:
        if not is_port_free(requested):
            raise CliError(
                f"port {requested} on 127.0.0.1 is in use by another program",
                "stop that program, or omit --port to use a free one",
            )
        return requested
    for port in range(DEFAULT_PORT, DEFAULT_PORT + _PORTS_TRIED):
        if is_port_free(port):
            return port
    raise CliError(f"no port from {DEFAULT_PORT} to {DEFAULT_PORT + _PORTS_TRIED - 1} is free", "name one: --port PORT")


def start_ministack(
    program: Sequence[str], local_dir: Path, port: int, stack: str, settings: Mapping[str, str]
) -> LocalState:
    """Start MiniStack in its own process group, with IAM enforcement, and wait until it is ready.

    Parameters
    ----------
    program : sequence of str
        Command line of MiniStack.
    settings : mapping of str to str
        Further environment variables.

    Raises
    ------
    CliError
        When it exits or does not become ready; has the end of its log.
    """
    from millrace_cli.local.tls import make_certificates  # noqa: PLC0415 - a tenth of the start of any command

    certificates = make_certificates(local_dir, datetime.now(UTC))
    workers = workers_dir(local_dir)
    workers.mkdir(mode=0o700, parents=True, exist_ok=True)
    environment = clean_environment(os.environ) | {
        "AUTH": "true",
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "MINISTACK_REGION": LOCAL_REGION,
        "AWS_DEFAULT_REGION": LOCAL_REGION,
        "USE_SSL": "1",
        "MINISTACK_SSL_CERT": str(certificates.certificate),
        "MINISTACK_SSL_KEY": str(certificates.key),
        # Inherited by the functions' workers.
        "AWS_CA_BUNDLE": str(certificates.authority),
        "SSL_CERT_FILE": str(certificates.authority),
        "IOT_MTLS_ENABLED": "0",
        "SFTP_ENABLED": "0",
        "TMPDIR": str(workers),
        "OMP_NUM_THREADS": "1",
        LOCAL_DIR_VARIABLE: str(local_dir),
        **settings,
    }
    with log_path(local_dir).open("wb") as log:
        process = subprocess.Popen(  # noqa: S603  # our own pinned program
            list(program),
            env=environment,
            cwd=local_dir,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    _servers.append(process)
    state = LocalState(
        pid=process.pid,
        started=start_time(process.pid),
        port=port,
        stack=stack,
        authority=str(certificates.authority),
    )
    deadline = time.monotonic() + _READY_SECONDS
    while not is_ready(state):
        if process.poll() is not None:
            raise CliError(f"MiniStack exited while starting:\n{log_end(log_path(local_dir))}", _log_hint(local_dir))
        if time.monotonic() > deadline:
            raise CliError(f"MiniStack was not ready within {_READY_SECONDS:.0f} seconds", _log_hint(local_dir))
        time.sleep(_POLL_SECONDS)
    return state


def forget_ended_servers() -> None:
    """Reap the servers that this process started and that have exited."""
    _servers[:] = [server for server in _servers if server.poll() is None]


@atexit.register
def _leave_servers() -> None:
    """Let this process end without its servers; Python would warn that nobody waits for them."""
    forget_ended_servers()
    for server in _servers:
        server.returncode = 0


def is_ready(state: LocalState) -> bool:
    """Return True when MiniStack responds on the recorded port."""
    try:
        trust = ssl.create_default_context(cafile=state.authority)
        with HttpClient.connect(state.endpoint, trust, uses_proxies=False, seconds=_READY_TIMEOUT_SECONDS) as client:
            return client.request("GET", "/_ministack/ready").status_code == HTTPStatus.OK
    except (HttpError, OSError):
        return False


def responds_within(state: LocalState, seconds: float) -> bool:
    """Return True when MiniStack responds within ``seconds``; tries at least once, and as long as it runs."""
    deadline = time.monotonic() + seconds
    while not is_ready(state):
        if time.monotonic() > deadline or not is_running(state.pid, state.started):
            return False
        time.sleep(_POLL_SECONDS)
    return True


def log_end(path: Path, lines: int = _LOG_LINES_SHOWN) -> str:
    """Return the last lines of a log file."""
    try:
        return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
    except OSError:
        return ""


def create_administrator(state: LocalState) -> LocalState:
    """Create the user that deploys and calls, whose requests MiniStack authorises; returns the state with its key."""
    session = key_session(_ROOT_KEY, _ROOT_KEY, state.region)
    local = {"endpoint_url": state.endpoint, "verify": state.authority, "config": Config(proxies={})}
    iam = make_client(session, "iam", **local)
    policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    with contextlib.suppress(iam.exceptions.EntityAlreadyExistsException):
        iam.create_user(UserName=ADMINISTRATOR)
    iam.put_user_policy(UserName=ADMINISTRATOR, PolicyName="administrator", PolicyDocument=json.dumps(policy))
    key = iam.create_access_key(UserName=ADMINISTRATOR)["AccessKey"]
    return state.with_changes(access_key_id=key["AccessKeyId"], secret_access_key=key["SecretAccessKey"])


def _log_hint(local_dir: Path) -> str:
    return f"read the full log: {log_path(local_dir)}"
