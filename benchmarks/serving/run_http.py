"""Millrace's handler behind a socket, as one execution environment: one request at a time.

    python run_http.py FOLDER PORT REFRESH_SECONDS

``POST /swap`` moves the alias to the other of two versions (of the same bytes), and ``POST /collect`` collects garbage.
"""

import gc
import os
import sys
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import run_millrace
from millrace.key_scopes import KeyScopes
from millrace.routing import AliasPointer
from millrace.serving.cache import ModelCache
from millrace.serving.handler import Endpoint


class SwappedSource(run_millrace.FolderSource):
    """Two versions of one folder."""

    version = 1

    def read_alias(self, model: str, alias: str) -> AliasPointer:  # noqa: ARG002 - there is one model
        """Return the version of the moment."""
        return AliasPointer(self.version)


class Environment(BaseHTTPRequestHandler):
    """Gives requests to the handler, one after the other."""

    protocol_version = "HTTP/1.1"
    turn = threading.Lock()
    source: SwappedSource
    event: dict[str, Any]

    def do_POST(self) -> None:
        """Answer."""
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        status, text = 200, ""
        if self.path == "/swap":
            SwappedSource.version = 3 - SwappedSource.version
        elif self.path == "/collect":
            with self.turn:
                gc.collect()
        else:
            with self.turn:
                reply = run_millrace.app.lambda_handler({**self.event, "body": body}, None)
            status, text = reply["statusCode"], reply["body"]
        content = text.encode()
        head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
        self.wfile.write(head.encode() + content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def main() -> None:
    """Serve until the process is ended."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the log
    gc.set_threshold(100_000)
    source = SwappedSource(Path(sys.argv[1]))
    models = ModelCache(source, float(sys.argv[3]), time.monotonic)
    keys = KeyScopes(source.key_models, 30.0, time.monotonic)
    endpoint = Endpoint(models, keys, 10_000, lambda: str(uuid.uuid4()))
    run_millrace.app._endpoint = lambda: endpoint
    Environment.source = source
    Environment.event = run_millrace.EVENT
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Environment)
    server.daemon_threads = True
    server.serve_forever()


if __name__ == "__main__":
    main()
