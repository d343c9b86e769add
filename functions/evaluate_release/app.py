"""Evaluate the release of a model: on the schedule that exists while it is active, and when one begins.

Takes ``{"model": ...}`` of the schedule, or the event ``ReleaseStarted``; both come at least once.
"""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext
from millrace.aws.clients import event_publisher, object_store, registry, registry_store, release_schedules
from millrace.contracts import ReleaseRequest
from millrace.observability import log_invocation, logger
from millrace.releases.driver import evaluate_release
from millrace.settings import ReleaseSettings, load_settings


@log_invocation
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Do one tick, then publish what it wrote; the schedule calls this very function again."""
    settings, request = load_settings(ReleaseSettings), ReleaseRequest.parse(event.get("detail") or event)
    models = registry()
    tick = evaluate_release(
        request.model,
        registry=models,
        item_store=registry_store(),
        model_store=object_store(settings.models_bucket),
        data_store=object_store(settings.data_bucket),
        schedules=release_schedules(context.invoked_function_arn),
        now=datetime.now(UTC),
    )
    models.publish_waiting(event_publisher())
    logger.info("release evaluated", **asdict(tick))
    return asdict(tick)
