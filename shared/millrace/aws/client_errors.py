"""Conversion of botocore's errors to ours, as :mod:`millrace.aws.error_codes` says."""

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as BotocoreConnectionError

from millrace.aws.error_codes import find_error
from millrace.errors import ServiceUnavailableError


def error_code(error: ClientError) -> str:
    """Return the code of an error, such as ``ConditionalCheckFailedException``."""
    return str(error.response.get("Error", {}).get("Code", ""))


def cancellation_codes(error: ClientError) -> list[str]:
    """Return the code of each action of a cancelled transaction (``None`` when it did not fail), in their order."""
    reasons = error.response.get("CancellationReasons", [])
    return [str(reason.get("Code", "None")) for reason in reasons]


@contextmanager
def aws_errors(service: str) -> Iterator[None]:
    """Raise our error for an unavailable or misconfigured ``service``; any other error passes through.

    Raises ``ServiceUnavailableError`` (throttled, failing or unreachable; a repetition may succeed);
    ``ConfigurationError`` (the deployment does not allow this function the call).
    """
    try:
        yield
    except ClientError as error:
        code = error_code(error)
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if (found := find_error(service, error.operation_name, code, status)) is not None:
            raise found from error
        raise
    except (HTTPClientError, BotocoreConnectionError) as error:
        raise ServiceUnavailableError(f"{service} cannot be reached ({type(error).__name__})") from error
