"""Causes: claimed once, and either started, waiting for the active run, or skipped."""

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from millrace.aws.registry.keys import (
    STATE,
    cause_key,
    model_key,
    models_key,
    pending_key,
    run_key,
)
from millrace.aws.registry.ledger import ledger_item
from millrace.aws.registry.models import decode_state
from millrace.aws.registry.serialisation import Item, decode, encode, encode_value
from millrace.aws.registry.table import TableItems, pause
from millrace.entities import Cause, CauseRecord, LedgerEntry, ModelState, Run
from millrace.errors import CauseNotFoundError, ServiceUnavailableError
from millrace.ports import MAX_FOLLOW_UP_CAUSES, Claim
from millrace.registry import ledger
from millrace.registry.lifecycle import end_of_cause

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import TransactWriteItemTypeDef

#: No event is delivered again after that; the ledger keeps the words for good.
CAUSE_RETENTION = timedelta(days=400)
_MAX_ATTEMPTS = 8


class CauseItems(TableItems):
    """Causes and the run whose turn it is."""

    def claim_cause(self, cause: Cause, run: Run, entry: LedgerEntry, answered_since: datetime | None = None) -> Claim:
        """Claim a cause exactly once, creating the model when it is new; see :class:`millrace.ports.Registry`.

        What is read decides which transaction is tried; its conditions decide whether what was read still holds.
        """
        for attempt in range(_MAX_ATTEMPTS):
            known = self._table.get(cause_key(cause.model, cause.cause_id))
            if known is not None:
                return Claim("duplicate", decode(CauseRecord, known).run_id)
            item = self._table.get(model_key(cause.model, STATE))
            state = decode_state(item) if item else None
            if state and end_of_cause(cause, state):
                return Claim("deleted", None)
            active_run_id = state.active_run_id if state else None
            if active_run_id and self._was_requested_since(cause.model, active_run_id, answered_since):
                # Whether that run has ended meanwhile makes no difference, so nothing is asked of the state.
                actions = self._answered(cause, active_run_id, entry)
                claim = Claim("answered", active_run_id)
            elif active_run_id:
                actions = self._deferring(cause, active_run_id, entry)
                claim = Claim("deferred", None)
            else:
                actions = self._starting(cause, run, entry, state)
                if state is None:
                    index_item: Item = {**models_key(cause.model), "model": {"S": cause.model}}
                    actions.append(self._table.putting(index_item))
                claim = Claim("started", run.run_id)
            if not self._table.transact(actions):
                return claim
            pause(attempt)
        raise ServiceUnavailableError(f"too many triggers of {cause.model!r} at once; this one was not recorded")

    def _was_requested_since(self, model: str, run_id: str, moment: datetime | None) -> bool:
        if moment is None:
            return False
        item = self._table.get(run_key(model, run_id))
        return item is not None and decode(Run, item).requested_at >= moment

    def _answered(self, cause: Cause, active_run_id: str, entry: LedgerEntry) -> "list[TransactWriteItemTypeDef]":
        answered = ledger.trigger_answered(entry, active_run_id)
        record = CauseRecord(cause, "skipped", active_run_id, answered.reason)
        return [
            self._table.putting_new(_cause_item(record, entry.occurred_at)),
            self._table.putting_new(ledger_item(answered)),
        ]

    def _starting(
        self, cause: Cause, run: Run, entry: LedgerEntry, state: ModelState | None
    ) -> "list[TransactWriteItemTypeDef]":
        record = CauseRecord(cause, "started", run.run_id, cause.reason)
        values = {"run": run.run_id, "model": cause.model, "now": entry.occurred_at, "none": {"M": {}}, "zero": 0}
        if state and state.deleted_at:
            began, condition, ends = ":now", "deleted_at = :deleted_at", " REMOVE deleted_at"
            values["deleted_at"] = state.deleted_at
        else:
            began, condition, ends = "if_not_exists(created_at, :now)", "attribute_not_exists(deleted_at)", ""
        # One that was deleted and made again since it was read looks alike, and the cause may be older than it.
        if state and state.begun_after:
            condition += " AND begun_after = :begun_after"
            values["begun_after"] = state.begun_after
        else:
            condition += " AND attribute_not_exists(begun_after)"
        return [
            self._table.putting_new(_cause_item(record, entry.occurred_at)),
            self._table.updating(
                model_key(cause.model, STATE),
                f"SET active_run_id = :run, #model = :model, created_at = {began},"
                " aliases = if_not_exists(aliases, :none), revision = if_not_exists(revision, :zero),"
                f" schema_version = if_not_exists(schema_version, :zero){ends}",
                f"attribute_not_exists(active_run_id) AND {condition}",
                values,
                {"#model": "model"},
            ),
            self._table.putting_new({**run_key(run.model, run.run_id), **encode(run)}),
            self._table.putting_new(ledger_item(ledger.run_requested(entry, run.run_id))),
        ]

    def _deferring(self, cause: Cause, active_run_id: str, entry: LedgerEntry) -> "list[TransactWriteItemTypeDef]":
        waiting_key = pending_key(cause.model, entry.occurred_at, cause.cause_id)
        record = CauseRecord(cause, "pending", None, cause.reason)
        return [
            self._table.putting_new(_cause_item(record, entry.occurred_at)),
            self._table.updating(
                model_key(cause.model, STATE),
                "ADD pending_causes :one",
                "active_run_id = :active",
                {"one": 1, "active": active_run_id},
            ),
            self._table.putting_new({**waiting_key, "cause_id": encode_value(cause.cause_id)}),
            self._table.putting_new(ledger_item(ledger.trigger_deferred(entry, active_run_id))),
        ]

    def skip_cause(self, cause: Cause, entry: LedgerEntry) -> bool:
        """Record a cause that starts nothing, with the reason; False when it was seen before."""
        record = CauseRecord(cause, "skipped", None, entry.reason)
        failed = self._table.transact(
            [
                self._table.putting_new(_cause_item(record, entry.occurred_at)),
                self._table.putting_new(ledger_item(entry)),
            ]
        )
        return not failed

    def skip_pending_cause(self, cause: Cause, entry: LedgerEntry) -> bool:
        """Let a cause wait no longer, and start nothing, with the reason; False when it does not wait (any more)."""
        waiting = self._waiting(cause.model, None).get(cause.cause_id)
        if waiting is None:
            return False
        failed = self._table.transact(
            [
                self._table.deleting(model_key(cause.model, waiting)),
                self._table.updating(
                    cause_key(cause.model, cause.cause_id),
                    "SET #status = :skipped, reason = :reason",
                    "#status = :pending",
                    {"skipped": "skipped", "pending": "pending", "reason": entry.reason},
                    {"#status": "status"},
                ),
                self._table.updating(
                    model_key(cause.model, STATE), "ADD pending_causes :less", "attribute_exists(pk)", {"less": -1}
                ),
                self._table.putting_new(ledger_item(entry)),
            ]
        )
        return not failed

    def get_cause(self, model: str, cause_id: str) -> CauseRecord:
        """Return a cause and what became of it; raises ``CauseNotFoundError``."""
        item = self._table.get(cause_key(model, cause_id))
        if item is None:
            raise CauseNotFoundError(f"no trigger of {model!r} has the cause id {cause_id!r}")
        return decode(CauseRecord, item)

    def list_pending_causes(self, model: str, limit: int = MAX_FOLLOW_UP_CAUSES) -> list[CauseRecord]:
        """Return the causes that wait for the active run to finish, oldest first."""
        return [self.get_cause(model, cause_id) for cause_id in self._waiting(model, limit)]

    def _waiting(self, model: str, limit: int | None) -> dict[str, str]:
        """Return the sort key of the waiting item by cause id, oldest first."""
        items = self._table.query(f"MODEL#{model}", "PENDING#", limit=limit)
        return {str(item["cause_id"]["S"]): str(item["sk"]["S"]) for item in items}

    def release_run(self, model: str, run_id: str, follow_up: Run | None, entry: LedgerEntry | None) -> bool:
        """End ``run_id``'s turn as the active run; see :meth:`millrace.ports.Registry.release_run`."""
        actions = self._closing(model, run_id) if follow_up is None else self._following(model, run_id, follow_up)
        if not actions:
            return False
        if entry is not None:
            actions.append(self._table.putting_new(ledger_item(entry)))
        return not self._table.transact(actions)

    def _closing(self, model: str, run_id: str) -> "list[TransactWriteItemTypeDef]":
        """Nobody waits; a cause that is deferred in between makes this fail instead of being forgotten."""
        return [
            self._table.updating(
                model_key(model, STATE),
                "REMOVE active_run_id",
                "active_run_id = :run AND (attribute_not_exists(pending_causes) OR pending_causes = :zero)",
                {"run": run_id, "zero": 0},
            )
        ]

    def _following(self, model: str, run_id: str, follow_up: Run) -> "list[TransactWriteItemTypeDef]":
        """Hand the turn to ``follow_up``; nothing when one of its causes does not wait among the oldest."""
        waiting = self._waiting(model, MAX_FOLLOW_UP_CAUSES)
        if any(cause_id not in waiting for cause_id in follow_up.cause_ids):
            return []
        actions = [
            self._table.updating(
                model_key(model, STATE),
                "SET active_run_id = :next ADD pending_causes :taken",
                "active_run_id = :run",
                {"run": run_id, "next": follow_up.run_id, "taken": -len(follow_up.cause_ids)},
            ),
            self._table.putting_new({**run_key(model, follow_up.run_id), **encode(follow_up)}),
        ]
        for cause_id in follow_up.cause_ids:
            actions.append(self._table.deleting(model_key(model, waiting[cause_id])))
            actions.append(
                self._table.updating(
                    cause_key(model, cause_id),
                    "SET #status = :started, run_id = :run",
                    "#status = :pending",
                    {"started": "started", "pending": "pending", "run": follow_up.run_id},
                    {"#status": "status"},
                )
            )
        return actions


def _cause_item(record: CauseRecord, claimed_at: datetime) -> Item:
    expires_at = int((claimed_at + CAUSE_RETENTION).timestamp())
    return {
        **cause_key(record.cause.model, record.cause.cause_id),
        **encode(record),
        "expires_at": encode_value(expires_at),
    }
