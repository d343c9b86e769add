"""Evidence of a release from a replay: what captured requests show of both versions before anybody is exposed.

``replay_captures`` writes the document, and ``evaluate_release`` may only read it: what loads models and reads captures
cannot write what serves.
"""

from datetime import datetime
from typing import Literal

from millrace.documents import Document, Record
from millrace.entities import Release
from millrace.errors import ArtifactIntegrityError, ArtifactNotFoundError
from millrace.layout import replay_key
from millrace.ports import ObjectStore

EVIDENCE_NAME = "evidence.json"


class PairedQuality(Record, frozen=True, kw_only=True):
    """Losses of both versions on the same labelled rows; see :mod:`millrace.releases.paired_quality`.

    ``gain`` is the champion's mean loss less the candidate's: above 0 the candidate is better. ``low`` and ``high`` are
    its confidence sequence, which holds at every look; ``log_e_worse`` is the evidence against "not worse than the
    margin", ``log_e_safe`` that against "not better than it".
    """

    metric: str
    pairs: int
    margin: float
    champion_loss: float
    candidate_loss: float
    gain: float
    low: float
    high: float
    log_e_worse: float
    log_e_safe: float


class ReplayEvidence(Document, frozen=True, kw_only=True):
    """A replay so far; cumulative from ``since`` to ``until``, the newest row."""

    model: str
    replay_id: str  # the release's id
    baseline: int
    candidate: int
    status: Literal["running", "void", "refused"]  # ``running``: as far as the traffic has come
    reason: str = ""
    since: datetime
    until: datetime | None = None
    checked_at: datetime
    rows: int = 0
    refused_rows: int = 0  # that the candidate could not have read
    not_finite_rows: int = 0
    compared_rows: int = 0  # of the self-test
    equal_rows: int = 0
    agreement: float | None = None  # share of rows with the same decision; of a regression, None
    output_shift: float | None = None  # PSI of the outputs beyond chance
    estimated_drop: float | None = None  # estimate without ground truth: champion's quality less the candidate's
    labelled_rows: int = 0
    quality: PairedQuality | None = None


def find_replay_evidence(release: Release, data_store: ObjectStore) -> ReplayEvidence | None:
    """Return the evidence of a release's replay; None before the first, or when it cannot be read."""
    try:
        return ReplayEvidence.read(data_store.get(replay_key(release.model, release.release_id, EVIDENCE_NAME)))
    except (ArtifactNotFoundError, ArtifactIntegrityError):
        return None
