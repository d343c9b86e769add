"""Start training runs: for uploads, schedules, requests, and causes that waited for a run that ended.

Takes events of EventBridge, the Scheduler and the training pipeline, and ``POST /models/{model}/runs``. The run of a
model that was deleted is stopped.
"""

from datetime import UTC, datetime
from typing import Any

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.utilities.typing import LambdaContext
from millrace.aws.clients import account_concurrency, object_store, registry, training_pipeline
from millrace.aws.rest_api import json_response, rest_api
from millrace.contracts import RetrainingProgress
from millrace.documents import to_plain
from millrace.names import validate_model_name
from millrace.observability import log_invocation, logger
from millrace.registry.store import Registry
from millrace.settings import CostSettings, RequestTrainingSettings, load_settings
from millrace.triggers.requests import handle_trigger
from millrace.triggers.retraining import places, request_retraining
from millrace.triggers.trigger_events import (
    EVERY_MODEL,
    ScheduleTrigger,
    Trigger,
    parse_event,
    read_run_request,
    with_version_id,
)

app = rest_api()


@log_invocation
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Handle a request over HTTP, or an event."""
    if "httpMethod" in event:
        return app.resolve(event, context)
    data_store = object_store(load_settings(RequestTrainingSettings).data_bucket)
    trigger = parse_event(with_version_id(event, data_store), datetime.now(UTC))
    if isinstance(trigger, ScheduleTrigger) and trigger.model == EVERY_MODEL:
        return _retrain(trigger, event)
    return {"results": _handle(trigger)}


def _retrain(trigger: ScheduleTrigger, event: dict[str, Any]) -> dict[str, Any]:
    """Do a round of the retraining pipeline; its output is the event of the next one."""
    settings = load_settings(RequestTrainingSettings)
    progress, results = request_retraining(
        trigger,
        RetrainingProgress.parse(event),
        at_once=places(settings.retraining_concurrency, account_concurrency().unreserved()),
        registry=_registry(),
        pipeline=training_pipeline(settings.training_pipeline_arn),
        now=datetime.now(UTC),
        costs=load_settings(CostSettings),
    )
    logger.info("retraining requested", results=to_plain(results), running=len(progress.running))
    following = {"source": event["source"], "schedule": trigger.schedule, "model": EVERY_MODEL}
    outcome = "more" if progress.has_more else "failed" if progress.failed else "done"
    return following | {"time": trigger.slot.isoformat(), "outcome": outcome} | progress.model_dump(mode="json")


@app.post("/models/<model>/runs")
def request_run(model: str) -> Response[str]:
    """Request a run by hand; raises ``ModelNotFoundError`` when the model was deleted or has never seen an upload."""
    _registry().get_state(validate_model_name(model)).ensure_not_deleted()
    (result,) = _handle(read_run_request(model, app.current_event.raw_event, datetime.now(UTC)))
    return json_response(202, result)


def _handle(trigger: Trigger) -> list[dict[str, Any]]:
    pipeline = training_pipeline(load_settings(RequestTrainingSettings).training_pipeline_arn)
    results = handle_trigger(
        trigger, registry=_registry(), pipeline=pipeline, now=datetime.now(UTC), costs=load_settings(CostSettings)
    )
    documents: list[dict[str, Any]] = to_plain(results)
    logger.info("trigger handled", trigger=type(trigger).__name__, results=documents)
    return documents


def _registry() -> Registry:
    return registry()
