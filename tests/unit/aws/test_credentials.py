import json
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import pairwise

import pytest
from millrace.aws.credentials import RENEW_SECONDS_BEFORE, CredentialSource
from millrace.aws.signed_requests import AwsSettings, Credentials
from millrace.errors import ConfigurationError, ServiceUnavailableError

NOW = datetime(2026, 5, 3, 12, tzinfo=UTC).timestamp()
KEYS = {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}


class Local:
    """The endpoint that Lambda runs beside a process from a snapshot; every call gives other credentials."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None]] = []
        self.failing = 0
        self.lives_seconds = 3_600.0
        self.now = NOW
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append((self.path, self.headers.get("Authorization")))
                outer.failing -= 1
                expires = datetime.fromtimestamp(outer.now + outer.lives_seconds, UTC)
                document = {"AccessKeyId": f"key{len(outer.asked)}", "SecretAccessKey": "s", "Token": "t"}
                document["Expiration"] = expires.strftime("%Y-%m-%dT%H:%M:%SZ")
                body = json.dumps(document).encode()
                self.send_response(500 if outer.failing >= 0 else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def source(self, **variables: str) -> CredentialSource:
        url = f"http://127.0.0.1:{self.server.server_port}/2021/credentials?id=1"
        settings = AwsSettings(
            aws_container_credentials_full_uri=url, aws_container_authorization_token="token", **variables
        )
        return CredentialSource(lambda: settings, lambda: self.now)


@pytest.fixture
def local():
    endpoint = Local()
    yield endpoint
    endpoint.server.shutdown()
    endpoint.thread.join()
    endpoint.server.server_close()


def test_keys_of_the_environment_come_first(local):
    assert local.source(**KEYS, aws_session_token="t").get() == Credentials("key", "secret", "t")
    assert CredentialSource(lambda: AwsSettings(**KEYS)).get() == Credentials("key", "secret")
    assert local.asked == []


def test_a_process_from_a_snapshot_asks_its_endpoint_with_its_token_and_once(local):
    source = local.source()
    assert source.get() == source.get() == Credentials("key1", "s", "t")
    assert local.asked == [("/2021/credentials?id=1", "token")]


def test_the_token_may_be_in_a_file(local, tmp_path):
    (tmp_path / "token").write_text("of a file\n")
    local.source(aws_container_authorization_token_file=str(tmp_path / "token")).get()
    assert local.asked[0][1] == "of a file"


def test_credentials_are_renewed_before_they_expire(local):
    source = local.source()
    source.get()
    local.now = NOW + local.lives_seconds - RENEW_SECONDS_BEFORE - 1
    assert source.get().access_key == "key1"
    local.now += 1
    assert source.get().access_key == "key2"


def test_old_credentials_serve_while_none_come_and_no_longer(local):
    source = local.source()
    source.get()
    local.now, local.failing = NOW + local.lives_seconds - 100, 1_000
    assert [source.get().access_key for _ in range(3)] == ["key1"] * 3
    asked = len(local.asked)
    assert asked == 4  # three attempts, once in half a minute
    local.now += 31
    assert source.get().access_key == "key1"
    assert len(local.asked) == asked + 3
    local.now = NOW + local.lives_seconds
    with pytest.raises(ServiceUnavailableError):
        source.get()
    local.failing = 0
    assert source.get().access_key.startswith("key")


def test_an_attempt_that_fails_is_made_again(local):
    local.failing = 2
    assert local.source().get().access_key == "key3"


def test_credentials_that_a_service_refused_are_renewed(local):
    source = local.source()
    first = source.get()
    source.forget()
    assert source.get() != first


def test_one_thread_renews_for_all(local):
    source, found = local.source(), []
    threads = [threading.Thread(target=lambda: found.append(source.get())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(one == other for one, other in pairwise(found))
    assert (len(found), len(local.asked)) == (8, 1)


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"aws_access_key_id": "key"},
        {"aws_container_credentials_full_uri": "http://example.com/credentials"},
        {"aws_container_credentials_full_uri": "http://169.254.170.3/credentials"},
        {"aws_container_credentials_full_uri": "ftp://127.0.0.1/credentials"},
        {
            "aws_container_credentials_full_uri": "http://127.0.0.1:9/credentials",
            "aws_container_authorization_token": "a\r\nb",
        },
        {
            "aws_container_credentials_full_uri": "http://127.0.0.1:9/credentials",
            "aws_container_authorization_token_file": "/nowhere",
        },
    ],
)
def test_credentials_of_nowhere_or_of_a_stranger_are_a_fault_of_the_deployment(variables):
    with pytest.raises(ConfigurationError):
        CredentialSource(lambda: AwsSettings(**variables)).get()


def test_an_endpoint_that_is_not_there_is_not_available():
    settings = AwsSettings(aws_container_credentials_full_uri="http://127.0.0.1:9/credentials")
    with pytest.raises(ServiceUnavailableError):
        CredentialSource(lambda: settings).get()
