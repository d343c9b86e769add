"""Credentials of the function: those that Lambda puts into the environment, or those of its local endpoint.

A process that began from a snapshot (SnapStart) has no keys in its environment, because those of the snapshot would
have expired. It asks an address of its own machine, and asks again before they expire.
"""

import http.client
import json
import threading
import time
from collections.abc import Callable
from datetime import datetime
from http import HTTPStatus
from urllib.parse import urlsplit

from millrace.aws.signed_requests import AwsSettings, Credentials
from millrace.errors import ConfigurationError, ServiceUnavailableError

#: Credentials are renewed that long before they expire, like botocore's.
RENEW_SECONDS_BEFORE = 600.0
#: While none come, the old ones serve, and one request in as many seconds tries again.
_RETRY_SECONDS = 30.0
_ATTEMPTS = 3
_TIMEOUT_SECONDS = 2.0
#: Addresses without TLS that may give credentials (SDK reference guide, "Container credential provider").
_LOCAL_ADDRESSES = frozenset({"169.254.170.2", "169.254.170.23", "fd00:ec2::23"})


class CredentialSource:
    """Gives credentials that have not expired, to any thread.

    ``read_settings`` returns those of the process: one that began from a snapshot has others than the snapshot.
    ``clock`` returns the seconds since the epoch; a monotonic one may stand still while the process is frozen.
    """

    def __init__(self, read_settings: Callable[[], AwsSettings], clock: Callable[[], float] = time.time) -> None:
        self._read_settings = read_settings
        self._clock = clock
        self._lock = threading.Lock()
        self._renewed: Credentials | None = None
        self._expires_at = 0.0
        self._tried_at = float("-inf")

    def get(self) -> Credentials:
        """Return credentials.

        Raises ``ConfigurationError`` when the function has none, ``ServiceUnavailableError`` when none come.
        """
        settings = self._read_settings()
        if settings.aws_access_key_id and settings.aws_secret_access_key:
            return Credentials(settings.aws_access_key_id, settings.aws_secret_access_key, settings.aws_session_token)
        if not settings.aws_container_credentials_full_uri:
            raise ConfigurationError(
                "the function has no credentials: neither keys nor AWS_CONTAINER_CREDENTIALS_FULL_URI"
            )
        with self._lock:
            now = self._clock()
            if self._renewed is not None and now < self._expires_at - RENEW_SECONDS_BEFORE:
                return self._renewed
            is_valid = self._renewed is not None and now < self._expires_at
            if not is_valid or now - self._tried_at >= _RETRY_SECONDS:
                self._tried_at = now
                try:
                    self._renewed, self._expires_at = fetch_credentials(settings)
                except ServiceUnavailableError:
                    if not is_valid:
                        raise
            assert self._renewed is not None  # noqa: S101 - for mypy: fetched, or valid
            return self._renewed

    def forget(self) -> None:
        """Forget credentials that a service refused, so that the next request gets new ones."""
        with self._lock:
            self._renewed = None


def fetch_credentials(settings: AwsSettings) -> tuple[Credentials, float]:
    """Ask the local endpoint; returns credentials and when they expire, in seconds since the epoch."""
    url = urlsplit(settings.aws_container_credentials_full_uri)
    host = url.hostname or ""
    if url.scheme not in ("http", "https") or not host or (url.scheme == "http" and not _is_local(host)):
        raise ConfigurationError("AWS_CONTAINER_CREDENTIALS_FULL_URI is no address of this machine")
    headers = {"Accept": "application/json"}
    if token := _read_token(settings):
        headers["Authorization"] = token
    fault = ""
    for _ in range(_ATTEMPTS):
        is_secure = url.scheme == "https"
        connect = http.client.HTTPSConnection if is_secure else http.client.HTTPConnection
        connection = connect(host, url.port, timeout=_TIMEOUT_SECONDS)
        try:
            connection.request("GET", f"{url.path or '/'}{'?' if url.query else ''}{url.query}", headers=headers)
            response = connection.getresponse()
            body = response.read()
            if response.status == HTTPStatus.OK:
                return _parse(body)
            fault = f"status {response.status}"
        except (OSError, http.client.HTTPException, ValueError, KeyError) as error:
            fault = type(error).__name__
        finally:
            connection.close()
    raise ServiceUnavailableError(f"the function's credentials cannot be read ({fault})")


def _parse(body: bytes) -> tuple[Credentials, float]:
    document = json.loads(body)
    found = Credentials(document["AccessKeyId"], document["SecretAccessKey"], document.get("Token") or "")
    return found, datetime.fromisoformat(document["Expiration"]).timestamp()


def _read_token(settings: AwsSettings) -> str:
    token = settings.aws_container_authorization_token
    if settings.aws_container_authorization_token_file:
        try:
            with open(settings.aws_container_authorization_token_file, encoding="utf-8") as file:
                token = file.read().strip()
        except OSError as error:
            raise ConfigurationError("the file of AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE cannot be read") from error
    if "\r" in token or "\n" in token:
        raise ConfigurationError("AWS_CONTAINER_AUTHORIZATION_TOKEN holds a line break")
    return token


def _is_local(host: str) -> bool:
    if host == "localhost" or host in _LOCAL_ADDRESSES:
        return True
    import ipaddress  # noqa: PLC0415 - most processes have keys in their environment

    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
