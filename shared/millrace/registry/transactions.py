"""Transactions on a model's versions: audit context, the changes, and their optimistic-concurrency checks."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from millrace.entities import (
    AliasMove,
    Approval,
    LedgerEntry,
    ModelState,
    Release,
    ReleaseStatus,
    VersionOutcome,
    Work,
)
from millrace.errors import ConflictError
from millrace.names import CHAMPION
from millrace.ports import Absent, Check, Compare, Exists, Plus, Put, StoreChange, Update
from millrace.registry.items import ModelKeys, encode, encode_value, make_due
from millrace.registry.ledger import Append
from millrace.spec import ModelSpec

_NOT_RETIRED = (Exists(), Compare("status", "<>", "retired", or_absent=True))


@dataclass(frozen=True, slots=True)
class MoveAlias:
    """Point an alias to another version; None is no version."""

    alias: str
    from_version: int | None
    to_version: int | None


@dataclass(frozen=True, slots=True)
class AssignOutcome:
    """Assign the outcome of a version whose outcome is ``before``."""

    version: int
    before: VersionOutcome
    after: VersionOutcome


@dataclass(frozen=True, slots=True)
class RetireVersion:
    """Retire a version for good."""

    version: int


@dataclass(frozen=True, slots=True)
class DecideApproval:
    """Replace a pending approval by the decided one."""

    approval: Approval


@dataclass(frozen=True, slots=True)
class DeleteModel:
    """Mark the model as deleted: no active run, the default spec; the transaction must move every alias to None."""

    work: Work | None = None  # the work that the deletion was decided on; None ends any


@dataclass(frozen=True, slots=True)
class StartRelease:
    """Begin a release, which no other one may be active beside."""

    release: Release


@dataclass(frozen=True, slots=True)
class ChangeRelease:
    """Replace an active release by ``after``, whose revision follows; one that is over routes nothing any more."""

    after: Release


@dataclass(frozen=True, slots=True)
class EndRelease:
    """End the active release, whatever it has come to, because the champion moves or the model is deleted.

    ``entry`` is written after that of the transaction. With a ``revision`` the release must be as it was then: neither
    paused nor changed otherwise since.
    """

    release_id: str
    status: ReleaseStatus
    entry: LedgerEntry
    revision: int | None = None


@dataclass(frozen=True, slots=True)
class WaitForRelease:
    """Let a version wait for the active release to end; the one that waited before waits no more."""

    version: int
    champion: int
    release_id: str


@dataclass(frozen=True, slots=True)
class EndWait:
    """End the wait of a version for a release."""


ReleaseChange = StartRelease | ChangeRelease | EndRelease | WaitForRelease | EndWait
VersionChange = MoveAlias | AssignOutcome | RetireVersion | DecideApproval | DeleteModel | ReleaseChange


@dataclass(frozen=True, slots=True)
class RegistryTransaction:
    """Changes to a model's versions and their ledger entry: all of them or none."""

    entry: LedgerEntry
    #: The model's revision that they were decided on; it grows by one when aliases move or the model is deleted.
    expected_revision: int
    changes: tuple[VersionChange, ...]

    @property
    def moves(self) -> tuple[MoveAlias, ...]:
        """The moves of aliases."""
        return tuple(change for change in self.changes if isinstance(change, MoveAlias))

    @property
    def deletion(self) -> DeleteModel | None:
        """The deletion of the model, if it is one."""
        return next((change for change in self.changes if isinstance(change, DeleteModel)), None)

    @property
    def release_changes(self) -> tuple[ReleaseChange, ...]:
        """The changes of releases."""
        return tuple(change for change in self.changes if isinstance(change, ReleaseChange))

    @property
    def expected_release(self) -> tuple[str | None, ...]:
        """The release that must be active, None for none; empty where any may be."""
        for change in self.release_changes:
            match change:
                case StartRelease() | EndWait():
                    return (None,)
                case ChangeRelease(after):
                    return (after.release_id,)
                case EndRelease(release_id) | WaitForRelease(release_id=release_id):
                    return (release_id,)
        moves_champion = any(move.alias == CHAMPION for move in self.moves)
        return (None,) if moves_champion or self.deletion else ()

    def ensure_release(self, state: ModelState) -> None:
        """Raise ``ConflictError`` when another release is active than the transaction expects, or none."""
        expected = self.expected_release
        if expected and state.release_id != expected[0]:
            active = f"release {state.release_id} is active" if state.release_id else "no release is active"
            raise ConflictError(f"{active} for {state.model!r}: decide again; millrace release show {state.model}")

    @property
    def expected_outcomes(self) -> dict[int, VersionOutcome | None]:
        """The versions that must not be retired, and the outcome that each must have; None allows any."""
        versions: dict[int, VersionOutcome | None] = {}
        for change in self.changes:
            if isinstance(change, MoveAlias) and change.to_version is not None:
                versions.setdefault(change.to_version, None)
            elif isinstance(change, RetireVersion):
                versions.setdefault(change.version, None)
            elif isinstance(change, StartRelease):
                versions |= {version: versions.get(version) for version in change.release.versions[1:]}
            elif isinstance(change, AssignOutcome):
                versions[change.version] = change.before
        return versions

    @property
    def needs_model(self) -> bool:
        """True when the model must not be deleted: work can end in a deleted model, and none begins there."""
        begins = any(isinstance(change, StartRelease) for change in self.changes)
        return self.deletion is not None or begins or any(move.to_version is not None for move in self.moves)


