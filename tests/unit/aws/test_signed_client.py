import json
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from millrace.aws import signed_client
from millrace.aws.credentials import CredentialSource
from millrace.aws.signed_client import ATTEMPTS, AwsResponseError, BucketReader, DynamoDbReader, SignedClient
from millrace.aws.signed_requests import AwsSettings
from millrace.errors import ConfigurationError, MillraceError, ServiceUnavailableError

from tests.unit.aws.certificates import write_certificate

ITEM = (200, b'{"Item": {"pk": {"S": "a"}}}')
#: Written before the end of a connection, or in place of a reply.
HANG_UP, SILENCE = "hang up", "silence"
Reply = tuple[int, bytes] | str


class Server:
    """A server that gives scripted replies, then the last one for ever; it counts connections and requests."""

    def __init__(self, replies: list[Reply], certificate: str = "", closes: bool = False) -> None:
        self.replies, self.closes = replies, closes
        self.requests: list[bytes] = []
        self.connections = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.open: list[socket.socket] = []
        self.context = None
        if certificate:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(certificate)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
                self.connections += 1
                if self.context:
                    connection = self.context.wrap_socket(connection, server_side=True)
            except ssl.SSLError:
                continue
            except OSError:
                return
            self.open.append(connection)
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection: socket.socket) -> None:
        with connection:
            while request := self.read(connection):
                self.requests.append(request)
                reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
                if reply == HANG_UP:
                    return
                if reply == SILENCE:
                    continue
                status, body = reply
                head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n\r\n"
                connection.sendall(head.encode() + body)
                if self.closes:
                    return

    def read(self, connection: socket.socket) -> bytes:
        data = b""
        try:
            while b"\r\n\r\n" not in data:
                if not (part := connection.recv(65_536)):
                    return b""
                data += part
            head, _, body = data.partition(b"\r\n\r\n")
            while len(body) < int((re.search(rb"(?i)content-length: (\d+)", head) or [0, 0])[1]):
                body += connection.recv(65_536)
        except OSError:
            return b""
        return head + b"\r\n\r\n" + body

    def close(self) -> None:
        self.listener.close()
        for connection in self.open:
            connection.close()


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0
        self.pauses: list[int] = []

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    servers = []

    def start(*replies: Reply, **options) -> Server:
        servers.append(Server(list(replies), **options))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def settings_for(server: Server, scheme: str = "http", **variables: str) -> AwsSettings:
    return AwsSettings(
        aws_region="eu-west-1",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
        aws_endpoint_url=f"{scheme}://localhost:{server.port}",
        **variables,
    )


@contextmanager
def reader(server: Server, clock: Clock, kind=DynamoDbReader, **variables: str) -> Iterator[SignedClient]:
    settings = settings_for(server, **variables)
    arguments = ("models",) if kind is BucketReader else ()
    client = kind(*arguments, settings, CredentialSource(lambda: settings))
    client._clock, client._pause = clock, clock.pauses.append
    yield client
    client.close()


def refusal(code: str) -> bytes:
    return json.dumps({"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": "no"}).encode()


def test_an_item_is_read_over_a_connection_that_is_kept(serve, clock):
    server = serve(ITEM)
    with reader(server, clock) as client:
        for _ in range(3):
            assert client.get_item(TableName="registry", Key={"pk": {"S": "a"}}) == {"pk": {"S": "a"}}
    assert (server.connections, len(server.requests)) == (1, 3)
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST / HTTP/1.1\r\n")
    assert b"x-amz-target: DynamoDB_20120810.GetItem" in head
    assert json.loads(body) == {"TableName": "registry", "Key": {"pk": {"S": "a"}}}


def test_an_item_that_is_not_there_is_none(serve, clock):
    with reader(serve((200, b"{}")), clock) as client:
        assert client.get_item(TableName="registry") is None


