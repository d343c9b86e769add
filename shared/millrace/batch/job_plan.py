"""Read a job's plan; needs no tables."""

from millrace.batch.job import Plan
from millrace.layout import job_key
from millrace.ports import ObjectStore


def load_plan(job_id: str, store: ObjectStore) -> Plan:
    """Return a job's plan; raises ``ArtifactNotFoundError`` before it was planned."""
    return Plan.read(store.get(job_key(job_id, "plan.json")))
