"""Second step of a batch job's execution: one part, by the version that the job pinned."""

from millrace.batch.job import BatchJob, PartPointer
from millrace.batch.part_scoring import score_planned
from millrace.contracts import PartRequest
from millrace.layout import job_key
from millrace.ports import ObjectStore
from millrace.serving.model import LoadedModel, ModelSource, load_version

_loaded: dict[tuple[str, int], LoadedModel] = {}


def score_requested_part(request: PartRequest, *, source: ModelSource, data_store: ObjectStore) -> None:
    """Score a part and write its receipt; one that has its receipt is left as it is.

    Raises ``ServiceUnavailableError``, which a repetition may end, and ``VersionNotFoundError`` when the version was
    retired meanwhile.
    """
    job = BatchJob.read(data_store.get(job_key(request.job_id, "job.json")))
    pointer = PartPointer(part=request.part.part, start=request.part.start, end=request.part.end)
    score_planned(job, pointer, _load(source, job.model, job.version), data_store)


def _load(source: ModelSource, model: str, version: int) -> LoadedModel:
    """Return a version, kept for the next part of the same job."""
    source.manifest_sha256(model, version)  # a version that was retired meanwhile scores nothing
    if (model, version) not in _loaded:
        _loaded.clear()
        _loaded[model, version] = load_version(source, model, version)
    return _loaded[model, version]