def test_an_object_is_read_by_its_quoted_path(serve, clock):
    server = serve((200, b"bytes"))
    with reader(server, clock, BucketReader) as client:
        assert client.get_object("a b/é.onnx") == b"bytes"
    assert server.requests[0].startswith(b"GET /models/a%20b/%C3%A9.onnx HTTP/1.1\r\n")


def test_a_connection_that_the_server_closed_is_made_anew(serve, clock):
    server = serve(ITEM, closes=True)
    with reader(server, clock) as client:
        for number in range(1, 4):
            assert client.get_item() is not None
            for connection in server.open[:number]:
                connection.close()
    assert (server.connections, clock.pauses.count(1)) == (3, 0)


def test_a_connection_that_idled_too_long_is_made_anew(serve, clock):
    server = serve(ITEM)
    with reader(server, clock) as client:
        for _ in range(2):
            client.get_item()
            clock.now += 299
        assert server.connections == 1
        clock.now += 1
        client.get_item()
    assert server.connections == 2


@pytest.mark.parametrize(
    "fault",
    [
        HANG_UP,
        (500, b""),
        (503, b"<Error><Code>SlowDown</Code></Error>"),
        (400, refusal("ProvisionedThroughputExceededException")),
        (400, refusal("ThrottlingException")),
    ],
)
def test_what_may_succeed_later_is_tried_again_after_growing_pauses(serve, clock, fault):
    with reader(serve(fault, fault, ITEM), clock) as client:
        assert client.get_item() == {"pk": {"S": "a"}}
    assert clock.pauses == [1, 2]
    server = serve(fault)
    with reader(server, clock) as client, pytest.raises(ServiceUnavailableError):
        client.get_item()
    assert len(server.requests) == ATTEMPTS == 3


def test_a_reply_that_breaks_off_is_read_again(serve, clock):
    class Short(Server):
        def serve(self, connection):
            self.read(connection)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort")
            connection.close()

    server = Short([ITEM])
    with reader(server, clock, BucketReader) as client, pytest.raises(ServiceUnavailableError, match="IncompleteRead"):
        client.get_object("model.onnx")
    assert server.connections == ATTEMPTS
    server.close()


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (400, refusal("AccessDeniedException"), ConfigurationError),
        (400, refusal("ResourceNotFoundException"), ConfigurationError),
        (403, b"<Error><Code>AccessDenied</Code></Error>", ConfigurationError),
        (404, b"<Error><Code>NoSuchBucket</Code></Error>", ConfigurationError),
        (400, refusal("ValidationException"), AwsResponseError),
        (404, b"<Error><Code>NoSuchKey</Code></Error>", AwsResponseError),
        (301, b"", AwsResponseError),
        (404, b"null", AwsResponseError),
    ],
)
def test_what_no_repetition_could_mend_is_said_at_once(serve, clock, status, body, error):
    server = serve((status, body))
    with reader(server, clock) as client, pytest.raises(error) as raised:
        client.get_item()
    assert len(server.requests) == 1
    assert isinstance(raised.value, MillraceError) == (error is ConfigurationError)


def test_expired_credentials_are_renewed_once_and_then_said(serve, clock):
    forgotten = []
    server = serve((400, refusal("ExpiredTokenException")), ITEM)
    with reader(server, clock) as client:
        client._credentials.forget = lambda: forgotten.append(True)
        assert client.get_item() is not None
    assert forgotten == [True]
    with reader(serve((400, refusal("ExpiredTokenException"))), clock) as client, pytest.raises(ConfigurationError):
        client.get_item()


def test_a_server_that_is_silent_or_gone_is_not_available(serve, clock, monkeypatch):
    monkeypatch.setattr(signed_client, "READ_SECONDS", 0.05)
    server = serve(SILENCE)
    with reader(server, clock) as client, pytest.raises(ServiceUnavailableError, match="TimeoutError"):
        client.get_item()
    server.close()
    with reader(server, clock) as client, pytest.raises(ServiceUnavailableError, match="DynamoDB cannot be reached"):
        client.get_item()


