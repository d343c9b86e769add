"""Client of a stack's API, with signed requests."""

import re
import ssl
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Self

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import BotoCoreError

from millrace_cli.errors import ApiError, CliError, RefusedError
from millrace_cli.http_client import HttpClient, HttpError, HttpResponse, InvalidAddressError
from millrace_cli.target import Target

_ATTEMPTS = 4
#: Names and ids of a command become parts of a path: none may become another path.
_PATH = re.compile(r"(/|(/[A-Za-z0-9_-][A-Za-z0-9_.:-]*)+)\Z")
_FIRST_PAUSE_SECONDS = 0.3
_NOT_FOUND = re.compile(r"the model '([\w-]+)' has no (version|dataset|run) ")
_TRANSIENT = frozenset({429, 502, 503, 504})
_LOG_IN = "log in again, such as by: aws sso login; or name another --profile"


class RequestSigner:
    """Signature Version 4 for API Gateway.

    Parameters
    ----------
    credentials : botocore Credentials
        Read for each request, so that refreshed ones are used.
    region : str
        Region of the API.
    """

    def __init__(self, credentials: Credentials, region: str) -> None:
        self._credentials = credentials
        self._region = region

    def __call__(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> Mapping[str, str]:
        """Return the headers that sign a request; raises ``CliError`` when credentials are expired or unreadable."""
        signed = {name: value for name, value in headers.items() if name.lower() in ("host", "content-type")}
        aws_request = AWSRequest(method=method, url=url, data=body, headers=signed)
        try:
            credentials = self._credentials.get_frozen_credentials()
        except BotoCoreError as error:
            raise CliError(f"the AWS credentials cannot be used: {error}", _LOG_IN) from error
        SigV4Auth(credentials, "execute-api", self._region).add_auth(aws_request)
        return dict(aws_request.headers.items())


class ApiClient:
    """Client of one stack's API.

    Parameters
    ----------
    client : HttpClient
        Has the base URL and signs requests.
    sleep : callable
        Waits between retries, in seconds.
    """

    def __init__(self, client: HttpClient, sleep: Callable[[float], None] = time.sleep) -> None:
        self._client = client
        self._sleep = sleep

    @classmethod
    def for_target(cls, target: Target) -> Self:
        """Return a client that signs with the target's credentials."""
        signer = RequestSigner(target.credentials, target.region)
        return cls(connect(target, target.api_url, signer))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def get(self, path: str, query: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the document at ``path``; retries transient errors.

        Raises
        ------
        ApiError
            When the API returns an error; has the API's message.
        CliError
            When the API does not respond.
        """
        return self._call("GET", path, params=query)

    def get_all(self, path: str, name: str) -> dict[str, Any]:
        """Return the document at ``path`` with the items ``name`` of all its pages; errors as :meth:`get`."""
        document = self.get(path)
        page = document
        while page.get("next"):
            page = self.get(path, {"after": str(page["next"])})
            document[name] += page[name]
        return {key: value for key, value in document.items() if key != "next"}

    def post(self, path: str, body: Mapping[str, Any], query: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Send a document and return the response; errors as :meth:`get`."""
        return self._call("POST", path, json=body, params=query)

    def post_bytes(self, path: str, body: bytes, headers: Mapping[str, str]) -> dict[str, Any]:
        """Send a body as it is and return the response; errors as :meth:`get`."""
        return self._call("POST", path, content=body, headers=headers)

    def put(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Replace the document at ``path`` and return the response; errors as :meth:`get`."""
        return self._call("PUT", path, json=body)

    def delete(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Delete the resource at ``path`` and return the response; errors as :meth:`get`."""
        return self._call("DELETE", path, json=body)

    def pass_on(self, method: str, address: str, body: bytes) -> tuple[int, bytes]:
        """Send a request as it is, with its query, and return status and body, whatever they are.

        Reads are repeated after transient errors.

        Raises
        ------
        RefusedError
            When the address is too long or has what no address has.
        CliError
            When the API does not respond.
        """
        headers = {"Content-Type": "application/json"} if body else {}
        attempts = _ATTEMPTS if method == "GET" else 1
        try:
            response = self._send(method, address, attempts, content=body, headers=headers)
        except InvalidAddressError as error:
            raise RefusedError(f"this is no address of the API: {error}") from error
        return response.status_code, response.content

    def _call(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        if not _PATH.match(path):
            raise RefusedError(f"{path} is no path of the API", "check the names and ids in the command")
        response = self._send(method, path, _ATTEMPTS, **arguments)
        if not response.is_success:
            raise _api_error(response)
        return _document(response)

    def _send(self, method: str, address: str, attempts: int, **arguments: Any) -> HttpResponse:
        """Return the first response that is no transient error, or the last attempt's."""
        pause = _FIRST_PAUSE_SECONDS
        for attempt in range(1, attempts + 1):
            try:
                response = self._client.request(method, address, **arguments)
            except HttpError as error:
                if attempt == attempts:
                    raise CliError(
                        f"the API did not respond: {error}",
                        "check the network, or a local stack: millrace local status",
                    ) from error
            else:
                if response.status_code not in _TRANSIENT or attempt == attempts:
                    return response
            self._sleep(pause)
            pause *= 2
        raise AssertionError("unreachable: the last attempt returns or raises")


def connect(target: Target, url: str, signer: RequestSigner | None = None) -> HttpClient:
    """Return a client that trusts the authority of a target, for one of its URLs."""
    context = ssl.create_default_context(cafile=target.authority)
    return HttpClient.connect(url, context, sign=signer, uses_proxies=not target.is_local)


def _document(response: HttpResponse) -> dict[str, Any]:
    try:
        document = response.json()
    except ValueError as error:
        raise CliError(f"the API did not return JSON: {response.text[:200]}") from error
    if not isinstance(document, dict):
        raise CliError("the API did not return a JSON object")
    return document


def _list_command(message: str) -> str:
    """Return the command that lists what the API did not find; empty for another message."""
    if message.startswith("there is no model called"):
        return "list the models: millrace models"
    found = _NOT_FOUND.match(message)
    if found is None:
        return ""
    model = found[1]
    return {
        "version": f"list its versions: millrace models {model}",
        "dataset": f"list its datasets: millrace data list {model}",
        "run": f"list its runs: millrace runs {model}",
    }[found[2]]


def _api_error(response: HttpResponse) -> ApiError:
    """Convert an error response of the API or of API Gateway to an exception."""
    try:
        body = response.json()
    except ValueError:
        body = {}
    if not isinstance(body, dict):
        body = {}
    message = str(body.get("message") or body.get("Message") or f"HTTP {response.status_code}")
    fields = [(str(entry.get("field")), str(entry.get("message"))) for entry in body.get("fields", [])]
    # A message that has one fault repeats it.
    lines = [f"  {field}: {problem}" for field, problem in fields if len(fields) > 1 or problem not in message]
    hint = _list_command(message)
    if response.status_code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        is_expired = "token" in message and "expired" in message
        hint = _LOG_IN if is_expired else "grant the caller execute-api:Invoke on this API, or name another --profile"
    return ApiError(
        "\n".join([message, *lines]),
        status=response.status_code,
        error_code=str(body.get("error_code", "")),
        hint=hint,
        fields=fields,
    )
