"""Promotion and rollback by people: which version serves, decided by whom and why."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from millrace.entities import (
    FINISHED_STATUSES,
    Act,
    AliasMove,
    LedgerEntry,
    ModelState,
    ModelVersion,
    Move,
    Settlement,
    VersionOutcome,
)
from millrace.errors import (
    AliasConflictError,
    ArtifactNotFoundError,
    ConflictError,
    RunNotFoundError,
    ServiceUnavailableError,
    UnfitVersionError,
    VersionNotFoundError,
)
from millrace.layout import version_key
from millrace.names import CHALLENGER, CHAMPION
from millrace.ports import ObjectStore, Registry
from millrace.registry.lifecycle import deleted, end_of, insist_on_living

#: Two moves of an alias are at least this far apart.
_TICK = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Acting:
    """Who acts, when, and why.

    Parameters
    ----------
    actor : str
        The caller's ARN, or the function that acts by itself.
    reason : str
        In words, for the ledger.
    """

    actor: str
    reason: str
    now: datetime


def moment_of_act(state: ModelState, now: datetime, *after: datetime) -> datetime:
    """Return when an act counts as done: now, but after every alias move that it was decided on, and ``after``.

    Clocks differ, and the order of the moves is that of their revisions: the history must be in the same order.
    """
    earlier = [*after, *([state.aliases_moved_at] if state.aliases_moved_at else [])]
    return max([now, *(moment + _TICK for moment in earlier)])


def insist_on_champion(state: ModelState, expected: int | None) -> None:
    """Raise ``ConflictError``, which says what the champion is now, unless it is the expected one (None: none)."""
    present = state.aliases.get(CHAMPION)
    if present != expected:
        raise ConflictError(
            f"the champion of {state.model!r} is {name_version(present)} now, not {name_version(expected)}: "
            "look, and decide again"
        )


def name_version(version: int | None) -> str:
    """Return a version in words."""
    return "no version" if version is None else f"version {version}"


#: What serving loads; the rest is for people.
_SERVED = ("signature.json", "model.onnx")


def find_fit_version(model: str, number: int, registry: Registry, model_store: ObjectStore) -> ModelVersion:
    """Return a version that may serve.

    Raises
    ------
    VersionNotFoundError
        When there is none of that number.
    UnfitVersionError
        When it is retired or of a model that was deleted, or an artifact is missing or not the one that was registered.
    """
    version = registry.get_version(model, number)
    if version.status == "retired":
        raise UnfitVersionError(f"version {number} of {model!r} is retired")
    if ended := end_of(registry.get_state(model), version.created_at):
        # Its deletion may not have come to retire it yet.
        raise UnfitVersionError(f"version {number} is of the {model!r} that {deleted(ended)}")
    try:
        manifest = model_store.get(version_key(model, number, "manifest.json"))
        _verify(manifest, version.manifest_sha256, "manifest.json", version)
        artifacts = json.loads(manifest)["artifacts"]
        for name in _SERVED:
            _verify(model_store.get(version_key(model, number, name)), artifacts[name]["sha256"], name, version)
    except ArtifactNotFoundError as error:
        raise UnfitVersionError(f"version {number} of {model!r} is not whole: {error.message}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UnfitVersionError(f"the manifest of version {number} of {model!r} cannot be read") from error
    return version


def _verify(body: bytes, expected: str, name: str, version: ModelVersion) -> None:
    if hashlib.sha256(body).hexdigest() != expected:
        raise UnfitVersionError(f"{name} of version {version.version} of {version.model!r} is not what was registered")


@dataclass(frozen=True, slots=True)
class ChampionChange:
    """What became of the champion.

    Parameters
    ----------
    outcome : {'promoted', 'rolled_back', 'already'}
        ``already``: it was so before; nothing was done or recorded.
    passed_over : tuple of str
        Earlier champions that a rollback could not go back to, with the reasons.
    """

    model: str
    outcome: Literal["promoted", "rolled_back", "already"]
    from_version: int | None
    to_version: int
    passed_over: tuple[str, ...] = ()


def promote(
    model: str,
    version: int,
    acting: Acting,
    *,
    registry: Registry,
    model_store: ObjectStore,
    expected_champion: int | None = None,
) -> ChampionChange:
    """Make ``version`` the champion; a challenger of that number is none any more.

    Raises
    ------
    ModelNotFoundError, ModelDeletedError, VersionNotFoundError
        When there is none (any more).
    UnfitVersionError
        When it is retired or not stored as it was registered.
    ConflictError
        When it waits for an approval, the champion is not the expected one, or an alias moved meanwhile.
    """
    state = registry.get_state(model)
    insist_on_living(state)
    present = state.aliases.get(CHAMPION)
    if present == version:
        return ChampionChange(model, "already", present, version)
    if expected_champion is not None:
        insist_on_champion(state, expected_champion)
    found = find_fit_version(model, version, registry, model_store)
    if found.outcome == "awaiting_approval":
        raise ConflictError(f"version {version} waits for an answer: approve or reject run {found.run_id}")
    _move_champion("model_promoted", state, version, acting, registry)
    return ChampionChange(model, "promoted", present, version)


def roll_back(
    model: str,
    acting: Acting,
    *,
    registry: Registry,
    model_store: ObjectStore,
    to_version: int | None = None,
    expected_champion: int | None = None,
) -> ChampionChange:
    """Make an earlier champion the champion again: ``to_version``, or the one before that is fit to serve.

    A caller who names the ``expected_champion`` may repeat the call: a rollback from that version is done once.

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
    insist_on_living(state)
    present = state.aliases.get(CHAMPION)
    moves = registry.list_alias_moves(model, CHAMPION)
    if present is not None and (done := _repeated(moves, expected_champion, to_version)):
        return ChampionChange(model, "already", done.from_version, present)
    if expected_champion is not None:
        insist_on_champion(state, expected_champion)
    if to_version is None:
        target, passed_over = _previous_champion(state, moves, registry, model_store)
    else:
        if to_version not in {move.to_version for move in moves} or to_version == present:
            raise ConflictError(f"version {to_version} of {model!r} is no earlier champion: promote it instead")
        target, passed_over = find_fit_version(model, to_version, registry, model_store).version, ()
    _move_champion("model_rolled_back", state, target, acting, registry)
    return ChampionChange(model, "rolled_back", present, target, passed_over)


