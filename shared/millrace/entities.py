"""The registry's entities: models, datasets, causes, runs, trials, versions, approvals and the ledger.

Plain frozen dataclasses; :mod:`millrace.registry` stores them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from millrace.errors import ModelDeletedError
from millrace.routing import CANDIDATE_ARM, CHAMPION_ARM, PlannedArm, RoutingPlan
from millrace.spec import ModelSpec
from millrace.spec.release import ReleaseSpec, StageKind

CauseStatus = Literal["started", "pending", "skipped"]
#: A run is skipped when there is nothing new to learn.
RunStatus = Literal["queued", "running", "succeeded", "rejected", "failed", "skipped"]
RunStage = Literal[
    "queued", "validating", "planning", "training", "evaluating", "registering", "awaiting_approval", "finished"
]
TrialStatus = Literal["planned", "running", "succeeded", "failed", "skipped", "eliminated"]
VersionStatus = Literal["registered", "retired"]
VersionSource = Literal["training", "mlflow"]
#: The decision about a version as champion; pending at first.
VersionOutcome = Literal["pending", "promoted", "kept", "awaiting_approval", "rejected"]
#: A release is active while it is running or paused.
ReleaseStatus = Literal["running", "paused", "completed", "rolled_back", "aborted", "superseded", "expired"]
#: ``planning`` reads the files, ``scoring`` scores their parts.
BatchStatus = Literal["queued", "planning", "scoring", "succeeded", "failed", "cancelled"]
BatchKind = Literal["upload", "request", "schedule"]
ApprovalStatus = Literal["pending", "approved", "rejected", "expired"]

FINISHED_STATUSES: frozenset[RunStatus] = frozenset({"succeeded", "rejected", "failed", "skipped"})
FINISHED_BATCHES: frozenset[BatchStatus] = frozenset({"succeeded", "failed", "cancelled"})
FINISHED_TRIAL_STATUSES: frozenset[TrialStatus] = frozenset({"succeeded", "failed", "skipped", "eliminated"})


@dataclass(frozen=True, slots=True)
class Source:
    """An uploaded object, by the version of its bytes."""

    bucket: str
    key: str
    version_id: str
    uploaded_at: datetime  # from the event; newer rows win where an identifier repeats


@dataclass(frozen=True, slots=True)
class LoggedModel:
    """A model that a user logged with MLflow and proposes as a version."""

    source: str  # as MLflow names it, such as ``models:/m-...``
    prefix: str  # of its files in the bucket of models; ends with ``/``
    version: int  # reserved for it
    proposed_by: str
    mlflow_run_id: str = ""
    mlflow_model_id: str = ""


@dataclass(frozen=True, slots=True)
class Cause:
    """The cause of a training run."""

    cause_id: str  # the same event always has the same id
    model: str
    kind: str  # one of :data:`millrace.causes.CAUSES`
    occurred_at: datetime
    source: Source | None = None  # the upload, when the cause is one
    reason: str = ""  # a sentence for the ledger
    incident_id: str | None = None  # the incident that requested it; None for any other cause, and in older records
    logged_model: LoggedModel | None = None  # the one that is proposed, when the cause is one


@dataclass(frozen=True, slots=True)
class CauseRecord:
    """A cause and its outcome."""

    cause: Cause
    status: CauseStatus
    run_id: str | None = None
    reason: str = ""  # the cause's, or for a skipped one a sentence with the refusal and the cause's reason
    refusal: str = ""  # the reason why a skipped cause started nothing; empty in records of older releases
    faults: int = 0  # runs of it that ended in a fault: a crash, a time-out, too little memory


@dataclass(frozen=True, slots=True)
class Work:
    """The work in progress of a model: its active run, and the number of causes that wait for it."""

    active_run_id: str | None
    pending_causes: int


@dataclass(frozen=True, slots=True)
class ModelState:
    """The state of a model."""

    model: str
    revision: int = 0  # grows with every alias move; a move names the revision it was decided on
    aliases: Mapping[str, int] = field(default_factory=dict)  # version number by alias
    latest_version: int = 0  # the version counter; 0 before the first
    schema_version: int = 0  # 0 before the first accepted dataset
    active_run_id: str | None = None
    last_run_id: str | None = None  # none before the first run, or when an earlier release started it
    pending_causes: int = 0  # causes that wait for the active run to finish; they are listed separately
    created_at: datetime | None = None
    #: Of the last alias move; a later move is never recorded as earlier, whatever a clock shows.
    aliases_moved_at: datetime | None = None
    champion_since: datetime | None = None  # none without a champion, or when an earlier release moved the alias last
    deleted_at: datetime | None = None  # none while the model exists, also when it was recreated under its name
    begun_after: datetime | None = None  # anything older belongs to a deleted model of that name
    release_id: str | None = None  # of the active release
    #: ``version`` waits for the active release to end; the gate compared it with ``champion``. The newest one wins.
    pending_candidate: Mapping[str, int] | None = None
    first_schema_version: int = 1  # lower ones belong to such a model; numbers of versions and schemas are never reused

    @property
    def current_schema_version(self) -> int:
        """The schema that uploads must match; 0 before the first accepted dataset."""
        return self.schema_version if self.schema_version >= self.first_schema_version else 0

    @property
    def work(self) -> Work:
        """The work in progress."""
        return Work(self.active_run_id, self.pending_causes)

    # An entity that is not later than the last deletion belongs to a deleted model of that name. Timestamps decide it
    # alone, because a deletion is recorded as later than everything that it ends (:mod:`millrace.registry.deletion`),
    # and a cause that is not later than it is claimed no more (:mod:`millrace.registry.claims`).
    def deletion_of(self, since: datetime | None = None) -> datetime | None:
        """Return when the model was deleted that an entity of that timestamp belongs to; None for the present one."""
        if self.deleted_at is not None:
            return self.deleted_at
        is_older = since is not None and self.begun_after is not None and since <= self.begun_after
        return self.begun_after if is_older else None

    def deletion_of_cause(self, cause: Cause) -> datetime | None:
        """Return when the model was deleted that a cause belongs to; None when it may start a run.

        An upload recreates a deleted model, unless it came before the deletion.
        """
        deleted_at = self.deletion_of(cause.occurred_at)
        recreates = cause.kind == "upload" and deleted_at is not None and cause.occurred_at > deleted_at
        return None if recreates else deleted_at

    def ensure_not_deleted(self, since: datetime | None = None) -> None:
        """Raise ``ModelDeletedError`` when the model was deleted, or was since then and has been recreated."""
        if deleted_at := self.deletion_of(since):
            raise ModelDeletedError(f"the model {self.model!r} {describe_deletion(deleted_at)}")


def describe_deletion(deleted_at: datetime) -> str:
    """Return the predicate of a sentence about a deleted model."""
    return f"was deleted at {deleted_at:%Y-%m-%d %H:%M} UTC"


@dataclass(frozen=True, slots=True)
class KeyScope:
    """The models that an API key may use: their names, ``*`` for every model, nothing for a revoked key."""

    key_id: str
    models: tuple[str, ...]
    changed_at: datetime
    changed_by: str


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
class SpecRecord:
    """A model's spec with its revision and author."""

    model: str
    spec: ModelSpec
    revision: int = 0  # the number of changes; 0 for the default spec
    changed_at: datetime | None = None
    changed_by: str | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """One execution of the training pipeline."""

    model: str
    run_id: str
    cause_ids: tuple[str, ...]  # every cause that this run follows
    kind: str  # the kind of its first cause, or ``upload`` when it has sources
    requested_at: datetime
    sources: tuple[Source, ...] = ()  # uploads to validate
    status: RunStatus = "queued"
    stage: RunStage = "queued"
    validating: str | None = None  # the key of the upload that is being validated
    dataset_ids: tuple[str, ...] = ()
    started_at: datetime | None = None
    finished_at: datetime | None = None
    version: int | None = None
    reasons: tuple[str, ...] = ()
    summary: Mapping[str, Any] = field(default_factory=dict)  # for people: rows, reasons, winner, metric, version
    incident_ids: tuple[str, ...] = ()  # the incidents that requested it, of all its causes
    logged_model: LoggedModel | None = None  # evaluated instead of models that the run would train
    #: When each stage began at first; the training of a search begins with its first trial.
    stages: Mapping[str, datetime] = field(default_factory=dict)

    def begin(self, stage: RunStage, now: datetime) -> dict[str, Any]:
        """Return the changes of a run whose next stage begins."""
        return {"stage": stage, "stages": {stage: now, **self.stages}}


