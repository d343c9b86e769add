"""The step of a release: what follows from its evidence at a time. A pure function."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal

import msgspec

from millrace.entities import Release, ReleaseStatus
from millrace.quantities import format_share
from millrace.releases.evidence import ArmCounts, Evidence, add_point, count_evidence, count_tests, guard_ratios
from millrace.releases.guards import ALPHA, log_e_limit
from millrace.releases.paired_quality import find_hold_by_replay, find_worse_by_replay
from millrace.releases.replay_evidence import ReplayEvidence
from millrace.releases.reward_decisions import RewardDecision, decide_by_rewards, describe_rewards
from millrace.releases.rewards import RewardEvidence
from millrace.routing import CANDIDATE_ARM
from millrace.spec.release import LEAST_BAKE, ReleaseSpec, TrafficGuard

#: The clocks of what starts a release, counts its requests and replays them may differ by so much.
CLOCK_SKEW = timedelta(minutes=5)

DecisionKind = Literal["hold", "advance", "complete", "roll_back", "expire"]


@dataclass(frozen=True, slots=True)
class StepDecision:
    """A decision: the release after it, and facts for the ledger.

    ``has_news`` is False for a hold that changes nothing worth storing.
    """

    kind: DecisionKind
    after: Release
    details: dict[str, Any]
    has_news: bool = True
    winner: int | None = None  # the version to promote; None for the candidate

    @property
    def reason(self) -> str:
        """The reason, a sentence."""
        return self.after.decision


def step(
    release: Release,
    counts: ArmCounts,
    now: datetime,
    *,
    rewards: RewardEvidence | None = None,
    replay: ReplayEvidence | None = None,
) -> StepDecision:
    """Decide on an active release.

    Too little data holds: it neither passes a stage nor fails one. A paused release does not advance, and a guard that
    finds the candidate worse ends it all the same.

    Parameters
    ----------
    counts : ArmCounts
        Of the present stage, from its beginning.
    rewards : RewardEvidence or None
        Of ``ab_test`` and ``bandit``.
    replay : ReplayEvidence or None
        Of a release with guards on replayed traffic.
    """
    spec, evidence = release.spec, Evidence.of(release)
    has_rewards = rewards is not None and rewards != evidence.rewards
    has_replay = replay is not None and replay != evidence.replay
    evidence = msgspec.structs.replace(evidence, rewards=rewards or evidence.rewards, replay=replay or evidence.replay)
    is_over, wanted = _is_stage_over(release, evidence, counts, now)
    # When a window is closed, the bad events in it must not matter.
    is_due = evidence.is_due(counts, now) or (is_over and counts.requests > evidence.counted.requests)
    if is_due:
        evidence = evidence.close_window(counts, release, now)
    worse = evidence.find_worse(count_tests(spec))
    if worse is not None:
        return _roll_back(release, evidence, worse, now)
    if (found := _find_worse_by_replay(spec, evidence)) is not None:
        reason, details = found
        return _decide("roll_back", release, evidence, reason, now, status="rolled_back", details=details)
    has_news = is_due or has_rewards or has_replay
    if release.status == "paused":
        return _decide("hold", release, evidence, "paused", now, has_news=has_news)
    position = _Position(release, evidence, counts, now, is_over=is_over, has_rewards=has_rewards)
    unloaded = position.find_unloaded()
    if unloaded and evidence.window_unloaded == evidence.window_requests:
        return fail_release(release, f"no environment could load version {release.candidate}: {unloaded}", now)
    objection = unloaded or position.find_mismatch() or position.find_hold_by_replay() or position.find_doubt()
    decided = position.decide(objection)
    if decided is not None:
        return decided
    since = release.stage_since or release.started_at
    if position.compares_rewards:
        wanted = describe_rewards(release, evidence.rewards)
    reason = f"held at {_name_stage(release)}: {objection or wanted}, since {since:%H:%M} UTC"
    return _decide("hold", release, evidence, reason, now, has_news=has_news)


@dataclass(frozen=True, slots=True)
class _Position:
    """A release that no guard ends, and that is not paused."""

    release: Release
    evidence: Evidence
    counts: ArmCounts
    now: datetime
    is_over: bool  # the stage has lasted long enough, with requests enough
    has_rewards: bool  # there are rewards that were not decided on

    @property
    def compares_rewards(self) -> bool:
        return self.release.spec.reward is not None and self.release.stage_kind == "serve"

    def decide(self, objection: str) -> StepDecision | None:
        """Return the decision that ends the stage or the release; None where it goes on."""
        release, evidence, now = self.release, self.evidence, self.now
        is_last = now - release.started_at >= release.spec.longest and release.spec.on_undecided != "hold"
        if self.compares_rewards and not objection:
            decided = decide_by_rewards(release, evidence.rewards, has_rewards=self.has_rewards, is_last=is_last)
            if decided is not None:
                return _follow_rewards(release, evidence, self.counts, decided, now)
        replay = evidence.replay
        if release.stage_kind == "replay" and replay is not None and replay.status == "refused":
            reason = f"its traffic cannot be replayed: {replay.reason}; release it without shadow_first"
            return _decide("expire", release, evidence, reason, now, status="expired")
        if is_last:
            return _end_undecided(release, evidence, objection, now)
        if self.is_over and not objection and not self.compares_rewards:
            return _pass_stage(release, evidence, self.counts, now)
        return None

    def find_mismatch(self) -> str:
        """Return the shares of the keys that do not match the plan's, as text."""
        shares = self.evidence.shares
        if not shares.is_mismatch:
            return ""
        keys = f"{shares.counts.get(CANDIDATE_ARM, 0)} of {sum(shares.counts.values())} sampled keys"
        planned = format_share(self.release.weight)
        return f"records are missing: {keys} are the candidate's where {planned} should be"

    def find_hold_by_replay(self) -> str:
        """Return the reason for which a replay holds the release."""
        replay = self.evidence.replay
        return (find_hold_by_replay(replay, self.release.spec.replay_guards) or "") if replay else ""

    def find_doubt(self) -> str:
        """Return what speaks against the candidate though no guard has refuted it, as text.

        Few requests, most of them the candidate's, refute nothing even if all of them fail: that has to hold, not pass.
        """
        if self.release.stage_kind != "serve":
            return ""
        spec, evidence = self.release.spec, self.evidence
        limit = log_e_limit(count_tests(spec))
        for name in guard_ratios(spec):
            events = self.counts.bad_events(name, evidence.slow_over_ms)
            # What is slow follows from the champion's day before, and may be slow for both.
            if name != "slow" and 2 * events.candidate_bad > events.candidate_requests:
                return (
                    f"{events.candidate_bad} of {events.candidate_requests} requests of the candidate count as {name}"
                )
            if name in evidence.guards and 2 * evidence.guards[name].log_e > limit:
                return f"the guard {name} is halfway to finding the candidate worse"
        return ""

    def find_unloaded(self) -> str:
        """Return the number of requests in environments that lack the candidate, while it has to be loaded, as text."""
        evidence = self.evidence
        if not (self.release.stage_kind == "preload" and self.is_over and evidence.window_unloaded):
            return ""
        requests = f"{evidence.window_unloaded} of {evidence.window_requests} requests"
        return f"{requests} were in environments that have not loaded it"


