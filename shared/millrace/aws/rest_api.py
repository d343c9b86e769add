"""API Gateway's REST API: routes with our errors as answers."""

import json
import time
from typing import Any

from aws_lambda_powertools.event_handler import APIGatewayRestResolver, Response, content_types
from aws_lambda_powertools.event_handler.exceptions import NotFoundError as NoRouteError

from millrace.emf import write_metrics
from millrace.errors import MillraceError, NotFoundError
from millrace.observability import logger

_INTERNAL_ERROR = 500
_UNEXPECTED = MillraceError("the request could not be answered; the service's log says why")


def rest_api() -> APIGatewayRestResolver:
    """Return a resolver that answers every error by its class: status, error code, message, bad fields.

    What is our fault (500) is logged, once and with its trace, and the caller learns no more than that.
    """
    app = APIGatewayRestResolver()

    def answer_no_route(_error: NoRouteError) -> Response[str]:
        return error_response(NotFoundError(f"there is no {app.current_event.http_method} {app.current_event.path}"))

    app.exception_handler(MillraceError)(_answer)
    app.exception_handler(Exception)(_answer_unexpected)
    app.not_found(answer_no_route)
    return app


def _answer(error: MillraceError) -> Response[str]:
    if error.http_status >= _INTERNAL_ERROR:
        logger.error("request failed", exc_info=error)
        _count_failure()
    return error_response(error)


def _answer_unexpected(error: Exception) -> Response[str]:
    logger.error("request failed unexpectedly", exc_info=error)
    _count_failure()
    return error_response(_UNEXPECTED)


def _count_failure() -> None:
    """Count a request that we could not answer, together with those of ``predict``: one alarm watches both."""
    write_metrics({"FailedRequests": (1, "Count")}, {"service": "api"}, time.time())


def json_response(status: int, body: Any) -> Response[str]:
    """Return a body as JSON."""
    return Response(status, content_types.APPLICATION_JSON, json.dumps(body, allow_nan=False))


def error_response(error: MillraceError) -> Response[str]:
    """Return an error as its class says; of our own faults nothing but that there was one."""
    told = _UNEXPECTED if error.http_status == _INTERNAL_ERROR else error
    return json_response(error.http_status, {**told.to_dict(), "error_code": error.error_code})
