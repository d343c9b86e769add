"""Describe models and their data, and replace their specs: the routes of the management API that read."""

from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext
from millrace.aws.management import management_api
from millrace.management.read_routes import ROUTES
from millrace.observability import log_invocation

app = management_api(ROUTES)


@log_invocation
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Route the request."""
    return app.resolve(event, context)
