"""Objects of S3 by presigned address: for a function without rights. It imports no boto3."""

import urllib.error
import urllib.request
from http import HTTPStatus

from millrace.aws.signed_client import tls_context
from millrace.aws.signed_requests import AwsSettings
from millrace.environment import load_settings
from millrace.errors import ConfigurationError, InvalidInputError, ServiceUnavailableError

_SECONDS = 60.0


def read_object(url: str, most: int) -> bytes:
    """Read an object of at most so many bytes; raises ``InvalidInputError`` for a larger one."""
    body = _send(urllib.request.Request(_secure(url)), most)  # noqa: S310 - checked
    if len(body) > most:
        raise InvalidInputError(f"a file has more than {most:,} bytes")
    return body


def write_object(url: str, body: bytes) -> None:
    """Write an object."""
    _send(urllib.request.Request(_secure(url), data=body, method="PUT"), 0)  # noqa: S310 - checked


def _secure(url: str) -> str:
    if not url.startswith("https://"):
        raise ConfigurationError("an object is read and written by HTTPS alone")
    return url


def _send(request: urllib.request.Request, most: int) -> bytes:
    context = tls_context(load_settings(AwsSettings).aws_ca_bundle)
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS, context=context) as response:  # noqa: S310 - checked
            return bytes(response.read(most + 1))
    except urllib.error.HTTPError as error:
        if error.code < HTTPStatus.INTERNAL_SERVER_ERROR:
            raise ConfigurationError(f"an address of an object was refused ({error.code})") from error
        raise ServiceUnavailableError("S3 is unavailable") from error
    except OSError as error:
        raise ServiceUnavailableError("S3 cannot be reached") from error
