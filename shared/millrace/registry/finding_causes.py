"""What monitoring finds, as causes of training: which finding is which cause, and the cause's id."""

from collections.abc import Collection, Mapping

from millrace.names import make_cause_id
from millrace.registry.entities import CauseKind

#: By the event that tells of it. Broken data (``DataQualityDegraded``) is none: a model would learn the fault.
CAUSE_OF_EVENT: Mapping[str, CauseKind] = {
    "DriftDetected": "drift",
    "QualityDegraded": "quality",
    "ModelStale": "staleness",
    "ServingDegraded": "latency",
}


#: Of what makes serving bad, that which a smaller model may mend.
_CURED = frozenset({"latency"})


def not_cured(event: str, subjects: Collection[str]) -> str | None:
    """Return why a new model would not mend what an event tells of, in words; None when it may.

    Parameters
    ----------
    subjects : collection of str
        What is out of order, as its findings name it; nothing when that is not known.
    """
    if event != "ServingDegraded" or not subjects or _CURED & set(subjects):
        return None
    return f"a new model mends late answers, and not {' or '.join(sorted(subjects))}"


def finding_cause_id(kind: CauseKind, model: str, incident_id: str, request: int) -> str:
    """Return the id of an incident's cause: one an incident, and one more each time that it asks again."""
    return make_cause_id("monitoring", kind, model, incident_id, str(request))