def _follow_rewards(
    release: Release, evidence: Evidence, counts: ArmCounts, decided: RewardDecision, now: datetime
) -> StepDecision:
    if decided.shares is not None:
        advanced = replace(release, stage=release.stage + 1, stage_since=now, shares=decided.shares)
        return _decide("advance", advanced, evidence.pass_stage(counts, now), decided.reason, now)
    if decided.winner == release.baseline:
        return _decide("roll_back", release, evidence, decided.reason, now, status="rolled_back")
    return replace(_decide("complete", release, evidence, decided.reason, now), winner=decided.winner)


def _name_stage(release: Release) -> str:
    return format_share(release.weight) if release.stage_kind == "serve" else release.stage_kind


def _is_stage_over(release: Release, evidence: Evidence, counts: ArmCounts, now: datetime) -> tuple[bool, str]:
    """Return whether a stage has lasted long enough and has had requests enough, and the requests so far as text."""
    if release.stage_kind == "replay":
        return _is_replayed(release, evidence.replay, now)
    spec, is_preload = release.spec, release.stage_kind == "preload"
    least = min(LEAST_BAKE, spec.bake_time) if is_preload else spec.bake_time
    requests = count_evidence(counts.champion if is_preload else counts.candidate)
    wanted = f"{requests} of {spec.min_requests} requests" + ("" if is_preload else " of the candidate")
    return now - (release.stage_since or release.started_at) >= least and requests >= spec.min_requests, wanted


