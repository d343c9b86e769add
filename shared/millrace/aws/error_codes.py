"""Conversion of AWS's errors to ours: by code, never by the text of a message.

=====================================================  ==================================
error of AWS                                           error of Millrace
=====================================================  ==================================
throttling, 5xx, timeouts, no connection               ``ServiceUnavailableError``
access denied, no such table, bucket, state machine    ``ConfigurationError``
anything else                                          passes through: a fault of ours
=====================================================  ==================================

A code with a meaning to one adapter (a condition that failed, an object that is gone) is handled there.
"""

from millrace.errors import ConfigurationError, MillraceError, ServiceUnavailableError

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


def is_unavailable(code: str, status: int) -> bool:
    """Return whether the same request may succeed later."""
    return code in _UNAVAILABLE or status >= _SERVER_ERROR


def find_error(service: str, operation: str, code: str, status: int) -> MillraceError | None:
    """Return our error for a response that is an error; None for one that is a fault of ours.

    It is ``ServiceUnavailableError`` (throttled or failing; a repetition may succeed) or ``ConfigurationError`` (the
    deployment does not allow this function the call).
    """
    if is_unavailable(code, status):
        return ServiceUnavailableError(f"{service} is busy ({code}) in {operation}")
    if code in _MISCONFIGURED:
        return ConfigurationError(f"{service} refused {operation} ({code})")
    return None