def ensure_champion(state: ModelState, expected: int | None) -> None:
    """Raise ``ConflictError``, which names the present champion, unless it is the expected one (None: none)."""
    present = state.aliases.get(CHAMPION)
    if present != expected:
        raise ConflictError(
            f"the champion of {state.model!r} is now {name_version(present)}, not {name_version(expected)}: "
            "check the model and decide again"
        )


def name_version(version: int | None) -> str:
    """Return a version for a message."""
    return "no version" if version is None else f"version {version}"


def store_changes(transaction: RegistryTransaction, schema_version: int) -> Iterator[StoreChange | Append]:
    """Yield the changes to the store that make up a transaction, one an item."""
    entry, keys = transaction.entry, ModelKeys(transaction.entry.model)
    yield _change_state(transaction, schema_version)
    assigned = {change.version for change in transaction.changes if isinstance(change, AssignOutcome)}
    ending = {change.version for change in transaction.changes if isinstance(change, RetireVersion)}
    for change in transaction.changes:
        match change:
            case MoveAlias():
                yield _record_move(change, transaction)
            case AssignOutcome(version, before, after):
                undecided = Compare("outcome", "=", before, or_absent=before == "pending")
                yield Update(keys.item("VERSION", version), {"outcome": after}, conditions=(*_NOT_RETIRED, undecided))
            case RetireVersion(version):
                retired = {"status": "retired", "retired_at": encode_value(entry.occurred_at)}
                yield Update(keys.item("VERSION", version), retired, conditions=_NOT_RETIRED)
            case DecideApproval(approval):
                yield _decide(approval)
            case DeleteModel():
                yield _reset_spec(entry)
                follows = Compare("schema_version", "=", schema_version, or_absent=True)
                yield Check(keys.schema, (follows,))
            case StartRelease() | ChangeRelease() | EndRelease():
                yield _change_release(change, keys)
    for number in transaction.expected_outcomes.keys() - assigned - ending:
        yield Check(keys.item("VERSION", number), _NOT_RETIRED)
    if transaction.deletion or any(move.alias == CHAMPION for move in transaction.moves):
        yield make_due(entry.model, entry.occurred_at, own_schedule=False if transaction.deletion else None)
    yield Append(entry)
    yield from (Append(change.entry) for change in transaction.changes if isinstance(change, EndRelease))


def _change_release(change: StartRelease | ChangeRelease | EndRelease, keys: ModelKeys) -> Put | Update:
    if isinstance(change, StartRelease):
        return Put(keys.item("RELEASE", change.release.release_id), encode(change.release))
    if isinstance(change, ChangeRelease):
        return replace_release(change.after)
    values: dict[str, Any] = {"status": change.status, "decision": change.entry.reason, "revision": Plus("revision", 1)}
    values |= dict.fromkeys(("decided_at", "ended_at"), encode_value(change.entry.occurred_at))
    unchanged = () if change.revision is None else (Compare("revision", "=", change.revision),)
    return Update(keys.item("RELEASE", change.release_id), values, conditions=(Exists(), *unchanged))


def replace_release(after: Release) -> Update:
    """Return the change that replaces an active release, unless somebody else changed it meanwhile."""
    values = {name: value for name, value in encode(after).items() if name in _CHANGING}
    key, unchanged = ModelKeys(after.model).item("RELEASE", after.release_id), after.revision - 1
    return Update(key, values, conditions=(Exists(), Compare("revision", "=", unchanged)))


