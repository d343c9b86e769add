"""Signatures of the command line for httpx's clients."""

from collections.abc import Generator

import httpx
from millrace_cli.api import RequestSigner


class SignedRequests(httpx.Auth):
    """Signs each request as the command line does."""

    requires_request_body = True

    def __init__(self, signer: RequestSigner) -> None:
        self._signer = signer

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        # The signature's canonical form of a blank is %20; httpx writes +, and a plus sign as %2B.
        request.url = request.url.copy_with(query=request.url.query.replace(b"+", b"%20") or None)
        request.headers.update(self._signer(request.method, str(request.url), dict(request.headers), request.content))
        yield request
