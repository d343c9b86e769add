"""Monitor one model: state ``MonitorModel`` of the monitoring pipeline.

Takes :class:`MonitoringRequest`, returns :class:`MonitoringVerdict`. An undelivered alert is an error after everything
else is stored, so that the pipeline tries again, and the next hourly check does.
"""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext
from millrace.aws.clients import event_publisher, notifier, object_store, registry, registry_store
from millrace.contracts import MonitoringRequest, MonitoringVerdict
from millrace.monitoring.due_models import begin_check, finish_check
from millrace.monitoring.job_series import deliver_job_alerts, monitor_jobs
from millrace.monitoring.monitor import (
    IDLE_OUTCOMES,
    UNFINISHED_OUTCOMES,
    deliver_alerts,
    monitor_model,
    write_outcome_metrics,
)
from millrace.monitoring.serving_health import RecordedServing
from millrace.observability import log_invocation, logger
from millrace.releases.upkeep import collect_rewards, remind_of_release
from millrace.settings import CostSettings, MonitoringSettings, load_settings


@log_invocation
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Parse the request, run the monitor, deliver its alerts, return the verdict as plain JSON values."""
    settings, request = load_settings(MonitoringSettings), MonitoringRequest.parse(event)
    model, now = request.model, datetime.now(UTC)
    store, item_store = object_store(settings.data_bucket), registry_store()
    check = begin_check(item_store, model, now)
    outcome = monitor_model(
        model,
        registry=registry(),
        data_store=store,
        model_store=object_store(settings.models_bucket),
        serving=RecordedServing(item_store),
        now=now,
        token=context.aws_request_id,
        costs=load_settings(CostSettings),
        is_active=check.is_active,
        remaining_seconds=lambda: context.get_remaining_time_in_millis() / 1000,
    )
    if settings.model_metrics:
        write_outcome_metrics(model, outcome, now)
    channels = event_publisher(), notifier(settings.alarm_topic_arn)
    delivered = deliver_alerts(model, store, *channels)
    if check.has_jobs:
        models = object_store(settings.models_bucket)
        monitor_jobs(model, registry=registry(), data_store=store, model_store=models, now=now)
        delivered += deliver_job_alerts(model, store, *channels)
    if outcome.outcome not in UNFINISHED_OUTCOMES:
        idle = outcome.outcome if outcome.outcome in IDLE_OUTCOMES else ""
        finish_check(
            item_store,
            model,
            check.mark,
            outcome.next_check_at,
            idle=idle,
            own_schedule=outcome.own_schedule,
            open_incidents=outcome.open_incidents,
        )
    collect_rewards(model, registry(), store, now)
    remind_of_release(model, registry(), event_publisher(), now)
    logger.info("model monitored", model=model, outcome=outcome.outcome, rows=outcome.rows, alerts=delivered)
    verdict = MonitoringVerdict(model=model, round=request.round + 1, delivered=delivered, **asdict(outcome))
    return verdict.model_dump(mode="json")
