"""Request an approval, or end a wait in which nobody decided.

States ``RequestApproval`` and ``ExpireApproval`` of the training pipeline. Takes :class:`ApprovalPointer`, returns
:class:`ApprovalState`.
"""

from datetime import UTC, datetime
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext
from millrace.aws.clients import event_publisher, notifier, registry, task_callback
from millrace.contracts import ApprovalPointer, ApprovalState
from millrace.observability import log_invocation, logger
from millrace.registry.approvals import ModelBucket, expire_approval, request_approval
from millrace.settings import ApprovalSettings, load_settings


@log_invocation
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:  # noqa: ARG001 - Lambda passes it
    """Parse the event, do the one use case, return plain JSON."""
    settings = load_settings(ApprovalSettings)
    pointer = ApprovalPointer.parse(event)
    models, now = registry(), datetime.now(UTC)
    if pointer.task_token is None:
        approval = expire_approval(pointer.model, pointer.run_id, registry=models, now=now)
    else:
        approval = request_approval(
            pointer.model,
            pointer.run_id,
            pointer.task_token,
            pointer.approval_seconds,
            registry=models,
            callback=task_callback(),
            notifier=notifier(settings.approval_topic_arn),
            bucket=ModelBucket(settings.models_bucket, settings.aws_region),
            now=now,
        )
    models.publish_waiting(event_publisher())
    logger.info("approval", model=pointer.model, run_id=pointer.run_id, status=approval.status)
    return ApprovalState(status=approval.status).model_dump(mode="json")
