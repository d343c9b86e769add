"""Clients of the two calls of serving: an item of a table, an object of a bucket.

They are what is left of botocore's ``standard`` mode for calls that only read: three attempts with growing, random
pauses, connections that are kept and made anew, verified TLS, and short timeouts, because a caller is waiting.
"""

import http.client
import json
import re
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

import millrace
from millrace.aws.authorities import Authorities, is_unverified, tls_context
from millrace.aws.credentials import CredentialSource
from millrace.aws.error_codes import find_error, is_unavailable
from millrace.aws.signed_requests import AwsSettings, Service, ServiceAddress, find_endpoint, quote_path, sign
from millrace.errors import ServiceUnavailableError

#: A pointer that does not come within seconds does not come.
CONNECT_SECONDS = 1.0
READ_SECONDS = 5.0
ATTEMPTS = 3
_FIRST_PAUSE_SECONDS = 0.1
#: A network on the way forgets connections that are not used; Lambda freezes a process for minutes.
_LONGEST_IDLE_SECONDS = 300.0
#: Connections that are kept: one of the requests, one of the thread that refreshes beside them.
_KEPT_CONNECTIONS = 2
_NAMES = {"dynamodb": "DynamoDB", "s3": "S3"}
_USER_AGENT = f"millrace/{millrace.__version__}"
#: Credentials that a service no longer takes; those of the local endpoint may be new by now.
_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "InvalidToken", "UnrecognizedClientException"})
_XML_CODE = re.compile(rb"<Code>([A-Za-z0-9.]+)</Code>")


class AwsResponseError(Exception):
    """A response that is an error, and none that the deployment or a repetition could fix."""

    def __init__(self, service: str, operation: str, code: str, status: int) -> None:
        super().__init__(f"{service} refused {operation}: {code} ({status})")
        self.code = code
        self.status = status


def pause(attempt: int) -> None:
    """Wait before an attempt, counted from 0: up to 0.1 s, then up to 0.2 s, at random so that callers part."""
    import random  # noqa: PLC0415 - most processes never wait

    time.sleep(random.uniform(0, _FIRST_PAUSE_SECONDS * 2.0 ** (attempt - 1)))  # noqa: S311 - jitter is no secret


class _SecureConnection(http.client.HTTPConnection):
    """A connection whose port is that of HTTPS where its address names none; the client wraps its socket in TLS."""

    default_port = http.client.HTTPS_PORT


