"""Monitor one model: state ``MonitorModel`` of the monitoring pipeline; without a model, list the scheduled ones.

Takes :class:`MonitoringRequest`, returns :class:`MonitoringVerdict` or :class:`MonitoredModels`. An undelivered alert
is an error after everything else is stored, so that the pipeline tries again.
"""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext
from millrace.aws.clients import event_publisher, notifier, object_store, registry, registry_store
from millrace.contracts import MonitoredModels, MonitoringRequest, MonitoringVerdict
from millrace.errors import MillraceError
from millrace.monitoring.monitor import deliver_alerts, list_scheduled_models, monitor_model, write_outcome_metrics
from millrace.monitoring.serving_health import RecordedServing
from millrace.observability import log_invocation, logger
from millrace.settings import CostSettings, MonitoringSettings, load_settings


@log_invocation
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Parse the request, run the monitor, deliver its alerts, return the verdict as plain JSON values."""
    settings, request = load_settings(MonitoringSettings), MonitoringRequest.parse(event)
    models, publisher = registry(), event_publisher()
    if request.model is None:
        # Whoever acted may have failed to publish its events; this runs every hour, whether or not anybody acts.
        try:
            models.publish_waiting(publisher)
        except MillraceError:
            logger.exception("events wait in the outbox")
        names = [MonitoringRequest(model=name) for name in list_scheduled_models(models)]
        return MonitoredModels(models=names).model_dump(mode="json")
    store, now = object_store(settings.data_bucket), datetime.now(UTC)
    outcome = monitor_model(
        request.model,
        registry=models,
        data_store=store,
        model_store=object_store(settings.models_bucket),
        serving=RecordedServing(registry_store()),
        now=now,
        token=context.aws_request_id,
        costs=load_settings(CostSettings),
        remaining_seconds=lambda: context.get_remaining_time_in_millis() / 1000,
    )
    write_outcome_metrics(request.model, outcome, now)
    people = notifier(settings.alarm_topic_arn)
    delivered = deliver_alerts(request.model, store, publisher, people)
    logger.info("model monitored", model=request.model, outcome=outcome.outcome, rows=outcome.rows, alerts=delivered)
    return MonitoringVerdict(model=request.model, delivered=delivered, **asdict(outcome)).model_dump(mode="json")
