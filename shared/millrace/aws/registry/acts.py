"""Acts on versions, each one transaction; the history of aliases; approvals."""

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any, NoReturn

from millrace.aws.registry.keys import SPEC, STATE, alias_move_key, approval_key, model_key, sortable, version_key
from millrace.aws.registry.ledger import writing
from millrace.aws.registry.models import decode_state
from millrace.aws.registry.serialisation import decode, encode
from millrace.aws.registry.table import TableItems
from millrace.aws.registry.versions import no_version
from millrace.entities import Act, AliasMove, Approval, LedgerEntry, ModelVersion
from millrace.errors import (
    AliasConflictError,
    ApprovalNotFoundError,
    ConflictError,
    ModelNotFoundError,
    UnfitVersionError,
)
from millrace.registry.lifecycle import insist_on_living
from millrace.spec import ModelSpec

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import TransactWriteItemTypeDef

_STATUS = {"#status": "status"}
_NOT_RETIRED = "attribute_exists(pk) AND (attribute_not_exists(#status) OR #status <> :retired)"


class ActItems(TableItems):
    """Acts, alias moves and approvals."""

    def perform(self, act: Act) -> None:
        """Do an act and write its ledger entry; see :meth:`millrace.ports.Registry.perform`."""
        actions = [self._on_state(act), *self._on_versions(act), *self._history(act)]
        if act.answers is not None:
            actions.append(self._answering(act.answers))
        if act.deletes:
            actions.append(self._forgetting_the_spec(act.entry))
        actions += writing(self._table, act.entry)
        if self._table.transact(actions):
            self._raise_conflict(act)

    def _on_state(self, act: Act) -> "TransactWriteItemTypeDef":
        key, expected = model_key(act.entry.model, STATE), {"expected": act.expected_revision}
        condition = "revision = :expected" + (" AND attribute_not_exists(deleted_at)" if _needs_life(act) else "")
        if not act.moves and not act.deletes:
            return self._table.checking(key, condition, expected)
        names: dict[str, str] = {}
        values: dict[str, Any] = {}
        parts: list[str] = []
        for number, move in enumerate(act.moves):
            names[f"#alias{number}"] = move.alias
            if move.to_version is not None:
                values[f"version{number}"] = move.to_version
                parts.append(f"aliases.#alias{number} = :version{number}")
        gone = [f"aliases.#alias{number}" for number, move in enumerate(act.moves) if move.to_version is None]
        parts += ["revision = revision + :one", "aliases_moved_at = :now"]
        if act.deletes:
            # The counters go on: a number that was used never names anything else.
            schema = "first_schema_version = if_not_exists(schema_version, :zero) + :one"
            parts += ["deleted_at = :now", "begun_after = :now", schema]
            gone.append("active_run_id")
            values["zero"] = 0
            condition += _nothing_else_is_under_way(act, values)
        expression = "SET " + ", ".join(parts)
        if gone:
            expression += " REMOVE " + ", ".join(gone)
        return self._table.updating(
            key, expression, condition, {**values, **expected, "one": 1, "now": act.entry.occurred_at}, names
        )

    def _forgetting_the_spec(self, entry: LedgerEntry) -> "TransactWriteItemTypeDef":
        """Make the default spec the model's next one, so that whoever replaces the present one meanwhile cannot."""
        return self._table.updating(
            model_key(entry.model, SPEC),
            "SET #document = :document, revision = if_not_exists(revision, :zero) + :one,"
            " changed_at = :now, changed_by = :who",
            None,
            {
                "document": ModelSpec().model_dump_json(),
                "zero": 0,
                "one": 1,
                "now": entry.occurred_at,
                "who": entry.actor,
            },
            {"#document": "document"},
        )

    def _on_versions(self, act: Act) -> "Iterator[TransactWriteItemTypeDef]":
        """One action a version: a transaction takes no two on the same item."""
        model, settles = act.entry.model, act.settles
        if settles is not None:
            unsettled = " AND (outcome = :before" + (
                " OR attribute_not_exists(outcome))" if settles.before == "pending" else ")"
            )
            values = {"before": settles.before, "after": settles.after, "retired": "retired"}
            yield self._table.updating(
                version_key(model, settles.version), "SET outcome = :after", _NOT_RETIRED + unsettled, values, _STATUS
            )
        if act.retires is not None:
            yield self._table.updating(
                version_key(model, act.retires),
                "SET #status = :retired, retired_at = :now",
                _NOT_RETIRED,
                {"retired": "retired", "now": act.entry.occurred_at},
                _STATUS,
            )
        pointed = {move.to_version for move in act.moves if move.to_version is not None}
        for version in pointed - {settles.version if settles else None}:
            if version is not None:
                yield self._table.checking(version_key(model, version), _NOT_RETIRED, {"retired": "retired"}, _STATUS)

    def _history(self, act: Act) -> "Iterator[TransactWriteItemTypeDef]":
        entry = act.entry
        for move in act.moves:
            made = AliasMove(
                model=entry.model,
                alias=move.alias,
                from_version=move.from_version,
                to_version=move.to_version,
                occurred_at=entry.occurred_at,
                revision=act.expected_revision + 1,
                actor=entry.actor,
                action=entry.action,
                reason=entry.reason,
                entry_id=entry.entry_id,
            )
            yield self._table.putting_new(
                {**alias_move_key(entry.model, move.alias, entry.occurred_at), **encode(made)}
            )

    def _answering(self, answer: Approval) -> "TransactWriteItemTypeDef":
        return self._table.updating(
            approval_key(answer.model, answer.run_id),
            "SET #status = :status, decided_by = :by, decided_at = :at, reason = :reason",
            "#status = :pending",
            {
                "status": answer.status,
                "by": answer.decided_by or "",
                "at": answer.decided_at,
                "reason": answer.reason,
                "pending": "pending",
            },
            _STATUS,
        )

    def _raise_conflict(self, act: Act) -> NoReturn:
        """Say what stood in the way; read anew, because a transaction's reasons name no values."""
        model = act.entry.model
        state = self._table.get(model_key(model, STATE))
        if state is None:
            raise ModelNotFoundError(f"there is no model called {model!r}")
        if _needs_life(act):
            insist_on_living(decode_state(state))
        targets = [move.to_version for move in act.moves] + [act.retires, act.settles.version if act.settles else None]
        for number in targets:
            if number is None:
                continue
            item = self._table.get(version_key(model, number))
            if item is None:
                raise no_version(model, number)
            version = decode(ModelVersion, item)
            if version.status == "retired":
                raise UnfitVersionError(f"version {number} of {model!r} is retired")
            if act.settles and number == act.settles.version and version.outcome != act.settles.before:
                raise ConflictError(f"version {number} of {model!r} is settled already: {version.outcome}")
        if int(state["revision"]["N"]) != act.expected_revision:
            raise AliasConflictError(f"the aliases of {model!r} moved since revision {act.expected_revision}")
        if act.ends and act.ends != decode_state(state).work:
            raise ConflictError(f"what runs of {model!r} or waits is not what it was")
        raise ConflictError(f"{act.entry.action} of {model!r} was recorded or answered already")

    def alias_move_at(self, model: str, alias: str, moment: datetime) -> AliasMove | None:
        """Return the last move of an alias up to ``moment``: what it pointed to then. One query."""
        prefix = f"ALIAS#{alias}#"
        item = self._table.last_before(f"MODEL#{model}", prefix, prefix + sortable(moment))
        return None if item is None else decode(AliasMove, item)

    def list_alias_moves(self, model: str, alias: str, limit: int = 100) -> list[AliasMove]:
        """Return the newest moves of an alias first."""
        items = self._table.query(f"MODEL#{model}", f"ALIAS#{alias}#", newest_first=True, limit=limit)
        return [decode(AliasMove, item) for item in items]

    def put_approval(self, approval: Approval, entry: LedgerEntry) -> Approval:
        """Record that an approval is waited for, or only its new token; return it as it stands then."""
        key = approval_key(approval.model, approval.run_id)
        if self._table.transact([self._table.putting_new({**key, **encode(approval)}), *writing(self._table, entry)]):
            self._table.change(key, {"task_token": approval.task_token, "status": "pending"}, "#status = :status")
        return self.get_approval(approval.model, approval.run_id)

    def get_approval(self, model: str, run_id: str) -> Approval:
        """Return a run's approval; raises ``ApprovalNotFoundError``."""
        item = self._table.get(approval_key(model, run_id))
        if item is None:
            raise ApprovalNotFoundError(f"nobody was asked to approve run {run_id!r} of {model!r}")
        return decode(Approval, item)


def _needs_life(act: Act) -> bool:
    """Tell whether an act cannot be done about a deleted model: what ends something can, what begins cannot."""
    return act.deletes or any(move.to_version is not None for move in act.moves)


def _nothing_else_is_under_way(act: Act, values: dict[str, Any]) -> str:
    """Return the condition that what a deletion ends is what it was decided on; its values go to ``values``."""
    if act.ends is None:
        return ""
    values["waiting"] = act.ends.pending_causes
    condition = " AND pending_causes = :waiting"
    if not act.ends.pending_causes:
        condition = " AND (attribute_not_exists(pending_causes) OR pending_causes = :waiting)"
    if act.ends.active_run_id is None:
        return condition + " AND attribute_not_exists(active_run_id)"
    values["active"] = act.ends.active_run_id
    return condition + " AND active_run_id = :active"
