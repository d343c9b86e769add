"""Plan a run's trials: state ``PlanTraining`` of the training pipeline.

Takes :class:`RunPointer`, returns :class:`TrainingPlan`.
"""

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext
from millrace.aws.clients import object_store, registry
from millrace.contracts import RunPointer
from millrace.observability import logger
from millrace.settings import PipelineSettings, load_settings
from millrace.training.planning import plan_run


@logger.inject_lambda_context
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:  # noqa: ARG001 - Lambda passes it
    """Parse the event, do the one use case, return plain JSON."""
    settings = load_settings(PipelineSettings)
    pointer = RunPointer.parse(event)
    models = registry(settings.registry_table)
    run = models.get_run(pointer.model, pointer.run_id)
    plan = plan_run(run, registry=models, data_store=object_store(settings.data_bucket))
    logger.info("run planned", model=run.model, run_id=run.run_id, trials=len(plan.trials))
    return plan.model_dump(mode="json")
