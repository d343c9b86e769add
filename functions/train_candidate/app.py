"""Fit, export and measure one trial: state ``TrainCandidate``, from :class:`TrialPointer` to :class:`TrialOutcome`.

Of a model that a user logged it records what ``check_logged_model`` found: state ``RecordLoggedModel``.
"""

import time
from datetime import UTC, datetime
from functools import partial
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext
from millrace.aws.clients import object_store, registry
from millrace.contracts import TrialPointer
from millrace.observability import log_invocation, logger
from millrace.settings import StoreSettings, load_settings
from millrace.training.limits import TrialLimits
from millrace.training.logged_trial import record_logged_model
from millrace.training.trial import train_trial


@log_invocation
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Parse the event, do the one use case, return plain JSON."""
    settings = load_settings(StoreSettings)
    pointer = TrialPointer.parse(event)
    run = partial(train_trial, limits=TrialLimits.of_function(context))
    outcome = (record_logged_model if pointer.kind == "logged" else run)(
        pointer,
        registry=registry(),
        data_store=object_store(settings.data_bucket),
        model_store=object_store(settings.models_bucket),
        now=datetime.now(UTC),
        clock=time.perf_counter,
    )
    logger.info("trial finished", model=pointer.model, run_id=pointer.run_id, **outcome.model_dump())
    return outcome.model_dump(mode="json")
