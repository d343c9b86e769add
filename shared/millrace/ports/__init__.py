"""What the stages need from the outside, as protocols.

:mod:`millrace.aws` implements them on S3, DynamoDB, Step Functions, EventBridge and its Scheduler; ``tests/fakes`` in
memory.
"""

from millrace.ports.events import Event, EventPublisher
from millrace.ports.objects import ListedObject, ObjectInfo, ObjectStore, ObjectVersion
from millrace.ports.pipeline import MonitoringPipeline, Notifier, PipelineStarter, TaskCallback
from millrace.ports.registry import MAX_FOLLOW_UP_CAUSES, Claim, Registry, SpecRecord
from millrace.ports.schedules import PURPOSES, Purpose, Schedule, Schedules
from millrace.ports.serving_metrics import ServingCounts, ServingMetrics

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
