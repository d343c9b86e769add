"""Assign aliases: promotion, rollback and retirement by people, and the alias of a newly registered version."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from millrace.card import Artifact
from millrace.entities import (
    FINISHED_STATUSES,
    AliasMove,
    ModelState,
    ModelVersion,
    Release,
    VersionOutcome,
    describe_deletion,
)
from millrace.errors import (
    AliasConflictError,
    ArtifactIntegrityError,
    ArtifactNotFoundError,
    ConflictError,
    UnfitVersionError,
    VersionNotFoundError,
)
from millrace.layout import version_key
from millrace.manifest import MANIFEST, MODEL, SIGNATURE, Manifest
from millrace.names import CHALLENGER, CHAMPION
from millrace.ports import ObjectStore
from millrace.registry.ledger import AuditContext, of_incidents
from millrace.registry.release_changes import (
    Introduction,
    champion_moves,
    end_release,
    find_active_release,
    introduce,
)
from millrace.registry.store import Registry
from millrace.registry.transactions import (
    AssignOutcome,
    MoveAlias,
    RegistryTransaction,
    RetireVersion,
    ensure_champion,
    name_version,
)
from millrace.retry import retry
from millrace.spec import ModelSpec

ACTOR = "register_model"
#: The artifacts that serving loads.
_SERVED = (SIGNATURE, MODEL)


def find_servable_version(model: str, number: int, registry: Registry, model_store: ObjectStore) -> ModelVersion:
    """Return a version that may serve.

    Raises ``VersionNotFoundError`` when there is none of that number; ``UnfitVersionError`` when it is retired or of a
    deleted model, or an artifact is missing or not the one that was registered.
    """
    version = _find_present_version(registry.get_state(model), number, registry)
    try:
        body = model_store.get(version_key(model, number, MANIFEST))
        _verify(body, Artifact(sha256=version.manifest_sha256), MANIFEST, version)
        artifacts = Manifest.read(body).artifacts
        for name in _SERVED:
            _verify(model_store.get(version_key(model, number, name)), artifacts[name], name, version)
    except ArtifactNotFoundError as error:
        raise UnfitVersionError(f"version {number} of {model!r} is incomplete: {error.message}") from error
    except (ArtifactIntegrityError, KeyError) as error:
        raise UnfitVersionError(f"the manifest of version {number} of {model!r} cannot be read") from error
    return version


def _find_present_version(state: ModelState, number: int, registry: Registry) -> ModelVersion:
    """Return a version that is neither retired nor of a deleted model; its artifacts are not verified."""
    version = registry.get_version(state.model, number)
    if version.status == "retired":
        raise UnfitVersionError(f"version {number} of {state.model!r} is retired")
    if deleted_at := state.deletion_of(version.created_at):
        # Its deletion may not have come to retire it yet.
        raise UnfitVersionError(f"version {number} is of the {state.model!r} that {describe_deletion(deleted_at)}")
    return version


def _verify(body: bytes, expected: Artifact, name: str, version: ModelVersion) -> None:
    if not expected.matches(body):
        raise UnfitVersionError(f"{name} of version {version.version} of {version.model!r} is not what was registered")


@dataclass(frozen=True, slots=True)
class ChampionChange:
    """The result of a promotion or a rollback."""

    model: str
    #: ``already``: the version was the champion before; nothing was done or recorded.
    outcome: Literal["promoted", "rolled_back", "already"]
    from_version: int | None
    to_version: int
    passed_over: tuple[str, ...] = ()  # earlier champions that a rollback could not go back to, with the reasons


def promote(
    model: str,
    version: int,
    audit: AuditContext,
    *,
    registry: Registry,
    model_store: ObjectStore,
    expected_champion: int | None = None,
    completing: Release | None = None,
) -> ChampionChange:
    """Make ``version`` the champion; a challenger of that number loses its alias.

    ``completing`` is the release that this was decided on: nothing is done when anybody has changed it since.

    Raises
    ------
    ModelNotFoundError, ModelDeletedError, VersionNotFoundError
        When there is none (any more).
    UnfitVersionError
        When it is retired or not stored as it was registered.
    ConflictError
        When it waits for an approval, the champion is not the expected one, or an alias or the release to complete
        changed meanwhile.
    """
    state = registry.get_state(model)
    state.ensure_not_deleted()
    present = state.aliases.get(CHAMPION)
    if present == version:
        return ChampionChange(model, "already", present, version)
    if expected_champion is not None:
        ensure_champion(state, expected_champion)
    found = find_servable_version(model, version, registry, model_store)
    if found.outcome == "awaiting_approval":
        raise ConflictError(f"version {version} waits for approval: approve or reject run {found.run_id}")
    decided = found.outcome in ("kept", "rejected")
    outcome = AssignOutcome(version, found.outcome, "promoted") if decided else None
    _move_champion("model_promoted", state, version, audit, registry=registry, outcome=outcome, completing=completing)
    return ChampionChange(model, "promoted", present, version)


def roll_back(
    model: str,
    audit: AuditContext,
    *,
    registry: Registry,
    model_store: ObjectStore,
    to_version: int | None = None,
    expected_champion: int | None = None,
) -> ChampionChange:
    """Make an earlier champion the champion again: ``to_version``, or the one before that may serve.

    With an ``expected_champion`` the call may be repeated: a rollback from that version is done once.

    Raises
    ------
    ModelNotFoundError, ModelDeletedError, VersionNotFoundError
        When there is none (any more).
    UnfitVersionError
        When ``to_version`` is retired or not stored as it was registered.
    ConflictError
        When no earlier champion is left, ``to_version`` never was one, the champion is not the expected one, or an
        alias moved meanwhile.
    """
    state = registry.get_state(model)
    state.ensure_not_deleted()
    present = state.aliases.get(CHAMPION)
    moves = registry.list_alias_moves(model, CHAMPION)
    if present is not None and (done := _find_repeated(moves, expected_champion, to_version)):
        return ChampionChange(model, "already", done.from_version, present)
    if expected_champion is not None:
        ensure_champion(state, expected_champion)
    if to_version is None:
        target, passed_over = _previous_champion(state, moves, registry, model_store)
    else:
        if to_version not in {move.to_version for move in moves} or to_version == present:
            raise ConflictError(f"version {to_version} of {model!r} is no earlier champion: promote it instead")
        target, passed_over = find_servable_version(model, to_version, registry, model_store).version, ()
    _move_champion("model_rolled_back", state, target, audit, registry=registry)
    return ChampionChange(model, "rolled_back", present, target, passed_over)


def earlier_champions(moves: Sequence[AliasMove]) -> list[int]:
    """Return the versions that a rollback may go back to, nearest first.

    A rollback takes back the promotions since, so that a second one goes further back and not forth again.

    Parameters
    ----------
    moves : sequence of AliasMove
        Of the champion, newest first.
    """
    served: list[int] = []
    for move in reversed(moves):
        if move.to_version is None:
            continue
        if move.action == "model_rolled_back" and move.to_version in served:
            del served[len(served) - served[::-1].index(move.to_version) :]
        else:
            served.append(move.to_version)
    return [version for version in dict.fromkeys(reversed(served)) if version != served[-1]]


def find_rollback_target(state: ModelState, moves: Sequence[AliasMove], registry: Registry) -> int | None:
    """Return the version that a rollback goes back to, None where there is none; its artifacts are not verified yet."""
    for number in earlier_champions(moves):
        with suppress(UnfitVersionError, VersionNotFoundError):
            return _find_present_version(state, number, registry).version
    return None


def _move_champion(
    action: str,
    state: ModelState,
    version: int,
    audit: AuditContext,
    *,
    registry: Registry,
    outcome: AssignOutcome | None = None,
    completing: Release | None = None,
) -> None:
    details: dict[str, Any] = {"alias": CHAMPION, "from_version": state.aliases.get(CHAMPION), "to_version": version}
    entry_id = f"{CHAMPION}-{state.revision + 1}"
    occurred_at = audit.entry(state, entry_id, action, {}).occurred_at
    ends = end_release(state, version, audit, registry, occurred_at, completing=completing)
    if ends:
        details["release_id"] = ends[0].release_id
    entry = audit.entry(state, entry_id, action, details)
    changes = (*champion_moves(state, version), *((outcome,) if outcome else ()), *ends)
    try:
        registry.commit(RegistryTransaction(entry, state.revision, changes))
    except AliasConflictError as error:
        champion = name_version(registry.get_state(state.model).aliases.get(CHAMPION))
        raise AliasConflictError(
            f"an alias of {state.model!r} moved meanwhile: the champion is now {champion}; "
            "check the model and decide again"
        ) from error


def _find_repeated(moves: Sequence[AliasMove], expected: int | None, to_version: int | None) -> AliasMove | None:
    """Return the last move when it is the very rollback that is requested."""
    last = moves[0] if moves else None
    if expected is None or last is None or last.action != "model_rolled_back" or last.from_version != expected:
        return None
    return last if to_version in (None, last.to_version) else None


def _previous_champion(
    state: ModelState, moves: Sequence[AliasMove], registry: Registry, model_store: ObjectStore
) -> tuple[int, tuple[str, ...]]:
    passed_over: list[str] = []
    for version in earlier_champions(moves):
        try:
            return find_servable_version(state.model, version, registry, model_store).version, tuple(passed_over)
        except (UnfitVersionError, VersionNotFoundError) as error:
            passed_over.append(error.message)
    reasons = f": {'; '.join(passed_over)}" if passed_over else ""
    raise ConflictError(f"{state.model!r} has no earlier champion to go back to{reasons}")


@dataclass(frozen=True, slots=True)
class GateDecision:
    """The gate's decision about a version, compared with the champion at that time; it may be a challenger only."""

    may_be_champion: bool
    compared_with: int | None
    reason: str
    run_id: str
    incident_ids: tuple[str, ...] = ()  # those that requested the run