@dataclass(frozen=True, slots=True)
class Trial:
    """One candidate with one set of parameters, fitted in one run."""

    model: str
    run_id: str
    trial_id: str
    candidate: str
    parameters: Mapping[str, Any]
    seed: int
    #: ``skipped`` was never started, ``eliminated`` did not reach the last round; ``reason`` says why.
    status: TrialStatus = "planned"
    #: On the validation split, of the ONNX model; with folds, the mean over them. They rank the trials.
    metrics: Mapping[str, float] = field(default_factory=dict)
    artifacts: Mapping[str, str] = field(default_factory=dict)  # SHA-256 by artifact name
    duration_seconds: float | None = None  # of fitting and exporting
    reason: str = ""
    round: int = 1  # of successive halving
    rows: int | None = None  # training rows of this round; None takes all
    folds: int = 1  # cross-validation folds; 1 is the validation split alone
    calibrate: bool = False  # probabilities, where that pays; trials of earlier releases did not
    #: Results of the rounds before: ``round``, ``rows``, ``metrics``, ``duration_seconds``.
    earlier_rounds: tuple[Mapping[str, Any], ...] = ()
    peak_memory_mb: float | None = None  # largest resident memory of its worker
    started_at: datetime | None = None  # its last attempt
    #: The trials whose recipe it fits on training and validation rows, once they have won; empty for those of a search.
    refit_of: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A registered version."""

    model: str
    version: int
    semantic_version: str  # see :mod:`millrace.registry.versioning`
    run_id: str
    trial_id: str
    candidate: str
    task: str
    metrics: Mapping[str, float]
    dataset_ids: tuple[str, ...]
    schema_version: int
    manifest_sha256: str  # of ``manifest.json``, which holds every artifact's
    created_at: datetime
    status: VersionStatus = "registered"  # a retired one never serves again
    outcome: VersionOutcome = "pending"  # assigned once, when it is registered, or approved or rejected by a person
    retired_at: datetime | None = None
    collected_at: datetime | None = None  # the time its artifacts were deleted; its documents stay
    source: VersionSource = "training"  # ``mlflow``: a user logged the model, and Millrace evaluated it


@dataclass(frozen=True, slots=True)
class Release:
    """A release: the gradual move of requests from the champion to a candidate, or back."""

    model: str
    release_id: str  # sorts by time; the key of the hash that assigns requests
    baseline: int  # the champion that it began with
    candidate: int
    policy: Mapping[str, Any]  # the spec's ``release``, as it was at the beginning
    started_at: datetime
    started_by: str
    reason: str
    run_id: str | None = None  # the run that began it; none of a person's release
    status: ReleaseStatus = "running"
    stage: int = 0  # place in the policy's steps
    stage_since: datetime | None = None
    revision: int = 0  # grows with every change
    evidence: Mapping[str, Any] = field(default_factory=dict)  # see :mod:`millrace.releases.evidence`
    #: Points in time, oldest first, at most two hundred: ``at``, ``stage``, ``weight``, ``log_e`` by guard and the
    #: number of ``requests`` so far by arm.
    history: tuple[Mapping[str, Any], ...] = ()
    #: Of ``bandit``, shares of the candidates by arm, from 0 to 1; empty where they are those of the policy.
    shares: Mapping[str, float] = field(default_factory=dict)
    decision: str = ""  # the last one, a sentence
    decided_at: datetime | None = None
    ended_at: datetime | None = None

    def decide_at(self, now: datetime) -> datetime:
        """Return the timestamp of the next decision: now, but later than the last one, because clocks differ."""
        return now if self.decided_at is None else max(now, self.decided_at + timedelta.resolution)

    @property
    def is_active(self) -> bool:
        """True while requests are routed by it."""
        return self.status in ("running", "paused")

    @property
    def versions(self) -> tuple[int, ...]:
        """The versions that it needs: the champion that it began with, and every candidate."""
        return self.baseline, self.candidate, *self.spec.versions

    @property
    def spec(self) -> ReleaseSpec:
        """The policy."""
        return ReleaseSpec.model_validate(self.policy)

    @property
    def stage_kind(self) -> StageKind:
        """Kind of the present stage; ``bandit`` begins another of its last kind whenever shares change."""
        stages = self.spec.stages
        return stages[min(self.stage, len(stages) - 1)].kind

    @property
    def candidates(self) -> dict[str, int]:
        """Versions of the candidates by the name of their arm."""
        numbers = enumerate((self.candidate, *self.spec.versions), start=1)
        return {f"{CANDIDATE_ARM}_{place}" if place > 1 else CANDIDATE_ARM: version for place, version in numbers}

    @property
    def arm_shares(self) -> dict[str, float]:
        """Shares of the requests by arm in the present stage, from 0 to 1; the champion's is the rest."""
        stages = self.spec.stages
        together, candidates = stages[min(self.stage, len(stages) - 1)].weight, self.candidates
        shares = dict(self.shares) or dict.fromkeys(candidates, together / len(candidates))
        return {CHAMPION_ARM: 1.0 - sum(shares.values()), **shares}

    @property
    def weight(self) -> float:
        """Share of the requests that candidates are assigned, from 0 to 1; after a completed release, all."""
        if not self.is_active:
            return float(self.status == "completed")
        return sum(share for arm, share in self.arm_shares.items() if arm != CHAMPION_ARM)

    def plan(self) -> RoutingPlan:
        """Return the routing plan of the present stage; where traffic is replayed, nobody has to load a candidate."""
        shares = {} if self.stage_kind == "replay" else self.arm_shares
        versions = self.candidates
        arms = tuple(PlannedArm(versions[arm], share, arm) for arm, share in shares.items() if arm != CHAMPION_ARM)
        return RoutingPlan(self.release_id, self.stage, self.baseline, arms, self.spec.sticky_by)


