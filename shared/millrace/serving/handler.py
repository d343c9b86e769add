"""Handling of one event of ``predict``: the reply, or the error in the caller's protocol, and what is recorded of it.

Only a refused request needs a logger, so the first of them imports it.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from millrace.errors import MillraceError
from millrace.serving.api_gateway import error_response, read_request, success_response
from millrace.serving.cache import ModelCache
from millrace.serving.capture import CaptureWriter
from millrace.serving.routes import Endpoint, Route, find_route
from millrace.serving.scoring import Prediction
from millrace.serving.telemetry import measure_error, measure_prediction, measure_refresh_failure


def handle(event: Mapping[str, Any], build_endpoint: Callable[[], Endpoint], *, cold_start: bool) -> dict[str, Any]:
    """Return the response to an event of API Gateway; an error gets the status of its class.

    ``build_endpoint`` may raise when settings are wrong.
    """
    route = find_route(event)
    request_id = str((event.get("requestContext") or {}).get("requestId"))
    try:
        return _reply(route, event, build_endpoint, request_id, cold_start)
    except MillraceError as error:
        return _refuse(error, route, event, build_endpoint, request_id)
    except Exception as error:  # noqa: BLE001 - the caller gets a reply, whatever broke, and the log the reason
        unexpected = MillraceError("unexpected")
        unexpected.__cause__ = error
        return _refuse(unexpected, route, event, build_endpoint, request_id)


def _reply(
    route: Route, event: Mapping[str, Any], build_endpoint: Callable[[], Endpoint], request_id: str, cold_start: bool
) -> dict[str, Any]:
    started = time.perf_counter()
    endpoint = build_endpoint()
    try:
        reply = route.reply(endpoint, read_request(event))
    finally:
        _report_refreshes(endpoint.models, request_id)
    response = success_response(reply.body)
    if reply.prediction:
        latency, now = 1_000 * (time.perf_counter() - started), datetime.now(UTC)
        measure_prediction(reply.prediction, route.protocol.name, request_id, latency, now, cold_start=cold_start)
        if endpoint.captures:
            _capture(reply.prediction, route.protocol.name, request_id, now)
    return response


def _capture(prediction: Prediction, protocol: str, request_id: str, now: datetime) -> None:
    """Print the captured lines; the log's subscription delivers them."""
    try:
        for line in prediction.loaded.built(CaptureWriter).lines(prediction, protocol, request_id, now):
            print(line)  # noqa: T201 - standard output is the log
    except Exception:  # noqa: BLE001 - the caller gets the predictions, even if capturing fails
        from millrace.observability import logger  # noqa: PLC0415 - it should never happen

        logger.exception("prediction not captured", correlation_id=request_id)


def _refuse(
    error: MillraceError,
    route: Route,
    event: Mapping[str, Any],
    build_endpoint: Callable[[], Endpoint],
    request_id: str,
) -> dict[str, Any]:
    from millrace.observability import logger  # noqa: PLC0415 - see above

    protocol = route.protocol
    properties: dict[str, Any] = {
        "correlation_id": request_id,
        "error_code": error.error_code,
        "dialect": protocol.name,
    }
    if error.http_status < HTTPStatus.INTERNAL_SERVER_ERROR:
        logger.info("request refused", reason=error.message, fields=error.to_dict().get("fields", []), **properties)
    else:
        logger.error("request failed", exc_info=error.__cause__ or error, **properties)
    # KServe's path names an action too.
    named = event.get("pathParameters") or {}
    model = str(named.get("model") or named.get("model_action") or "").partition(":")[0]
    try:
        endpoint = build_endpoint()
        is_known, detail = endpoint.models.knows(model), endpoint.error_detail
    except MillraceError:  # settings are wrong
        is_known, detail = False, "reduced"
    measure_error(error, protocol.name, request_id, model, datetime.now(UTC), is_known=is_known)
    return error_response(error, protocol, detail)


def _report_refreshes(models: ModelCache, request_id: str) -> None:
    """Log the refreshes beside the requests, and count those that failed."""
    for event in models.take_events():
        from millrace.observability import logger  # noqa: PLC0415 - a refresh rarely finds anything

        properties = {"correlation_id": request_id, **asdict(event)}
        if event.kind == "refresh_failed":
            logger.warning("alias not refreshed; the version goes on serving", **properties)
            measure_refresh_failure(event, datetime.now(UTC))
        else:
            logger.info("alias refreshed", **properties)
