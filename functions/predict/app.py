"""Answer requests for predictions, in every dialect of :mod:`millrace.serving.routes`.

The clients are built when the first request comes, not at import: a snapshot must hold no connection.
"""

import time
import uuid
from dataclasses import asdict
from functools import cache
from http import HTTPStatus
from typing import Any

from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.typing import LambdaContext
from millrace.aws.serving_source import aws_model_source
from millrace.errors import MillraceError
from millrace.observability import logger, metrics
from millrace.serving.api_gateway import error_response, read_request, success_response
from millrace.serving.cache import ModelCache
from millrace.serving.loading import LoadedModel
from millrace.serving.routes import Endpoint, Route, find_route
from millrace.settings import PredictSettings, load_settings


@cache
def _endpoint() -> Endpoint:
    """Build what answers are made from once per execution environment, on first use."""
    settings = load_settings(PredictSettings)
    source = aws_model_source(settings.registry_table, settings.models_bucket)
    models = ModelCache(source, settings.alias_refresh_seconds, time.monotonic)
    return Endpoint(models, settings.max_rows_per_request, lambda: str(uuid.uuid4()))


@logger.inject_lambda_context(correlation_id_path="requestContext.requestId")
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:  # noqa: ARG001 - Lambda passes it
    """Answer one request; an error becomes the status that its class carries, in the caller's dialect."""
    route = find_route(event)
    try:
        return _answer(route, event)
    except MillraceError as error:
        if error.http_status < HTTPStatus.INTERNAL_SERVER_ERROR:
            logger.info("request refused", error_code=error.error_code, reason=error.message)
        else:
            logger.exception("request failed", error_code=error.error_code)
        return error_response(error, route.dialect.write_error)
    except Exception:  # noqa: BLE001 - the caller gets an answer, whatever broke, and the log the reason
        logger.exception("request failed")
        return error_response(MillraceError("unexpected"), route.dialect.write_error)


def _answer(route: Route, event: dict[str, Any]) -> dict[str, Any]:
    started = time.perf_counter()
    endpoint = _endpoint()
    try:
        answer = route.answer(endpoint, read_request(event), route.dialect)
    finally:
        _report_refreshes(endpoint.models)
    response = success_response(answer.body)
    if answer.served:
        _measure(answer.served, answer.n_rows, 1_000 * (time.perf_counter() - started))
    return response


def _measure(loaded: LoadedModel, n_rows: int, latency: float) -> None:
    metrics.add_dimension(name="model", value=loaded.model)
    metrics.add_dimension(name="model_version", value=str(loaded.version))
    metrics.add_metric(name="PredictedRows", unit=MetricUnit.Count, value=n_rows)
    metrics.add_metric(name="PredictionLatency", unit=MetricUnit.Milliseconds, value=latency)
    metrics.flush_metrics()


def _report_refreshes(models: ModelCache) -> None:
    """Log what happened to the models beside the requests, and count what somebody has to look at."""
    for event in models.take_events():
        if event.kind != "refresh_failed":
            logger.info("the alias was read again", **asdict(event))
            continue
        logger.warning("the alias could not be refreshed; the version goes on serving", **asdict(event))
        metrics.add_dimension(name="model", value=event.model)
        metrics.add_metric(name="AliasRefreshFailures", unit=MetricUnit.Count, value=1)
        metrics.flush_metrics()
