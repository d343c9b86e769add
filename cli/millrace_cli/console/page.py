"""Pages of the console: what a view gets, and the frame in which its template is rendered."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from millrace.reports import render
from werkzeug.datastructures import MultiDict
from werkzeug.wrappers import Response

from millrace_cli.api import ApiClient
from millrace_cli.output import Document
from millrace_cli.target import Target

TEMPLATES = Path(__file__).parent / "templates"
#: Of the API, at once, for one page.
_CALLS = 3
NAVIGATION = (("/", "Models"), ("/operations", "Operations"), ("/upload", "Upload"))
#: Pages of one model, by the end of their address.
MODEL_PAGES = (
    ("", "Overview"),
    ("/runs", "Runs"),
    ("/versions", "Versions"),
    ("/data", "Data"),
    ("/monitoring", "Monitoring"),
    ("/releases", "Releases"),
    ("/batches", "Batches"),
    ("/ledger", "Ledger"),
)


def link(*parts: str | int, **query: str | int | None) -> str:
    """Return the address of a page of the console; every part is quoted."""
    path = "/" + "/".join(quote(str(part), safe="") for part in parts)
    given = {name: value for name, value in query.items() if value is not None}
    return f"{path}?{urlencode(given)}" if given else path


@dataclass(frozen=True, slots=True)
class PageContext:
    """Input of a view: the stack and its API, the parameters of the address, the time, and what is allowed.

    Parameters
    ----------
    query : MultiDict
        Parameters behind the question mark.
    allows_actions : bool
        True when the console was started with ``--allow-actions``.
    form_token : str
        Of forms of this console.
    """

    api: ApiClient
    target: Target
    query: MultiDict[str, str]
    now: datetime
    path: str
    allows_actions: bool = False
    form_token: str = ""
    notice: str = ""
    #: Parts of the address that views add to for the navigation.
    model: str | None = None
    navigation: Sequence[tuple[str, str]] = NAVIGATION
    calls: list[str] = field(default_factory=list)

    def get(self, *parts: str | int, **query: str | None) -> dict[str, Any]:
        """Return a document of the API; the parts of its path are checked by the client."""
        given = {name: value for name, value in query.items() if value}
        path = "/" + "/".join(map(str, parts))
        self.calls.append(path)
        return self.api.get(path, given)

    def gather(self, *calls: Callable[[], Document]) -> list[Document]:
        """Return the documents of several calls, made at once; raises the first error."""
        with ThreadPoolExecutor(_CALLS) as pool:
            return [call.result() for call in [pool.submit(call) for call in calls]]

    def write(self, template: str, /, **values: Any) -> str:
        """Render a template in the console's frame."""
        return render.render_within(
            render.environment(TEMPLATES),
            template,
            link=link,
            now=self.now,
            path=self.path,
            stack=self.target.stack,
            region=self.target.region,
            is_local=self.target.is_local,
            model_name=self.model,
            navigation=self.navigation,
            model_pages=MODEL_PAGES,
            allows_actions=self.allows_actions,
            form_token=self.form_token,
            notice=self.notice,
            refresh_seconds=values.pop("refresh_seconds", None),
            actions=values.pop("actions", ()),
            trail=values.pop("trail", ()),
            **values,
        )

    def show(self, template: str, /, **values: Any) -> Response:
        """Return the page of a template."""
        return html(self.write(template, **values))

    def frame(self, **values: Any) -> Callable[..., str]:
        """Return the function that renders a report's template in this frame, with further values of the frame."""
        return partial(_write_report, self, values)


def _write_report(context: PageContext, frame: Mapping[str, Any], template: str, /, **values: Any) -> str:
    return context.write(template, **frame, **values)


def html(text: str, status: int = 200) -> Response:
    """Return a page."""
    return Response(text, status=status, content_type="text/html; charset=utf-8")
