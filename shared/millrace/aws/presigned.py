"""Objects of S3 by presigned address: for a function without rights. It imports no boto3."""

import urllib.error
import urllib.request
from http import HTTPStatus
from http.client import HTTPException

from millrace.aws.authorities import tls_context
from millrace.aws.signed_requests import AwsSettings
from millrace.environment import load_settings
from millrace.errors import ConfigurationError, InvalidInputError, ServiceUnavailableError

_SECONDS = 60.0


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Takes a redirect for a refusal: it could lead to another host, and out of TLS."""

    def redirect_request(self, *_: object) -> None:
        """Return no request that follows."""


def read_object(url: str, most: int) -> bytes:
    """Read an object of at most so many bytes; raises ``InvalidInputError`` for a larger one, or where it is gone."""
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
    opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=context), _NoRedirects)
    try:
        with opener.open(request, timeout=_SECONDS) as response:
            body = bytes(response.read(most + 1))
            # Of a connection that ends early, what arrived is returned without an error.
            if response.length and len(body) <= most:
                raise ServiceUnavailableError("S3 ended a response early")
            return body
    except urllib.error.HTTPError as error:
        if error.code == HTTPStatus.NOT_FOUND:
            raise InvalidInputError("a file of the logged model is not there any more") from error
        if error.code < HTTPStatus.INTERNAL_SERVER_ERROR:
            raise ConfigurationError(f"an address of an object was refused ({error.code})") from error
        raise ServiceUnavailableError("S3 is unavailable") from error
    except (OSError, HTTPException) as error:
        raise ServiceUnavailableError("S3 cannot be reached") from error
