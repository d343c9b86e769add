"""Record ground truth for predictions, and report its coverage."""

from datetime import UTC, datetime
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext
from millrace.api_requests import ApiRequest
from millrace.aws.clients import object_store, registry, registry_store
from millrace.aws.rest_api import rest_api
from millrace.captures.activity import mark_activity
from millrace.captures.feedback import record_feedback
from millrace.captures.joining import TooManyCapturesError, describe_coverage, read_hours
from millrace.key_scopes import ensure_in_scope, read_key_id
from millrace.monitoring.state import describe_kept_coverage
from millrace.names import validate_model_name
from millrace.observability import log_invocation, logger
from millrace.settings import DataSettings, load_settings

app = rest_api()


@log_invocation
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Route the request."""
    return app.resolve(event, context)


@app.post("/models/<model>/feedback")
def post_feedback(model: str) -> dict[str, Any]:
    """Store one report or many; the receipt comes after they are stored."""
    settings, request, known = load_settings(DataSettings), ApiRequest(app.current_event.raw_event), registry()
    model, now = validate_model_name(model), datetime.now(UTC)
    if key_id := read_key_id(app.current_event.raw_event):
        ensure_in_scope(known.find_key_models(key_id), model)
    receipt = record_feedback(
        model,
        request.body,
        caller=request.caller,
        registry=known,
        data_store=object_store(settings.data_bucket),
        now=now,
    )
    mark_activity(registry_store(), [model], "feedback", now)
    logger.info("feedback received", model=model, reports=receipt["received"], caller=request.caller)
    return receipt


@app.get("/models/<model>/feedback")
def get_coverage(model: str) -> dict[str, Any]:
    """Return the share of the last hours' predictions that have ground truth."""
    store, known, now = object_store(load_settings(DataSettings).data_bucket), registry(), datetime.now(UTC)
    known.get_state(validate_model_name(model))
    hours = read_hours(ApiRequest(app.current_event.raw_event).parameter("hours"))
    try:
        return describe_coverage(model, hours, store, now, known.get_spec(model).feedback.exclude_callers)
    except TooManyCapturesError:
        kept = describe_kept_coverage(model, hours, store, now)
        if kept is None:
            raise
        return kept
