"""Objects by presigned address: over TLS alone, without redirects, and an outage is never a verdict."""

import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from millrace.aws import presigned
from millrace.aws.presigned import read_object, write_object
from millrace.aws.signed_requests import AwsSettings
from millrace.errors import ConfigurationError, InvalidInputError, MillraceError, ServiceUnavailableError

BODY = bytes(range(100))
WRITTEN: list[bytes] = []


class Handler(BaseHTTPRequestHandler):
    """Responds by the path: ``/<status>``, ``/short`` ends early, ``/redirect`` leads to the object."""

    def do_GET(self) -> None:
        kind = self.path.strip("/")
        self.send_response({"redirect": 307, "short": 200, "object": 200}.get(kind) or int(kind))
        if kind == "redirect":
            self.send_header("Location", "/object")
        body = b"" if kind == "redirect" else BODY
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:50] if kind == "short" else body)

    def do_PUT(self) -> None:
        WRITTEN.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture(scope="module")
def server(certificate: str) -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def address(server: ThreadingHTTPServer, certificate: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(presigned, "load_settings", lambda _: AwsSettings(aws_ca_bundle=certificate))
    return f"https://localhost:{server.server_port}"


def test_an_object_is_read_and_written(address: str) -> None:
    WRITTEN.clear()
    assert read_object(f"{address}/object", 100) == BODY
    write_object(f"{address}/object", b"graph")
    assert WRITTEN == [b"graph"]


def test_no_more_is_read_than_is_taken(address: str) -> None:
    with pytest.raises(InvalidInputError, match="more than 99 bytes"):
        read_object(f"{address}/object", 99)


@pytest.mark.parametrize(
    ("path", "error", "reason"),
    [
        ("redirect", ConfigurationError, r"refused \(307\)"),
        ("403", ConfigurationError, r"refused \(403\)"),
        ("404", InvalidInputError, "not there any more"),
        ("500", ServiceUnavailableError, "unavailable"),
        ("503", ServiceUnavailableError, "unavailable"),
        ("short", ServiceUnavailableError, "ended a response early"),
    ],
)
def test_a_fault_is_named_by_its_kind(address: str, path: str, error: type[MillraceError], reason: str) -> None:
    with pytest.raises(error, match=reason):
        read_object(f"{address}/{path}", 1_000)


def test_a_write_follows_no_redirect(address: str) -> None:
    with pytest.raises(ConfigurationError, match="307"):
        write_object(f"{address}/redirect", b"other")


def test_nothing_goes_without_tls_or_to_a_server_that_nobody_vouches_for(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigurationError, match="HTTPS alone"):
        read_object(address.replace("https", "http"), 1)
    monkeypatch.setattr(presigned, "load_settings", lambda _: AwsSettings())
    with pytest.raises(ServiceUnavailableError, match="cannot be reached"):
        read_object(f"{address}/object", 100)