def test_two_threads_have_a_connection_each(serve, clock):
    server = serve(ITEM)
    both = threading.Barrier(2)
    with reader(server, clock) as client:
        make = client._find_connection

        def find():
            connection = make()
            both.wait(5)
            return connection

        client._find_connection = find
        threads = [threading.Thread(target=client.get_item) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert (server.connections, len(server.requests)) == (2, 2)


def test_pauses_are_random_and_grow(monkeypatch):
    drawn, slept = [], []
    monkeypatch.setattr("random.uniform", lambda low, high: drawn.append((low, high)) or high)
    monkeypatch.setattr("time.sleep", slept.append)
    signed_client.pause(1)
    signed_client.pause(2)
    assert drawn == [(0, 0.1), (0, 0.2)]
    assert slept == [0.1, 0.2]


def test_a_server_without_a_trusted_certificate_gets_no_request(serve, clock, certificate):
    server = serve(ITEM, certificate=certificate)
    with reader(server, clock, scheme="https") as client, pytest.raises(ServiceUnavailableError, match="SSLCert"):
        client.get_item()
    assert server.requests == []


def test_a_bundle_of_certificates_may_be_named(serve, clock, certificate):
    server = serve(ITEM, certificate=certificate)
    with reader(server, clock, scheme="https", aws_ca_bundle=certificate) as client:
        assert client.get_item() == client.get_item() == {"pk": {"S": "a"}}
    assert server.connections == 1


def test_a_server_that_no_authority_of_aws_signed_is_verified_with_all(serve, clock, certificate, tmp_path):
    bundle = tmp_path / "bundle.pem"
    of_aws = Path(write_certificate(tmp_path / "amazon.pem", "Amazon")).read_bytes()
    bundle.write_bytes(of_aws + Path(certificate).read_bytes())
    server = serve(HANG_UP, ITEM, certificate=certificate)
    with reader(server, clock, scheme="https", aws_ca_bundle=str(bundle)) as client:
        assert client.get_item() == {"pk": {"S": "a"}}
    assert (server.connections, len(server.requests)) == (3, 2)  # the first handshake was refused, and no further one
    stranger = write_certificate(tmp_path / "stranger.pem")
    server = serve(ITEM, certificate=stranger)
    with (
        reader(server, clock, scheme="https", aws_ca_bundle=str(bundle)) as client,
        pytest.raises(ServiceUnavailableError, match="SSLCert"),
    ):
        client.get_item()
    assert server.requests == []


@pytest.mark.parametrize(
    ("endpoint", "port"),
    [
        ("", 443),
        ("https://vpce.example", 443),
        ("https://vpce.example:443", 443),
        ("https://vpce.example:8443", 8443),
        ("http://vpce.example", 80),
        ("https://[::1]", 443),
    ],
)
def test_an_address_without_a_port_has_that_of_its_scheme(monkeypatch, endpoint, port):
    called = []

    def connect(address: tuple[bytes, int], timeout: float) -> socket.socket:
        called.append(address[1])
        raise OSError

    monkeypatch.setattr(socket, "create_connection", connect)
    settings = AwsSettings(
        aws_region="eu-west-1", aws_access_key_id="key", aws_secret_access_key="secret", aws_endpoint_url=endpoint
    )
    for client in (
        DynamoDbReader(settings, CredentialSource(lambda: settings)),
        BucketReader("models", settings, CredentialSource(lambda: settings)),
    ):
        client._pause = lambda _: None
        with pytest.raises(ServiceUnavailableError):
            client.call("Read", "GET", "/", {})
    assert set(called) == {port}


def test_certificates_that_are_not_there_are_a_fault_of_the_deployment_and_not_tried_again(serve, clock):
    server = serve(ITEM)
    settings = settings_for(server, "https", aws_ca_bundle="/nowhere.pem")
    client = DynamoDbReader(settings, CredentialSource(lambda: settings))
    client._pause = clock.pauses.append
    with pytest.raises(ConfigurationError, match="AWS_CA_BUNDLE"):
        client.get_item(TableName="registry")
    assert clock.pauses == []
