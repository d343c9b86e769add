"""The registry: models, specs, causes, runs, trials, datasets, versions, approvals and the ledger, over any store.

Every method is one atomic act. What is read decides which transaction is tried; the transaction's conditions check that
it still holds. One suite (``tests/integration/test_registry_behaviour.py``) runs over DynamoDB and over memory.
"""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any, NoReturn, TypeVar

import msgspec

from millrace.entities import (
    AliasMove,
    Approval,
    Cause,
    CauseRecord,
    DatasetRecord,
    KeyScope,
    LedgerEntry,
    ModelState,
    ModelVersion,
    Run,
    SpecRecord,
    Trial,
)
from millrace.errors import (
    AliasConflictError,
    ApprovalNotFoundError,
    CauseNotFoundError,
    ConflictError,
    DatasetNotFoundError,
    ModelDeletedError,
    ModelNotFoundError,
    NotFoundError,
    RunNotFoundError,
    UnfitVersionError,
    VersionNotFoundError,
)
from millrace.layout import MODELS_PARTITION, OUTBOX_PARTITION
from millrace.ports import (
    Absent,
    Check,
    Compare,
    Delete,
    EventPublisher,
    Exists,
    Key,
    Plus,
    Put,
    RegistryStore,
    StoreChange,
    Update,
)
from millrace.registry import claims
from millrace.registry.claims import MAX_FOLLOW_UP_CAUSES, Claim
from millrace.registry.items import (
    KEYS_PARTITION,
    ModelKeys,
    decode,
    encode,
    encode_value,
    make_due,
    outbox_key,
    read_spec,
    read_state,
    scope_key,
    sortable,
)
from millrace.registry.ledger import Append, ChainVerification, chain, to_event, verify_chain
from millrace.registry.migration import StoreOfTwoTables, list_waiting
from millrace.registry.transactions import RegistryTransaction, store_changes
from millrace.retry import retry
from millrace.spec import ModelSpec

EntityT = TypeVar("EntityT")
#: Actor of the entries on datasets and schemas, and their actions: what a note may say.
VALIDATION_ACTOR = "validate_dataset"
_NOTED = frozenset({"dataset_rejected", "schema_changed", "training_skipped"})
#: A burst of causes waits for its turn in the ledger of their model: about twenty seconds.
_CHAIN_ATTEMPTS = 24

_MISSING: Mapping[type, tuple[type[NotFoundError], str]] = {
    ModelState: (ModelNotFoundError, "there is no model called {!r}"),
    CauseRecord: (CauseNotFoundError, "no trigger of {!r} has the cause id {!r}"),
    Run: (RunNotFoundError, "the model {!r} has no run {!r}"),
    Trial: (RunNotFoundError, "{!r} has no run {!r} with a trial {!r}"),
    ModelVersion: (VersionNotFoundError, "the model {!r} has no version {}"),
    Approval: (ApprovalNotFoundError, "{!r} has no run {!r} that requested an approval"),
}


def _missing(entity_class: type, *names: str | int) -> NotFoundError:
    error, message = _MISSING[entity_class]
    return error(message.format(*names))


