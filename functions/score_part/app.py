"""Score one part of a batch job (state ``ScorePart``): a :class:`PartRequest`; what becomes of it is in its receipt."""

from functools import cache
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext
from millrace.aws.clients import object_store
from millrace.aws.serving_source import AwsModelSource, aws_model_source
from millrace.batch.part_step import score_requested_part
from millrace.contracts import PartRequest
from millrace.observability import log_invocation, logger
from millrace.settings import StoreSettings, load_settings


@log_invocation
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:  # noqa: ARG001 - Lambda passes it
    """Parse the event, score the part, return nothing: an execution may hold 256 KB."""
    request = PartRequest.parse(event)
    score_requested_part(request, source=_source(), data_store=object_store(load_settings(StoreSettings).data_bucket))
    logger.info("part scored", model=request.model, job_id=request.job_id, part=request.part.part)
    return {}


@cache
def _source() -> AwsModelSource:
    settings = load_settings(StoreSettings)
    return aws_model_source(settings.registry_table, settings.models_bucket)
