"""The guard of the console: who may load a page, and what a page may load.

The console signs with its user's credentials, so a request has to come from the user's browser and from the console's
own pages. Another user of the machine does not know the token; a page of another site has another origin; a name that
was rebound to 127.0.0.1 is another host (DNS rebinding).
"""

import hmac
import secrets
from dataclasses import dataclass, field

from werkzeug.exceptions import Forbidden, HTTPException
from werkzeug.wrappers import Request, Response

#: Name of the field of a form, and of the parameter in the address that the command prints.
TOKEN = "token"  # noqa: S105  # the name of a parameter, not its value
_BYTES = 32
_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    # With no-referrer, browsers send the origin of a form as null.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def _secret() -> str:
    return secrets.token_urlsafe(_BYTES)


@dataclass(slots=True)
class Guard:
    """Secrets of one start of the console, and the checks that use them.

    Parameters
    ----------
    port : int
        Port on 127.0.0.1.
    home : str, default="/"
        Path of the first page.
    """

    port: int
    home: str = "/"
    _session: str = field(default_factory=_secret)
    #: Of forms, so that no other page can send one.
    form_token: str = field(default_factory=_secret)
    _unused: str | None = field(default_factory=_secret)

    @property
    def cookie(self) -> str:
        """Name of the session's cookie: browsers send cookies to every port, and another console has its own."""
        return f"millrace-console-{self.port}"

    @property
    def hosts(self) -> tuple[str, ...]:
        """Names under which the console serves."""
        return f"127.0.0.1:{self.port}", f"localhost:{self.port}"

    def make_address(self) -> str:
        """Return the address that opens a session at the first page; it works once, and a new one replaces it."""
        self._unused = _secret()
        return f"http://127.0.0.1:{self.port}{self.home}?{TOKEN}={self._unused}"

    def check_host(self, request: Request) -> None:
        """Raise ``Forbidden`` for a request to another name than the console's."""
        if request.host not in self.hosts:
            raise Forbidden("the console serves 127.0.0.1 only")

    def open_session(self, request: Request) -> Response | None:
        """Return the response that begins a session when the request has the unused token, else None."""
        given = request.args.get(TOKEN)
        if given is None or self._unused is None or not hmac.compare_digest(given.encode(), self._unused.encode()):
            return None
        self._unused = None
        response = Response(status=303, headers={"Location": self.home})
        response.set_cookie(self.cookie, self._session, httponly=True, samesite="Strict", path="/")
        return response

    def check(self, request: Request) -> None:
        """Raise ``Forbidden`` unless the request has the session, and a form its origin and token.

        Host and session are checked for every page, origin and token for what changes something.
        """
        self.check_host(request)
        self.check_session(request)
        if request.method in ("GET", "HEAD"):
            return
        self.check_origin(request)
        given = request.form.get(TOKEN, "") or request.headers.get("X-Console-Token", "")
        if not hmac.compare_digest(given.encode(), self.form_token.encode()):
            raise Forbidden("the form is not of this console: load the page again")

    def check_session(self, request: Request) -> None:
        """Raise ``Forbidden`` for a request without the session's cookie."""
        if not hmac.compare_digest(request.cookies.get(self.cookie, "").encode(), self._session.encode()):
            raise Forbidden("open the address that `millrace ui` printed")

    def check_origin(self, request: Request) -> None:
        """Raise ``Forbidden`` for a request that a page of another site sends."""
        origin = request.headers.get("Origin", "")
        if origin not in {f"http://{host}" for host in self.hosts}:
            raise Forbidden("the request came from another site")

    @staticmethod
    def seal(response: Response | HTTPException) -> Response:
        """Add the headers that keep a page from loading anything from elsewhere, and from being framed or stored."""
        sealed = response.get_response() if isinstance(response, HTTPException) else response
        for name, value in _HEADERS.items():
            sealed.headers.setdefault(name, value)
        return sealed
