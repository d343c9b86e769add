"""DynamoDB and S3 of moto at an address of this machine, for requests that botocore does not make.

moto stands in for AWS inside botocore. Serving signs and sends its own requests: here is a server for them, with the
same tables and buckets, which refuses a request whose signature is not the one that botocore would have made.
"""

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from unittest.mock import patch

import botocore.auth
from botocore.awsrequest import AWSPreparedRequest, AWSRequest
from botocore.credentials import Credentials
from millrace.aws import signed_client
from millrace.aws.signed_client import SignedClient
from millrace.aws.signed_requests import ServiceAddress
from moto.core.models import botocore_stubber

_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>\w+)/\d{8}/(?P<region>[\w-]+)/(?P<service>\w+)/aws4_request, "
    r"SignedHeaders=(?P<names>[\w;-]+), Signature=(?P<signature>\w{64})"
)


def signature_of(request: AWSRequest, service: str, region: str) -> str:
    """Return the signature that botocore makes of a request, at the time that its headers name."""
    keys = Credentials(os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"])  # moto's, while it mocks
    request.context["timestamp"] = request.headers["x-amz-date"]
    signer = (botocore.auth.S3SigV4Auth if service == "s3" else botocore.auth.SigV4Auth)(keys, service, region)
    canonical = signer.canonical_request(request)
    return str(signer.signature(signer.string_to_sign(request, canonical), request))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        found = _AUTHORIZATION.fullmatch(headers.get("authorization", ""))
        if found is None:
            self._send(403, {}, b'{"__type": "MissingAuthenticationTokenException"}')
            return
        service, region = found["service"], found["region"]
        signed = {name: headers[name] for name in found["names"].split(";")}
        url = f"https://{headers['host']}{self.path}"
        sent = AWSRequest(method=self.command, url=url, headers=signed, data=body)
        if found["signature"] != signature_of(sent, service, region):
            self._send(403, {}, b'{"__type": "com.amazon.coral.service#InvalidSignatureException"}')
            return
        request = AWSPreparedRequest(
            method=self.command,
            url=f"https://{service}.{region}.amazonaws.com{self.path}",
            headers=self.headers,
            body=body,
            stream_output=False,
        )
        status, answered, content = botocore_stubber.process_request(request)
        self._send(status, answered, content.encode() if isinstance(content, str) else content)

    do_GET = do_POST = _answer

    def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() not in ("content-length", "connection", "date", "server"):
                self.send_header(name, str(value))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@cache
def loopback_aws() -> str:
    """Start the server of this process, once; returns its host and port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"127.0.0.1:{server.server_port}"


@contextmanager
def requests_to_moto() -> Iterator[None]:
    """Send the requests of serving to moto, while it is mocked."""

    def find_endpoint(settings: object, service: str, bucket: str = "") -> ServiceAddress:
        return ServiceAddress(loopback_aws(), f"/{bucket}" if bucket else "", is_secure=False)

    made: list[SignedClient] = []
    build = SignedClient.__init__

    def remember(client: SignedClient, *arguments: Any, **options: Any) -> None:
        build(client, *arguments, **options)
        made.append(client)

    with (
        patch.object(signed_client, "find_endpoint", find_endpoint),
        patch.object(SignedClient, "__init__", remember),
    ):
        yield
    for client in made:
        client.close()
