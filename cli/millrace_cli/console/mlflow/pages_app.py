"""MLflow's pages in the console: their files, and their requests, which the console signs."""

import json
import mimetypes
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

from werkzeug.exceptions import Forbidden, HTTPException, NotFound
from werkzeug.security import safe_join
from werkzeug.wrappers import Request, Response

from millrace_cli.api import ApiClient
from millrace_cli.console.guard import Guard
from millrace_cli.console.mlflow.artifacts import read_artifact
from millrace_cli.console.mlflow.graphql import respond_to_query
from millrace_cli.console.mlflow.installed_pages import InstalledPages
from millrace_cli.errors import ApiError, CliError, MissingObjectError, RefusedError
from millrace_cli.output import Document
from millrace_cli.target import Target

#: Address of the pages.
HOME = "/mlflow/"
_API = "/mlflow/api/2.0/mlflow/"
#: What the stack serves; MLflow's telemetry, users, gateway and assistant are not forwarded.
_ENDPOINT = re.compile(
    r"/ajax-api/([23]\.0)/mlflow/"
    r"((?:experiments|runs|metrics|logged-models|registered-models|model-versions)(?:/.*)?|artifacts/list|server-info)"
)
#: What a page asks for on every visit and says aloud when it is not there: MLflow's gateway has no endpoint.
_NOTHING: Mapping[str, Document] = {"/ajax-api/2.0/mlflow/gateway-proxy": {"endpoints": []}}
#: Sets what the pages begin with.
_SCRIPT = b'<head><script src="/static/mlflow.js"></script>'
#: Requests with POST that change nothing.
_READS = frozenset(
    {
        "experiments/search",
        "experiments/search-datasets",
        "runs/search",
        "logged-models/search",
        "registered-models/search",
        "registered-models/get-latest-versions",
        "model-versions/search",
    }
)
_MAX_BODY = 6_000_000
_NOT_FOUND, _BAD_REQUEST, _BAD_GATEWAY = 404, 400, 502
#: MLflow's pages write styles into the page, build workers, pictures and frames in memory, and compile no code. A frame
#: shows a page that somebody logged; it inherits this policy, so no script of it runs.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; frame-src blob:; manifest-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
#: What a browser has to know: a machine's own table may have other types, and nothing is guessed from content.
_TYPES = {".css": "text/css", ".html": "text/html", ".js": "text/javascript", ".svg": "image/svg+xml"}
#: Names of the build hold a hash of their content.
_KEPT = "private, max-age=86400"


@dataclass(frozen=True, slots=True)
class MlflowPagesApp:
    """MLflow's pages below ``/mlflow/`` of the console, whose guard they share.

    Parameters
    ----------
    allows_actions : bool, default=False
        Forwards requests that change something.
    """

    pages: InstalledPages
    api: ApiClient
    target: Target
    guard: Guard
    allows_actions: bool = False

    def respond(self, request: Request) -> Response:
        """Return the response to a request below ``/mlflow``; whatever is refused has MLflow's form of an error."""
        self.guard.check_session(request)
        request.max_content_length = _MAX_BODY
        try:
            return self._respond(request, request.path.removeprefix("/mlflow"))
        except HTTPException as error:
            status = error.code or _BAD_REQUEST
            code = {403: "PERMISSION_DENIED", _NOT_FOUND: "ENDPOINT_NOT_FOUND"}.get(status, "BAD_REQUEST")
            return _fault(status, code, error.description or "")
        except ApiError as error:
            return _fault(error.status, error.error_code, error.message)
        except MissingObjectError as error:
            return _fault(_NOT_FOUND, "RESOURCE_DOES_NOT_EXIST", error.message)
        except RefusedError as error:
            return _fault(_BAD_REQUEST, "INVALID_PARAMETER_VALUE", error.message)
        except CliError as error:
            return _fault(_BAD_GATEWAY, "TEMPORARILY_UNAVAILABLE", error.message)

    def _respond(self, request: Request, path: str) -> Response:
        if request.method not in ("GET", "HEAD"):
            self.guard.check_origin(request)
        if path == "/graphql" and request.method == "POST":
            body = request.get_json()
            return _json(respond_to_query(body if isinstance(body, Mapping) else {}, self._ask))
        if request.method == "GET":
            if path in ("", "/"):
                return self._index() if path else Response(status=308, headers={"Location": HOME})
            if path.startswith("/static-files/"):
                return self._file(path.removeprefix("/static-files/"))
            if path in _NOTHING:
                return _json(_NOTHING[path])
            if (artifact := read_artifact(path, request.args, self._ask, self.target)) is not None:
                return artifact
        return self._forward(request, path)

    def _index(self) -> Response:
        page = self._file("index.html")
        page.data = page.data.replace(b"<head>", _SCRIPT, 1)
        return page

    def _file(self, name: str) -> Response:
        path = safe_join(str(self.pages.folder), name)
        try:
            with open(path or "", "rb") as file:
                content = file.read()
        except (OSError, ValueError):  # a name with a null character
            raise NotFound(f"MLflow has no file {name[:200]}") from None
        kind = _TYPES.get(Path(name).suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
        headers = {"Content-Security-Policy": _POLICY}
        if name.startswith("static/"):
            headers["Cache-Control"] = _KEPT
        return Response(content, content_type=kind, headers=headers)

    def _forward(self, request: Request, path: str) -> Response:
        """Sign a request of a page and pass it on; every other is refused."""
        found = _ENDPOINT.fullmatch(path)
        if found is None or {".", ".."} & set(path.split("/")):
            raise NotFound(f"Millrace has no endpoint {path[:200]}")
        is_read = request.method == "GET" or (request.method == "POST" and found[2] in _READS)
        if not is_read and not self.allows_actions:
            raise Forbidden("the console is read-only: start it with `millrace ui --mlflow --allow-actions`")
        # Below ``api``, which the policies of the stack allow, not ``ajax-api``.
        address = quote(f"/mlflow/api/{found[1]}/mlflow/{found[2]}", safe="/")
        query = urlencode(parse_qsl(request.query_string.decode(), keep_blank_values=True), quote_via=quote)
        status, content = self.api.pass_on(request.method, f"{address}?{query}" if query else address, request.data)
        return Response(content, status=status, content_type="application/json")

    def _ask(self, method: str, endpoint: str, given: Mapping[str, Any]) -> Document:
        path = _API + endpoint
        return self.api.get(path, given) if method == "GET" else self.api.post(path, given)


def _json(document: Document) -> Response:
    return Response(json.dumps(document), content_type="application/json")


def _fault(status: int, code: str, message: str) -> Response:
    response = _json({"error_code": code, "message": message})
    response.status_code = status
    return response
