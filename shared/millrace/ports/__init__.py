"""What the stages need from the outside, as protocols.

:mod:`millrace.aws` implements them on S3, DynamoDB, Step Functions, EventBridge and its Scheduler; ``tests/fakes`` in
memory.
"""

from millrace.ports.registry import MAX_FOLLOW_UP_CAUSES, Claim, Registry, SpecRecord
from millrace.ports.services import (
    PURPOSES,
    Event,
    EventPublisher,
    ListedObject,
    MonitoringPipeline,
    Notifier,
    ObjectInfo,
    ObjectStore,
    ObjectVersion,
    PipelineStarter,
    Purpose,
    Schedule,
    Schedules,
    ServingCounts,
    ServingMetrics,
    TaskCallback,
)

__all__ = [
    "MAX_FOLLOW_UP_CAUSES",
    "PURPOSES",
    "Claim",
    "Event",
    "EventPublisher",
    "ListedObject",
    "MonitoringPipeline",
    "Notifier",
    "ObjectInfo",
    "ObjectStore",
    "ObjectVersion",
    "PipelineStarter",
    "Purpose",
    "Registry",
    "Schedule",
    "Schedules",
    "ServingCounts",
    "ServingMetrics",
    "SpecRecord",
    "TaskCallback",
]