@dataclass(frozen=True, slots=True)
class BatchRecord:
    """A batch job: the scoring of files by one version."""

    model: str
    job_id: str  # sorts by time; names its executions
    cause_id: str  # the same event or request always has the same one
    kind: BatchKind
    source: str  # key of a file in the data bucket; a folder ends with ``/``
    version: int  # pinned at the request: an alias that moves meanwhile changes nothing
    destination: str  # prefix of the predictions, with ``/`` at its end
    requested_at: datetime
    requested_by: str
    reason: str = ""
    alias: str | None = None  # by which the version was named
    source_version: str | None = None  # the object version of a file; None takes the newest at planning
    format: Literal["parquet", "csv"] = "parquet"
    join: bool = False  # the columns of the files are in the results too
    interval: float | None = None  # level of intervals or prediction sets
    explain: bool = False  # by how much each feature moves a prediction
    capture: Literal["none", "batch"] = "none"  # ``batch``: monitoring compares the rows with training
    max_refused_share: float = 0.1
    status: BatchStatus = "queued"
    attempt: int = 1  # grows when a job that ended is run again for what is missing
    started_at: datetime | None = None
    finished_at: datetime | None = None
    parts: int | None = None  # none before the files were read
    rows: int | None = None
    size: int | None = None  # bytes of the files
    reasons: tuple[str, ...] = ()  # why it failed, or was cancelled
    ended_by: str = ""
    summary: Mapping[str, Any] = field(default_factory=dict)  # counts, predictions and cost of a job that ended

    @property
    def is_finished(self) -> bool:
        """True when no execution works on it any more."""
        return self.status in FINISHED_BATCHES

    @property
    def execution(self) -> str:
        """The name of its execution: that of each attempt is its own."""
        return self.job_id if self.attempt == 1 else f"{self.job_id}-{self.attempt}"


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One entry of the append-only ledger: actor, action, time, reason and facts."""

    model: str
    entry_id: str  # unique within the model and the timestamp; the same act written twice has the same id
    occurred_at: datetime
    actor: str
    #: ``run_requested``, ``trigger_skipped``, ``training_skipped``, ``trigger_deferred``, ``dataset_rejected``,
    #: ``schema_changed``, ``spec_changed``, ``model_registered``, ``model_promoted``, ``model_rolled_back``,
    #: ``batch_requested``, ``batch_scored``, ``batch_failed``, ``batch_cancelled``, ``batch_refused``,
    #: ``alias_moved``, ``model_retired``, ``model_deleted``, ``run_failed``, ``incident_resolved`` ...
    action: str
    reason: str
    #: Facts. Of an alias move ``alias``, ``from_version``, ``to_version``; of a trigger ``cause_id`` and ``kind``, and
    #: of a skipped one also ``refusal`` and ``cause_reason``. ``incident_ids`` where incidents of monitoring led to it.
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AliasMove:
    """A move of an alias that was made; None is no version."""

    model: str
    alias: str
    occurred_at: datetime
    revision: int  # the model's, after the move
    actor: str
    action: str
    reason: str
    entry_id: str  # of the ledger entry that was written with it
    from_version: int | None = None
    to_version: int | None = None


@dataclass(frozen=True, slots=True)
class Approval:
    """A person's decision whether a version may serve, or the wait for it."""

    model: str
    run_id: str
    version: int
    requested_at: datetime
    expires_at: datetime
    task_token: str  # completes the waiting pipeline. A secret: whoever has it can decide
    status: ApprovalStatus = "pending"
    decided_by: str | None = None  # none and empty while it is pending
    decided_at: datetime | None = None
    reason: str = ""
