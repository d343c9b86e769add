"""Check a model that a user logged with MLflow: state ``CheckLoggedModel`` of the training pipeline.

Takes :class:`LoggedModelCheck`, returns :class:`CheckedModel`. This function has no rights but its log: it parses and
runs what somebody else made.
"""

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext
from millrace.aws.presigned import read_object, write_object
from millrace.contracts import LoggedModelCheck
from millrace.observability import log_invocation, logger
from millrace.proposals.check import check_logged_model


@log_invocation
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:  # noqa: ARG001 - Lambda passes it
    """Parse the event, do the one use case, return plain JSON."""
    checked = check_logged_model(LoggedModelCheck.parse(event), read_object, write_object)
    logger.info("logged model checked", outcome=checked.outcome, reason=checked.reason)
    return checked.model_dump(mode="json")