class SignedClient:
    """Sends signed requests to one service, from any thread."""

    def __init__(
        self,
        service: Service,
        endpoint: ServiceAddress,
        settings: AwsSettings,
        credentials: CredentialSource,
        *,
        clock: Callable[[], float] = time.time,
        pause: Callable[[int], None] = pause,
    ) -> None:
        self.service = service
        self._endpoint = endpoint
        self._region = settings.region
        self._ca_bundle = settings.aws_ca_bundle
        self._authorities: Authorities = "aws"
        self._credentials = credentials
        self._clock = clock
        self._pause = pause
        self._idle: deque[tuple[http.client.HTTPConnection, float]] = deque(maxlen=_KEPT_CONNECTIONS)

    def call(self, operation: str, method: str, path: str, headers: Mapping[str, str], body: bytes = b"") -> bytes:
        """Return the body of a response; ``path`` is not quoted yet.

        Raises
        ------
        ServiceUnavailableError, ConfigurationError
            As :mod:`millrace.aws.error_codes` says.
        AwsResponseError
            For any other error.
        """
        name = _NAMES[self.service]
        for attempt in range(ATTEMPTS):
            is_last = attempt == ATTEMPTS - 1
            if attempt:
                self._pause(attempt)
            try:
                status, reply = self._send(method, path, headers, body)
            except (OSError, http.client.HTTPException) as error:
                if is_last:
                    raise ServiceUnavailableError(f"{name} cannot be reached ({type(error).__name__})") from error
                continue
            if status == HTTPStatus.OK:
                return reply
            code = _error_code(status, reply)
            if code in _EXPIRED:
                self._credentials.forget()
            if is_last or not (is_unavailable(code, status) or code in _EXPIRED):
                break
        refused = AwsResponseError(name, operation, code, status)
        found = find_error(name, operation, code, status)
        if found is None:
            raise refused
        raise found from refused

    def close(self) -> None:
        """Close the connections that are kept; the next request makes a new one."""
        while self._idle:
            self._idle.pop()[0].close()

    def __del__(self) -> None:
        self.close()

    def _send(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
        quoted = quote_path(self._endpoint.path + path)
        signed = sign(
            method,
            quoted,
            {**headers, "host": self._endpoint.host},
            body,
            service=self.service,
            region=self._region,
            credentials=self._credentials.get(),
            now=self._clock(),
        )
        connection = self._find_connection()
        try:
            connection.request(method, quoted, body or None, {**signed, "user-agent": _USER_AGENT})
            response = connection.getresponse()
            reply = response.read()
        except BaseException:
            connection.close()
            raise
        if response.will_close or len(self._idle) == _KEPT_CONNECTIONS:
            connection.close()
        else:
            self._idle.append((connection, self._clock()))
        return response.status, reply

    def _find_connection(self) -> http.client.HTTPConnection:
        """Return a connection that is kept and still open, or a new one."""
        while True:
            try:
                connection, used_at = self._idle.pop()
            except IndexError:
                return self._connect()
            if self._clock() - used_at < _LONGEST_IDLE_SECONDS and _is_open(connection):
                return connection
            connection.close()

    def _connect(self) -> http.client.HTTPConnection:
        address = self._endpoint
        kind = _SecureConnection if address.is_secure else http.client.HTTPConnection
        connection = kind(address.host)
        # Names as bytes are ASCII. To read text, Python would import its tables of every alphabet.
        name = connection.host.encode("ascii")
        connection.sock = self._open_socket(name, connection.port)
        return connection

    def _open_socket(self, name: bytes, port: int) -> socket.socket:
        opened = socket.create_connection((name, port), CONNECT_SECONDS)  # type: ignore[arg-type]  # bytes are taken too
        try:
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._endpoint.is_secure:
                context = tls_context(self._ca_bundle, self._authorities)
                opened = context.wrap_socket(opened, server_hostname=name)
            opened.settimeout(READ_SECONDS)
        except BaseException as error:
            opened.close()
            if self._authorities == "all" or not (self._endpoint.is_secure and is_unverified(error)):
                raise
            self._authorities = "all"
            return self._open_socket(name, port)
        return opened


class DynamoDbReader(SignedClient):
    """Reads items."""

    def __init__(self, settings: AwsSettings, credentials: CredentialSource) -> None:
        super().__init__("dynamodb", find_endpoint(settings, "dynamodb"), settings, credentials)

    def get_item(self, **request: Any) -> dict[str, Any] | None:
        """Return the item of a key, as DynamoDB writes it; None when there is none."""
        headers = {"content-type": "application/x-amz-json-1.0", "x-amz-target": "DynamoDB_20120810.GetItem"}
        item: dict[str, Any] | None = json.loads(
            self.call("GetItem", "POST", "/", headers, json.dumps(request).encode())
        ).get("Item")
        return item


class BucketReader(SignedClient):
    """Reads the objects of one bucket."""

    def __init__(self, bucket_name: str, settings: AwsSettings, credentials: CredentialSource) -> None:
        super().__init__("s3", find_endpoint(settings, "s3", bucket_name), settings, credentials)

    def get_object(self, key: str) -> bytes:
        """Return an object's bytes; raises ``AwsResponseError`` with the code ``NoSuchKey`` when it is gone."""
        return self.call("GetObject", "GET", f"/{key}", {})


def _is_open(connection: http.client.HTTPConnection) -> bool:
    """Return whether a kept connection is silent: a server that closed it has something to read, its end."""
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN)
    return not poll.poll(0)


def _error_code(status: int, reply: bytes) -> str:
    """Return the code of an error: JSON of DynamoDB, XML of S3; the status in place of a code that cannot be read."""
    if found := _XML_CODE.search(reply):
        return found[1].decode()
    try:
        kind = json.loads(reply)["__type"]
    except (ValueError, KeyError, TypeError):
        return str(status)
    return str(kind).rpartition("#")[2].partition(":")[0]
