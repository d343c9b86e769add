"""Serve MLflow's tracking and registry API."""

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext
from millrace.aws.tracking import handle_tracking
from millrace.observability import log_invocation


@log_invocation
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:  # noqa: ARG001 - Lambda passes it
    """Respond to one request."""
    return handle_tracking(event)