def _is_replayed(release: Release, replay: ReplayEvidence | None, now: datetime) -> tuple[bool, str]:
    """Return whether the traffic before a release, or of its time as a shadow, has been replayed; and how much."""
    rows, begun = replay.rows if replay else 0, release.stage_since or release.started_at
    wanted = f"{rows} of {release.spec.min_requests} captured rows are replayed"
    if replay is None or replay.until is None or rows < release.spec.min_requests:
        return False, wanted
    least = release.spec.bake_time if release.spec.strategy == "shadow" else timedelta()
    return now - begun >= least and replay.until >= begun - CLOCK_SKEW, f"{wanted}, up to {replay.until:%H:%M} UTC"


def _find_worse_by_replay(spec: ReleaseSpec, evidence: Evidence) -> tuple[str, dict[str, Any]] | None:
    """Return the reason for which replayed traffic ends a release, and facts for the ledger."""
    found = evidence.replay and find_worse_by_replay(evidence.replay, spec.replay_guards, ALPHA / count_tests(spec))
    if not found:
        return None
    guard, details = found
    loss = f"{details['metric']} is {-details['gain']:.4g} worse on {details['pairs']:,} labelled rows"
    return f"the guard {guard} finds the candidate worse: {loss}, {details['margin']:.4g} is tolerated", details


def _roll_back(release: Release, evidence: Evidence, worse: TrafficGuard, now: datetime) -> StepDecision:
    state = evidence.guards[worse]
    candidate = f"{state.candidate_bad} of {state.candidate_requests} requests"
    champion = f"{state.champion_bad} of {state.champion_requests} of the champion's"
    reason = f"the guard {worse} finds the candidate worse: {candidate}, {champion}"
    details: dict[str, Any] = {"guard": worse, "log_e": state.log_e, "windows": state.windows}
    details |= {name: getattr(state, name) for name in _COUNTS}
    return _decide("roll_back", release, evidence, reason, now, status="rolled_back", details=details)


def _end_undecided(release: Release, evidence: Evidence, objection: str, now: datetime) -> StepDecision:
    reason = f"undecided after {release.spec.max_duration}" + (f", and {objection}" if objection else "")
    if release.spec.on_undecided == "promote" and not objection:
        return _decide("complete", release, evidence, f"{reason}: promoted, as it passed the gate", now)
    return _decide("expire", release, evidence, f"{reason}: returned to the champion", now, status="expired")


def _pass_stage(release: Release, evidence: Evidence, counts: ArmCounts, now: datetime) -> StepDecision:
    passed = f"{count_evidence(counts.candidate)} requests of the candidate, no guard objects"
    is_preload = release.stage_kind == "preload"
    if release.stage_kind == "replay" and evidence.replay is not None:
        passed = f"{evidence.replay.rows} captured rows replayed, no guard objects"
    if is_preload:
        passed = f"every environment of the last {evidence.window_requests} requests has loaded it"
    if release.stage + 1 == len(release.spec.stages):
        return _decide("complete", release, evidence, f"every stage passed: {passed}", now)
    advanced = replace(release, stage=release.stage + 1, stage_since=now)
    evidence = evidence.pass_stage(counts, now, preloaded=counts.without_keys().champion if is_preload else None)
    return _decide("advance", advanced, evidence, f"advanced to {format_share(advanced.weight)}: {passed}", now)


def fail_release(release: Release, reason: str, now: datetime) -> StepDecision:
    """Return the decision that ends a release whose candidate may not serve."""
    return _decide("roll_back", release, Evidence.of(release), reason, now, status="rolled_back")


_COUNTS = ("champion_requests", "champion_bad", "candidate_requests", "candidate_bad")


def _decide(
    kind: DecisionKind,
    release: Release,
    evidence: Evidence,
    reason: str,
    now: datetime,
    *,
    status: ReleaseStatus | None = None,
    details: dict[str, Any] | None = None,
    has_news: bool = True,
) -> StepDecision:
    after = replace(
        release,
        status=status or release.status,
        revision=release.revision + 1,
        evidence=evidence.write(),
        history=add_point(release.history, release, evidence, now) if has_news else release.history,
        decision=reason,
        decided_at=release.decide_at(now),
        ended_at=now if status else None,
    )
    return StepDecision(kind, after, details or {}, has_news)
