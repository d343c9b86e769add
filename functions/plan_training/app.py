"""Plan a run's trials (state ``PlanTraining``): from a :class:`PlanningRequest` to a :class:`TrainingPlan`."""

from datetime import UTC, datetime
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext
from millrace.aws.clients import account_concurrency, object_store, registry
from millrace.contracts import PlanningRequest
from millrace.observability import log_invocation, logger
from millrace.settings import PlanTrainingSettings, load_settings
from millrace.training.planning import plan_run
from millrace.training.search_plan import TrainingCapacity


@log_invocation
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:  # noqa: ARG001 - Lambda passes it
    """Parse the event, plan the trials, return plain JSON."""
    settings = load_settings(PlanTrainingSettings)
    request = PlanningRequest.parse(event)
    plan = plan_run(
        request,
        registry=registry(),
        data_store=object_store(settings.data_bucket),
        model_store=object_store(settings.models_bucket),
        capacity=TrainingCapacity(
            settings.training_memory_mb,
            settings.training_concurrency,
            settings.large_data,
            account_concurrency().unreserved(),
        ),
        now=datetime.now(UTC),
    )
    logger.info("trials planned", model=request.model, run_id=request.run_id, round=plan.round, trials=len(plan.trials))
    return plan.model_dump(mode="json")
