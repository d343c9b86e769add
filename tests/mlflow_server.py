"""MLflow's API over HTTP on this machine: the shipped handler, called as API Gateway calls it, on moto."""

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, parse_qsl, unquote, urlsplit
from xml.sax.saxutils import escape

import boto3
import pytest
from botocore.exceptions import ClientError
from millrace.aws.clients import clear_clients
from moto import mock_aws

from tests.fakes.dynamodb_table import RUNS_TABLE_NAME, TABLE_NAME, TRACKING_TABLE_NAME, create_table
from tests.integration.application import (
    DATA_BUCKET,
    MODELS_BUCKET,
    PIPELINE_ARN,
    REGION,
    Handler,
    lambda_context,
    load_handler,
)

PREFIX = "/v1/mlflow"
ENVIRONMENT = {
    "AWS_DEFAULT_REGION": REGION,
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "REGISTRY_TABLE": TABLE_NAME,
    "RUNS_TABLE": RUNS_TABLE_NAME,
    "TRACKING_TABLE": TRACKING_TABLE_NAME,
    "DATA_BUCKET": DATA_BUCKET,
    "MODELS_BUCKET": MODELS_BUCKET,
    "STACK_NAME": "millrace",
    "TRAINING_PIPELINE_ARN": PIPELINE_ARN,
    "POWERTOOLS_SERVICE_NAME": "serve_mlflow",
}


def make_event(method: str, target: str, body: str | None = None, headers: Mapping[str, str] | None = None) -> Any:
    """Return the event of a request below ``/v1``."""
    parts = urlsplit(target)
    path = unquote(parts.path)
    query = parse_qs(parts.query, keep_blank_values=True)
    return {
        "resource": "/mlflow/{proxy+}",
        "path": path,
        "httpMethod": method,
        "headers": dict(headers or {}),
        "multiValueHeaders": {},
        "queryStringParameters": {name: values[-1] for name, values in query.items()} or None,
        "multiValueQueryStringParameters": query or None,
        "pathParameters": {"proxy": path.removeprefix("/mlflow/")},
        "requestContext": {
            "requestId": "r",
            "stage": "v1",
            "identity": {"userArn": "arn:aws:iam::123456789012:user/ann"},
        },
        "body": body or None,
        "isBase64Encoded": False,
    }


class MlflowAdapter(BaseHTTPRequestHandler):
    """Turns HTTP into events and back."""

    handler: Handler
    protocol_version = "HTTP/1.1"
    #: Without it, each response waits for the acknowledgement of its headers.
    wbufsize = -1

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        if not self.path.startswith(PREFIX):
            self._send(403, {"Content-Type": "application/json"}, b'{"message": "Missing Authentication Token"}')
            return
        event = make_event(self.command, self.path.removeprefix("/v1"), body, dict(self.headers))
        response = type(self).handler(event, lambda_context("serve_mlflow"))
        self._send(response["statusCode"], response["headers"], response["body"].encode())

    def _send(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    do_GET = do_POST = do_PATCH = do_DELETE = do_PUT = _answer

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class _Bucket(BaseHTTPRequestHandler):
    """S3 over HTTP, as far as MLflow's clients use it; its objects are those of moto in this process."""

    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        boto3.client("s3").put_object(Bucket=self._bucket, Key=self._key, Body=body)
        self._send(200, b"")

    def do_GET(self) -> None:
        query = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        if "list-type" in query:
            self._send(200, self._list(query), "application/xml")
            return
        try:
            body = boto3.client("s3").get_object(Bucket=self._bucket, Key=self._key)["Body"].read()
        except ClientError:
            self._send(404, b"<Error><Code>NoSuchKey</Code></Error>", "application/xml")
            return
        self._send(200, b"" if self.command == "HEAD" else body, length=len(body))

    do_HEAD = do_GET

    def _list(self, query: Mapping[str, str]) -> bytes:
        found = boto3.client("s3").list_objects_v2(
            Bucket=self._bucket, Prefix=query.get("prefix", ""), Delimiter=query.get("delimiter", "")
        )
        contents = "".join(
            f"<Contents><Key>{escape(one['Key'])}</Key><Size>{one['Size']}</Size></Contents>"
            for one in found.get("Contents", [])
        )
        folders = "".join(
            f"<CommonPrefixes><Prefix>{escape(one['Prefix'])}</Prefix></CommonPrefixes>"
            for one in found.get("CommonPrefixes", [])
        )
        return f"<ListBucketResult><IsTruncated>false</IsTruncated>{contents}{folders}</ListBucketResult>".encode()

    @property
    def _bucket(self) -> str:
        return urlsplit(self.path).path.split("/")[1]

    @property
    def _key(self) -> str:
        return unquote(urlsplit(self.path).path.split("/", 2)[2])

    def _send(self, status: int, body: bytes, kind: str = "binary/octet-stream", length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.send_header("ETag", '"0"')
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def serve(adapter: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Answer HTTP on this machine; yields the address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), adapter)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def mlflow_on_moto(base: type[BaseHTTPRequestHandler] | None = None) -> Iterator[tuple[str, str]]:
    """Yield the addresses of MLflow's API and of S3; both are in this process, on tables and buckets of moto.

    ``base`` may answer other paths too.
    """
    with pytest.MonkeyPatch.context() as patch, mock_aws():
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        clear_clients()
        create_table()
        for bucket in (DATA_BUCKET, MODELS_BUCKET):
            boto3.client("s3").create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
        adapter = type("Adapter", (base or MlflowAdapter,), {"handler": staticmethod(load_handler("serve_mlflow"))})
        try:
            with serve(adapter) as url, serve(_Bucket) as storage:
                yield url + PREFIX, storage
        finally:
            clear_clients()


def client_environment(tracking: str, storage: str) -> dict[str, str]:
    """Return the environment of a client's process."""
    return {
        "MLFLOW_TRACKING_URI": tracking,
        "MLFLOW_S3_ENDPOINT_URL": storage,
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": REGION,
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
    }


if __name__ == "__main__":
    with mlflow_on_moto() as addresses:
        print(json.dumps(addresses), flush=True)  # noqa: T201 - for the process that started this one
        threading.Event().wait()
