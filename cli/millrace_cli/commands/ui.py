"""`millrace ui`: the console of a stack in the browser."""

import socket
import tempfile
import webbrowser
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from millrace_cli.errors import RefusedError
from millrace_cli.options import StackSession, uses_stack_without_json
from millrace_cli.output import say

_HOST = "127.0.0.1"
_FIRST_PORT, _PORTS = 8765, 20


@uses_stack_without_json
def ui(
    session: StackSession,
    *,
    allow_actions: Annotated[
        bool, typer.Option("--allow-actions", help="Let the console change the stack (default: read only).")
    ] = False,
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Listen on this port of 127.0.0.1 (default: 8765 or the next free one)."),
    ] = None,
    mlflow: Annotated[
        bool, typer.Option("--mlflow", help="Serve MLflow's own pages too, from an installed MLflow.")
    ] = False,
    mlflow_python: Annotated[
        Path | None,
        typer.Option(help="The Python that has MLflow (default: the first one that is found); implies --mlflow."),
    ] = None,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open the browser.")] = True,
) -> None:
    """Run the console of a stack and open it in the browser; Ctrl-C ends it.

    The console serves this machine only, and signs its requests with your credentials.
    """
    from millrace_cli.console.mlflow.installed_pages import find_pages  # noqa: PLC0415  # as the next line
    from millrace_cli.console.server import make_console  # noqa: PLC0415  # templates load slowly

    pages = find_pages(mlflow_python) if mlflow or mlflow_python else None
    target = session.target
    with session.api() as api:
        server, guard = make_console(target, api, _free_port(port), allows_actions=allow_actions, pages=pages)
        address = guard.make_address()
        say(f"console of {target.stack}: {address}")
        if pages:
            say(f"with the pages of MLflow {pages.version}, from {pages.folder}", style="dim")
        say("the address works once; Ctrl-C ends the console", style="dim")
        with tempfile.TemporaryDirectory(prefix="millrace-") as folder:
            if browser:
                webbrowser.open(write_forwarder(Path(folder), address).as_uri())
            try:
                server.serve_forever()
            except KeyboardInterrupt:
                say(f"ended {datetime.now(UTC):%H:%M}")
            finally:
                server.server_close()


def write_forwarder(folder: Path, address: str) -> Path:
    """Write a page that leads to an address, in a folder of this user alone.

    The browser's command line, which every user of the machine can read, names the page and not the address.
    """
    page = folder / "console.html"
    page.write_text(f'<meta http-equiv="refresh" content="0;url={address}">', encoding="utf-8")
    return page


def _free_port(port: int | None) -> int:
    """Return the port to listen on: the named one, else the first free one; raises ``RefusedError`` when taken."""
    for candidate in [port] if port else range(_FIRST_PORT, _FIRST_PORT + _PORTS):
        with socket.socket() as probe:
            try:
                probe.bind((_HOST, candidate))
            except OSError:
                continue
            return candidate
    raise RefusedError(
        f"port {port or _FIRST_PORT} of {_HOST} is taken",
        f"name another one: millrace ui --port {_FIRST_PORT + _PORTS}",
    )
