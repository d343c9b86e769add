"""The client of HTTP on real connections: bodies, proxies, certificates and what is no response."""

import gzip
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from millrace_cli.errors import CliError
from millrace_cli.http_client import HttpClient, HttpError, InvalidAddressError, find_proxy, write_query

NO_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


class Server(BaseHTTPRequestHandler):
    """Returns what it was sent; below /moved it redirects, below /cut it ends the connection."""

    protocol_version = "HTTP/1.1"

    def _respond(self) -> None:
        length = self.headers.get("Content-Length")
        body = self.rfile.read(int(length or 0)).decode()
        if self.path.startswith("/cut"):
            self.close_connection = True
            return
        sent = {"method": self.command, "path": self.path, "body": body, "length": length, **dict(self.headers)}
        data = gzip.compress(json.dumps(sent).encode())
        self.send_response(302 if self.path.startswith("/moved") else 200)
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PUT = do_DELETE = _respond

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Server)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def without_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NO_PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def connect(url: str, **options) -> HttpClient:
    return HttpClient.connect(url, ssl.create_default_context(), **options)


def test_a_document_is_sent_and_a_compressed_response_is_read(url):
    with connect(f"{url}/v1/") as client:
        response = client.request("POST", "/models", json={"a": "é"}, params={"n": 3, "all": True})
        assert (response.status_code, response.is_success) == (200, True)
        sent = response.json()
        assert (sent["method"], sent["path"], sent["body"]) == ("POST", "/v1/models?n=3&all=true", '{"a":"é"}')
        assert sent["Content-Type"] == "application/json"
        assert client.request("DELETE", "/x", content=b"{}").json()["body"] == "{}"
        assert client.request("POST", "/x").json()["length"] == "0"
        assert client.request("GET", "/x").json()["length"] is None


def test_what_is_signed_is_what_is_sent(url):
    signed = []

    def sign(method, address, headers, body):
        signed.append((method, address.removeprefix(url), headers["Content-Type"], body))
        return {"Authorization": "signed"}

    with connect(url, sign=sign) as client:
        address = "/a%2fb/é?x=1+2&z=a b#part"
        sent = client.request("PUT", address, content=b"x", headers={"Content-Type": "text/csv"}).json()
    assert sent["path"] == signed[0][1] == "/a%2Fb/%C3%A9?x=1%202&z=a%20b"
    assert (sent["Authorization"], signed[0][0], signed[0][2:]) == ("signed", "PUT", ("text/csv", b"x"))


def test_no_redirect_is_followed(url):
    with connect(url) as client:
        assert client.request("GET", "/moved").status_code == 302


@pytest.mark.parametrize(("address", "fault"), [("/a?" + "x" * 70_000, "too long"), ("/a\nb", "printed")])
def test_what_is_no_address_is_refused(url, address, fault):
    with connect(url) as client, pytest.raises(InvalidAddressError, match=fault):
        client.request("GET", address)


def test_no_response_is_an_error_of_one_sentence(url):
    with connect(url) as client, pytest.raises(HttpError, match="closed connection without response"):
        client.request("GET", "/cut")
    with connect("http://127.0.0.1:9") as client, pytest.raises(HttpError) as refused:
        client.request("GET", "/")
    assert str(refused.value) == "[Errno 111] Connection refused"


def test_a_silent_server_is_not_waited_for(url):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with connect(address, seconds=0.05) as client, pytest.raises(HttpError, match="timed out"):
            client.request("GET", "/")


def test_a_server_that_speaks_no_tls_is_none_of_https(url):
    with connect(url.replace("http:", "https:")) as client, pytest.raises(HttpError, match="SSL"):
        client.request("GET", "/")


class TestProxies:
    def test_the_environment_names_one(self, url, monkeypatch):
        monkeypatch.setenv("http_proxy", url.replace("http://", "http://ann:p%40ss@"))
        with connect("http://api.test") as client:
            sent = client.request("GET", "/models").json()
        assert (sent["path"], sent["Host"]) == ("http://api.test/models", "api.test")
        assert sent["proxy-authorization"] == "Basic YW5uOnBAc3M="

    def test_hosts_are_excepted(self, url, monkeypatch):
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        monkeypatch.setenv("no_proxy", "localhost,127.0.0.1")
        with connect(url) as client:
            assert client.request("GET", "/x").json()["path"] == "/x"

    def test_the_local_stack_has_none(self, url, monkeypatch):
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        with connect(url, uses_proxies=False) as client:
            assert client.request("GET", "/x").status_code == 200

    @pytest.mark.parametrize(
        ("name", "value", "found"),
        [
            ("https_proxy", "proxy:3128", "http://proxy:3128"),
            ("HTTPS_PROXY", "http://proxy:3128", "http://proxy:3128"),
            ("ALL_PROXY", "http://proxy:3128", "http://proxy:3128"),
            ("http_proxy", "http://proxy:3128", None),
        ],
    )
    def test_which_one(self, monkeypatch, name, value, found):
        monkeypatch.setenv(name, value)
        assert find_proxy("https://api.test/v1") == found

    def test_one_that_cannot_be_used_is_named(self, monkeypatch):
        monkeypatch.setenv("https_proxy", "socks5://proxy:1080")
        with pytest.raises(CliError, match="socks5"):
            connect("https://api.test")


def test_a_query_is_written_as_signatures_demand_it():
    query = {"at": "2026-05-03 10:00+02:00", "none": None, "all": False, "names": ["a/b", "~"]}
    assert write_query(query) == "at=2026-05-03%2010%3A00%2B02%3A00&none=&all=false&names=a%2Fb&names=~"
