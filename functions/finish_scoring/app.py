"""End a batch job (state ``FinishScoring``): from a :class:`FinishRequest` to a :class:`ScoringResult`."""

from datetime import UTC, datetime
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext
from millrace.aws.clients import event_publisher, object_store, registry, registry_store
from millrace.batch.finish_step import finish_recorded_job
from millrace.contracts import FinishRequest
from millrace.observability import log_invocation, logger
from millrace.settings import FinishScoringSettings, load_settings


@log_invocation
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:  # noqa: ARG001 - Lambda passes it
    """Parse the event, end the job, publish its event, return plain JSON."""
    settings, request = load_settings(FinishScoringSettings), FinishRequest.parse(event)
    models = registry()
    result = finish_recorded_job(
        request,
        registry=models,
        item_store=registry_store(),
        data_store=object_store(settings.data_bucket),
        memory_mb=settings.scoring_memory_mb,
        now=datetime.now(UTC),
    )
    models.publish_waiting(event_publisher())
    logger.info("job ended", model=request.model, job_id=request.job_id, outcome=result.outcome)
    return result.model_dump(mode="json")
