"""Plan a batch job (state ``PlanScoring``): from a :class:`JobPointer` to a :class:`ScoringPlan`."""

from datetime import UTC, datetime
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext
from millrace.aws.clients import account_concurrency, object_store, registry, registry_store
from millrace.aws.serving_source import aws_model_source
from millrace.batch.plan_step import count_lanes, plan_recorded_job
from millrace.contracts import JobPointer
from millrace.observability import log_invocation, logger
from millrace.settings import PlanScoringSettings, load_settings


@log_invocation
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Parse the event, plan the job, return plain JSON."""
    settings, pointer = load_settings(PlanScoringSettings), JobPointer.parse(event)
    plan = plan_recorded_job(
        pointer,
        registry=registry(),
        item_store=registry_store(),
        data_store=object_store(settings.data_bucket),
        source=aws_model_source(settings.registry_table, settings.models_bucket),
        bucket=settings.data_bucket,
        lanes=count_lanes(settings.scoring_concurrency, account_concurrency().unreserved()),
        now=datetime.now(UTC),
        remaining_seconds=lambda: context.get_remaining_time_in_millis() / 1000,
    )
    logger.info("job planned", model=pointer.model, job_id=pointer.job_id, outcome=plan.outcome)
    return plan.model_dump(mode="json")
