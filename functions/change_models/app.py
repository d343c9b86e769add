"""Promote, roll back, retire, approve and delete: the routes of the management API that change models."""

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext
from millrace.aws.clients import event_publisher, registry
from millrace.aws.management import management_api
from millrace.errors import MillraceError
from millrace.management.change_routes import ROUTES
from millrace.observability import log_invocation, logger

app = management_api(ROUTES)


@log_invocation
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Route the request, then publish the outbox: entries of this call, or of one that could not publish them."""
    response = app.resolve(event, context)
    try:
        registry().publish_waiting(event_publisher())
    except MillraceError:
        # The change itself is made all the same.
        logger.exception("events wait in the outbox")
    return response
