"""Answer requests for predictions, in every dialect of :mod:`millrace.serving.routes`.

The clients are built when the first request comes, not at import: a snapshot must hold no connection. What only a
refused request needs, such as the logger, is imported by the first of them.
"""

import gc
import itertools
import time
import uuid
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache
from http import HTTPStatus
from typing import Any

from millrace.errors import MillraceError
from millrace.serving.api_gateway import error_response, read_request, success_response
from millrace.serving.cache import ModelCache
from millrace.serving.error_detail import parse_error_detail
from millrace.serving.routes import Endpoint, Prediction, Route, find_route
from millrace.serving.telemetry import measure_error, measure_prediction, measure_refresh_failure
from millrace.settings import PredictSettings, load_settings, runs_on_lambda

#: Counts the requests of this execution environment; the first of them waited for it.
_requests = itertools.count()

if runs_on_lambda():
    # While it starts a function, Lambda lends a whole processor; the first request would import this on a share of one.
    import millrace.aws.serving_source  # noqa: F401 - for _endpoint


@cache
def _endpoint() -> Endpoint:
    """Build what answers are made from once per execution environment, on first use."""
    from millrace.aws.serving_source import aws_model_source  # noqa: PLC0415 - see above

    # A request of 10,000 rows makes more lists than the collector waits for, and none of them is garbage: looking
    # through everything that is loaded, again and again, took a fifth of such a request.
    gc.set_threshold(100_000)
    settings = load_settings(PredictSettings)
    source = aws_model_source(settings.registry_table, settings.models_bucket)
    models = ModelCache(source, settings.alias_refresh_seconds, time.monotonic)
    detail = parse_error_detail(settings.error_detail)
    return Endpoint(models, settings.max_rows_per_request, lambda: str(uuid.uuid4()), detail)


def lambda_handler(event: Mapping[str, Any], context: object) -> dict[str, Any]:  # noqa: ARG001 - Lambda passes it
    """Answer one request; an error becomes the status that its class carries, in the caller's dialect."""
    route, cold_start = find_route(event), next(_requests) == 0
    request_id = str((event.get("requestContext") or {}).get("requestId"))
    try:
        return _answer(route, event, request_id, cold_start)
    except MillraceError as error:
        return _refuse(error, route, event, request_id)
    except Exception as error:  # noqa: BLE001 - the caller gets an answer, whatever broke, and the log the reason
        unexpected = MillraceError("unexpected")
        unexpected.__cause__ = error
        return _refuse(unexpected, route, event, request_id)


def _answer(route: Route, event: Mapping[str, Any], request_id: str, cold_start: bool) -> dict[str, Any]:
    started = time.perf_counter()
    endpoint = _endpoint()
    try:
        answer = route.answer(endpoint, read_request(event), route.dialect)
    finally:
        _report_refreshes(endpoint.models, request_id)
    response = success_response(answer.body)
    if answer.prediction:
        latency, now = 1_000 * (time.perf_counter() - started), datetime.now(UTC)
        measure_prediction(answer.prediction, route.dialect.NAME, request_id, latency, now, cold_start=cold_start)
        _capture(answer.prediction, route.dialect.NAME, request_id, now)
    return response


def _capture(prediction: Prediction, dialect: str, request_id: str, now: datetime) -> None:
    """Print what is kept of a prediction; the log's subscription does the rest."""
    if load_settings(PredictSettings).capture_predictions != "true":
        return
    try:
        for line in prediction.loaded.capture_writer.lines(prediction, dialect, request_id, now):
            print(line)  # noqa: T201 - standard output is the log
    except Exception:  # noqa: BLE001 - who asked has the answer, whatever is wrong with keeping it
        from millrace.observability import logger  # noqa: PLC0415 - it should never happen

        logger.exception("a prediction could not be captured", correlation_id=request_id)


def _refuse(error: MillraceError, route: Route, event: Mapping[str, Any], request_id: str) -> dict[str, Any]:
    from millrace.observability import logger  # noqa: PLC0415 - an answer is nothing to log

    known = {"correlation_id": request_id, "error_code": error.error_code, "dialect": route.dialect.NAME}
    if error.http_status < HTTPStatus.INTERNAL_SERVER_ERROR:
        logger.info("request refused", reason=error.message, fields=error.to_dict().get("fields", []), **known)
    else:
        logger.error("request failed", exc_info=error.__cause__ or error, **known)
    model = _model_of(event.get("pathParameters") or {})
    measure_error(error, route.dialect.NAME, request_id, model, datetime.now(UTC), is_known=_is_known(model))
    return error_response(error, route.dialect.write_error, _error_detail())


def _model_of(parameters: Mapping[str, Any]) -> str:
    """Return the model that a path names; of KServe's first protocol without what is asked of it."""
    return str(parameters.get("model") or parameters.get("model_action") or "").partition(":")[0]


def _is_known(model: str) -> bool:
    """Tell whether there is a model of that name, as far as this environment has seen."""
    try:
        return _endpoint().models.knows(model)
    except MillraceError:
        return False


def _error_detail() -> Any:
    """Return the setting; where settings are what is wrong, nothing is told anyway."""
    try:
        return _endpoint().error_detail
    except MillraceError:
        return "reduced"


def _report_refreshes(models: ModelCache, request_id: str) -> None:
    """Log what happened to the models beside the requests, and count what somebody has to look at."""
    for event in models.take_events():
        from millrace.observability import logger  # noqa: PLC0415 - it is seldom that something happened

        known = {"correlation_id": request_id, **asdict(event)}
        if event.kind == "refresh_failed":
            logger.warning("the alias could not be refreshed; the version goes on serving", **known)
            measure_refresh_failure(event, datetime.now(UTC))
        else:
            logger.info("the alias was read again", **known)
