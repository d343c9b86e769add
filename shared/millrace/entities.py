"""What the registry keeps: models, datasets, causes, runs, trials, versions and the ledger.

Plain frozen dataclasses; :mod:`millrace.aws.registry` stores them, nothing here knows how.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

CauseKind = Literal["upload", "schedule", "manual", "drift", "quality", "staleness", "latency"]
CauseStatus = Literal["started", "pending", "skipped"]
RunStatus = Literal["queued", "running", "succeeded", "rejected", "failed"]
RunStage = Literal[
    "queued", "validating", "planning", "training", "evaluating", "registering", "awaiting_approval", "finished"
]
TrialStatus = Literal["planned", "running", "succeeded", "failed", "skipped", "eliminated"]
VersionStatus = Literal["registered", "retired"]
#: What became of a version's claim to be the champion: nothing yet, or which way it went.
VersionOutcome = Literal["pending", "promoted", "kept", "awaiting_approval", "rejected"]
ApprovalStatus = Literal["pending", "approved", "rejected", "expired"]

FINISHED_STATUSES: frozenset[RunStatus] = frozenset({"succeeded", "rejected", "failed"})
FINISHED_TRIAL_STATUSES: frozenset[TrialStatus] = frozenset({"succeeded", "failed", "skipped", "eliminated"})


@dataclass(frozen=True, slots=True)
class Source:
    """An uploaded object: what a run has to validate.

    Parameters
    ----------
    bucket, key, version_id : str
        Exactly which bytes.
    uploaded_at : datetime
        From the event; newer rows win where an identifier repeats.
    """

    bucket: str
    key: str
    version_id: str
    uploaded_at: datetime


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a training run was asked for.

    Parameters
    ----------
    cause_id : str
        The same event always has the same id.
    source : Source or None
        The upload, when the cause is one.
    reason : str
        In words, for the ledger.
    """

    cause_id: str
    model: str
    kind: CauseKind
    occurred_at: datetime
    source: Source | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class CauseRecord:
    """A cause and what became of it."""

    cause: Cause
    status: CauseStatus
    run_id: str | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ModelState:
    """Where a model stands.

    Parameters
    ----------
    revision : int
        Grows with every alias move; a move states the revision it was decided on.
    aliases : mapping of str to int
        Version number by alias.
    latest_version : int
        The version counter; 0 before the first.
    schema_version : int
        0 before the first accepted dataset.
    aliases_moved_at : datetime or None
        When an alias moved last; a later move is never recorded as earlier, whatever a clock says.
    active_run_id : str or None
        The run that is training now.
    pending_causes : int
        How many causes wait for the active run to finish; any number may, so they are listed separately.
    deleted_at : datetime or None, default=None
        When it was deleted; None while it is there, also when it was made again under its name.
    begun_after : datetime or None, default=None
        What is older belongs to a model of that name that was deleted.
    first_schema_version : int, default=1
        Lower ones belong to such a model; numbers of versions and schemas are never used again.
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
        """The schema that uploads are held to; 0 before the first accepted dataset."""
        return self.schema_version if self.schema_version >= self.first_schema_version else 0

    @property
    def work(self) -> "Work":
        """What is under way."""
        return Work(self.active_run_id, self.pending_causes)


@dataclass(frozen=True, slots=True)
class DatasetRecord:
    """An accepted dataset.

    Parameters
    ----------
    dataset_id : str
        SHA-256 of the canonical content.
    schema_version, schema_revision : int
        The schema it was held to.
    quarantined_rows : int
        Rows that were set aside.
    warnings : int, default=0
        Findings of its checks.
    code_version : str, default=""
        Of the library that accepted it.
    renewed_at : datetime or None, default=None
        When the same content was last uploaded again.
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
        """When its content was last uploaded: what decides which dataset is the latest."""
        return self.renewed_at or self.source.uploaded_at

    def renewed(self, uploaded_at: datetime) -> "DatasetRecord":
        """Return the record after its content was uploaded again, or as it is when it was uploaded later still."""
        return replace(self, renewed_at=uploaded_at) if uploaded_at > self.uploaded_at else self


