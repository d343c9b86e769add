"""What a registered version becomes: champion, challenger, or challenger until a person answers.

Settled once: the outcome stands on the version's record and is written with the alias move, so a registration that is
repeated finds it, whatever has moved since.

The gate's decision is about the champion that it compared with. When another version is the champion by the time
that this one is registered (a person promoted or rolled back, another run was faster), the decision says nothing
about that one: the version is kept as challenger, and people or the next run decide.
"""

from dataclasses import dataclass
from datetime import datetime

from millrace.errors import ConflictError, ServiceUnavailableError, UnfitVersionError
from millrace.names import CHALLENGER, CHAMPION
from millrace.ports import Registry
from millrace.registry.acting import moment_of_act, name_version
from millrace.registry.entities import Act, LedgerEntry, ModelState, ModelVersion, Move, Settlement, VersionOutcome
from millrace.registry.living import insist_on_living
from millrace.registry.promotion import champion_moves

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
