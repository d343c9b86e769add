"""What the stages need from the outside, as protocols.

:mod:`millrace.aws` implements them on S3, DynamoDB, Step Functions and EventBridge; ``tests/fakes`` in memory.
"""

from millrace.ports.events import Event, EventPublisher
from millrace.ports.objects import ListedObject, ObjectInfo, ObjectStore, ObjectVersion
from millrace.ports.pipeline import PipelineStarter
from millrace.ports.registry import MAX_FOLLOW_UP_CAUSES, Claim, Registry, SpecRecord

__all__ = [
    "MAX_FOLLOW_UP_CAUSES",
    "Claim",
    "Event",
    "EventPublisher",
    "ListedObject",
    "ObjectInfo",
    "ObjectStore",
    "ObjectVersion",
    "PipelineStarter",
    "Registry",
    "SpecRecord",
]
