"""What monitoring finds, as causes of training: which finding is which cause, and the cause's id."""

from collections.abc import Mapping

from millrace.names import make_cause_id
from millrace.registry.entities import CauseKind

#: By the event that tells of it. Broken data (``DataQualityDegraded``) is none: a model would learn the fault.
CAUSE_OF_EVENT: Mapping[str, CauseKind] = {
    "DriftDetected": "drift",
    "QualityDegraded": "quality",
    "ModelStale": "staleness",
    "ServingDegraded": "latency",
}


def finding_cause_id(kind: CauseKind, model: str, incident_id: str, request: int) -> str:
    """Return the id of an incident's cause: one an incident, and one more each time that it asks again."""
    return make_cause_id("monitoring", kind, model, incident_id, str(request))
