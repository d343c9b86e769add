"""From botocore's errors to ours: by code, never by the words of a message.

=====================================================  ==================================
what AWS says                                          what Millrace raises
=====================================================  ==================================
throttling, 5xx, timeouts, no connection               ``ServiceUnavailableError``
access denied, no such table, bucket, state machine    ``ConfigurationError``
anything else                                          passes through: a fault of ours
=====================================================  ==================================

What a code means to one adapter (a condition that failed, an object that is gone) that adapter handles itself.
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
    """Return the code that AWS gave, such as ``ConditionalCheckFailedException``."""
    return str(error.response.get("Error", {}).get("Code", ""))


def cancellation_codes(error: ClientError) -> list[str]:
    """Return why each action of a cancelled transaction failed (``None`` when it did not), in their order."""
    reasons = error.response.get("CancellationReasons", [])
    return [str(reason.get("Code", "None")) for reason in reasons]


@contextmanager
def aws_errors(service: str) -> Iterator[None]:
    """Raise our error for what ``service`` says about itself; everything else passes through.

    Raises
    ------
    ServiceUnavailableError
        Throttled, failing or unreachable; trying again may help.
    ConfigurationError
        The deployment does not let this function do that.
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
