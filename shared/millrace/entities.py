"""The registry's entities: models, datasets, causes, runs, trials, versions, approvals and the ledger.

Plain frozen dataclasses; :mod:`millrace.registry` stores them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

CauseStatus = Literal["started", "pending", "skipped"]
RunStatus = Literal["queued", "running", "succeeded", "rejected", "failed"]
RunStage = Literal[
    "queued", "validating", "planning", "training", "evaluating", "registering", "awaiting_approval", "finished"
]
TrialStatus = Literal["planned", "running", "succeeded", "failed", "skipped", "eliminated"]
VersionStatus = Literal["registered", "retired"]
#: The decision about a version as champion; pending at first.
VersionOutcome = Literal["pending", "promoted", "kept", "awaiting_approval", "rejected"]
ApprovalStatus = Literal["pending", "approved", "rejected", "expired"]

FINISHED_STATUSES: frozenset[RunStatus] = frozenset({"succeeded", "rejected", "failed"})
FINISHED_TRIAL_STATUSES: frozenset[TrialStatus] = frozenset({"succeeded", "failed", "skipped", "eliminated"})


@dataclass(frozen=True, slots=True)
class Source:
    """An uploaded object, by the version of its bytes.

    Parameters
    ----------
    uploaded_at : datetime
        From the event; newer rows win where an identifier repeats.
    """

    bucket: str
    key: str
    version_id: str
    uploaded_at: datetime


@dataclass(frozen=True, slots=True)
class Cause:
    """The cause of a training run.

    Parameters
    ----------
    cause_id : str
        The same event always has the same id.
    kind : str
        One of :data:`millrace.causes.CAUSES`.
    source : Source or None
        The upload, when the cause is one.
    reason : str
        A sentence for the ledger.
    """

    cause_id: str
    model: str
    kind: str
    occurred_at: datetime
    source: Source | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class CauseRecord:
    """A cause and its outcome.

    Parameters
    ----------
    reason : str
        The cause's, or for a skipped one a sentence with the refusal and the cause's reason.
    refusal : str
        The reason why a skipped cause started nothing; empty in records of older releases.
    """

    cause: Cause
    status: CauseStatus
    run_id: str | None = None
    reason: str = ""
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class Work:
    """The work in progress of a model: its active run, and the number of causes that wait for it."""

    active_run_id: str | None
    pending_causes: int


@dataclass(frozen=True, slots=True)
class ModelState:
    """The state of a model.

    Parameters
    ----------
    revision : int
        Grows with every alias move; a move names the revision it was decided on.
    aliases : mapping of str to int
        Version number by alias.
    latest_version : int
        The version counter; 0 before the first.
    schema_version : int
        0 before the first accepted dataset.
    aliases_moved_at : datetime or None
        Of the last alias move; a later move is never recorded as earlier, whatever a clock shows.
    pending_causes : int
        Causes that wait for the active run to finish; they are listed separately.
    deleted_at : datetime or None, default=None
        None while the model exists, also when it was recreated under its name.
    begun_after : datetime or None, default=None
        Anything older belongs to a deleted model of that name.
    first_schema_version : int, default=1
        Lower ones belong to such a model; numbers of versions and schemas are never reused.
    """

    model: str
    revision: int = 0
    aliases: Mapping[str, int] = field(default_factory=dict)
    latest_version: int = 0
    schema_version: int = 0
    active_run_id: str | None = None
    pending_causes: int = 0
    created_at: datetime | None = None
    aliases_moved_at: datetime | None = None
    deleted_at: datetime | None = None
    begun_after: datetime | None = None
    first_schema_version: int = 1

    @property
    def current_schema_version(self) -> int:
        """The schema that uploads must match; 0 before the first accepted dataset."""
        return self.schema_version if self.schema_version >= self.first_schema_version else 0

    @property
    def work(self) -> Work:
        """The work in progress."""
        return Work(self.active_run_id, self.pending_causes)


@dataclass(frozen=True, slots=True)
class DatasetRecord:
    """An accepted dataset.

    Parameters
    ----------
    dataset_id : str
        SHA-256 of the canonical content.
    schema_version, schema_revision : int
        The schema it was validated against.
    warnings : int, default=0
        Findings of its checks.
    code_version : str, default=""
        Of the library that accepted it.
    renewed_at : datetime or None, default=None
        The last time that the same content was uploaded again.
    """

    model: str
    dataset_id: str
    rows: int
    columns: int
    quarantined_rows: int
    schema_version: int
    source: Source
    accepted_at: datetime
    schema_revision: int = 0
    warnings: int = 0
    code_version: str = ""
    renewed_at: datetime | None = None

    @property
    def uploaded_at(self) -> datetime:
        """The last upload of its content, which decides which dataset is the latest."""
        return self.renewed_at or self.source.uploaded_at

    def renewed(self, uploaded_at: datetime) -> "DatasetRecord":
        """Return the record after its content was uploaded again; an earlier upload changes nothing."""
        return replace(self, renewed_at=uploaded_at) if uploaded_at > self.uploaded_at else self


@dataclass(frozen=True, slots=True)
class Run:
    """One execution of the training pipeline.

    Parameters
    ----------
    cause_ids : tuple of str
        Every cause that this run follows.
    kind : str
        The kind of its first cause, or ``upload`` when it has sources.
    sources : tuple of Source
        Uploads to validate.
    summary : mapping
        For people: rows, reasons, winner, metric, version.
    """

    model: str
    run_id: str
    cause_ids: tuple[str, ...]
    kind: str
    requested_at: datetime
    sources: tuple[Source, ...] = ()
    status: RunStatus = "queued"
    stage: RunStage = "queued"
    dataset_ids: tuple[str, ...] = ()
    started_at: datetime | None = None
    finished_at: datetime | None = None
    version: int | None = None
    reasons: tuple[str, ...] = ()
    summary: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Trial:
    """One candidate with one set of parameters, fitted in one run.

    Parameters
    ----------
    status : TrialStatus
        ``skipped`` was never started, ``eliminated`` did not reach the last round; ``reason`` says why.
    metrics : mapping of str to float
        On the validation split, of the ONNX model; with folds, the mean over them. They rank the trials.
    artifacts : mapping of str to str
        SHA-256 by artifact name.
    duration_seconds : float or None
        Of fitting and exporting.
    round : int, default=1
        Of successive halving.
    rows : int or None, default=None
        Training rows of this round; None takes all.
    folds : int, default=1
        Cross-validation folds; 1 is the validation split alone.
    earlier_rounds : tuple of mapping, default=()
        Results of the rounds before: ``round``, ``rows``, ``metrics``, ``duration_seconds``.
    peak_memory_mb : float or None, default=None
        Largest resident memory of its worker.
    """

    model: str
    run_id: str
    trial_id: str
    candidate: str
    parameters: Mapping[str, Any]
    seed: int
    status: TrialStatus = "planned"
    metrics: Mapping[str, float] = field(default_factory=dict)
    artifacts: Mapping[str, str] = field(default_factory=dict)
    duration_seconds: float | None = None
    reason: str = ""
    round: int = 1
    rows: int | None = None
    folds: int = 1
    earlier_rounds: tuple[Mapping[str, Any], ...] = ()
    peak_memory_mb: float | None = None


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A registered version.

    Parameters
    ----------
    semantic_version : str
        See :mod:`millrace.registry.versioning`.
    manifest_sha256 : str
        Of ``manifest.json``, which holds every artifact's.
    status : VersionStatus, default='registered'
        A retired one never serves again.
    outcome : VersionOutcome, default='pending'
        Assigned once, when it is registered, or approved or rejected by a person.
    collected_at : datetime or None
        The time its artifacts were deleted; its documents stay.
    """

    model: str
    version: int
    semantic_version: str
    run_id: str
    trial_id: str
    candidate: str
    task: str
    metrics: Mapping[str, float]
    dataset_ids: tuple[str, ...]
    schema_version: int
    manifest_sha256: str
    created_at: datetime
    status: VersionStatus = "registered"
    outcome: VersionOutcome = "pending"
    retired_at: datetime | None = None
    collected_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One entry of the append-only ledger: actor, action, time, reason and facts.

    Parameters
    ----------
    entry_id : str
        Unique within the model and the timestamp; the same act written twice has the same id.
    action : str
        ``run_requested``, ``trigger_skipped``, ``trigger_deferred``, ``dataset_rejected``, ``schema_changed``,
        ``spec_changed``, ``model_registered``, ``model_promoted``, ``model_rolled_back``, ``alias_moved``,
        ``model_retired``, ``model_deleted``, ``run_failed`` ...
    details : mapping
        Facts. Of an alias move ``alias``, ``from_version``, ``to_version``; of a trigger ``cause_id`` and ``kind``, and
        of a skipped one also ``refusal`` and ``cause_reason``.
    """

    model: str
    entry_id: str
    occurred_at: datetime
    actor: str
    action: str
    reason: str
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AliasMove:
    """A move of an alias that was made; None is no version.

    Parameters
    ----------
    revision : int
        The model's, after the move.
    entry_id : str
        Of the ledger entry that was written with it.
    """

    model: str
    alias: str
    occurred_at: datetime
    revision: int
    actor: str
    action: str
    reason: str
    entry_id: str
    from_version: int | None = None
    to_version: int | None = None


@dataclass(frozen=True, slots=True)
class Approval:
    """A person's decision whether a version may serve, or the wait for it.

    Parameters
    ----------
    task_token : str
        Completes the waiting pipeline. A secret: whoever has it can decide.
    decided_by, decided_at, reason
        None and empty while it is pending.
    """

    model: str
    run_id: str
    version: int
    requested_at: datetime
    expires_at: datetime
    task_token: str
    status: ApprovalStatus = "pending"
    decided_by: str | None = None
    decided_at: datetime | None = None
    reason: str = ""
