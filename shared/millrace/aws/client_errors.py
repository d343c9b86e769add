"""Conversion of botocore's errors to ours: by code, never by the text of a message.

=====================================================  ==================================
error of AWS                                           error of Millrace
=====================================================  ==================================
throttling, 5xx, timeouts, no connection               ``ServiceUnavailableError``
access denied, no such table, bucket, state machine    ``ConfigurationError``
anything else                                          passes through: a fault of ours
=====================================================  ==================================

A code with a meaning to one adapter (a condition that failed, an object that is gone) is handled there.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as BotocoreConnectionError

from millrace.errors import ConfigurationError, ServiceUnavailableError

_UNAVAILABLE = frozenset(
    {
        "InternalError",
        "InternalFailure",
        "InternalServerError",
        "LimitExceededException",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestTimeout",
        "RequestTimeoutException",
        "ServiceUnavailable",
        "SlowDown",
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "TooManyRequestsException",
        "TransactionInProgressException",
    }
)
_MISCONFIGURED = frozenset(
    {
        "403",
        "AccessDenied",
        "AccessDeniedException",
        "ExpiredTokenException",
        "InvalidAccessKeyId",
        "InvalidArn",
        "NoSuchBucket",
        "ResourceNotFoundException",
        "StateMachineDoesNotExist",
        "UnrecognizedClientException",
    }
)
_SERVER_ERROR = 500


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
        if code in _UNAVAILABLE or status >= _SERVER_ERROR:
            raise ServiceUnavailableError(f"{service} is busy ({code}) in {error.operation_name}") from error
        if code in _MISCONFIGURED:
            raise ConfigurationError(f"{service} refused {error.operation_name} ({code})") from error
        raise
    except (HTTPClientError, BotocoreConnectionError) as error:
        raise ServiceUnavailableError(f"{service} cannot be reached ({type(error).__name__})") from error