@dataclass(frozen=True, slots=True)
class AssignedOutcome:
    """The outcome of a version, and a sentence about it."""

    outcome: VersionOutcome
    message: str


def assign_alias(decision: GateDecision, version: ModelVersion, registry: Registry, now: datetime) -> AssignedOutcome:
    """Assign the alias and the outcome of a newly registered version, once.

    Raises ``ModelDeletedError`` when the model was deleted since the version was created; ``ServiceUnavailableError``
    when others keep moving the aliases.
    """
    spec = registry.get_spec(version.model)

    def attempt() -> AssignedOutcome | None:
        present = registry.get_version(version.model, version.version)
        if present.outcome != "pending":
            return AssignedOutcome(present.outcome, _describe(present.outcome, ""))
        state = registry.get_state(version.model)
        state.ensure_not_deleted(version.created_at)
        transaction, assigned = _assign(decision, version, state, spec, now)
        try:
            registry.commit(transaction)
        except UnfitVersionError:
            raise
        except ConflictError:
            # An alias moved, or the same registration, made twice, was faster.
            return None
        return assigned

    number = version.version
    return retry(attempt, f"the aliases of {version.model!r} keep moving; version {number} has no alias yet")


def _assign(
    decision: GateDecision, version: ModelVersion, state: ModelState, spec: ModelSpec, now: datetime
) -> tuple[RegistryTransaction, AssignedOutcome]:
    outcome: VersionOutcome = "kept"
    reason, champion = decision.reason, state.aliases.get(CHAMPION)
    introduced: Introduction | None = None
    if decision.may_be_champion and champion != decision.compared_with:
        compared = name_version(decision.compared_with)
        reason = f"the champion is now {name_version(champion)}, and the gate compared with {compared}"
    elif decision.may_be_champion and spec.approval.mode == "manual":
        outcome = "awaiting_approval"
    elif decision.may_be_champion:
        audit = AuditContext(ACTOR, reason, now)
        introduced = introduce(state, version.version, spec.release, audit, decision.run_id)
        outcome = introduced.outcome
    message = introduced.message if introduced else ""
    assigned = AssignedOutcome(outcome, f"{message}; {reason}" if message else _describe(outcome, reason))
    if introduced is None:
        moves = (MoveAlias(CHALLENGER, state.aliases.get(CHALLENGER), version.version),)
        details: dict[str, Any] = {"alias": CHALLENGER, "from_version": moves[0].from_version}
        details |= {"to_version": version.version, "run_id": decision.run_id}
        introduced = Introduction(outcome, "alias_moved", "", moves, details)
    alias = introduced.details["alias"]
    audit = AuditContext(ACTOR, assigned.message, now)
    entry_id = f"{alias}-{state.revision + 1}"
    details = {**introduced.details, **of_incidents(decision.incident_ids)}
    entry = audit.entry(state, entry_id, introduced.action, details, version.created_at)
    changes = (*introduced.changes, AssignOutcome(version.version, "pending", assigned.outcome))
    return RegistryTransaction(entry, state.revision, changes), assigned


