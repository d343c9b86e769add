"""Changes of releases: how a version comes into service, and how a release ends that others end.

A version that passed the gate serves at once, begins a release, or waits for the one that is active. Whoever moves the
champion ends the active release in the same transaction, so that no request is routed beside another champion than the
release began with.
"""

import hashlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from millrace.entities import ModelState, Release, ReleaseStatus, VersionOutcome
from millrace.errors import ConflictError, ReleaseNotFoundError
from millrace.names import CHALLENGER, CHAMPION
from millrace.quantities import format_share
from millrace.registry.items import ModelKeys, decode
from millrace.registry.ledger import AuditContext, timestamp_after
from millrace.registry.store import Registry
from millrace.registry.transactions import (
    AssignOutcome,
    ChangeRelease,
    EndRelease,
    EndWait,
    MoveAlias,
    RegistryTransaction,
    StartRelease,
    VersionChange,
    WaitForRelease,
    name_version,
    replace_release,
)
from millrace.spec.release import ReleaseSpec


def get_release(model: str, release_id: str, registry: Registry) -> Release:
    """Return a release; raises ``ReleaseNotFoundError``."""
    item = registry.store.get(ModelKeys(model).item("RELEASE", release_id))
    if item is None:
        raise ReleaseNotFoundError(f"the model {model!r} has no release {release_id!r}")
    return decode(Release, item)


def find_active_release(state: ModelState, registry: Registry) -> Release | None:
    """Return the active release of a model, or None."""
    return get_release(state.model, state.release_id, registry) if state.release_id else None


def list_releases(model: str, registry: Registry, limit: int = 20) -> list[Release]:
    """Return the newest releases first."""
    return registry.list_page(Release, model, "RELEASE#", newest_first=True, limit=limit)[0]


def make_release(
    state: ModelState, candidate: int, spec: ReleaseSpec, audit: AuditContext, run_id: str | None = None
) -> Release:
    """Return the release of a candidate beside the present champion."""
    now = timestamp_after(state, audit.now)
    named = f"{state.model}\x1f{state.revision}\x1f{candidate}\x1f{audit.now.isoformat()}"
    release_id = f"r-{audit.now.astimezone(UTC):%Y%m%dT%H%M%S}-{hashlib.sha256(named.encode()).hexdigest()[:8]}"
    return Release(
        model=state.model,
        release_id=release_id,
        baseline=state.aliases[CHAMPION],
        candidate=candidate,
        policy=spec.dump(),
        started_at=now,
        started_by=audit.actor,
        reason=audit.reason,
        run_id=run_id,
        stage_since=now,
        decision=f"begun with {describe_stage(spec)}",
        decided_at=now,
    )


def describe_stage(spec: ReleaseSpec, place: int = 0) -> str:
    """Return a stage of a policy for a message."""
    kind, weight = spec.stages[place]
    texts = {"replay": "a replay of captured requests", "preload": "environments that load it"}
    return texts.get(kind) or f"{format_share(weight * (1 + len(spec.versions)))} of the requests"


def describe_start(release: Release) -> dict[str, object]:
    """Return the facts of a release for the ledger."""
    return {
        "release_id": release.release_id,
        "baseline": release.baseline,
        "candidate": release.candidate,
        "strategy": release.spec.strategy,
        "steps": list(release.spec.weights),
        "run_id": release.run_id,
    }


@dataclass(frozen=True, slots=True)
class Introduction:
    """The way in which a version that may serve comes into service, as changes and a ledger entry's parts."""

    outcome: VersionOutcome  # ``promoted`` at once; ``kept`` as challenger for a release, which promotes it
    action: str
    message: str
    changes: tuple[VersionChange, ...]
    details: dict[str, object]


def introduce(state: ModelState, version: int, spec: ReleaseSpec, audit: AuditContext, run_id: str) -> Introduction:
    """Introduce a version that passed the gate, by the model's ``release`` and what is under way.

    Further versions of a bandit are for the releases that people start: nobody knows yet what they are by then.
    """
    spec = spec.model_copy(update={"versions": ()})
    champion, challenger = state.aliases.get(CHAMPION), state.aliases.get(CHALLENGER)
    as_challenger = () if challenger == version else (MoveAlias(CHALLENGER, challenger, version),)
    alias: dict[str, object] = {"alias": CHALLENGER, "from_version": challenger}
    alias |= {"to_version": version, "run_id": run_id}
    if champion is not None and state.release_id is not None:
        message = f"kept as challenger: it waits for release {state.release_id} to end"
        details: dict[str, object] = {**alias, "release_id": state.release_id, "version": version}
        wait = WaitForRelease(version, champion, state.release_id)
        return Introduction("kept", "release_waiting", message, (*as_challenger, wait), details)
    if champion is not None and spec.strategy != "all_at_once":
        release = make_release(state, version, spec, audit, run_id)
        message = f"kept as challenger: release {release.release_id} begins with {describe_stage(spec)}"
        details = {**alias, **describe_start(release)}
        return Introduction("kept", "release_started", message, (*as_challenger, StartRelease(release)), details)
    details = {"alias": CHAMPION, "from_version": champion, "to_version": version, "run_id": run_id}
    return Introduction("promoted", "model_promoted", "", champion_moves(state, version), details)


