"""Replay captured requests of a model through a version, beside the champion: when ``ReplayDue`` says so.

The event comes at least once; what one invocation has no time for, it requests again.
"""

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext
from millrace.aws.clients import event_publisher, object_store, registry, registry_store
from millrace.contracts import ReplayPointer
from millrace.observability import log_invocation, logger
from millrace.replay.replay_run import ReplayStores, replay_captures
from millrace.settings import StoreSettings, load_settings


@log_invocation
def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Read the event's pointer, and do what there is time for."""
    settings, pointer = load_settings(StoreSettings), ReplayPointer.parse(event.get("detail") or event)
    stores = ReplayStores(
        registry(), registry_store(), object_store(settings.data_bucket), object_store(settings.models_bucket)
    )
    run = replay_captures(
        pointer.model,
        pointer.replay_id,
        stores=stores,
        publisher=event_publisher(),
        now=datetime.now(UTC),
        token=context.aws_request_id,
        remaining_seconds=lambda: context.get_remaining_time_in_millis() / 1000,
    )
    logger.info("captures replayed", **asdict(run))
    return asdict(run)