def _describe(outcome: VersionOutcome, reason: str) -> str:
    kept = {"kept": "kept as challenger", "awaiting_approval": "challenger until it is approved"}
    message = kept.get(outcome, outcome)
    return f"{message}: {reason}" if reason else message


@dataclass(frozen=True, slots=True)
class Retirement:
    """The result of a retirement; ``already`` when the version was retired before."""

    model: str
    version: int
    outcome: Literal["retired", "already"]


def retire(model: str, version: int, audit: AuditContext, *, registry: Registry) -> Retirement:
    """Retire a version, for good.

    Raises ``ModelNotFoundError`` or ``VersionNotFoundError`` when there is none; ``ConflictError`` while an alias
    points to it or its run goes on, or when an alias moved meanwhile.
    """
    state = registry.get_state(model)
    found = registry.get_version(model, version)
    if found.status == "retired":
        return Retirement(model, version, "already")
    release = find_active_release(state, registry)
    if release is not None and version in release.versions[1:]:
        how = f'abort it first: millrace release abort {model} --reason "..."'
        raise ConflictError(f"version {version} of {model!r} is in use by release {release.release_id}; {how}")
    pointing = sorted(alias for alias, pointed in state.aliases.items() if pointed == version)
    if pointing:
        raise ConflictError(f"version {version} of {model!r} is in use: it is the {' and the '.join(pointing)}")
    if _is_running(found, registry):
        raise ConflictError(f"version {version} of {model!r} is in use: run {found.run_id} has not ended")
    is_retired = retire_version(found, state, audit, registry)
    return Retirement(model, version, "retired" if is_retired else "already")


def retire_version(version: ModelVersion, state: ModelState, audit: AuditContext, registry: Registry) -> bool:
    """Retire a version that nothing uses; False when somebody else was faster."""
    details = {"version": version.version, "semantic_version": version.semantic_version}
    entry = audit.entry(state, f"version-{version.version}-retired", "model_retired", details)
    try:
        registry.commit(RegistryTransaction(entry, state.revision, (RetireVersion(version.version),)))
    except UnfitVersionError:
        return False
    return True


def _is_running(version: ModelVersion, registry: Registry) -> bool:
    """Return True while the version's run may still be registering it, or wait for an approval."""
    run = registry.find_run(version.model, version.run_id)
    return run is not None and run.status not in FINISHED_STATUSES
