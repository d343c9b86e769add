"""Decide about a run (state ``EvaluateCandidates``): :class:`EvaluationRequest` to :class:`EvaluationVerdict`."""

import time
from datetime import UTC, datetime
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext
from millrace.aws.clients import object_store, registry
from millrace.contracts import EvaluationRequest
from millrace.evaluation.evaluate import evaluate_run
from millrace.observability import log_invocation, logger
from millrace.settings import StoreSettings, load_settings


@log_invocation
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:  # noqa: ARG001 - Lambda passes it
    """Parse the event, do the one use case, return plain JSON."""
    settings = load_settings(StoreSettings)
    request = EvaluationRequest.parse(event)
    verdict = evaluate_run(
        request,
        registry=registry(),
        data_store=object_store(settings.data_bucket),
        model_store=object_store(settings.models_bucket),
        now=datetime.now(UTC),
        clock=time.perf_counter,
    )
    logger.info("run evaluated", model=request.model, run_id=request.run_id, **verdict.model_dump())
    return verdict.model_dump(mode="json")
