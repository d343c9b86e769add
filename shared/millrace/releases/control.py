"""Control of releases by people: start, pause, resume, abort, promote; and their description."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from pydantic import ValidationError

from millrace.documents import to_plain
from millrace.entities import ModelState, Release, ReleaseStatus
from millrace.errors import (
    ConflictError,
    InvalidInputError,
    ModelNotReadyError,
    ReleaseNotFoundError,
    UnfitVersionError,
)
from millrace.layout import version_key
from millrace.manifest import SIGNATURE, Signature
from millrace.names import CHAMPION
from millrace.ports import ObjectStore
from millrace.registry.ledger import AuditContext
from millrace.registry.promotion import find_servable_version, promote
from millrace.registry.release_changes import (
    begin_release,
    change_release,
    find_active_release,
    get_release,
    list_releases,
)
from millrace.registry.store import Registry
from millrace.releases.evidence import Evidence, count_evidence, count_tests
from millrace.releases.guards import ALPHA, log_e_limit
from millrace.releases.replay_evidence import PairedQuality
from millrace.releases.reward_decisions import describe_need
from millrace.releases.rewards import REWARD_ALPHA, RewardEvidence
from millrace.retry import retry
from millrace.routing import CHAMPION_ARM
from millrace.spec.part import invalid_input
from millrace.spec.release import ReleaseSpec

ReleaseAction = Literal["pause", "resume", "abort", "promote"]
RELEASE_ACTIONS: tuple[ReleaseAction, ...] = ("pause", "resume", "abort", "promote")


@dataclass(frozen=True, slots=True)
class ReleaseResult:
    """The result of a change; ``already`` when the release was so before."""

    outcome: Literal["started", "paused", "resumed", "aborted", "promoted", "already"]
    release: Mapping[str, Any]


def start_release(
    model: str,
    version: int,
    overrides: Mapping[str, Any],
    audit: AuditContext,
    *,
    registry: Registry,
    model_store: ObjectStore,
) -> ReleaseResult:
    """Start the release of a version, by the model's spec with ``overrides``; without a strategy it is a canary.

    Raises
    ------
    ModelNotReadyError
        When the model has no champion that the candidate could be released beside.
    ConflictError
        When a release is active, the version is the champion or waits for approval, or an alias moved meanwhile.
    InvalidInputError
        When the overrides and the spec are no policy.
    UnfitVersionError, VersionNotFoundError
        When the version may not serve.
    """
    state = registry.get_state(model)
    state.ensure_not_deleted()
    champion = state.aliases.get(CHAMPION)
    if champion is None:
        raise ModelNotReadyError(f"{model!r} has no champion to release a version beside: promote it instead")
    if champion == version:
        raise ConflictError(f"version {version} of {model!r} is the champion already")
    if state.release_id is not None:
        way = f'promote or abort it first: millrace release abort {model} --reason "..."'
        raise ConflictError(f"release {state.release_id} of {model!r} is active; {way}")
    policy = _read_policy(registry.get_spec(model).release, overrides)
    if {version, champion} & {*policy.versions}:
        raise InvalidInputError(f"versions of {model!r} are further candidates: remove {version} and {champion} there")
    for candidate in (version, *policy.versions):
        found = find_servable_version(model, candidate, registry, model_store)
        if found.outcome == "awaiting_approval":
            raise ConflictError(f"version {candidate} waits for approval: approve or reject run {found.run_id}")
    notice = _check_reward(model, version, policy, model_store)
    return ReleaseResult(
        "started", describe_release(begin_release(state, version, policy, audit, registry, notice=notice))
    )


def _check_reward(model: str, version: int, policy: ReleaseSpec, model_store: ObjectStore) -> str:
    """Return what a comparison of rewards needs, as text; raises ``InvalidInputError`` for a reward that cannot be."""
    if policy.reward is None:
        return ""
    schema = Signature.read(model_store.get(version_key(model, version, SIGNATURE))).schema
    classes, outcome = schema.get("classes") or (), policy.reward.outcome
    if outcome is None and classes:
        raise InvalidInputError(f"outcomes of {model!r} are classes: a reward is one of {', '.join(classes)}")
    if outcome is not None and outcome not in classes:
        known = f"one of {', '.join(classes)}" if classes else "a number: write low and high"
        raise InvalidInputError(f"no outcome of {model!r} is {outcome!r}: a reward is {known}")
    if policy.strategy != "ab_test":
        return ""
    measure = f"the mean of outcomes that are {outcome}" if outcome else "the mean of outcomes"
    weight = next(stage.weight for stage in policy.stages if stage.kind == "serve")
    return f"compares {measure}: {describe_need(policy.effect, weight)}"


def _read_policy(spec: ReleaseSpec, overrides: Mapping[str, Any]) -> ReleaseSpec:
    document = spec.dump()
    default = "canary" if spec.strategy == "all_at_once" else spec.strategy
    strategy = overrides.get("strategy", default)
    if strategy != spec.strategy:
        document |= {"strategy": strategy, "steps": None, "reward": None, "versions": []}
    try:
        policy = ReleaseSpec.model_validate(document | dict(overrides))
    except ValidationError as error:
        raise invalid_input("the release is not valid", error) from error
    if policy.strategy == "all_at_once":
        raise ConflictError("all_at_once is no release: promote the version instead")
    return policy


def change_active_release(
    model: str,
    release_id: str,
    action: ReleaseAction,
    audit: AuditContext,
    *,
    registry: Registry,
    model_store: ObjectStore,
) -> ReleaseResult:
    """Pause, resume, abort or promote a release by its id, or the ``active`` one.

    Raises
    ------
    ReleaseNotFoundError
        When there is none of that id, or none is active.
    ConflictError
        When it has ended otherwise.
    UnfitVersionError
        When the candidate to promote may not serve.
    ServiceUnavailableError
        When others keep changing it.
    """
    found = find_release(model, release_id, registry)

    def attempt() -> ReleaseResult | None:
        state, release = registry.get_state(model), get_release(model, found.release_id, registry)
        if release.status == _DONE[action]:
            return ReleaseResult("already", describe_release(release))
        if not release.is_active or release.release_id != state.release_id:
            over = f"release {release.release_id} of {model!r} is over"
            raise ConflictError(f"{over}: {release.status}: {release.decision}")
        try:
            return _change(state, release, action, audit, registry=registry, model_store=model_store)
        except UnfitVersionError:
            raise
        except ConflictError:
            # A tick stored its evidence in between, or somebody else was faster.
            if registry.get_state(model).aliases.get(CHAMPION) != release.baseline:
                raise
            return None

    return retry(attempt, f"release {found.release_id} of {model!r} keeps being changed by others; try again")


_DONE: Mapping[ReleaseAction, ReleaseStatus] = {
    "pause": "paused",
    "resume": "running",
    "abort": "aborted",
    "promote": "completed",
}


def _change(
    state: ModelState,
    release: Release,
    action: ReleaseAction,
    audit: AuditContext,
    *,
    registry: Registry,
    model_store: ObjectStore,
) -> ReleaseResult:
    if action == "promote":
        promote(
            release.model,
            release.candidate,
            audit,
            registry=registry,
            model_store=model_store,
            expected_champion=release.baseline,
            completing=release,
        )
        return ReleaseResult("promoted", describe_release(get_release(release.model, release.release_id, registry)))
    after = replace(
        release,
        status=_DONE[action],
        revision=release.revision + 1,
        decision=f"{_PAST[action]}: {audit.reason}",
        decided_at=release.decide_at(audit.now),
        ended_at=audit.now if action == "abort" else None,
    )
    change_release(state, after, f"release_{_PAST[action]}", audit, registry)
    return ReleaseResult(_PAST[action], describe_release(after))


_PAST: Mapping[ReleaseAction, Literal["paused", "resumed", "aborted"]] = {
    "pause": "paused",
    "resume": "resumed",
    "abort": "aborted",
}


def find_release(model: str, release_id: str, registry: Registry) -> Release:
    """Return a release by its id, or the ``active`` one; raises ``ReleaseNotFoundError``."""
    if release_id != "active":
        return get_release(model, release_id, registry)
    release = find_active_release(registry.get_state(model), registry)
    if release is None:
        raise ReleaseNotFoundError(f"{model!r} has no active release; earlier ones: millrace release show {model}")
    return release


def describe_releases(model: str, registry: Registry) -> dict[str, Any]:
    """Return the newest releases of a model, and the version that waits for the active one to end."""
    state = registry.get_state(model)
    releases = [describe_release(release) for release in list_releases(model, registry)]
    return {"model": model, "releases": releases, "pending_candidate": to_plain(state.pending_candidate)}


def describe_release(release: Release) -> dict[str, Any]:
    """Return a release for the API: its policy, state, and each guard with its e-value."""
    evidence = Evidence.of(release)
    document: dict[str, Any] = to_plain(release)
    del document["evidence"]
    guards = [
        {
            "guard": name,
            "log_e": state.log_e,
            "windows": state.windows,
            "champion_bad": state.champion_bad,
            "champion_requests": state.champion_requests,
            "candidate_bad": state.candidate_bad,
            "candidate_requests": state.candidate_requests,
        }
        for name, state in evidence.guards.items()
    ]
    if evidence.replay is not None and evidence.replay.quality is not None:
        guards.append(_describe_quality(evidence.replay.quality))
    rewards = evidence.rewards
    kinds, steps = [stage.kind for stage in release.spec.stages], list(release.spec.weights)
    # A bandit's stages are as many as its shares have changed.
    further = max(0, release.stage + 1 - len(steps))
    kinds, steps = [*kinds, *[release.stage_kind] * further], [*steps, *[release.weight or steps[-1]] * further]
    counted = {arm: count_evidence(getattr(evidence.counted, arm)) for arm in ("champion", "candidate")}
    return document | {
        "weight": release.weight,
        "bake_until": to_plain((release.stage_since or release.started_at) + release.spec.bake_time),
        "is_begun": evidence.begun,
        "steps": steps,
        "stages": kinds,
        "alpha": ALPHA,
        "log_e_limit": log_e_limit(count_tests(release.spec)),
        "slow_over_ms": evidence.slow_over_ms,
        "stage_requests": counted,
        "guards": guards,
        "arms": [
            {"arm": arm, "version": {CHAMPION_ARM: release.baseline, **release.candidates}[arm], "share": share}
            for arm, share in (release.arm_shares if release.is_active else {}).items()
        ],
        "sampled_keys": {"counts": evidence.shares.counts, "is_mismatch": evidence.shares.is_mismatch},
        "replay": to_plain(evidence.replay),
        "rewards": None if rewards is None else _describe_rewards(rewards),
    }


def _describe_quality(quality: PairedQuality) -> dict[str, Any]:
    """Return the guard ``quality`` as the others are: losses instead of bad events, pairs instead of requests."""
    losses = {"champion_bad": quality.champion_loss, "candidate_bad": quality.candidate_loss}
    return {
        "guard": "quality",
        "log_e": quality.log_e_worse,
        "windows": 1,
        "champion_requests": quality.pairs,
        "candidate_requests": quality.pairs,
        **{name: round(loss * quality.pairs, 3) for name, loss in losses.items()},
    }


def _describe_rewards(rewards: RewardEvidence) -> dict[str, Any]:
    means = {arm: {"count": one.count, "mean": one.mean} for arm, one in rewards.arms.items()}
    return {
        "until": to_plain(rewards.until),
        "arms": means,
        "not_reported": rewards.not_reported,
        "log_e_better": rewards.log_e_better,
        "log_e_worse": rewards.log_e_worse,
        "log_e_limit": math.log(2.0 / REWARD_ALPHA),
    }
