"""Server of HTTP that is a function, behind the command line's client: requests and responses are httpx's."""

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import httpx
from millrace_cli.http_client import HttpClient, Sign

Handler = Callable[[httpx.Request], httpx.Response]
BASE_URL = "https://api.test"


class _Pool:
    """What the client uses of urllib3's pool."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler

    def urlopen(self, method: str, url: str, *, body: bytes | None, headers: Mapping[str, str], **_: Any) -> Any:
        response = self._handler(httpx.Request(method, url, content=body, headers=dict(headers)))
        return SimpleNamespace(status=response.status_code, data=response.content)

    def clear(self) -> None:
        """Close nothing."""


def connect(handler: Handler, base_url: str = BASE_URL, sign: Sign | None = None) -> HttpClient:
    """Return a client of the function."""
    pool: Any = _Pool(handler)
    return HttpClient(base_url, pool, sign)