def earlier_champions(moves: Sequence[AliasMove]) -> list[int]:
    """Return what a rollback may go back to, nearest first.

    Parameters
    ----------
    moves : sequence of AliasMove
        Of the champion, newest first.

    Notes
    -----
    A rollback takes back what was promoted since, so that a second one goes further back and not forth again.
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


def champion_moves(state: ModelState, version: int) -> tuple[Move, ...]:
    """Return the moves that make ``version`` the champion: it is no challenger then."""
    moves = [Move(CHAMPION, state.aliases.get(CHAMPION), version)]
    if state.aliases.get(CHALLENGER) == version:
        moves.append(Move(CHALLENGER, version, None))
    return tuple(moves)


def _move_champion(action: str, state: ModelState, version: int, acting: Acting, registry: Registry) -> None:
    present = state.aliases.get(CHAMPION)
    entry = LedgerEntry(
        model=state.model,
        entry_id=f"{CHAMPION}-{state.revision + 1}",
        occurred_at=moment_of_act(state, acting.now),
        actor=acting.actor,
        action=action,
        reason=acting.reason,
        details={"alias": CHAMPION, "from_version": present, "to_version": version},
    )
    try:
        registry.perform(Act(entry, state.revision, champion_moves(state, version)))
    except AliasConflictError as error:
        now = registry.get_state(state.model).aliases.get(CHAMPION)
        raise AliasConflictError(
            f"an alias of {state.model!r} moved meanwhile: the champion is {name_version(now)} now; "
            "look, and decide again"
        ) from error


def _repeated(moves: Sequence[AliasMove], expected: int | None, to_version: int | None) -> AliasMove | None:
    """Return the last move when it is the very rollback that is asked for."""
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
            return find_fit_version(state.model, version, registry, model_store).version, tuple(passed_over)
        except (UnfitVersionError, VersionNotFoundError) as error:
            passed_over.append(error.message)
    reasons = f": {'; '.join(passed_over)}" if passed_over else ""
    raise ConflictError(f"{state.model!r} has no earlier champion to go back to{reasons}")


ACTOR = "register_model"
_MAX_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class Claim:
    """What the gate decided about a version.

    Parameters
    ----------
    may_be_champion : bool
        Whether it was let in as champion, or only as challenger.
    compared_with : int or None
        The champion at that time.
    reason : str
        The gate's, in words.
    """

    may_be_champion: bool
    compared_with: int | None
    reason: str
    run_id: str


@dataclass(frozen=True, slots=True)
class Settled:
    """What a version became, and that in words."""

    outcome: VersionOutcome
    words: str


def settle(claim: Claim, version: ModelVersion, registry: Registry, now: datetime) -> Settled:
    """Settle a version, unless it is settled.

    Raises
    ------
    ModelDeletedError
        When the model was deleted since the version was made.
    ServiceUnavailableError
        When the aliases keep being moved by others.
    """
    needs_approval = registry.get_spec(version.model).approval.mode == "manual"
    for _ in range(_MAX_ATTEMPTS):
        present = registry.get_version(version.model, version.version)
        if present.outcome != "pending":
            return Settled(present.outcome, _in_words(present.outcome, ""))
        state = registry.get_state(version.model)
        insist_on_living(state, version.created_at)
        settled = _decide(claim, state, needs_approval)
        try:
            registry.perform(_act(claim, version, state, settled, now))
        except UnfitVersionError:
            raise
        except ConflictError:
            # An alias moved, or the same registration, made twice, was faster: look again.
            continue
        return settled
    raise ServiceUnavailableError(f"the aliases of {version.model!r} keep moving; {version.version} is not settled yet")


def _decide(claim: Claim, state: ModelState, needs_approval: bool) -> Settled:
    outcome: VersionOutcome = "kept"
    reason = claim.reason
    champion = state.aliases.get(CHAMPION)
    if claim.may_be_champion and champion != claim.compared_with:
        compared = name_version(claim.compared_with)
        reason = f"the champion is {name_version(champion)} now, and the gate compared with {compared}"
    elif claim.may_be_champion:
        outcome = "awaiting_approval" if needs_approval else "promoted"
    return Settled(outcome, _in_words(outcome, reason))


def _act(claim: Claim, version: ModelVersion, state: ModelState, settled: Settled, now: datetime) -> Act:
    if settled.outcome == "promoted":
        moves = champion_moves(state, version.version)
    else:
        moves = (Move(CHALLENGER, state.aliases.get(CHALLENGER), version.version),)
    entry = LedgerEntry(
        model=version.model,
        entry_id=f"{moves[0].alias}-{state.revision + 1}",
        occurred_at=moment_of_act(state, now, version.created_at),
        actor=ACTOR,
        action="model_promoted" if settled.outcome == "promoted" else "alias_moved",
        reason=settled.words,
        details={
            "alias": moves[0].alias,
            "from_version": moves[0].from_version,
            "to_version": version.version,
            "run_id": claim.run_id,
        },
    )
    return Act(entry, state.revision, moves, Settlement(version.version, "pending", settled.outcome))


def _in_words(outcome: VersionOutcome, reason: str) -> str:
    words = {"kept": "kept as challenger", "awaiting_approval": "challenger until it is approved"}.get(outcome, outcome)
    return f"{words}: {reason}" if reason else words


@dataclass(frozen=True, slots=True)
class Retirement:
    """What became of a version that was to be retired; ``already`` when it was before."""

    model: str
    version: int
    outcome: Literal["retired", "already"]


def retire(model: str, version: int, acting: Acting, *, registry: Registry) -> Retirement:
    """Retire a version, for good.

    Raises
    ------
    ModelNotFoundError, VersionNotFoundError
        When there is none.
    ConflictError
        While an alias points to it or its run goes on, or when an alias moved meanwhile.
    """
    state = registry.get_state(model)
    found = registry.get_version(model, version)
    if found.status == "retired":
        return Retirement(model, version, "already")
    pointing = sorted(alias for alias, pointed in state.aliases.items() if pointed == version)
    if pointing:
        raise ConflictError(f"version {version} of {model!r} is in use: it is the {' and the '.join(pointing)}")
    if _is_running(found, registry):
        raise ConflictError(f"version {version} of {model!r} is in use: run {found.run_id} has not ended")
    entry = LedgerEntry(
        model=model,
        entry_id=f"version-{version}-retired",
        occurred_at=moment_of_act(state, acting.now),
        actor=acting.actor,
        action="model_retired",
        reason=acting.reason,
        details={"version": version, "semantic_version": found.semantic_version},
    )
    try:
        registry.perform(Act(entry, state.revision, retires=version))
    except UnfitVersionError:
        return Retirement(model, version, "already")
    return Retirement(model, version, "retired")


def _is_running(version: ModelVersion, registry: Registry) -> bool:
    """Tell whether the version's run goes on: it may still be registering it, or waiting for an approval."""
    try:
        return registry.get_run(version.model, version.run_id).status not in FINISHED_STATUSES
    except RunNotFoundError:
        return False
