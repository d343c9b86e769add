"""PostgreSQL on 127.0.0.1 in a folder of its own, for one benchmark: started from its programs and ended by its id."""

import getpass
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SECONDS = 60.0


@contextmanager
def serve_postgresql(programs: Path) -> Iterator[tuple[str, int]]:
    """Serve an empty database; give its URI for SQLAlchemy, and the id of the server's process.

    ``programs`` is the folder of ``initdb`` and ``postgres``, as Debian's /usr/lib/postgresql/15/bin. The server does
    not run as root, so root needs the user ``postgres``.
    """
    user = "postgres" if os.geteuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="postgresql"))
    if user:
        shutil.chown(folder, user)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    data = folder / "data"
    subprocess.run(
        [programs / "initdb", "-D", data, "-A", "trust", "-U", "mlflow", "-E", "UTF8", "--no-sync"],
        user=user,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    command = [programs / "postgres", "-D", data, "-h", "127.0.0.1", "-p", str(port), "-k", folder]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, user=user, stdout=log, stderr=log, cwd=folder)
    try:
        _wait(port, server)
        yield f"postgresql+psycopg2://mlflow@127.0.0.1:{port}/postgres", server.pid
    finally:
        server.send_signal(signal.SIGINT)  # "fast": open sessions are ended
        server.wait(timeout=_SECONDS)
        shutil.rmtree(folder)


def _wait(port: int, server: subprocess.Popen) -> None:
    end = time.monotonic() + _SECONDS
    while time.monotonic() < end and server.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise SystemExit(f"PostgreSQL does not start as {getpass.getuser()}")


def spent_seconds(server: int) -> float:
    """Return the processor's seconds of a server's children, which do its work; of those that live."""
    spent = 0
    for task in Path(f"/proc/{server}/task/{server}/children").read_text().split():
        try:
            # The first number is the time on the processor, in nanoseconds.
            spent += int(Path(f"/proc/{task}/schedstat").read_text().split()[0])
        except OSError:
            continue  # it has ended since
    return spent / 1e9
