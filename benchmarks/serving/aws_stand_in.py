"""Server in place of DynamoDB and S3, behind TLS, for one model that lies in a folder.

    python aws_stand_in.py FOLDER CERTIFICATE

Prints its port. It answers what ``predict`` asks for, and checks nothing.
"""

import hashlib
import json
import ssl
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class StandIn(BaseHTTPRequestHandler):
    """Gives the items of version 1 of one model, and its artifacts by the last part of their key."""

    protocol_version = "HTTP/1.1"
    folder: Path

    def do_POST(self) -> None:
        """Answer GetItem."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if asked["Key"]["sk"]["S"] == "STATE":
            item = {"aliases": {"M": {"champion": {"N": "1"}}}}
        else:
            digest = hashlib.sha256((self.folder / "manifest.json").read_bytes()).hexdigest()
            item = {"manifest_sha256": {"S": digest}, "status": {"S": "registered"}}
        self._send(200, json.dumps({"Item": item}).encode())

    def do_GET(self) -> None:
        """Answer GetObject."""
        path = self.folder / self.path.partition("?")[0].rpartition("/")[2]
        if path.is_file():
            self._send(200, path.read_bytes())
        else:
            self._send(404, b"<Error><Code>NoSuchKey</Code></Error>")

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def main() -> None:
    """Serve until the process is ended."""
    StandIn.folder = Path(sys.argv[1])
    server = ThreadingHTTPServer(("127.0.0.1", 0), StandIn)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[2])
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
