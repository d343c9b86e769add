"""Everything that is remembered about models.

One behaviour suite (``tests/integration/test_registry_behaviour.py``) is run over both registries.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

from millrace.entities import (
    Act,
    AliasMove,
    Approval,
    Cause,
    CauseRecord,
    DatasetRecord,
    LedgerEntry,
    ModelState,
    ModelVersion,
    Run,
    Trial,
)
from millrace.spec import ModelSpec

#: Causes that one follow-up run answers. A DynamoDB transaction holds 100 actions and each cause takes two.
MAX_FOLLOW_UP_CAUSES = 40


@dataclass(frozen=True, slots=True)
class SpecRecord:
    """A model's spec, and who said so.

    Parameters
    ----------
    revision : int
        How often it was changed; 0 for the default spec, which nobody gave.
    """

    model: str
    spec: ModelSpec
    revision: int = 0
    changed_at: datetime | None = None
    changed_by: str | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """What became of a cause that was claimed.

    ``started``: this call made the run. ``duplicate``: the cause was claimed before (``run_id`` says for which
    run, if it started one). ``deferred``: a run is active; the cause waits for it. ``answered``: a run is active
    that answers it already. ``deleted``: the cause belongs to a model that was deleted, see
    :mod:`millrace.registry.lifecycle`; nothing was recorded.
    """

    outcome: Literal["started", "duplicate", "deferred", "answered", "deleted"]
    run_id: str | None


class Registry(Protocol):
    """Everything that is remembered about models. Every method is one atomic act."""

    # -- models ------------------------------------------------------------------------------------------------
    def list_models(self) -> list[ModelState]:
        """Return the state of every model that is not deleted, by name."""
        ...

    def get_state(self, model: str) -> ModelState:
        """Return a model's state, also of one that was deleted; raises ``ModelNotFoundError``."""
        ...

    def get_spec(self, model: str) -> ModelSpec:
        """Return a model's spec, or the default one when none was given."""
        ...

    def get_spec_record(self, model: str) -> SpecRecord:
        """Return a model's spec with its revision; revision 0 when none was given."""
        ...

    def put_spec(
        self, model: str, spec: ModelSpec, entry: LedgerEntry | None = None, expected_revision: int | None = None
    ) -> int:
        """Replace a model's spec, creating the model when it is new or was deleted; return the spec's revision.

        ``entry`` says who and when, and goes to the ledger in the same transaction.

        Raises
        ------
        ConflictError
            When the spec's revision is not ``expected_revision`` (any more); None takes any.
        """
        ...

    def set_schema_version(self, model: str, schema_version: int) -> None:
        """Make ``schema_version`` the current one.

        Raises
        ------
        ConflictError
            Unless it follows the present one.
        ModelDeletedError
            When the model was deleted.
        """
        ...

    # -- causes and runs ---------------------------------------------------------------------------------------
    def claim_cause(self, cause: Cause, run: Run, entry: LedgerEntry, answered_since: datetime | None = None) -> Claim:
        """Claim a cause exactly once, creating the model when it is new, or was deleted before this was uploaded.

        In one transaction: the cause is recorded; and either ``run`` is recorded and made the model's active
        run, or, while another run is active, the cause is added to those pending. But when the active run was asked
        for at ``answered_since`` or later, it answers the cause, which is recorded as skipped. ``entry`` goes to the
        ledger with action ``run_requested``, ``trigger_deferred`` or ``trigger_skipped``. A cause seen before changes
        nothing.
        """
        ...

    def skip_cause(self, cause: Cause, entry: LedgerEntry) -> bool:
        """Record a cause that starts nothing, with the reason; False when it was seen before."""
        ...

    def skip_pending_cause(self, cause: Cause, entry: LedgerEntry) -> bool:
        """Let a cause wait no longer, and start nothing, with the reason; False when it does not wait (any more)."""
        ...

    def get_cause(self, model: str, cause_id: str) -> CauseRecord:
        """Return a cause and what became of it; raises ``CauseNotFoundError``."""
        ...

    def list_pending_causes(self, model: str, limit: int = MAX_FOLLOW_UP_CAUSES) -> list[CauseRecord]:
        """Return the causes that wait for the active run to finish, oldest first."""
        ...

    def release_run(self, model: str, run_id: str, follow_up: Run | None, entry: LedgerEntry | None) -> bool:
        """End ``run_id``'s turn as the active run.

        With ``follow_up`` (whose ``cause_ids`` are the oldest causes that are pending now, at most
        :data:`MAX_FOLLOW_UP_CAUSES`) that run becomes the active one and those causes count as started by it, in
        the same transaction; the others go on waiting. Returns False, changing nothing, when
        ``run_id`` is not the active run (any more), or when what is pending changed since the follow-up was made
        (then read the state and try again).
        """
        ...

    def get_run(self, model: str, run_id: str) -> Run:
        """Return a run; raises ``RunNotFoundError``."""
        ...

    def list_runs(self, model: str, limit: int = 50) -> list[Run]:
        """Return the newest runs first."""
        ...

    def update_run(self, model: str, run_id: str, **changes: Any) -> None:
        """Change fields of a run; raises ``RunNotFoundError``."""
        ...

    # -- trials ------------------------------------------------------------------------------------------------
    def put_trials(self, trials: Sequence[Trial]) -> None:
        """Record planned trials; again is the same as once."""
        ...

    def get_trial(self, model: str, run_id: str, trial_id: str) -> Trial:
        """Return a trial; raises ``RunNotFoundError``."""
        ...

    def list_trials(self, model: str, run_id: str) -> list[Trial]:
        """Return a run's trials by id."""
        ...

    def update_trial(self, model: str, run_id: str, trial_id: str, **changes: Any) -> None:
        """Change fields of a trial; raises ``RunNotFoundError``."""
        ...

    # -- datasets ----------------------------------------------------------------------------------------------
    def put_dataset(self, dataset: DatasetRecord) -> bool:
        """Record an accepted dataset; False when its content was known already."""
        ...

    def renew_dataset(self, model: str, dataset_id: str, uploaded_at: datetime) -> None:
        """Record that a dataset's content was uploaded again; an earlier moment than the one known changes nothing.

        Raises
        ------
        DatasetNotFoundError
            When there is no such dataset.
        """
        ...

    def list_datasets(self, model: str) -> list[DatasetRecord]:
        """Return accepted datasets, oldest first."""
        ...

    def find_datasets(self, model: str, prefix: str, limit: int = 10) -> list[DatasetRecord]:
        """Return the datasets whose id starts with ``prefix``, by id."""
        ...

    # -- versions ----------------------------------------------------------------------------------------------
    def next_version(self, model: str) -> int:
        """Take the next version number; no two callers get the same."""
        ...

    def put_version(self, version: ModelVersion, entry: LedgerEntry) -> None:
        """Record a version and its ledger entry in one transaction.

        Raises
        ------
        ConflictError
            When it exists.
        ModelDeletedError
            When the model was deleted.
        """
        ...

    def get_version(self, model: str, version: int) -> ModelVersion:
        """Return a version; raises ``VersionNotFoundError``."""
        ...

    def list_versions(self, model: str) -> list[ModelVersion]:
        """Return versions, newest first."""
        ...

    def perform(self, act: Act) -> None:
        """Do an act: move aliases, settle, retire, answer, delete, and write the ledger entry, in one transaction.

        Raises
        ------
        AliasConflictError
            When the model's revision is not the expected one (any more).
        UnfitVersionError
            When a version that an alias should point to is retired, or the one to retire is already.
        ConflictError
            When the version is settled or the approval answered already, the entry was written before, or what is under
            way is not what a deletion was decided on.
        VersionNotFoundError, ModelNotFoundError
            When there is no such version or model.
        ModelDeletedError
            When the model was deleted, and the act would let a version serve or delete it again.
        """
        ...

    def mark_collected(self, model: str, version: int, now: datetime) -> None:
        """Note that a retired version's artifacts were deleted; raises ``VersionNotFoundError``."""
        ...

    def alias_move_at(self, model: str, alias: str, moment: datetime) -> AliasMove | None:
        """Return the last move of an alias up to ``moment``: what it pointed to then. One query."""
        ...

    def list_alias_moves(self, model: str, alias: str, limit: int = 100) -> list[AliasMove]:
        """Return the newest moves of an alias first."""
        ...

    # -- approvals ---------------------------------------------------------------------------------------------
    def put_approval(self, approval: Approval, entry: LedgerEntry) -> Approval:
        """Record that an approval is waited for, with its ledger entry, and return it as it stands then.

        Asked for again while it is pending, only the token changes; once it is answered, nothing does.
        """
        ...

    def get_approval(self, model: str, run_id: str) -> Approval:
        """Return a run's approval; raises ``ApprovalNotFoundError``."""
        ...

    # -- ledger ------------------------------------------------------------------------------------------------
    def append_ledger(self, entry: LedgerEntry) -> None:
        """Write a ledger entry; the same entry twice is one."""
        ...

    def list_ledger(self, model: str, limit: int = 100) -> list[LedgerEntry]:
        """Return the newest entries first."""
        ...

    # -- outbox ------------------------------------------------------------------------------------------------
    def list_unpublished(self, limit: int = 100) -> list[LedgerEntry]:
        """Return entries, of any model, that listeners were not told of yet, oldest first.

        Every entry whose action is one of :data:`millrace.registry.ledger.EVENT_NAMES` is among them from the
        moment it is written.
        """
        ...

    def mark_published(self, entry: LedgerEntry) -> None:
        """Note that listeners were told of an entry; again is the same as once."""
        ...
