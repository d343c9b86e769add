"""Register a run's winner: state ``RegisterModel`` of the training pipeline.

Takes :class:`RunPointer`, returns :class:`RegisteredVersion`.
"""

from datetime import UTC, datetime
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext
from millrace.aws.clients import event_publisher, object_store, registry
from millrace.contracts import RunPointer
from millrace.observability import log_invocation, logger
from millrace.registry.registration import register_run
from millrace.settings import StoreSettings, load_settings


@log_invocation
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:  # noqa: ARG001 - Lambda passes it
    """Parse the event, do the one use case, return plain JSON."""
    settings = load_settings(StoreSettings)
    pointer = RunPointer.parse(event)
    models = registry()
    registered = register_run(
        models.get_run(pointer.model, pointer.run_id),
        registry=models,
        model_store=object_store(settings.models_bucket),
        data_store=object_store(settings.data_bucket),
        now=datetime.now(UTC),
    )
    # The version is registered whether or not the bus takes the event; the pipeline tries this function again.
    models.publish_waiting(event_publisher())
    logger.info("model registered", model=pointer.model, run_id=pointer.run_id, version=registered.version)
    return registered.model_dump(mode="json")
