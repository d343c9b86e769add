"""API Gateway's REST API: routes, responses, and errors as responses."""

import json
import re
import time
from collections.abc import Mapping
from typing import Any

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response, content_types
from aws_lambda_powertools.event_handler.exceptions import NotFoundError as NoRouteError

from millrace.errors import MillraceError, NotFoundError
from millrace.observability import logger, write_metrics

_INTERNAL_ERROR = 500
_UNEXPECTED = MillraceError("the request failed; the service's log has the reason")


class _RestApi(APIGatewayRestResolver):
    """A resolver of paths without the base path of a custom domain, with which the paths of its events begin."""

    def resolve(self, event: Mapping[str, Any], context: Any) -> dict[str, Any]:
        pattern = re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(event["resource"]))
        path = re.search(f"{pattern}$", event["path"])
        return super().resolve(event if path is None else {**event, "path": path[0]}, context)


def rest_api() -> APIGatewayRestResolver:
    """Return a resolver that converts every error by its class: status, error code, message, bad fields.

    Our own faults (500) are logged, once and with their trace, and the response says no more than that.
    """
    app = _RestApi()

    def respond_no_route(_error: NoRouteError) -> Response[str]:
        return _error_response(NotFoundError(f"there is no {app.current_event.http_method} {app.current_event.path}"))

    app.exception_handler(MillraceError)(_respond)
    app.exception_handler(Exception)(_respond_unexpected)
    app.not_found(respond_no_route)
    return app


def _respond(error: MillraceError) -> Response[str]:
    if error.http_status >= _INTERNAL_ERROR:
        _report_failure("request failed", error)
    return _error_response(error)


def _respond_unexpected(error: Exception) -> Response[str]:
    _report_failure("request failed unexpectedly", error)
    return _error_response(_UNEXPECTED)


def _report_failure(message: str, error: Exception) -> None:
    """Log a failed request, and count it together with those of ``predict``: one alarm watches both."""
    logger.error(message, exc_info=error)
    write_metrics({"FailedRequests": (1, "Count")}, {"service": "api"}, time.time())


def json_response(status: int, body: Any, headers: dict[str, str] | None = None) -> Response[str]:
    """Return a body as JSON."""
    return Response(status, content_types.APPLICATION_JSON, json.dumps(body, allow_nan=False), headers)


def _error_response(error: MillraceError) -> Response[str]:
    """Return the response of an error; of our own faults only that there was one."""
    shown = _UNEXPECTED if error.http_status == _INTERNAL_ERROR else error
    headers = {"Retry-After": "1"} if error.retryable else None
    return json_response(error.http_status, {**shown.to_dict(), "error_code": error.error_code}, headers)
