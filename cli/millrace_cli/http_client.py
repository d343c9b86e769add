"""Client of HTTP for the API and the local stack.

A thin layer over urllib3, which botocore imports anyway: another library for HTTP is a part of the time that a command
takes to start (decision 0114).
"""

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from json import dumps, loads
from typing import Any, Self
from urllib.parse import quote, unquote, urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.exceptions import HTTPError, LocationParseError, ProxySchemeUnknown
from urllib3.util import make_headers, parse_url

from millrace_cli.errors import CliError

#: Returns the headers with which a request is sent, from its method, URL, headers and body.
Sign = Callable[[str, str, Mapping[str, str], bytes], Mapping[str, str]]

_TIMEOUT_SECONDS = 60.0
_CONNECTIONS = 10
_MAX_URL_LENGTH = 65_536
_HEADERS: Mapping[str, str] = {"Accept": "*/*", "Accept-Encoding": "gzip, deflate", "User-Agent": "millrace"}
_SUCCESS = range(200, 300)


class HttpError(Exception):
    """No response: the connection failed, was refused, broke, or took too long."""


class InvalidAddressError(ValueError):
    """An address that is too long, or has what no address has."""


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """Response: the status of HTTP, and the body."""

    status_code: int
    content: bytes

    @property
    def is_success(self) -> bool:
        """True for a status of success."""
        return self.status_code in _SUCCESS

    @property
    def text(self) -> str:
        """The body as text."""
        return self.content.decode(errors="replace")

    def json(self) -> Any:
        """Return the body's document; raises ``ValueError`` where it has none."""
        return loads(self.content)


class HttpClient:
    """Client of one server, for any thread. It follows no redirect and repeats nothing.

    Parameters
    ----------
    base_url : str
        Addresses are appended to it.
    pool : urllib3 PoolManager
        Sends requests.
    sign : callable or None, default=None
        Signs each request.
    """

    def __init__(self, base_url: str, pool: urllib3.PoolManager, sign: Sign | None = None) -> None:
        self._base_url = base_url.rstrip("/")
        self._pool = pool
        self._sign = sign

    @classmethod
    def connect(
        cls,
        base_url: str,
        context: ssl.SSLContext,
        *,
        sign: Sign | None = None,
        uses_proxies: bool = True,
        seconds: float = _TIMEOUT_SECONDS,
    ) -> Self:
        """Return a client that trusts a context's authorities.

        With ``uses_proxies`` the environment names the proxy, and the hosts without one.

        Raises
        ------
        CliError
            When the proxy cannot be used.
        """
        options: dict[str, Any] = {"ssl_context": context, "timeout": seconds, "maxsize": _CONNECTIONS}
        proxy = find_proxy(base_url) if uses_proxies else None
        if proxy is None:
            return cls(base_url, urllib3.PoolManager(**options), sign)
        parts = urlsplit(proxy)
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else None
        headers = make_headers(proxy_basic_auth=login)
        try:
            manager = urllib3.ProxyManager(proxy, proxy_headers=headers, proxy_ssl_context=context, **options)
        except (ProxySchemeUnknown, LocationParseError) as error:
            hint = "name one in HTTPS_PROXY as http://HOST:PORT, or except the host by NO_PROXY"
            raise CliError(f"the proxy of the environment cannot be used: {error}", hint) from error
        return cls(base_url, manager, sign)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._pool.clear()

    def request(
        self,
        method: str,
        address: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        content: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> HttpResponse:
        """Return the response to a request.

        Parameters
        ----------
        params : mapping of str, optional
            The query, in place of that of the address.
        json : document, optional
            Sent as the body, in place of ``content``.

        Raises
        ------
        HttpError
            When there is none.
        InvalidAddressError
            When the address is none.
        """
        url = self._url(address, params)
        sent = {**_HEADERS, **(headers or {})}
        if json is not None:
            content = dumps(json, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
            sent["Content-Type"] = "application/json"
        if self._sign is not None:
            sent.update(self._sign(method, url, sent, content))
        try:
            response = self._pool.urlopen(
                method, url, body=content or None, headers=sent, retries=False, redirect=False
            )
        except HTTPError as error:
            raise HttpError(_innermost(error)) from error
        return HttpResponse(response.status, response.data)

    def _url(self, address: str, params: Mapping[str, Any] | None) -> str:
        """Return the URL as it is sent, because a signature is made of it."""
        path, _, query = address.partition("#")[0].partition("?")
        if params is not None:
            query = write_query(params)
        # The signature's canonical form of a blank is %20.
        url = f"{self._base_url}{path}" + (f"?{query.replace('+', '%20')}" if query else "")
        if len(url) > _MAX_URL_LENGTH:
            raise InvalidAddressError("it is too long")
        if not url.isprintable():
            raise InvalidAddressError("it has a character that cannot be printed")
        try:
            return parse_url(url).url
        except LocationParseError as error:
            raise InvalidAddressError(str(error)) from error


def write_query(params: Mapping[str, Any]) -> str:
    """Return a query; a list is its key repeated, None an empty value, and truth is ``true`` or ``false``."""
    pairs = [(name, one) for name, value in params.items() for one in (value if isinstance(value, list) else [value])]
    return urlencode([(name, _write_value(value)) for name, value in pairs], quote_via=quote, safe="")


def find_proxy(url: str) -> str | None:
    """Return the proxy that the environment names for a URL; None where it names none, or excepts the host."""
    parts = urlsplit(url)
    if proxy_bypass(parts.netloc):
        return None
    proxies = getproxies()
    found = proxies.get(parts.scheme) or proxies.get("all")
    return found if not found or "://" in found else f"http://{found}"


def _write_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


def _innermost(error: BaseException) -> str:
    """Return the message of the first cause: what urllib3 puts around it names its own objects."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error) or type(error).__name__
