"""Clients and adapters, each built on first use and kept for the life of the execution environment."""

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import boto3
import botocore
from botocore.config import Config

from millrace.aws.events import EventBridgePublisher, SnsNotifier
from millrace.aws.object_store import S3ObjectStore
from millrace.aws.pipeline import (
    LambdaConcurrency,
    StepFunctionsCallback,
    StepFunctionsMonitoring,
    StepFunctionsPipeline,
    StepFunctionsScoring,
)
from millrace.aws.registry_store import DynamoRegistryStore
from millrace.aws.schedules import EventBridgeSchedules
from millrace.observability import logger
from millrace.ports import (
    AccountConcurrency,
    EventPublisher,
    MonitoringPipeline,
    Notifier,
    ObjectStore,
    PipelineStarter,
    RegistryStore,
    Schedules,
    ScoringPipeline,
    TaskCallback,
)
from millrace.settings import (
    EventSettings,
    RegistrySettings,
    ReleaseScheduleSettings,
    ScheduleSettings,
    TrackingSettings,
    load_settings,
)

if TYPE_CHECKING:
    from millrace.registry.store import Registry

#: A call without a response is repeated soon: a function has seconds, not minutes.
_CONFIG = Config(
    connect_timeout=2,
    read_timeout=10,
    retries={"mode": "adaptive", "total_max_attempts": 4},
    user_agent_extra="millrace",
)


#: Of a function's ARN without a qualifier.
_ARN_PARTS = 7

FactoryT = TypeVar("FactoryT", bound=Callable[..., Any])
_caches: list[Any] = [load_settings]


def _cached_factory(factory: FactoryT) -> FactoryT:
    """Cache a factory by its arguments, and remember it for :func:`clear_clients`."""
    cached = cache(factory)
    _caches.append(cached)
    return cached  # type: ignore[return-value]  # functools.cache keeps the signature, but its type does not say so


@_cached_factory
def _session() -> Any:
    """Return the session; logs the version of boto3, which is the runtime's and changes without a deployment.

    Conditional writes to S3 need 1.35.69 at least.
    """
    logger.info("AWS clients", boto3=boto3.__version__, botocore=botocore.__version__)
    return boto3.Session()


@_cached_factory
def _client(service: str) -> Any:
    # Objects may be large, and a slow byte is no dead connection; many are read at once.
    patient = _CONFIG.merge(Config(read_timeout=60, max_pool_connections=64))
    return _session().client(service, config=patient if service == "s3" else _CONFIG)


@_cached_factory
def _signing_client() -> Any:
    """Return the client that signs addresses: by version 4, at the region's own address, which redirects nobody."""
    return _session().client("s3", config=Config(signature_version="s3v4", s3={"addressing_style": "virtual"}))


@_cached_factory
def object_store(bucket_name: str) -> ObjectStore:
    """Return the bucket of that name."""
    return S3ObjectStore(_client("s3"), bucket_name, _signing_client)


@_cached_factory
def registry_store() -> RegistryStore:
    """Return the items of the tables that the settings name."""
    settings = load_settings(RegistrySettings)
    return DynamoRegistryStore(_client("dynamodb"), settings.registry_table, settings.runs_table)


@_cached_factory
def registry() -> "Registry":
    """Return the registry in the tables that the settings name."""
    from millrace.registry.store import Registry  # noqa: PLC0415 - its import is half of a cold start without it

    return Registry(registry_store())


@_cached_factory
def tracking_store() -> RegistryStore:
    """Return the items of the registry's tables and of the table of MLflow's experiments."""
    settings = load_settings(TrackingSettings)
    tables = settings.registry_table, settings.runs_table, settings.tracking_table
    return DynamoRegistryStore(_client("dynamodb"), *tables)


@_cached_factory
def training_pipeline(state_machine_arn: str) -> PipelineStarter:
    """Return the training pipeline with that ARN."""
    return StepFunctionsPipeline(_client("stepfunctions"), state_machine_arn)


@_cached_factory
def scoring_pipeline(state_machine_arn: str) -> ScoringPipeline:
    """Return the scoring pipeline with that ARN."""
    return StepFunctionsScoring(_client("stepfunctions"), state_machine_arn)


@_cached_factory
def account_concurrency() -> AccountConcurrency:
    """Return the limit of the account's executions at once."""
    return LambdaConcurrency(_client("lambda"))


@_cached_factory
def task_callback() -> TaskCallback:
    """Return the port that completes the wait of a pipeline."""
    return StepFunctionsCallback(_client("stepfunctions"))


@_cached_factory
def notifier(topic_arn: str) -> Notifier:
    """Return the topic with that ARN."""
    return SnsNotifier(_client("sns"), topic_arn)


@_cached_factory
def event_publisher() -> EventPublisher:
    """Return the account's default event bus."""
    return EventBridgePublisher(_client("events"), load_settings(EventSettings).stack_name)


@_cached_factory
def monitoring_pipeline(state_machine_arn: str) -> MonitoringPipeline:
    """Return the monitoring pipeline with that ARN."""
    return StepFunctionsMonitoring(_client("stepfunctions"), state_machine_arn)


@_cached_factory
def schedules(settings: ScheduleSettings) -> Schedules:
    """Return the schedules of models."""
    return EventBridgeSchedules(_client("scheduler"), settings)


@_cached_factory
def release_schedules(function_arn: str) -> Schedules:
    """Return the schedules of releases, which invoke the function of that ARN; a qualifier is left out."""
    target = ":".join(function_arn.split(":")[:_ARN_PARTS])
    return EventBridgeSchedules(_client("scheduler"), load_settings(ReleaseScheduleSettings), target)


def clear_clients() -> None:
    """Clear every cached client and setting; for tests."""
    for cached in _caches:
        cached.cache_clear()