@dataclass(frozen=True, slots=True)
class Run:
    """One execution of the training pipeline.

    Parameters
    ----------
    cause_ids : tuple of str
        Every cause this run answers.
    sources : tuple of Source
        Uploads that it has to validate.
    stage : RunStage
        What it is doing now.
    summary : mapping
        What is worth showing: rows, reasons, winner, metric, version.
    """

    model: str
    run_id: str
    cause_ids: tuple[str, ...]
    kind: CauseKind
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
        ``skipped`` was never started, ``eliminated`` did not reach the last round; the reason says why.
    metrics : mapping of str to float
        What ranks it: on the validation split, of the ONNX model; with folds, the mean over them.
    artifacts : mapping of str to str
        SHA-256 by artifact name.
    duration_seconds : float or None
        Of fitting and exporting.
    round : int, default=1
        Of successive halving, the one it is in.
    rows : int or None, default=None
        Training rows of this round; None takes all.
    folds : int, default=1
        Cross-validation folds that give the metrics; 1 is the validation split alone.
    earlier_rounds : tuple of mapping, default=()
        What the rounds before gave: ``round``, ``rows``, ``metrics``, ``duration_seconds``.
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
        Major when the input schema changed incompatibly, minor when features or the algorithm did, patch when
        the same recipe was refitted on other data.
    manifest_sha256 : str
        Of ``manifest.json``, which in turn names every artifact's.
    status : VersionStatus, default='registered'
        A retired one never serves again.
    outcome : VersionOutcome, default='pending'
        Settled once, when it is registered or when somebody approves or rejects it.
    collected_at : datetime or None
        When its artifacts were deleted; its documents stay.
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
    """One line of the append-only ledger: who did what, when, why, from which version to which.

    Parameters
    ----------
    entry_id : str
        Unique within the model and the moment; the same act written twice has the same id.
    action : str
        ``run_requested``, ``trigger_skipped``, ``trigger_deferred``, ``dataset_rejected``, ``schema_changed``,
        ``spec_changed``, ``model_registered``, ``model_promoted``, ``model_rolled_back``, ``alias_moved``,
        ``model_retired``, ``model_deleted``, ``run_failed`` ...
    details : mapping
        For an alias move: ``alias``, ``from_version``, ``to_version``.
    """

    model: str
    entry_id: str
    occurred_at: datetime
    actor: str
    action: str
    reason: str
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Move:
    """An alias on its way; None stands for no version at all."""

    alias: str
    from_version: int | None
    to_version: int | None


@dataclass(frozen=True, slots=True)
class AliasMove:
    """A move that was made: one line of an alias's own history.

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
    """A person's answer to whether a version may serve, or the wait for it.

    Parameters
    ----------
    task_token : str
        What the waiting pipeline is told the answer with. A secret: whoever has it can answer.
    decided_by, decided_at, reason
        Of the answer; None and empty while it is pending.
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


@dataclass(frozen=True, slots=True)
class Settlement:
    """A version's claim to be the champion comes to an outcome."""

    version: int
    before: VersionOutcome
    after: VersionOutcome


@dataclass(frozen=True, slots=True)
class Work:
    """What is under way of a model: the run whose turn it is, and how many causes wait for it."""

    active_run_id: str | None
    pending_causes: int


@dataclass(frozen=True, slots=True)
class Act:
    """What is done about a model's versions in one go: all of it and its ledger entry, or nothing.

    Parameters
    ----------
    entry : LedgerEntry
        Who, what, when, why.
    expected_revision : int
        The model's revision that this was decided on.
    moves : tuple of Move, default=()
        Aliases to move; the revision grows by one if there are any.
    settles : Settlement or None
        Of a version that is not settled yet.
    retires : int or None
        The version that may not serve any more.
    answers : Approval or None
        An approval that was pending, as it is answered now.
    deletes : bool, default=False
        The model is deleted: its run has no turn any more, its spec is the default one, and nothing begins any more.
        ``moves`` have to take every alias away.
    ends : Work or None, default=None
        What is under way that the deletion was decided on; None deletes whatever is.
    """

    entry: LedgerEntry
    expected_revision: int
    moves: tuple[Move, ...] = ()
    settles: Settlement | None = None
    retires: int | None = None
    answers: Approval | None = None
    deletes: bool = False
    ends: Work | None = None
