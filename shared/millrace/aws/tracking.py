"""MLflow's API on API Gateway's REST API."""

import json
import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote

import orjson

from millrace.api_requests import ApiRequest
from millrace.aws.clients import event_publisher, object_store, registry, tracking_store, training_pipeline
from millrace.errors import MillraceError
from millrace.layout import MLFLOW_ARTIFACTS
from millrace.observability import logger, write_metrics
from millrace.settings import TrackingSettings, load_settings
from millrace.tracking.model_mirror import ModelMirror
from millrace.tracking.tracking_api import TrackingRequest, respond_to
from millrace.tracking.tracking_calls import TrackingCall

_INTERNAL_ERROR = 500


def handle_tracking(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return the response to an event of API Gateway; every error has MLflow's form."""
    try:
        response = respond_to(_read_request(event), _make_call(event))
    except MillraceError as error:
        return _refuse(error)
    except Exception as error:  # noqa: BLE001 - the client gets a response, whatever broke, and the log the reason
        unexpected = MillraceError("the request failed")
        unexpected.__cause__ = error
        return _refuse(unexpected)
    if isinstance(response, str):
        return _response(200, response, "text/html" if response.startswith("<") else "text/plain")
    return _response(200, orjson.dumps(response).decode(), "application/json")


def _read_request(event: Mapping[str, Any]) -> TrackingRequest:
    request = ApiRequest(event)
    # Not the event's path, which begins with the base path of a custom domain.
    path = unquote((event.get("pathParameters") or {}).get("proxy", ""))
    query = event.get("multiValueQueryStringParameters") or {}
    return TrackingRequest(event["httpMethod"], f"/{path}", query, request.body)


def _make_call(event: Mapping[str, Any]) -> TrackingCall:
    settings = load_settings(TrackingSettings)
    root = f"s3://{settings.models_bucket}/{MLFLOW_ARTIFACTS}"
    return TrackingCall(
        store=tracking_store(),
        objects=object_store(settings.models_bucket),
        artifact_root=root,
        actor=ApiRequest(event).caller,
        now=datetime.now(UTC),
        make_id=lambda: uuid.uuid4().hex,
        registry=registry,
        mirror=ModelMirror(tracking_store(), registry, root),
        pipeline=lambda: training_pipeline(settings.training_pipeline_arn),
        publish=_publish,
    )


def _publish() -> None:
    try:
        registry().publish_waiting(event_publisher())
    except MillraceError:
        # The change itself is made all the same.
        logger.exception("events wait in the outbox")


def _refuse(error: MillraceError) -> dict[str, Any]:
    status, body = error.http_status, error.to_dict()
    if status >= _INTERNAL_ERROR:
        logger.error("request failed", exc_info=error.__cause__ or error)
        write_metrics({"FailedRequests": (1, "Count")}, {"service": "api"}, time.time())
    if status == _INTERNAL_ERROR:
        body = {"error_code": error.error_code, "message": "the request failed; the service's log has the reason"}
    headers = {"Retry-After": "1"} if error.retryable else {}
    # As ASCII: a message may quote what was sent, and JSON's escapes can write half a character.
    return _response(status, json.dumps(body), "application/json", headers)


def _response(status: int, body: str, content_type: str, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
    return {
        "statusCode": status,
        "headers": {"Content-Type": content_type, **(headers or {})},
        "body": body,
        "isBase64Encoded": False,
    }
