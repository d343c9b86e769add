"""What a client that cannot sign needs: a server on this machine that signs its requests and passes them on."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, quote, urlencode

import httpx

#: Of the connection, not of the message.
_NOT_PASSED_ON = frozenset(
    {"connection", "content-length", "host", "keep-alive", "transfer-encoding", "accept-encoding"}
)


class _Proxy(BaseHTTPRequestHandler):
    client: httpx.Client
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _NOT_PASSED_ON}
        path = _in_canonical_form(self.path.removeprefix("/v1") or "/")
        answer = self.client.request(self.command, path, content=body, headers=headers)
        self.send_response(answer.status_code)
        self.send_header("Content-Type", answer.headers.get("Content-Type", "application/octet-stream"))
        self.send_header("Content-Length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content)

    do_GET = do_POST = _answer

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def signing_proxy(client: httpx.Client) -> Iterator[str]:
    """Pass on what comes as the stage ``v1`` through ``client``, which signs; yields the address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Proxy", (_Proxy,), {"client": client}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _in_canonical_form(target: str) -> str:
    """Write the query as signatures demand it, so that signer and verifier read the same: RFC 3986, no ``+``."""
    path, mark, query = target.partition("?")
    return path + mark + urlencode(parse_qsl(query, keep_blank_values=True), quote_via=quote, safe="-_.~")
