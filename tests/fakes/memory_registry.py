"""A registry in memory, held to the same behaviour as the one on DynamoDB by one suite of tests."""

import threading
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar

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
from millrace.errors import (
    AliasConflictError,
    ApprovalNotFoundError,
    CauseNotFoundError,
    ConflictError,
    DatasetNotFoundError,
    ModelNotFoundError,
    RunNotFoundError,
    UnfitVersionError,
    VersionNotFoundError,
)
from millrace.ports import MAX_FOLLOW_UP_CAUSES, Claim, SpecRecord
from millrace.registry import ledger
from millrace.registry.lifecycle import end_of_cause, insist_on_living
from millrace.spec import ModelSpec

EntityT = TypeVar("EntityT", Run, Trial)


class MemoryRegistry:
    """Implements :class:`millrace.ports.Registry`; every method is atomic under threads."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._states: dict[str, ModelState] = {}
        self._specs: dict[str, SpecRecord] = {}
        self._causes: dict[tuple[str, str], CauseRecord] = {}
        self._pending_since: dict[tuple[str, str], datetime] = {}
        self._runs: dict[tuple[str, str], Run] = {}
        self._trials: dict[tuple[str, str, str], Trial] = {}
        self._datasets: dict[tuple[str, str], DatasetRecord] = {}
        self._versions: dict[tuple[str, int], ModelVersion] = {}
        self._moves: dict[tuple[str, str, datetime], AliasMove] = {}
        self._approvals: dict[tuple[str, str], Approval] = {}
        self._outbox: set[tuple[str, datetime, str]] = set()
        self._ledger: dict[tuple[str, datetime, str], LedgerEntry] = {}

    def list_models(self) -> list[ModelState]:
        with self._lock:
            return [state for _, state in sorted(self._states.items()) if state.deleted_at is None]

    def get_state(self, model: str) -> ModelState:
        with self._lock:
            if model not in self._states:
                raise ModelNotFoundError(f"there is no model called {model!r}")
            return self._states[model]

    def get_spec(self, model: str) -> ModelSpec:
        with self._lock:
            return self.get_spec_record(model).spec

    def get_spec_record(self, model: str) -> SpecRecord:
        with self._lock:
            return self._specs.get(model, SpecRecord(model, ModelSpec()))

    def put_spec(
        self, model: str, spec: ModelSpec, entry: LedgerEntry | None = None, expected_revision: int | None = None
    ) -> int:
        with self._lock:
            present = self.get_spec_record(model)
            if expected_revision not in (None, present.revision):
                raise ConflictError(f"the spec of {model!r} is at revision {present.revision}, not {expected_revision}")
            changed_at, actor = (entry.occurred_at, entry.actor) if entry else (present.changed_at, present.changed_by)
            self._specs[model] = SpecRecord(model, spec, present.revision + 1, changed_at, actor)
            began = entry.occurred_at if entry else None
            state = self._states.setdefault(model, ModelState(model, created_at=began))
            if state.deleted_at is not None:
                self._states[model] = replace(state, created_at=began or state.deleted_at, deleted_at=None)
            if entry:
                self.append_ledger(entry)
            return present.revision + 1

    def set_schema_version(self, model: str, schema_version: int) -> None:
        with self._lock:
            state = self.get_state(model)
            insist_on_living(state)
            if schema_version != state.schema_version + 1:
                raise ConflictError(f"schema version {schema_version} of {model!r} does not follow the present one")
            self._states[model] = replace(state, schema_version=schema_version)

    def claim_cause(self, cause: Cause, run: Run, entry: LedgerEntry, answered_since: datetime | None = None) -> Claim:
        with self._lock:
            key = (cause.model, cause.cause_id)
            if key in self._causes:
                return Claim("duplicate", self._causes[key].run_id)
            state = self._states.get(cause.model, ModelState(cause.model, created_at=entry.occurred_at))
            if end_of_cause(cause, state):
                return Claim("deleted", None)
            if state.active_run_id is None:
                if state.deleted_at is not None:
                    state = replace(state, created_at=entry.occurred_at, deleted_at=None)
                self._causes[key] = CauseRecord(cause, "started", run.run_id, cause.reason)
                self._runs[run.model, run.run_id] = run
                self._states[cause.model] = replace(state, active_run_id=run.run_id)
                self.append_ledger(ledger.run_requested(entry, run.run_id))
                return Claim("started", run.run_id)
            active = self._runs[cause.model, state.active_run_id]
            if answered_since is not None and active.requested_at >= answered_since:
                answered = ledger.trigger_answered(entry, active.run_id)
                self._causes[key] = CauseRecord(cause, "skipped", active.run_id, answered.reason)
                self.append_ledger(answered)
                return Claim("answered", active.run_id)
            self._causes[key] = CauseRecord(cause, "pending", None, cause.reason)
            self._pending_since[key] = entry.occurred_at
            self._states[cause.model] = replace(state, pending_causes=state.pending_causes + 1)
            self.append_ledger(ledger.trigger_deferred(entry, state.active_run_id))
            return Claim("deferred", None)

    def skip_cause(self, cause: Cause, entry: LedgerEntry) -> bool:
        with self._lock:
            key = (cause.model, cause.cause_id)
            if key in self._causes:
                return False
            self._causes[key] = CauseRecord(cause, "skipped", None, entry.reason)
            self.append_ledger(entry)
            return True

    def skip_pending_cause(self, cause: Cause, entry: LedgerEntry) -> bool:
        with self._lock:
            key = (cause.model, cause.cause_id)
            if key not in self._pending_since:
                return False
            del self._pending_since[key]
            self._causes[key] = replace(self._causes[key], status="skipped", reason=entry.reason)
            state = self._states[cause.model]
            self._states[cause.model] = replace(state, pending_causes=state.pending_causes - 1)
            self.append_ledger(entry)
            return True

    def get_cause(self, model: str, cause_id: str) -> CauseRecord:
        with self._lock:
            if (model, cause_id) not in self._causes:
                raise CauseNotFoundError(f"no trigger of {model!r} has the cause id {cause_id!r}")
            return self._causes[model, cause_id]

    def list_pending_causes(self, model: str, limit: int = MAX_FOLLOW_UP_CAUSES) -> list[CauseRecord]:
        with self._lock:
            waiting = sorted(
                (since, cause_id) for (owner, cause_id), since in self._pending_since.items() if owner == model
            )
            return [self._causes[model, cause_id] for _, cause_id in waiting[:limit]]

    def release_run(self, model: str, run_id: str, follow_up: Run | None, entry: LedgerEntry | None) -> bool:
        with self._lock:
            state = self._states.get(model)
            if state is None or state.active_run_id != run_id:
                return False
            taken = follow_up.cause_ids if follow_up else ()
            if any((model, cause_id) not in self._pending_since for cause_id in taken):
                return False
            if follow_up is None and state.pending_causes:
                return False
            for cause_id in taken:
                del self._pending_since[model, cause_id]
                record = self._causes[model, cause_id]
                self._causes[model, cause_id] = replace(
                    record, status="started", run_id=follow_up.run_id if follow_up else None
                )
            if follow_up:
                self._runs[model, follow_up.run_id] = follow_up
            self._states[model] = replace(
                state,
                active_run_id=follow_up.run_id if follow_up else None,
                pending_causes=state.pending_causes - len(taken),
            )
            if entry:
                self.append_ledger(entry)
            return True

    def get_run(self, model: str, run_id: str) -> Run:
        with self._lock:
            if (model, run_id) not in self._runs:
                raise RunNotFoundError(f"the model {model!r} has no run {run_id!r}")
            return self._runs[model, run_id]

    def list_runs(self, model: str, limit: int = 50) -> list[Run]:
        with self._lock:
            run_ids = sorted((run_id for owner, run_id in self._runs if owner == model), reverse=True)
            return [self._runs[model, run_id] for run_id in run_ids[:limit]]

    def update_run(self, model: str, run_id: str, **changes: Any) -> None:
        with self._lock:
            self._runs[model, run_id] = _changed(self.get_run(model, run_id), changes)

    def put_trials(self, trials: Sequence[Trial]) -> None:
        with self._lock:
            for trial in trials:
                self._trials.setdefault((trial.model, trial.run_id, trial.trial_id), trial)

    def get_trial(self, model: str, run_id: str, trial_id: str) -> Trial:
        with self._lock:
            if (model, run_id, trial_id) not in self._trials:
                raise RunNotFoundError(f"run {run_id!r} of {model!r} has no trial {trial_id!r}")
            return self._trials[model, run_id, trial_id]

    def list_trials(self, model: str, run_id: str) -> list[Trial]:
        with self._lock:
            keys = sorted(key for key in self._trials if key[:2] == (model, run_id))
            return [self._trials[key] for key in keys]

    def update_trial(self, model: str, run_id: str, trial_id: str, **changes: Any) -> None:
        with self._lock:
            self._trials[model, run_id, trial_id] = _changed(self.get_trial(model, run_id, trial_id), changes)

    def put_dataset(self, dataset: DatasetRecord) -> bool:
        with self._lock:
            return self._datasets.setdefault((dataset.model, dataset.dataset_id), dataset) is dataset

    def renew_dataset(self, model: str, dataset_id: str, uploaded_at: datetime) -> None:
        with self._lock:
            if (model, dataset_id) not in self._datasets:
                raise DatasetNotFoundError(f"the model {model!r} has no dataset {dataset_id}")
            record = self._datasets[model, dataset_id]
            if record.renewed_at is None or record.renewed_at < uploaded_at:
                self._datasets[model, dataset_id] = replace(record, renewed_at=uploaded_at)

    def list_datasets(self, model: str) -> list[DatasetRecord]:
        with self._lock:
            datasets = [dataset for (owner, _), dataset in self._datasets.items() if owner == model]
            return sorted(datasets, key=lambda dataset: (dataset.accepted_at, dataset.dataset_id))

    def find_datasets(self, model: str, prefix: str, limit: int = 10) -> list[DatasetRecord]:
        with self._lock:
            keys = sorted(key for key in self._datasets if key[0] == model and key[1].startswith(prefix))
            return [self._datasets[key] for key in keys[:limit]]

    def next_version(self, model: str) -> int:
        with self._lock:
            state = self.get_state(model)
            self._states[model] = replace(state, latest_version=state.latest_version + 1)
            return state.latest_version + 1

    def put_version(self, version: ModelVersion, entry: LedgerEntry) -> None:
        with self._lock:
            key = (version.model, version.version)
            if version.model in self._states:
                insist_on_living(self._states[version.model])
            if key in self._versions:
                raise ConflictError(f"version {version.version} of {version.model!r} exists already")
            self._versions[key] = version
            self.append_ledger(entry)

    def get_version(self, model: str, version: int) -> ModelVersion:
        with self._lock:
            if (model, version) not in self._versions:
                raise VersionNotFoundError(f"the model {model!r} has no version {version}")
            return self._versions[model, version]

    def list_versions(self, model: str) -> list[ModelVersion]:
        with self._lock:
            numbers = sorted((number for owner, number in self._versions if owner == model), reverse=True)
            return [self._versions[model, number] for number in numbers]

    def perform(self, act: Act) -> None:
        with self._lock:
            entry, model = act.entry, act.entry.model
            state = self.get_state(model)
            self._insist_on(act, state)
            for move in act.moves:
                self._moves[model, move.alias, entry.occurred_at] = AliasMove(
                    model=model,
                    alias=move.alias,
                    occurred_at=entry.occurred_at,
                    revision=state.revision + 1,
                    actor=entry.actor,
                    action=entry.action,
                    reason=entry.reason,
                    entry_id=entry.entry_id,
                    from_version=move.from_version,
                    to_version=move.to_version,
                )
            if act.moves or act.deletes:
                moved = {**state.aliases, **{move.alias: move.to_version for move in act.moves}}
                aliases = {alias: version for alias, version in moved.items() if version is not None}
                self._states[model] = replace(
                    state, aliases=aliases, revision=state.revision + 1, aliases_moved_at=entry.occurred_at
                )
            if act.deletes:
                self._delete(model, entry)
            if act.settles:
                self._change_version(model, act.settles.version, outcome=act.settles.after)
            if act.retires is not None:
                self._change_version(model, act.retires, status="retired", retired_at=entry.occurred_at)
            if act.answers:
                pending = self._approvals[model, act.answers.run_id]
                self._approvals[model, act.answers.run_id] = replace(act.answers, task_token=pending.task_token)
            self.append_ledger(entry)

    def _delete(self, model: str, entry: LedgerEntry) -> None:
        state, spec = self._states[model], self.get_spec_record(model)
        self._states[model] = replace(
            state,
            active_run_id=None,
            deleted_at=entry.occurred_at,
            begun_after=entry.occurred_at,
            first_schema_version=state.schema_version + 1,
        )
        self._specs[model] = SpecRecord(model, ModelSpec(), spec.revision + 1, entry.occurred_at, entry.actor)

    def _insist_on(self, act: Act, state: ModelState) -> None:
        entry, model = act.entry, act.entry.model
        if act.deletes or any(move.to_version is not None for move in act.moves):
            insist_on_living(state)
        targets = [move.to_version for move in act.moves] + [act.retires, act.settles and act.settles.version]
        for number in targets:
            if number is not None and self.get_version(model, number).status == "retired":
                raise UnfitVersionError(f"version {number} of {model!r} is retired")
        if act.settles and self.get_version(model, act.settles.version).outcome != act.settles.before:
            raise ConflictError(f"version {act.settles.version} of {model!r} is settled already")
        if state.revision != act.expected_revision:
            raise AliasConflictError(f"the aliases of {model!r} moved since revision {act.expected_revision}")
        if act.ends and act.ends != state.work:
            raise ConflictError(f"what runs of {model!r} or waits is not what it was")
        if act.answers and self.get_approval(model, act.answers.run_id).status != "pending":
            raise ConflictError(f"{entry.action} of {model!r} was answered already")
        if (model, entry.occurred_at, entry.entry_id) in self._ledger:
            raise ConflictError(f"{entry.action} of {model!r} was recorded already")

    def _change_version(self, model: str, version: int, **changes: Any) -> None:
        self._versions[model, version] = replace(self._versions[model, version], **changes)

    def mark_collected(self, model: str, version: int, now: datetime) -> None:
        with self._lock:
            self.get_version(model, version)
            self._change_version(model, version, collected_at=now)

    def alias_move_at(self, model: str, alias: str, moment: datetime) -> AliasMove | None:
        with self._lock:
            made = [move for move in self.list_alias_moves(model, alias) if move.occurred_at <= moment]
            return made[0] if made else None

    def list_alias_moves(self, model: str, alias: str, limit: int = 100) -> list[AliasMove]:
        with self._lock:
            keys = sorted((key for key in self._moves if key[:2] == (model, alias)), reverse=True)
            return [self._moves[key] for key in keys[:limit]]

    def put_approval(self, approval: Approval, entry: LedgerEntry) -> Approval:
        with self._lock:
            key = (approval.model, approval.run_id)
            known = self._approvals.get(key)
            if known is None:
                self._approvals[key] = approval
                self.append_ledger(entry)
            elif known.status == "pending":
                self._approvals[key] = replace(known, task_token=approval.task_token)
            return self._approvals[key]

    def get_approval(self, model: str, run_id: str) -> Approval:
        with self._lock:
            if (model, run_id) not in self._approvals:
                raise ApprovalNotFoundError(f"nobody was asked to approve run {run_id!r} of {model!r}")
            return self._approvals[model, run_id]

    def list_unpublished(self, limit: int = 100) -> list[LedgerEntry]:
        with self._lock:
            return [self._ledger[key] for key in sorted(self._outbox, key=lambda key: (key[1], key[0], key[2]))[:limit]]

    def mark_published(self, entry: LedgerEntry) -> None:
        with self._lock:
            self._outbox.discard((entry.model, entry.occurred_at, entry.entry_id))

    def append_ledger(self, entry: LedgerEntry) -> None:
        with self._lock:
            key = (entry.model, entry.occurred_at, entry.entry_id)
            if key not in self._ledger and entry.action in ledger.EVENT_NAMES:
                self._outbox.add(key)
            self._ledger.setdefault(key, entry)

    def list_ledger(self, model: str, limit: int = 100) -> list[LedgerEntry]:
        with self._lock:
            keys = sorted((key for key in self._ledger if key[0] == model), reverse=True)
            return [self._ledger[key] for key in keys[:limit]]


def _changed(entity: EntityT, changes: dict[str, Any]) -> EntityT:
    """Replace fields; a list becomes a tuple, as it does when it comes back from storage."""
    return replace(
        entity, **{name: tuple(value) if isinstance(value, list) else value for name, value in changes.items()}
    )