def champion_moves(state: ModelState, version: int) -> tuple[MoveAlias, ...]:
    """Return the moves that make ``version`` the champion, and no challenger."""
    moves = [MoveAlias(CHAMPION, state.aliases.get(CHAMPION), version)]
    if state.aliases.get(CHALLENGER) == version:
        moves.append(MoveAlias(CHALLENGER, version, None))
    return tuple(moves)


def end_release(
    state: ModelState,
    version: int | None,
    audit: AuditContext,
    registry: Registry,
    occurred_at: datetime,
    *,
    completing: Release | None = None,
) -> tuple[EndRelease, ...]:
    """Return the end of the active release, if there is one, when ``version`` becomes the champion (None: no version).

    It completes the release when it is a candidate, and supersedes it otherwise. ``completing`` is the release as it
    was when its completion was decided: whoever has ended, paused or changed it since wins.

    Raises ``ConflictError`` when ``completing`` is not active any more.
    """
    if completing is not None and state.release_id != completing.release_id:
        ended = get_release(state.model, completing.release_id, registry)
        raise ConflictError(f"release {ended.release_id} of {state.model!r} is over: {ended.status}: {ended.decision}")
    release = completing or find_active_release(state, registry)
    if release is None:
        return ()
    completed = version in release.versions[1:]
    status: ReleaseStatus = "completed" if completed else "superseded"
    reason = audit.reason if completed else f"superseded by {name_version(version)}: {audit.reason}"
    entry_audit = AuditContext(audit.actor, reason, release.decide_at(occurred_at))
    details = {**describe_start(release), "stage": release.stage, "evidence": release.evidence}
    entry = entry_audit.entry(state, f"{release.release_id}-{status}", f"release_{status}", details)
    return (EndRelease(release.release_id, status, entry, None if completing is None else completing.revision),)


def save_evidence(after: Release, registry: Registry) -> bool:
    """Store the evidence and the decision of a release that goes on; False when somebody else changed it meanwhile."""
    return registry.store.write(replace_release(after)) is not None


def change_release(
    state: ModelState, after: Release, action: str, audit: AuditContext, registry: Registry, **details: object
) -> None:
    """Store a release in another stage or status, with the ledger entry, which is later than the release's others.

    Raises ``ConflictError`` when somebody else changed it or the model's aliases meanwhile.
    """
    facts = {**describe_start(after), "stage": after.stage, "weight": after.weight, **details}
    decided = AuditContext(audit.actor, audit.reason, after.decided_at or audit.now)
    entry = decided.entry(state, f"{after.release_id}-{after.revision}", action, facts)
    registry.commit(RegistryTransaction(entry, state.revision, (ChangeRelease(after),)))


def begin_release(
    state: ModelState, candidate: int, spec: ReleaseSpec, audit: AuditContext, registry: Registry, *, notice: str = ""
) -> Release:
    """Begin the release of a version beside the champion, with the ledger entry; ``notice`` says what to expect.

    Raises ``ConflictError`` when one is active, or the aliases moved meanwhile.
    """
    release = make_release(state, candidate, spec, audit)
    release = replace(release, decision=f"{release.decision}; {notice}") if notice else release
    entry = audit.entry(state, f"{release.release_id}-started", "release_started", describe_start(release))
    registry.commit(RegistryTransaction(entry, state.revision, (StartRelease(release),)))
    return release


def introduce_pending(state: ModelState, audit: AuditContext, registry: Registry) -> str:
    """Let the version that waited for a release come into service, or end its wait; return the ledger's action.

    It was compared with the champion of that time, so it serves only where that is the champion again.

    Raises ``ConflictError`` when somebody else was faster.
    """
    pending = state.pending_candidate or {}
    number, champion = pending["version"], state.aliases.get(CHAMPION)
    version = registry.get_version(state.model, number)
    if champion == pending["champion"] and version.status != "retired" and version.outcome == "kept":
        spec = registry.get_spec(state.model).release
        waited = AuditContext(audit.actor, f"version {number} waited for the release before to end", audit.now)
        introduced = introduce(state, number, spec, waited, version.run_id)
        changes, action = (*introduced.changes, EndWait()), introduced.action
        if introduced.outcome == "promoted":
            changes = (*changes, AssignOutcome(number, "kept", "promoted"))
        details, reason = introduced.details, waited.reason
    else:
        compared = name_version(pending["champion"])
        reason = f"version {number} does not come into service: it is {version.status}, the champion is "
        reason += f"{name_version(champion)}, and the gate compared with {compared}"
        changes, action, details = (EndWait(),), "release_wait_ended", {"version": number}
    entry = AuditContext(audit.actor, reason, audit.now).entry(
        state, f"waited-{number}-{state.revision + 1}", action, details
    )
    registry.commit(RegistryTransaction(entry, state.revision, changes))
    return action
