"""Answer ``POST /models/{model}/invocations`` with the predictions of the model's champion.

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
from millrace.serving.api_gateway import error_response, read_invocation, success_response
from millrace.serving.cache import ModelCache
from millrace.serving.dialects import mlflow
from millrace.serving.scorer import score
from millrace.settings import PredictSettings, load_settings


@cache
def _models() -> ModelCache:
    """Build the model cache once per execution environment, on first use."""
    settings = load_settings(PredictSettings)
    source = aws_model_source(settings.registry_table, settings.models_bucket)
    return ModelCache(source, settings.alias_refresh_seconds, time.monotonic)


@logger.inject_lambda_context(correlation_id_path="requestContext.requestId")
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:  # noqa: ARG001 - Lambda passes it
    """Score the rows of one request; an error becomes the status that its class carries."""
    try:
        return _predict(event)
    except MillraceError as error:
        if error.http_status < HTTPStatus.INTERNAL_SERVER_ERROR:
            logger.info("request refused", error_code=error.error_code, reason=error.message)
            return error_response(error)
        logger.exception("request failed", error_code=error.error_code)
        return error_response(error)
    except Exception:  # noqa: BLE001 - the caller gets an answer, whatever broke, and the log the reason
        logger.exception("request failed")
        return error_response(MillraceError("unexpected"))


def _predict(event: dict[str, Any]) -> dict[str, Any]:
    started = time.perf_counter()
    max_rows = load_settings(PredictSettings).max_rows_per_request
    invocation = read_invocation(event)
    loaded = _models().get(invocation.model)
    _report_refreshes()
    rows = loaded.reader.read(mlflow.read_request(invocation.body, invocation.content_type, max_rows))
    reply = mlflow.write_reply(score(loaded, rows), loaded.model, loaded.version, str(uuid.uuid4()))
    response = success_response(reply)
    metrics.add_dimension(name="model", value=loaded.model)
    metrics.add_dimension(name="model_version", value=str(loaded.version))
    metrics.add_metric(name="PredictedRows", unit=MetricUnit.Count, value=rows.n_rows)
    latency = 1_000 * (time.perf_counter() - started)
    metrics.add_metric(name="PredictionLatency", unit=MetricUnit.Milliseconds, value=latency)
    metrics.flush_metrics()
    return response


def _report_refreshes() -> None:
    """Log what happened to the models beside the requests, and count what somebody has to look at."""
    for event in _models().take_events():
        if event.kind != "refresh_failed":
            logger.info("the alias was read again", **asdict(event))
            continue
        logger.warning("the alias could not be refreshed; the version goes on serving", **asdict(event))
        metrics.add_dimension(name="model", value=event.model)
        metrics.add_metric(name="AliasRefreshFailures", unit=MetricUnit.Count, value=1)
        metrics.flush_metrics()
