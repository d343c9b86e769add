"""What API Gateway does for ``predict``: a method and a path become an event, by the routes of ``template.yaml``."""

import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote

import pytest
from millrace.schema import Task

from tests.integration.application import Handler, lambda_context, load_handler
from tests.serving_models import (
    MemoryModelSource,
    churn_background,
    churn_calibration,
    churn_onnx,
    churn_schema,
    version_artifacts,
)
from tests.template.template_file import functions, resources


@cache
def predict_routes() -> tuple[tuple[str, str], ...]:
    """Return every method and path that ``template.yaml`` sends to ``predict``."""
    events = functions()["PredictFunction"]["Events"].values()
    return tuple((event["Properties"]["Method"], event["Properties"]["Path"]) for event in events)


def gateway_error(kind: str, message: str = "Forbidden") -> str:
    """Return the body of an error of API Gateway itself; its template's variable is the message as a JSON string."""
    responses = resources("AWS::Serverless::Api")["Api"]["Properties"]["GatewayResponses"]
    template = str(responses[kind]["ResponseTemplates"]["application/json"])
    return template.replace("$context.error.messageString", json.dumps(message))


def make_event(method: str, path: str, body: str | None = None, headers: Mapping[str, str] | None = None) -> Any:
    """Return the event of a request; None when API Gateway would answer it without the function."""
    path, _, query = path.partition("?")
    for route_method, resource in predict_routes():
        pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(resource))
        match = re.fullmatch(pattern, path)
        if match and method == route_method:
            return {
                "resource": resource,
                "path": path,
                "httpMethod": method,
                "headers": dict(headers or {"Content-Type": "application/json"}),
                "queryStringParameters": dict(parse_qsl(query, keep_blank_values=True)) or None,
                "pathParameters": {name: unquote(value) for name, value in match.groupdict().items()} or None,
                "requestContext": {"requestId": "r", "stage": "v1", "path": f"/v1{path}"},
                "body": body,
                "isBase64Encoded": False,
            }
    return None


def call(handler: Handler, method: str, path: str, document: Any = None, **headers: str) -> tuple[int, Any]:
    """Ask the function; returns status and JSON body."""
    body = document if isinstance(document, str | None) else json.dumps(document)
    event = make_event(method, path, body, headers or None)
    assert event is not None, path
    response = handler(event, lambda_context("predict"))
    text = response["body"]
    return response["statusCode"], json.loads(text) if "json" in response["headers"]["Content-Type"] else text


@contextmanager
def memory_handler(task: Task = "binary", *, remark: bool = False, **signature: object) -> Iterator[Handler]:
    """Yield ``predict`` beside a registry in memory that serves version 1 of ``churn``.

    ``signature`` holds further members of ``signature.json``; by default there is a calibration.
    """
    source = MemoryModelSource()
    signature = {"confidence": churn_calibration(task).to_document()} | signature
    schema = churn_schema(task, remark=remark)
    background = None if remark else churn_background()
    artifacts = version_artifacts(churn_onnx(task, remark=remark), schema, background, **signature)
    source.register("churn", 1, artifacts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REGISTRY_TABLE", "registry")
        patch.setenv("MODELS_BUCKET", "models")
        patch.setattr("millrace.aws.serving_source.aws_model_source", lambda *_: source)
        yield load_handler("predict")


class _Adapter(BaseHTTPRequestHandler):
    """Turns HTTP into events and back."""

    handler: Handler
    protocol_version = "HTTP/1.1"

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            text = body.decode()
        except UnicodeDecodeError:
            text = body.decode("utf-8", "replace")
        event = make_event(self.command, self.path.removeprefix("/v1") or "/", text, dict(self.headers))
        if event is None:
            self._send(
                403, {"Content-Type": "application/json"}, gateway_error("MISSING_AUTHENTICATION_TOKEN").encode()
            )
            return
        response = type(self).handler(event, lambda_context("predict"))
        self._send(response["statusCode"], response["headers"], response["body"].encode())

    def _send(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = _answer

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def serve(handler: Handler) -> Iterator[str]:
    """Answer HTTP on this machine as the stage ``v1``; yields its address."""
    adapter = type("Adapter", (_Adapter,), {"handler": staticmethod(handler)})
    server = ThreadingHTTPServer(("127.0.0.1", 0), adapter)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
