"""Responses to requests of MLflow's API: the endpoint, its arguments, and every error in MLflow's form."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from millrace.errors import (
    EndpointNotFoundError,
    InvalidInputError,
    MillraceError,
    ServiceUnavailableError,
    TooManyRequestsError,
)
from millrace.tracking import (
    artifact_listing,
    dataset_search,
    experiments,
    logged_models,
    metric_history,
    model_versions,
    registered_models,
    run_logging,
    run_search,
    server_info,
    tracked_runs,
)
from millrace.tracking.arguments import read_arguments
from millrace.tracking.tracking_calls import TrackingCall, TrackingEndpoint

#: Every module with endpoints; Millrace's registry, whose import takes longer, is imported by the calls that need it.
MODULES = (
    experiments,
    dataset_search,
    tracked_runs,
    run_logging,
    run_search,
    metric_history,
    logged_models,
    registered_models,
    model_versions,
    artifact_listing,
    server_info,
)


@dataclass(frozen=True, slots=True)
class TrackingRequest:
    """A request: the path begins after the prefix of the API, with ``/api`` or ``/ajax-api``."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    body: Mapping[str, Any]


def respond_to(request: TrackingRequest, call: TrackingCall) -> Mapping[str, Any] | str:
    """Return a response, a JSON object or text; raises ``MillraceError``, whose class has status and error code."""
    if request.method == "GET" and request.path in server_info.TEXTS:
        return server_info.TEXTS[request.path]
    found = re.fullmatch(r"/(?:ajax-)?api/(\d\.\d)/?mlflow/(.+)", request.path)
    if found is None:
        raise _no_endpoint(request)
    api, path = found.groups()
    for endpoint, pattern in _endpoints(path.partition("/")[0]):
        if request.method in endpoint.methods and endpoint.api == api and (match := pattern.fullmatch(path)):
            arguments = read_arguments(endpoint.arguments, request.query, request.body, match.groupdict())
            try:
                return endpoint.handle(call, arguments) or {}
            except UnicodeEncodeError as error:
                # JSON's escapes can write half a character, and no item can hold it.
                raise InvalidInputError("a string of the request is no Unicode") from error
            except ServiceUnavailableError as error:
                # MLflow's clients repeat both; this one says that the server is well.
                raise TooManyRequestsError(error.message) from error
    raise _no_endpoint(request)


def _no_endpoint(request: TrackingRequest) -> MillraceError:
    return EndpointNotFoundError(f"Millrace has no endpoint {request.method} {request.path[:200]}")


@cache
def _endpoints(first: str) -> tuple[tuple[TrackingEndpoint, re.Pattern[str]], ...]:
    """Return the endpoints whose paths begin with a part, and the patterns of their paths."""
    return tuple(
        (endpoint, re.compile(re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", endpoint.path)))
        for module in MODULES
        for endpoint in module.ENDPOINTS
        if endpoint.path.partition("/")[0] == first
    )
