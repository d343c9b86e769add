"""Fit, export and measure one trial (state ``TrainCandidate``): from :class:`TrialPointer` to :class:`TrialOutcome`."""

import time
from datetime import UTC, datetime
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext
from millrace.aws.clients import object_store, registry
from millrace.contracts import TrialPointer
from millrace.observability import log_invocation, logger
from millrace.settings import StoreSettings, load_settings
from millrace.training.limits import TrialLimits
from millrace.training.trial import train_trial


@log_invocation
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Parse the event, do the one use case, return plain JSON."""
    settings = load_settings(StoreSettings)
    pointer = TrialPointer.parse(event)
    outcome = train_trial(
        pointer,
        registry=registry(),
        data_store=object_store(settings.data_bucket),
        model_store=object_store(settings.models_bucket),
        limits=TrialLimits.of_function(context),
        now=datetime.now(UTC),
        clock=time.perf_counter,
    )
    logger.info("trial finished", model=pointer.model, run_id=pointer.run_id, **outcome.model_dump())
    return outcome.model_dump(mode="json")