class Registry:
    """The registry of models, in a store of items."""

    def __init__(self, store: RegistryStore) -> None:
        self.store: RegistryStore = StoreOfTwoTables(store)

    # -- models ------------------------------------------------------------------------------------------------
    def list_models(self) -> list[ModelState]:
        """Return the state of every model that is not deleted, by name."""
        return [state for state in self.find_states(self.list_names()) if state.deleted_at is None]

    def list_names(self, after: str | None = None, limit: int | None = None) -> list[str]:
        """Return the names of models in their order, also of deleted ones, from the one after a name on."""
        begin = ModelKeys(after).index.sort if after else None
        return [item["model"] for item in self.store.query(MODELS_PARTITION, "MODEL#", after=begin, limit=limit)]

    def get_state(self, model: str) -> ModelState:
        """Return a model's state, also of a deleted one; raises ``ModelNotFoundError``."""
        state = self.find_state(model)
        if state is None:
            raise _missing(ModelState, model)
        return state

    def find_state(self, model: str) -> ModelState | None:
        """Return a model's state, also of a deleted one, or None."""
        keys = ModelKeys(model)
        item = self.store.get(keys.state)
        return read_state(item, self.store.get(keys.schema)) if item else None

    def find_states(self, models: Sequence[str]) -> list[ModelState]:
        """Return the states of those models that exist, also of deleted ones, by batch."""
        keys = [ModelKeys(model) for model in models]
        items = self.store.get_many([key for each in keys for key in (each.state, each.schema)])
        return [read_state(item, schema) for item, schema in zip(items[::2], items[1::2], strict=True) if item]

    def get_specs(self, models: Sequence[str]) -> dict[str, ModelSpec]:
        """Return the specs of models by name, by batch."""
        items = self.store.get_many([ModelKeys(model).spec for model in models])
        return {model: read_spec(model, item).spec for model, item in zip(models, items, strict=True)}

    def get_spec(self, model: str) -> ModelSpec:
        """Return a model's spec, by default the default one."""
        return self.get_spec_record(model).spec

    def get_spec_record(self, model: str) -> SpecRecord:
        """Return a model's spec with its revision; revision 0 is the default spec."""
        return read_spec(model, self.store.get(ModelKeys(model).spec))

    def put_spec(
        self, model: str, spec: ModelSpec, entry: LedgerEntry | None = None, expected_revision: int | None = None
    ) -> int:
        """Replace a model's spec, creating the model when it is new or was deleted; return the spec's revision.

        The entry names actor and time, and goes to the ledger in the same transaction. Raises ``ConflictError`` when
        the spec's revision is not the expected one (None: any).
        """

        def attempt() -> int | None:
            present = self.get_spec_record(model)
            if expected_revision not in (None, present.revision):
                raise ConflictError(f"the spec of {model!r} is at revision {present.revision}, not {expected_revision}")
            # A deletion in between changes the spec's revision, so that this fails and the state is read anew.
            changes = [_replace_spec(present, spec, entry), *self._create_model(model, entry), *_appended(entry)]
            if entry is not None:
                changes.append(make_due(model, entry.occurred_at, own_schedule=spec.monitoring.schedule is not None))
            return None if self._transact(changes) else present.revision + 1

        return retry(attempt, f"the spec of {model!r} keeps being changed by others; it was not replaced")

    def _create_model(self, model: str, entry: LedgerEntry | None) -> list[StoreChange]:
        keys = ModelKeys(model)
        state = self.find_state(model)
        if state is None:
            created = ModelState(model, created_at=entry.occurred_at if entry else None)
            # A mapping of its own, so that one alias can be moved without the others.
            item = {**encode(created), "aliases": {}}
            return [Put(keys.state, item), Put(keys.index, {"model": model}, replace=True)]
        if state.deleted_at is None:
            return []
        began = encode_value(entry.occurred_at if entry else state.deleted_at)
        return [Update(keys.state, {"created_at": began}, ("deleted_at",), (Exists("deleted_at"),))]

    def set_schema_version(self, model: str, schema_version: int) -> None:
        """Make ``schema_version`` the current one.

        Raises ``ConflictError`` unless it follows the present one, ``ModelDeletedError`` for a deleted model.
        """
        keys, state = ModelKeys(model), self.get_state(model)
        state.ensure_not_deleted()
        present = state.schema_version
        follows = Compare("schema_version", "=", schema_version - 1, or_absent=True)
        changes = (
            Check(keys.state, (Absent("deleted_at"),)),
            Update(keys.schema, {"schema_version": schema_version}, conditions=(follows,)),
        )
        if present != schema_version - 1 or self.store.transact(changes):
            self.get_state(model).ensure_not_deleted()
            raise ConflictError(f"schema version {schema_version} of {model!r} does not follow version {present}")

    # -- causes ------------------------------------------------------------------------------------------------
    def claim_cause(self, cause: Cause, run: Run, entry: LedgerEntry, covered_since: datetime | None = None) -> Claim:
        """Claim a cause exactly once, creating the model when it is new, or was deleted before this was uploaded.

        Either ``run`` starts, or the cause waits for the active run, or the active run covers it already.

        Raises ``ServiceUnavailableError`` when others kept being faster; nothing was recorded.

        Parameters
        ----------
        entry : LedgerEntry
            Written with the action that follows from the outcome.
        covered_since : datetime or None, default=None
            An active run that was requested since then covers the cause.
        """

        def attempt() -> Claim | None:
            known = self.find_cause(cause.model, cause.cause_id)
            if known is not None:
                return Claim("duplicate", known.run_id)
            state = self.find_state(cause.model)
            if state and state.deletion_of_cause(cause):
                return Claim("deleted", None)
            active_run_id = state.active_run_id if state else None
            if active_run_id is None:
                claim, changes = Claim("started", run.run_id), claims.start_run(cause, run, entry, state)
            elif self._was_requested_since(covered_since, cause.model, active_run_id):
                claim, changes = Claim("answered", active_run_id), claims.cover_cause(cause, active_run_id, entry)
            else:
                claim, changes = Claim("deferred", None), claims.defer_cause(cause, active_run_id, entry)
            return None if self._transact(changes) else claim

        return retry(attempt, f"too many triggers of {cause.model!r} at once; this one was not recorded")

    def _was_requested_since(self, since: datetime | None, model: str, run_id: str) -> bool:
        run = self.find_run(model, run_id) if since is not None else None
        # The run of a proposed model trains nothing.
        return run is not None and since is not None and run.requested_at >= since and run.logged_model is None

    def skip_cause(self, cause: Cause, entry: LedgerEntry) -> bool:
        """Record a cause that starts nothing, with the reason; False when it was seen before."""
        return not self._transact(claims.skip_cause(cause, entry))

    def skip_pending_cause(self, cause: Cause, entry: LedgerEntry) -> bool:
        """End the wait of a cause, which starts nothing, with the reason; False when it does not wait (any more)."""
        waiting = self._waiting(cause.model, None).get(cause.cause_id)
        return waiting is not None and not self._transact(claims.skip_pending_cause(cause, waiting, entry))

    def get_cause(self, model: str, cause_id: str) -> CauseRecord:
        """Return a cause and its outcome; raises ``CauseNotFoundError``."""
        return self._get(CauseRecord, ModelKeys(model).item("CAUSE", cause_id), model, cause_id)

    def find_cause(self, model: str, cause_id: str) -> CauseRecord | None:
        """Return a cause and its outcome, or None."""
        return self._find(CauseRecord, ModelKeys(model).item("CAUSE", cause_id))

    def list_pending_causes(self, model: str, limit: int = MAX_FOLLOW_UP_CAUSES) -> list[CauseRecord]:
        """Return the causes that wait for the active run to finish, oldest first."""
        return self.find_causes(model, list(self._waiting(model, limit)))

    def find_causes(self, model: str, cause_ids: Sequence[str]) -> list[CauseRecord]:
        """Return those causes that are known, by batch."""
        return self.find_many(CauseRecord, [ModelKeys(model).item("CAUSE", cause_id) for cause_id in cause_ids])

    def _waiting(self, model: str, limit: int | None) -> dict[str, Key]:
        """Return the key that marks a cause as waiting by cause id, oldest first."""
        return list_waiting(ModelKeys(model), self.store, limit)

    def release_run(self, model: str, run_id: str, follow_up: Run | None, entry: LedgerEntry | None) -> bool:
        """End ``run_id``'s turn as the active run.

        With ``follow_up`` (whose ``cause_ids`` are the oldest causes that are pending, at most
        :data:`MAX_FOLLOW_UP_CAUSES`) that run becomes the active one and those causes count as started by it, in the
        same transaction; the others go on waiting. Returns False, changing nothing, when ``run_id`` is not the active
        run (any more), or when what is pending changed since the follow-up was made (read the state and try again).
        """
        if follow_up is None:
            changes = claims.end_turn(model, run_id)
        else:
            waiting = self._waiting(model, MAX_FOLLOW_UP_CAUSES)
            if any(cause_id not in waiting for cause_id in follow_up.cause_ids):
                return False
            changes = claims.pass_turn(model, run_id, follow_up, waiting)
        return not self._transact([*changes, *_appended(entry)])

    def fail_run(self, run: Run, reasons: Sequence[str], returned: Sequence[str], entry: LedgerEntry) -> bool:
        """End a run as failed, and let those of its causes wait again, before it gives up its turn.

        Returns False, changing nothing, when it has ended, or a cause or its turn is not its own (any more).
        """
        return not self._transact(claims.fail_run(run, reasons, returned, entry))

    # -- runs and trials ---------------------------------------------------------------------------------------
    def get_run(self, model: str, run_id: str) -> Run:
        """Return a run; raises ``RunNotFoundError``."""
        return self._get(Run, ModelKeys(model).item("RUN", run_id), model, run_id)

    def find_run(self, model: str, run_id: str) -> Run | None:
        """Return a run, or None."""
        return self._find(Run, ModelKeys(model).item("RUN", run_id))

    def find_runs(self, runs: Iterable[tuple[str, str]]) -> list[Run]:
        """Return the runs of models and run ids that exist, by batch."""
        return self.find_many(Run, [ModelKeys(model).item("RUN", run_id) for model, run_id in runs])

    def list_runs(self, model: str, limit: int = 50, begun: str = "") -> list[Run]:
        """Return the newest runs first; those whose ids begin with ``begun``, such as ``202610`` for a month."""
        return self._list(Run, model, f"RUN#{begun}", newest_first=True, limit=limit)

    def update_run(self, model: str, run_id: str, **changes: Any) -> None:
        """Change fields of a run; raises ``RunNotFoundError``."""
        self._change(Run, ModelKeys(model).item("RUN", run_id), changes, model, run_id)

    def put_trials(self, trials: Sequence[Trial]) -> None:
        """Record planned trials; again is the same as once."""
        for trial in trials:
            self.store.write(Put(ModelKeys(trial.model).item("TRIAL", trial.run_id, trial.trial_id), encode(trial)))

    def get_trial(self, model: str, run_id: str, trial_id: str) -> Trial:
        """Return a trial; raises ``RunNotFoundError``."""
        return self._get(Trial, ModelKeys(model).item("TRIAL", run_id, trial_id), model, run_id, trial_id)

    def list_trials(self, model: str, run_id: str) -> list[Trial]:
        """Return a run's trials by id."""
        return self._list(Trial, model, f"TRIAL#{run_id}#")

    def update_trial(self, model: str, run_id: str, trial_id: str, **changes: Any) -> None:
        """Change fields of a trial; raises ``RunNotFoundError``."""
        self._change(Trial, ModelKeys(model).item("TRIAL", run_id, trial_id), changes, model, run_id, trial_id)

    # -- datasets ----------------------------------------------------------------------------------------------
    def put_dataset(self, dataset: DatasetRecord) -> bool:
        """Record an accepted dataset; False when its content was known already."""
        keys = ModelKeys(dataset.model)
        record = keys.item("DATASET", dataset.accepted_at, dataset.dataset_id)
        index = Put(keys.item("DATASETID", dataset.dataset_id), {"record": record.sort})
        return not self.store.transact([index, Put(record, encode(dataset))])

    def renew_dataset(self, model: str, dataset_id: str, uploaded_at: datetime) -> None:
        """Record that a dataset's content was uploaded again, unless it was later still.

        Raises ``DatasetNotFoundError`` when there is no such dataset.
        """
        keys = ModelKeys(model)
        known = self.store.get(keys.item("DATASETID", dataset_id))
        if known is None:
            raise DatasetNotFoundError(f"the model {model!r} has no dataset {dataset_id}")
        # Timestamps in UTC are texts in the order of time.
        renewed_at = uploaded_at.astimezone(UTC).isoformat()
        newer = Exists(), Compare("renewed_at", "<", renewed_at, or_absent=True)
        record = Key(keys.partition, known["record"], "runs")
        self.store.write(Update(record, {"renewed_at": renewed_at}, conditions=newer))

    def list_datasets(self, model: str) -> list[DatasetRecord]:
        """Return accepted datasets, oldest first."""
        return self._list(DatasetRecord, model, "DATASET#")

    def find_datasets(self, model: str, prefix: str, limit: int = 10) -> list[DatasetRecord]:
        """Return the datasets whose id starts with ``prefix``, by id."""
        keys = ModelKeys(model)
        known = list(self.store.query(keys.partition, f"DATASETID#{prefix}", limit=limit, table="runs"))
        return self.find_many(DatasetRecord, [Key(keys.partition, item["record"], "runs") for item in known])

    # -- versions ----------------------------------------------------------------------------------------------
    def next_version(self, model: str) -> int:
        """Take the next version number; no two callers get the same."""
        changed = self.store.write(Update(ModelKeys(model).state, {"latest_version": Plus("latest_version", 1)}))
        if changed is None:
            raise _missing(ModelState, model)
        return int(changed["latest_version"])

    def put_version(self, version: ModelVersion, entry: LedgerEntry) -> None:
        """Record a version and its ledger entry in one transaction.

        Raises ``ConflictError`` when it exists, ``ModelDeletedError`` for a deleted model.
        """
        keys = ModelKeys(version.model)
        put = Put(keys.item("VERSION", version.version), encode(version))
        failed = self._transact([put, Check(keys.state, (Absent("deleted_at"),)), Append(entry)])
        if 1 in failed:
            raise ModelDeletedError(f"the model {version.model!r} was deleted")
        if failed:
            raise ConflictError(f"version {version.version} of {version.model!r} exists already")

    def get_version(self, model: str, version: int) -> ModelVersion:
        """Return a version; raises ``VersionNotFoundError``."""
        return self._get(ModelVersion, ModelKeys(model).item("VERSION", version), model, version)

    def list_versions(self, model: str) -> list[ModelVersion]:
        """Return versions, newest first."""
        return self._list(ModelVersion, model, "VERSION#", newest_first=True)

    def find_versions(self, model: str, numbers: Sequence[int]) -> list[ModelVersion]:
        """Return those versions that exist, by batch."""
        return self.find_many(ModelVersion, [ModelKeys(model).item("VERSION", number) for number in numbers])

    def mark_collected(self, model: str, version: int, now: datetime) -> None:
        """Record that a retired version's artifacts were deleted; raises ``VersionNotFoundError``."""
        self._change(ModelVersion, ModelKeys(model).item("VERSION", version), {"collected_at": now}, model, version)

    def commit(self, transaction: RegistryTransaction) -> None:
        """Make all changes of a transaction and write its ledger entry, or change nothing.

        Raises
        ------
        AliasConflictError
            When the model's revision is not the expected one (any more).
        UnfitVersionError
            When a version that an alias should point to is retired, or the one to retire is already.
        ConflictError
            When the outcome is assigned or the approval decided already, the entry was written before, or the work in
            progress is not what a deletion was decided on.
        VersionNotFoundError, ModelNotFoundError
            When there is no such version or model.
        ModelDeletedError
            When the model was deleted, and the transaction would let a version serve or delete it again.
        """
        schema_version = self.get_state(transaction.entry.model).schema_version if transaction.deletion else 0
        if self._transact(list(store_changes(transaction, schema_version))):
            self._raise_conflict(transaction)

    def _raise_conflict(self, transaction: RegistryTransaction) -> NoReturn:
        """Raise the error that names the conflict; read anew, because failed conditions name no values."""
        model, deletion = transaction.entry.model, transaction.deletion
        state = self.get_state(model)
        if transaction.needs_model:
            state.ensure_not_deleted()
        transaction.ensure_release(state)
        for number, outcome in transaction.expected_outcomes.items():
            version = self.get_version(model, number)
            if version.status == "retired":
                raise UnfitVersionError(f"version {number} of {model!r} is retired")
            if outcome is not None and version.outcome != outcome:
                raise ConflictError(f"the outcome of version {number} of {model!r} is already {version.outcome}")
        if state.revision != transaction.expected_revision:
            raise AliasConflictError(f"the aliases of {model!r} moved since revision {transaction.expected_revision}")
        if deletion and deletion.work and deletion.work != state.work:
            raise ConflictError(f"the active run of {model!r} or the causes that wait have changed")
        raise ConflictError(f"{transaction.entry.action} of {model!r} was recorded or decided already")

    def alias_move_at(self, model: str, alias: str, timestamp: datetime) -> AliasMove | None:
        """Return the last move of an alias up to ``timestamp``: what it pointed to then. One query."""
        prefix = f"ALIAS#{alias}#"
        moves = self._list(AliasMove, model, prefix, up_to=prefix + sortable(timestamp), newest_first=True, limit=1)
        return moves[0] if moves else None

    def list_alias_moves(self, model: str, alias: str, limit: int = 100) -> list[AliasMove]:
        """Return the newest moves of an alias first."""
        return self._list(AliasMove, model, f"ALIAS#{alias}#", newest_first=True, limit=limit)

    # -- approvals ---------------------------------------------------------------------------------------------
    def put_approval(self, approval: Approval, entry: LedgerEntry) -> Approval:
        """Record a pending approval, with its ledger entry, and return it as it is now.

        Requested again while it is pending, only the token changes; once it is decided, nothing does.
        """
        key = ModelKeys(approval.model).item("APPROVAL", approval.run_id)
        if self._transact([Put(key, encode(approval)), Append(entry)]):
            pending = (Compare("status", "=", "pending"),)
            self.store.write(Update(key, {"task_token": approval.task_token}, conditions=pending))
        return self.get_approval(approval.model, approval.run_id)

    def get_approval(self, model: str, run_id: str) -> Approval:
        """Return a run's approval; raises ``ApprovalNotFoundError``."""
        return self._get(Approval, ModelKeys(model).item("APPROVAL", run_id), model, run_id)

    # -- API keys ----------------------------------------------------------------------------------------------
    def put_key_scope(self, scope: KeyScope, entry: LedgerEntry) -> None:
        """Write the scope of an API key together with its ledger entry; the same entry twice is one."""
        self._transact([Put(scope_key(scope.key_id), encode(scope), replace=True), Append(entry)])

    def find_key_models(self, key_id: str) -> tuple[str, ...] | None:
        """Return the models that an API key may use; None for a key without a scope."""
        scope = self._find(KeyScope, scope_key(key_id))
        return scope.models if scope else None

    def list_key_scopes(self) -> list[KeyScope]:
        """Return the scope of every API key that has one, by the key's id."""
        return [decode(KeyScope, item) for item in self.store.query(KEYS_PARTITION, "KEY#")]

    # -- ledger and outbox -------------------------------------------------------------------------------------
    def append_ledger(self, entry: LedgerEntry, changes: Sequence[StoreChange] = ()) -> list[int]:
        """Write an entry, with ``changes`` or not at all; return the positions of failed conditions. Twice is once."""
        return self._transact([*changes, Append(entry)])

    def list_ledger(self, model: str, limit: int = 100) -> list[LedgerEntry]:
        """Return the newest entries first."""
        return self._list(LedgerEntry, model, "LEDGER#", newest_first=True, limit=limit)

    def verify_ledger(self, model: str) -> ChainVerification:
        """Verify that no entry of a model's ledger was changed, removed or added since it was written."""
        keys = ModelKeys(model)
        return verify_chain(model, self.store.query(keys.partition, "LEDGER#"), self.store.get(keys.chain))

    def list_unpublished(self, limit: int = 100) -> list[LedgerEntry]:
        """Return the entries of the outbox, of any model, oldest first.

        Every entry whose action is one of :data:`millrace.registry.ledger.EVENT_NAMES` is in it from the time it is
        written until it is published.
        """
        return [decode(LedgerEntry, item) for item in self.store.query(OUTBOX_PARTITION, limit=limit)]

    def publish_waiting(self, publisher: EventPublisher) -> int:
        """Publish the outbox as events, at least once; return the number of entries.

        Raises ``ServiceUnavailableError`` when the bus or the registry is busy; entries that were not published stay in
        the outbox.
        """
        waiting = self.list_unpublished()
        publisher.publish([to_event(entry) for entry in waiting])
        for entry in waiting:
            self.mark_published(entry)
        return len(waiting)

    def mark_published(self, entry: LedgerEntry) -> None:
        """Take an entry out of the outbox; again is the same as once."""
        self.store.write(Delete(outbox_key(entry.model, entry.occurred_at, entry.entry_id)))

    def note(self, entry: LedgerEntry) -> None:
        """Leave an entry for the ledger, from a function that may not write there; again is the same as once.

        Raises ``ValueError`` for an entry that :meth:`file_notes` would drop.
        """
        if (entry.actor, entry.action in _NOTED) != (VALIDATION_ACTOR, True):
            raise ValueError(f"no note says {entry.action!r} by {entry.actor!r}")
        self.store.write(Put(ModelKeys(entry.model).item("NOTE", entry.occurred_at, entry.entry_id), encode(entry)))

    def file_notes(self, model: str) -> None:
        """File a model's notes in its ledger; those that no validation writes are dropped."""
        keys = ModelKeys(model)
        for item in self.store.query(keys.partition, "NOTE#", table="runs"):
            with contextlib.suppress(msgspec.ValidationError, ValueError):
                entry = decode(LedgerEntry, item)
                if (entry.model, entry.actor) == (model, VALIDATION_ACTOR) and entry.action in _NOTED:
                    self.append_ledger(entry)
            self.store.write(Delete(Key(keys.partition, item["sk"], "runs")))

    # -- changes and items -------------------------------------------------------------------------------------
    def _transact(self, changes: Sequence[StoreChange | Append]) -> list[int]:
        """Make all changes or none, as the store does; entries of a ledger come after the last of its chain."""
        entries = [change.entry for change in changes if isinstance(change, Append)]
        plain = [change for change in changes if not isinstance(change, Append)]
        if not entries:
            return self.store.transact(plain)
        model = entries[0].model

        def attempt() -> list[int] | None:
            failed = self.store.transact([*plain, *chain(entries, self.store.get(ModelKeys(model).chain))])
            # Only the head: another entry was faster.
            return None if failed == [len(plain)] else failed

        return retry(attempt, f"too many entries for the ledger of {model!r} at once", attempts=_CHAIN_ATTEMPTS)

    def find_many(self, entity_class: type[EntityT], keys: Sequence[Key]) -> list[EntityT]:
        """Return the entities of those keys that exist, by batch."""
        return [decode(entity_class, item) for item in self.store.get_many(keys) if item is not None]

    def _find(self, entity_class: type[EntityT], key: Key) -> EntityT | None:
        item = self.store.get(key)
        return None if item is None else decode(entity_class, item)

    def _get(self, entity_class: type[EntityT], key: Key, *names: str | int) -> EntityT:
        entity = self._find(entity_class, key)
        if entity is None:
            raise _missing(entity_class, *names)
        return entity

    def list_page(
        self, entity_class: type[EntityT], model: str, prefix: str, **order: Any
    ) -> tuple[list[EntityT], list[str]]:
        """Return entities, and for each the token with which a page begins after it; ``order`` is the query's."""
        keys = ModelKeys(model)
        if after := order.pop("after", None):
            order["after"] = prefix + after
        items = list(self.store.query(keys.partition, prefix, table=keys.item(prefix.partition("#")[0]).table, **order))
        return [decode(entity_class, item) for item in items], [item["sk"].removeprefix(prefix) for item in items]

    def _list(self, entity_class: type[EntityT], model: str, prefix: str, **order: Any) -> list[EntityT]:
        return self.list_page(entity_class, model, prefix, **order)[0]

    def _change(self, entity_class: type[Any], key: Key, changes: dict[str, Any], *names: str | int) -> None:
        """Set fields of an entity; None removes one."""
        unknown = set(changes) - {field.name for field in fields(entity_class)}
        if unknown:
            raise TypeError(f"{entity_class.__name__} has no field {', '.join(sorted(unknown))}")
        values = {name: encode_value(value) for name, value in changes.items() if value is not None}
        removed = tuple(name for name, value in changes.items() if value is None)
        if self.store.write(Update(key, values, removed)) is None:
            raise _missing(entity_class, *names)


def _appended(entry: LedgerEntry | None) -> list[Append]:
    return [Append(entry)] if entry else []


def _replace_spec(present: SpecRecord, spec: ModelSpec, entry: LedgerEntry | None) -> Update:
    """Write the next revision, if the present one is still the last."""
    values: dict[Any, Any] = {"document": spec.model_dump_json(), "revision": present.revision + 1}
    if entry is not None:
        values |= {"changed_at": encode_value(entry.occurred_at), "changed_by": entry.actor}
    unchanged = Compare("revision", "=", present.revision) if present.revision else Absent()
    return Update(ModelKeys(present.model).spec, values, conditions=(unchanged,))
