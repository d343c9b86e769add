"""Request batch jobs: for files that arrive below ``score/``, for schedules and for people; cancel and repeat them.

Takes events of EventBridge and the Scheduler, and ``POST /models/{model}/batches``. The jobs of a deleted model are
cancelled.
"""

from datetime import UTC, datetime
from typing import Any

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.utilities.typing import LambdaContext
from millrace.aws.clients import event_publisher, object_store, registry, registry_store, scoring_pipeline
from millrace.aws.rest_api import json_response, rest_api
from millrace.batch.job_requests import (
    ScoringPorts,
    cancel_job,
    handle_job_event,
    read_batch_request,
    read_job_event,
    request_job,
    retry_job,
)
from millrace.documents import to_plain
from millrace.errors import MillraceError
from millrace.names import validate_job_id, validate_model_name
from millrace.observability import log_invocation, logger
from millrace.settings import RequestScoringSettings, load_settings
from millrace.triggers.trigger_events import with_version_id

app = rest_api()


@log_invocation
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Handle a request over HTTP, or an event; then publish what waits."""
    if "httpMethod" in event:
        response = app.resolve(event, context)
    else:
        data_store = object_store(load_settings(RequestScoringSettings).data_bucket)
        requested = read_job_event(with_version_id(event, data_store), datetime.now(UTC))
        if requested is None:  # a file that waits in its folder, one of many
            return {"jobs": []}
        jobs = handle_job_event(requested, _ports())
        logger.info("event handled", jobs=[job.job_id for job in jobs])
        response = {"jobs": to_plain(jobs)}
    try:
        registry().publish_waiting(event_publisher())
    except MillraceError:
        # The change itself is made all the same.
        logger.exception("events wait in the outbox")
    return response


@app.post("/models/<model>/batches")
def request_batch(model: str) -> Response[str]:
    """Request a job."""
    bucket, event = load_settings(RequestScoringSettings).data_bucket, app.current_event.raw_event
    order = read_batch_request(validate_model_name(model), event, bucket, datetime.now(UTC))
    return json_response(202, to_plain(request_job(order, _ports())))


@app.post("/models/<model>/batches/<job_id>/cancel")
def cancel_batch(model: str, job_id: str) -> dict[str, Any]:
    """Cancel a job."""
    event = app.current_event.raw_event
    return dict(to_plain(cancel_job(validate_model_name(model), validate_job_id(job_id), event, _ports())))


@app.post("/models/<model>/batches/<job_id>/retry")
def retry_batch(model: str, job_id: str) -> Response[str]:
    """Run a job again for what is missing."""
    event = app.current_event.raw_event
    return json_response(202, to_plain(retry_job(validate_model_name(model), validate_job_id(job_id), event, _ports())))


def _ports() -> ScoringPorts:
    pipeline = scoring_pipeline(load_settings(RequestScoringSettings).scoring_pipeline_arn)
    return ScoringPorts(registry(), registry_store(), pipeline, datetime.now(UTC))
