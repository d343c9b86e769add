"""Validate a run's uploads and prepare its data: state ``ValidateDataset`` of the training pipeline.

Takes :class:`~millrace.contracts.RunPointer`, returns :class:`~millrace.contracts.ValidationVerdict`. A rejected
upload is a verdict; only faults of the bucket or the registry are errors.
"""

from datetime import UTC, datetime
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext
from millrace.aws.clients import object_store, registry
from millrace.contracts import RunPointer
from millrace.data.ingest import validate_run
from millrace.data.read import UploadLimits
from millrace.observability import log_invocation, logger
from millrace.settings import ValidateDatasetSettings, load_settings


@log_invocation
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:  # noqa: ARG001  # Lambda passes it
    """Parse the pointer, validate the run, return the verdict as plain JSON."""
    settings = load_settings(ValidateDatasetSettings)
    pointer = RunPointer.parse(event)
    runs = registry()
    run = runs.get_run(pointer.model, pointer.run_id)
    verdict = validate_run(
        run,
        registry=runs,
        data_store=object_store(settings.data_bucket),
        now=datetime.now(UTC),
        limits=UploadLimits.for_memory(settings.aws_lambda_function_memory_size),
    )
    logger.info("data validated", model=run.model, run_id=run.run_id, outcome=verdict.outcome, reasons=verdict.reasons)
    return verdict.model_dump(mode="json")
