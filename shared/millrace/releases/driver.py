"""The driver of releases: one tick reads a model's evidence, steps its release, and carries the decision out.

A tick may be repeated, come late, or come twice at once: every change is conditional on the release's revision, so one
of two ticks does it, and what a tick left undone the next one does. The schedule of the ticks exists while a release is
active or a version waits for its end.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from millrace.captures.traffic import read_traffic
from millrace.entities import ModelState, Release
from millrace.errors import ConflictError, UnfitVersionError, VersionNotFoundError
from millrace.ports import EventPublisher, ObjectStore, RegistryStore, Schedule, Schedules
from millrace.registry.ledger import AuditContext
from millrace.registry.promotion import promote
from millrace.registry.release_changes import (
    change_release,
    find_active_release,
    introduce_pending,
    save_evidence,
)
from millrace.registry.store import Registry
from millrace.releases.evidence import Evidence, count_stage
from millrace.releases.replay_events import request_replay_of_release
from millrace.releases.replay_evidence import ReplayEvidence, find_replay_evidence
from millrace.releases.rewards import find_rewards
from millrace.releases.step import CLOCK_SKEW, StepDecision, fail_release, step

ACTOR = "evaluate_release"
TICK = "rate(5 minutes)"
_DAY = timedelta(days=1)

TickOutcome = Literal[
    "idle", "introduced", "held", "advanced", "completed", "rolled_back", "expired", "overtaken", "not_found"
]


@dataclass(frozen=True, slots=True)
class Tick:
    """The result of a tick; ``overtaken``: somebody else changed the release or the champion meanwhile."""

    model: str
    outcome: TickOutcome
    release_id: str | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class TickStores:
    """The stores of a tick: the registry, the record of traffic, versions, and evidence that others write."""

    registry: Registry
    items: RegistryStore
    models: ObjectStore
    data: ObjectStore


def evaluate_release(
    model: str,
    *,
    registry: Registry,
    item_store: RegistryStore,
    model_store: ObjectStore,
    data_store: ObjectStore,
    schedules: Schedules,
    publisher: EventPublisher,
    now: datetime,
) -> Tick:
    """Do one tick of a model's release.

    Raises ``ServiceUnavailableError`` when the bus is busy; what was decided is written by then.
    """
    state = registry.find_state(model)
    if state is None:
        return Tick(model, "not_found")
    release = find_active_release(state, registry)
    if release is not None:
        _ensure_schedule(model, schedules)
        stores = TickStores(registry, item_store, model_store, data_store)
        replay = find_replay_evidence(release, data_store) if release.spec.replay_guards else None
        tick = _evaluate(state, release, replay, stores, now)
        if release.spec.replay_guards and tick.outcome in ("held", "advanced"):
            request_replay_of_release(release, replay, publisher, now)
        return tick
    if state.pending_candidate and state.deleted_at is None:
        try:
            action = introduce_pending(state, AuditContext(ACTOR, "", now), registry)
        except ConflictError as error:
            return Tick(model, "overtaken", reason=error.message)
        if action == "release_started":
            _ensure_schedule(model, schedules)
        return Tick(model, "introduced", reason=action)
    schedules.delete(model, "release")
    # A release that began in between, or a version that waits for it, found the schedule that is gone now.
    following = registry.find_state(model)
    if following is not None and (following.release_id or following.pending_candidate):
        _ensure_schedule(model, schedules)
    return Tick(model, "idle")


def _ensure_schedule(model: str, schedules: Schedules) -> None:
    if schedules.get(model, "release") is None:
        schedules.put(Schedule(model, "release", TICK))


def _evaluate(
    state: ModelState, release: Release, replay: ReplayEvidence | None, stores: TickStores, now: datetime
) -> Tick:
    item_store, registry = stores.items, stores.registry
    has_begun = Evidence.of(release).begun
    if not has_begun:
        before = read_traffic(item_store, release.model, release.started_at - _DAY, release.started_at)
        release = replace(release, evidence=Evidence().begin(release, before, now).write())
    since = (release.stage_since or release.started_at) - CLOCK_SKEW
    counts = count_stage(release, read_traffic(item_store, release.model, since, now + CLOCK_SKEW))
    rewards = find_rewards(release, stores.data) if release.spec.reward else None
    decision = step(release, counts, now, rewards=rewards, replay=replay)
    if decision.kind == "complete":
        return _complete(state, release, decision, registry=registry, model_store=stores.models, now=now)
    if decision.kind == "hold":
        saved = (has_begun and not decision.has_news) or save_evidence(decision.after, registry)
        return Tick(release.model, "held" if saved else "overtaken", release.release_id, decision.reason)
    return _change(state, decision, registry, now)


_CHANGES: dict[str, tuple[str, TickOutcome]] = {
    "advance": ("release_advanced", "advanced"),
    "roll_back": ("release_rolled_back", "rolled_back"),
    "expire": ("release_expired", "expired"),
}


def _change(state: ModelState, decision: StepDecision, registry: Registry, now: datetime) -> Tick:
    action, outcome = _CHANGES[decision.kind]
    model, release_id, audit = state.model, decision.after.release_id, AuditContext(ACTOR, decision.reason, now)
    try:
        change_release(state, decision.after, action, audit, registry, **decision.details)
    except ConflictError as error:
        return Tick(model, "overtaken", release_id, error.message)
    return Tick(model, outcome, release_id, decision.reason)


def _complete(
    state: ModelState,
    release: Release,
    decision: StepDecision,
    *,
    registry: Registry,
    model_store: ObjectStore,
    now: datetime,
) -> Tick:
    """Promote the candidate; one that may not serve (any more) ends the release as rolled back."""
    if not save_evidence(decision.after, registry):
        return Tick(release.model, "overtaken", release.release_id)
    audit, baseline = AuditContext(ACTOR, decision.reason, now), release.baseline
    try:
        promote(
            release.model,
            decision.winner or release.candidate,
            audit,
            registry=registry,
            model_store=model_store,
            expected_champion=baseline,
            completing=decision.after,
        )
    except (UnfitVersionError, VersionNotFoundError) as error:
        return _change(state, fail_release(decision.after, error.message, now), registry, now)
    except ConflictError as error:
        return Tick(release.model, "overtaken", release.release_id, error.message)
    return Tick(release.model, "completed", release.release_id, decision.reason)
