"""The console's server: threads on 127.0.0.1, for one user."""

from collections.abc import Callable
from datetime import UTC, datetime

from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server

from millrace_cli.api import ApiClient
from millrace_cli.console.app import ConsoleApp
from millrace_cli.console.guard import Guard
from millrace_cli.console.mlflow.installed_pages import InstalledPages
from millrace_cli.console.mlflow.pages_app import HOME, MlflowPagesApp
from millrace_cli.target import Target

HOST = "127.0.0.1"


class QuietHandler(WSGIRequestHandler):
    """A handler that prints no line for each request: its address may hold the session's token."""

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Print nothing."""

    def version_string(self) -> str:
        """Return a name without versions."""
        return "millrace"


def make_console(
    target: Target,
    api: ApiClient,
    port: int,
    *,
    allows_actions: bool,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    pages: InstalledPages | None = None,
) -> tuple[BaseWSGIServer, Guard]:
    """Return a listening server, and the guard that makes its address; port 0 takes a free one.

    With ``pages``, it serves MLflow's too, and the address leads to them.

    Raises
    ------
    SystemExit
        When the port is taken: Werkzeug says so itself.
    """
    guard = Guard(port, HOME if pages else "/")
    mlflow = MlflowPagesApp(pages, api, target, guard, allows_actions) if pages else None
    app = ConsoleApp(target, api, guard, allows_actions, clock, mlflow)
    server = make_server(HOST, port, app, threaded=True, request_handler=QuietHandler)
    guard.port = server.server_port
    return server, guard
