"""Promotion and rollback by people: which version serves, decided by whom and why."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from millrace.errors import AliasConflictError, ConflictError, UnfitVersionError, VersionNotFoundError
from millrace.names import CHALLENGER, CHAMPION
from millrace.ports import ObjectStore, Registry
from millrace.registry.acting import Acting, insist_on_champion, moment_of_act, name_version
from millrace.registry.entities import Act, AliasMove, LedgerEntry, ModelState, Move
from millrace.registry.integrity import find_fit_version
from millrace.registry.living import insist_on_living


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
