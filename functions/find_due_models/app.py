"""Find the models that are due, once an hour for the whole stack, and start the monitoring pipeline for those alone.

Takes ``{"scheduled_at": ...}``, the time of the schedule. Events that could not be published when something changed are
published as well, whether or not anybody acts.
"""

from datetime import UTC, datetime
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext
from millrace.aws.clients import event_publisher, monitoring_pipeline, registry, registry_store
from millrace.documents import parse_timestamp
from millrace.errors import InvalidInputError, MillraceError
from millrace.layout import OUTBOX_PARTITION
from millrace.monitoring.due_models import find_due_models, start_monitoring
from millrace.observability import log_invocation, logger
from millrace.settings import DueModelsSettings, load_settings


@log_invocation
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:  # noqa: ARG001 - Lambda passes it
    """Return the numbers of models, and of the executions that were started."""
    settings, item_store, now = load_settings(DueModelsSettings), registry_store(), datetime.now(UTC)
    scheduled_at = _read_timestamp(event.get("scheduled_at"), now)
    try:
        if next(iter(item_store.query(OUTBOX_PARTITION, limit=1)), None) is not None:
            registry().publish_waiting(event_publisher())
    except MillraceError:
        logger.exception("events wait in the outbox")
    due, started = find_due_models(item_store, now), 0
    if due.names:
        pipeline = monitoring_pipeline(settings.monitoring_pipeline_arn)
        started = start_monitoring(due.names, pipeline, scheduled_at)
    found = {"models": due.known, "due": len(due.names), "new": due.new, "executions": started}
    logger.info("due models found", **found)
    return found


def _read_timestamp(text: object, now: datetime) -> datetime:
    try:
        return now if text is None else parse_timestamp(str(text))
    except ValueError as error:
        raise InvalidInputError(f"scheduled_at={text!r} is no timestamp such as 2026-11-29T10:07:00Z") from error
