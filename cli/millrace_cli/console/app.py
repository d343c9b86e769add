"""The console as a WSGI application: addresses, errors, static files."""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any

from millrace.errors import MillraceError
from millrace.reports import render
from werkzeug.exceptions import HTTPException, NotFound
from werkzeug.routing import Map, Rule
from werkzeug.wrappers import Request, Response

from millrace_cli.api import ApiClient
from millrace_cli.console import action_pages
from millrace_cli.console.guard import Guard
from millrace_cli.console.mlflow.pages_app import HOME, MlflowPagesApp
from millrace_cli.console.page import NAVIGATION, TEMPLATES, PageContext, html
from millrace_cli.console.pages import (
    batches,
    comparison,
    datasets,
    home,
    ledger,
    model,
    monitoring,
    operations,
    releases,
    runs,
    uploads,
    versions,
)
from millrace_cli.errors import ApiError, CliError
from millrace_cli.target import Target

#: Of a form or an uploaded table, in bytes.
MAX_BODY = 2_500_000_000
_MAX_FIELD = 2_000_000
_STATIC_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_BAD_GATEWAY, _SERVER_ERROR = 502, 500
View = Callable[..., Response]

#: Views by the address of their page.
_PAGES: Mapping[str, View] = {
    "/": home.show_models,
    "/operations": operations.show_operations,
    "/upload": uploads.show_form,
    "/models/<model>": model.show_model,
    "/models/<model>/runs": runs.list_runs,
    "/models/<model>/runs/<run_id>": runs.show_run,
    "/models/<model>/compare": comparison.compare_versions,
    "/models/<model>/versions": versions.list_versions,
    "/models/<model>/versions/<version>": versions.show_version,
    "/models/<model>/versions/<version>/try": versions.show_form,
    "/models/<model>/data": datasets.list_datasets,
    "/models/<model>/data/<dataset_id>": datasets.show_dataset,
    "/models/<model>/monitoring": monitoring.show_report,
    "/models/<model>/incidents/<incident_id>": monitoring.show_protocol,
    "/models/<model>/releases": releases.list_releases,
    "/models/<model>/releases/<release_id>": releases.show_release,
    "/models/<model>/batches": batches.list_jobs,
    "/models/<model>/batches/<job_id>": batches.show_job,
    "/models/<model>/maturity": operations.show_maturity,
    "/models/<model>/ledger": ledger.show_ledger,
    "/models/<model>/actions/<action>": action_pages.show_action,
}
#: Views that read a form; all but predictions change something.
_FORMS: Mapping[str, View] = {
    "/upload": uploads.receive_table,
    "/models/<model>/versions/<version>/try": versions.predict,
    "/models/<model>/actions/<action>": action_pages.take_action,
}
_ROUTES = Map(
    [
        *(Rule(address, endpoint=view, methods=["GET"]) for address, view in _PAGES.items()),
        *(Rule(address, endpoint=view, methods=["POST"]) for address, view in _FORMS.items()),
    ],
    strict_slashes=False,
)


class ConsoleRequest(Request):
    """A request whose fields are bounded; files are written to the disk as they arrive."""

    max_content_length = MAX_BODY
    max_form_memory_size = _MAX_FIELD


@dataclass(frozen=True, slots=True)
class ConsoleApp:
    """The console of one stack.

    Parameters
    ----------
    api : ApiClient
        Signs; one serves every request.
    allows_actions : bool, default=False
        Lets forms change the stack.
    mlflow : MlflowPagesApp, optional
        MLflow's own pages, below ``/mlflow/``.
    """

    target: Target
    api: ApiClient
    guard: Guard
    allows_actions: bool = False
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    mlflow: MlflowPagesApp | None = None

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Serve a request."""
        with ConsoleRequest(environ) as request:  # closes what was uploaded
            response = self._respond_safely(request)
        return self.guard.seal(response)(environ, start_response)

    def _respond_safely(self, request: Request) -> Response:
        """Return the response to a request; whatever fails is a page."""
        try:
            response = self._respond(request)
        except HTTPException as error:
            response = self._show_fault(request, error.code or _SERVER_ERROR, error.description or "", "")
        except ApiError as error:
            response = self._show_fault(request, error.status, error.message, error.hint)
        except CliError as error:
            response = self._show_fault(request, _BAD_GATEWAY, error.message, error.hint)
        except MillraceError as error:
            response = self._show_fault(request, error.http_status, error.message, "")
        except Exception:  # whatever failed, a page says so; the terminal has the traceback
            logging.getLogger(__name__).exception("the page %s failed", request.path)
            fault = "the console has a fault: its terminal shows it"
            response = self._show_fault(request, _SERVER_ERROR, fault, "report it with the terminal's last lines")
        return response

    def _respond(self, request: Request) -> Response:
        self.guard.check_host(request)
        if (opened := self.guard.open_session(request)) is not None:
            return opened
        if self.mlflow is not None and f"{request.path}/".startswith(HOME):
            return self.mlflow.respond(request)
        self.guard.check(request)
        if request.path.startswith("/static/"):
            return _static_file(request.path.removeprefix("/static/"))
        view, parameters = _ROUTES.bind_to_environ(request.environ).match()
        context = self._context(request, parameters.get("model"))
        if request.method == "POST":
            return view(context, request, **parameters)  # type: ignore[no-any-return]  # of the map's endpoints
        return view(context, **parameters)  # type: ignore[no-any-return]  # as above

    def _context(self, request: Request, model: str | None) -> PageContext:
        return PageContext(
            api=self.api,
            target=self.target,
            query=request.args,
            now=self.clock(),
            path=request.path,
            allows_actions=self.allows_actions,
            form_token=self.guard.form_token,
            notice=request.args.get("done", "")[:300],
            model=model,
            navigation=(*NAVIGATION, (HOME, "MLflow")) if self.mlflow else NAVIGATION,
        )

    def _show_fault(self, request: Request, status: int, message: str, hint: str) -> Response:
        """Return the page of an error; without a session only its text."""
        try:
            self.guard.check_host(request)
            self.guard.check(request)
        except HTTPException:
            return Response(f"{message}\n", status=status, content_type="text/plain; charset=utf-8")
        context = self._context(request, None)
        text = context.write("fault.html", status=status, message=message, hint=hint)
        return html(text, status)


@cache
def _static_file(name: str) -> Response:
    folders = (TEMPLATES, render.TEMPLATES)
    found = next((folder / name for folder in folders if name in _STATIC_FILES and (folder / name).is_file()), None)
    if found is None:
        raise NotFound
    return Response(found.read_bytes(), content_type=f"{_STATIC_TYPES[found.suffix]}; charset=utf-8")


_STATIC_FILES = frozenset({"style.css", "page.js", "console.css", "console.js", "mlflow.js", "icon.svg"})