#: Fields of a release that change; the others are as it began.
_CHANGING = (
    *("status", "stage", "stage_since", "revision"),
    *("evidence", "history", "shares", "decision", "decided_at", "ended_at"),
)


def _release_attributes(changes: tuple[ReleaseChange, ...]) -> tuple[dict[Any, Any], list[Any]]:
    """Return the attributes of the model's state that changes of releases set and remove."""
    values: dict[Any, Any] = {}
    removed: dict[Any, None] = {}  # each once: DynamoDB refuses a change that names an attribute twice
    for change in changes:
        match change:
            case StartRelease(release):
                values |= {"release_id": release.release_id, "routing": release.plan().write()}
                removed["pending_candidate"] = None
            case ChangeRelease(after) if after.is_active:
                values["routing"] = after.plan().write()
            case ChangeRelease() | EndRelease():
                removed |= dict.fromkeys(("release_id", "routing"))
            case WaitForRelease(version, champion, _):
                values["pending_candidate"] = encode_value({"version": version, "champion": champion})
            case EndWait():
                removed["pending_candidate"] = None
    return values, list(removed)


def _change_state(transaction: RegistryTransaction, schema_version: int) -> Update | Check:
    key, now = ModelKeys(transaction.entry.model).state, encode_value(transaction.entry.occurred_at)
    conditions: list[Exists | Absent | Compare] = [Compare("revision", "=", transaction.expected_revision)]
    if transaction.needs_model:
        conditions.append(Absent("deleted_at"))
    conditions += [
        Absent("release_id") if release_id is None else Compare("release_id", "=", release_id)
        for release_id in transaction.expected_release
    ]
    moves, deletion = transaction.moves, transaction.deletion
    values, removed = _release_attributes(transaction.release_changes)
    if not moves and deletion is None:
        if any(isinstance(change, StartRelease) for change in transaction.changes):
            values["revision"] = Plus("revision", 1)  # what was decided before it, a retirement say, is void
        return (
            Update(key, values, tuple(removed), tuple(conditions))
            if values or removed
            else Check(key, tuple(conditions))
        )
    values |= {("aliases", move.alias): move.to_version for move in moves if move.to_version is not None}
    removed += [("aliases", move.alias) for move in moves if move.to_version is None]
    state = {"revision": Plus("revision", 1), "aliases_moved_at": now}
    for move in moves:
        if move.alias == CHAMPION and move.to_version is None:
            removed.append("champion_since")
        elif move.alias == CHAMPION:
            values["champion_since"] = now
    if deletion is None:
        return Update(key, values | state, tuple(removed), tuple(conditions))
    removed += [name for name in ("release_id", "routing", "pending_candidate") if name not in removed]
    if deletion.work is not None:
        waiting, active = deletion.work.pending_causes, deletion.work.active_run_id
        conditions.append(Compare("pending_causes", "=", waiting, or_absent=not waiting))
        conditions.append(Absent("active_run_id") if active is None else Compare("active_run_id", "=", active))
    # The counters go on: a number that was used never names anything else.
    ended = {"deleted_at": now, "begun_after": now, "first_schema_version": schema_version + 1}
    return Update(key, values | state | ended, (*removed, "active_run_id"), tuple(conditions))


def _record_move(move: MoveAlias, transaction: RegistryTransaction) -> Put:
    entry = transaction.entry
    revision, cause = transaction.expected_revision + 1, (entry.actor, entry.action, entry.reason, entry.entry_id)
    versions = (move.from_version, move.to_version)
    made = AliasMove(entry.model, move.alias, entry.occurred_at, revision, *cause, *versions)
    return Put(ModelKeys(entry.model).item("ALIAS", move.alias, entry.occurred_at), encode(made))


def _decide(approval: Approval) -> Update:
    decided = encode(approval)
    decision: dict[Any, Any] = {name: decided[name] for name in ("status", "decided_at", "reason") if name in decided}
    return Update(
        ModelKeys(approval.model).item("APPROVAL", approval.run_id),
        {**decision, "decided_by": approval.decided_by or ""},
        conditions=(Compare("status", "=", "pending"),),
    )


def _reset_spec(entry: LedgerEntry) -> Update:
    """Make the default spec the next revision, so that nobody replaces the present one unseen."""
    spec = {
        "document": ModelSpec().model_dump_json(),
        "revision": Plus("revision", 1),
        "changed_at": encode_value(entry.occurred_at),
        "changed_by": entry.actor,
    }
    return Update(ModelKeys(entry.model).spec, spec, conditions=())
