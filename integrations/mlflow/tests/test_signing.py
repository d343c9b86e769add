"""Requests on their way: what a server receives has the signature that AWS would compute from it."""

import hashlib
import hmac
import io
import os
import threading
import unittest
from http.server import BaseHTTPRequestHandler, HTTPServer
from unittest import mock
from urllib.parse import parse_qsl, quote, unquote

import requests
from millrace_mlflow.signing import MissingCredentialsError, RequestSigner

KEY, SECRET = "AKIDEXAMPLE", "secret"


class Session:
    """A session of boto3 with fixed credentials, or none."""

    region_name = "eu-west-1"

    def __init__(self, found: bool = True) -> None:
        self.found = found

    def get_credentials(self) -> object:
        from botocore.credentials import Credentials  # noqa: PLC0415 - the test's own name would hide it

        return Credentials(KEY, SECRET) if self.found else None


def expected_signature(method: str, target: str, headers: dict[str, str], body: bytes, region: str) -> str:
    """Compute the signature of what arrived, by AWS's description: decode, encode strictly, sort."""
    path, _, query = target.partition("?")
    pairs = sorted((quote(k, safe="-_.~"), quote(v, safe="-_.~")) for k, v in parse_qsl(query, keep_blank_values=True))
    signed = headers["authorization"].split("SignedHeaders=")[1].split(",")[0]
    canonical = "\n".join(
        [
            method,
            quote(quote(unquote(path), safe="/-_.~"), safe="/-_.~"),
            "&".join(f"{key}={value}" for key, value in pairs),
            *(f"{name}:{headers[name].strip()}" for name in signed.split(";")),
            "",
            signed,
            hashlib.sha256(body).hexdigest(),
        ]
    )
    date = headers["x-amz-date"]
    scope = f"{date[:8]}/{region}/execute-api/aws4_request"
    text = "\n".join(["AWS4-HMAC-SHA256", date, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{SECRET}".encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


class Recorder(BaseHTTPRequestHandler):
    """Keeps what arrives."""

    arrived: list = []  # noqa: RUF012 - one server

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.arrived.append((self.command, self.path, headers, body))
        self.send_response(200)
        self.end_headers()

    do_POST = do_PATCH = do_DELETE = do_GET

    def log_message(self, *_: object) -> None:
        pass


class SignedRequests(unittest.TestCase):
    def setUp(self) -> None:
        Recorder.arrived.clear()
        self.server = HTTPServer(("127.0.0.1", 0), Recorder)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1/mlflow/api/2.0/mlflow"
        self.http = requests.Session()
        self.http.trust_env = False

    def tearDown(self) -> None:
        self.http.close()
        self.server.shutdown()
        self.server.server_close()

    def send(self, method: str, path: str, session: object = None, **arguments: object) -> dict[str, str]:
        self.http.request(method, self.url + path, auth=RequestSigner(session or Session()), **arguments)
        method, target, headers, body = Recorder.arrived[-1]
        expected = expected_signature(method, target, headers, body, "eu-west-1")
        self.assertTrue(headers["authorization"].endswith(f"Signature={expected}"), target)
        return headers

    def test_queries_with_blanks_plus_signs_and_repeated_keys(self) -> None:
        self.send("GET", "/experiments/get-by-name", params={"experiment_name": "My Exp + more"})
        self.send("GET", "/registered-models/search", params={"filter": "tag.`a b` != 'true'", "max_results": 100})
        self.send("GET", "/model-versions/search", params={"order_by": ["version_number", "name", "name"]})
        self.send("GET", "/metrics/get-history", params=[("run_id", "r"), ("metric_key", "µ/val loss~*'"), ("e", "")])

    def test_bodies(self) -> None:
        self.send("POST", "/runs/create", json={"name": "ü +"})
        self.send("DELETE", "/registered-models/alias", json={"name": "x", "alias": "champion"})
        self.send("PATCH", "/model-versions/update", data=io.BytesIO(b'{"a": 1}'))
        self.assertEqual(Recorder.arrived[-1][3], b'{"a": 1}')

    def test_a_path_with_a_blank(self) -> None:
        self.send("DELETE", "/logged-models/m-1/tags/a b")

    def test_the_region_is_that_of_the_host(self) -> None:
        url = "https://abc123.execute-api.ap-south-1.amazonaws.com/v1/mlflow"
        prepared = requests.Request("GET", url, auth=RequestSigner(Session())).prepare()
        self.assertIn("/ap-south-1/execute-api/aws4_request", prepared.headers["Authorization"])

    def test_without_credentials_the_message_has_the_remedy(self) -> None:
        with self.assertRaisesRegex(MissingCredentialsError, "AWS_PROFILE"):
            RequestSigner(Session(found=False))(requests.Request("GET", self.url).prepare())


class Provider(unittest.TestCase):
    def test_mlflow_finds_it_by_its_name(self) -> None:
        from mlflow.tracking.request_auth.registry import fetch_auth  # noqa: PLC0415 - slow, and only this test's

        environment = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
        with mock.patch.dict(os.environ, environment):
            self.assertIsInstance(fetch_auth("millrace"), RequestSigner)


if __name__ == "__main__":
    unittest.main()
