"""Decisions of ``ab_test`` and ``bandit`` on their rewards."""

import math
import zlib
from dataclasses import dataclass

from millrace.entities import Release
from millrace.quantities import format_number, format_share
from millrace.releases.rewards import REWARD_ALPHA, RewardEvidence, expect_rewards, find_best, move_shares
from millrace.routing import CHAMPION_ARM

#: Probability of having the largest mean reward with which ``bandit`` ends.
_SURE = 0.99
#: Shares that would move less stay: a stage of its own costs evidence.
_LEAST_CHANGE = 0.01
_PERCENT = 100.0


@dataclass(frozen=True, slots=True)
class RewardDecision:
    """The version that won, or the candidates' next shares; and the reason."""

    reason: str
    winner: int | None = None
    shares: dict[str, float] | None = None


def decide_by_rewards(
    release: Release, rewards: RewardEvidence | None, *, has_rewards: bool, is_last: bool
) -> RewardDecision | None:
    """Return what follows from the rewards; None where nothing does.

    Parameters
    ----------
    has_rewards : bool
        True when there are new ones since the last evaluation.
    is_last : bool
        True when the release has had its time.
    """
    if rewards is None or not rewards.count:
        return None
    if release.spec.strategy == "ab_test":
        return _decide_test(release, rewards)
    return _decide_bandit(release, rewards, has_rewards=has_rewards, is_last=is_last)


def _decide_test(release: Release, rewards: RewardEvidence) -> RewardDecision | None:
    limit = math.log(2.0 / REWARD_ALPHA)
    if rewards.log_e_better >= limit:
        return RewardDecision(f"the candidate's reward is larger: {_compare(rewards)}", winner=release.candidate)
    if rewards.log_e_worse >= limit:
        return RewardDecision(f"the candidate's reward is smaller: {_compare(rewards)}", winner=release.baseline)
    return None


def _decide_bandit(
    release: Release, rewards: RewardEvidence, *, has_rewards: bool, is_last: bool
) -> RewardDecision | None:
    least = min(arm.count for arm in rewards.arms.values())
    seed = zlib.crc32(f"{release.release_id}/{rewards.until.isoformat()}".encode())
    chances = find_best(rewards.arms, seed)
    best = max(chances, key=lambda arm: chances[arm])
    versions = {CHAMPION_ARM: release.baseline, **release.candidates}
    says = f"{best} has the largest reward with a probability of {format_share(chances[best])}: {_compare(rewards)}"
    if (chances[best] >= _SURE and least >= release.spec.min_requests) or (
        is_last and release.spec.on_undecided == "promote"
    ):
        return RewardDecision(says, winner=versions[best])
    if is_last or not has_rewards:
        return None
    present = release.arm_shares
    shares = move_shares(present, chances, release.spec.floor / _PERCENT)
    if max(abs(shares[arm] - share) for arm, share in present.items()) < _LEAST_CHANGE:
        return None
    del shares[CHAMPION_ARM]
    moved = ", ".join(f"{arm} {format_share(share)}" for arm, share in shares.items())
    return RewardDecision(f"shares are now {moved}; {says}", shares=shares)


def describe_rewards(release: Release, rewards: RewardEvidence | None) -> str:
    """Return the rewards so far, and what they are enough for, as text."""
    found = f"{rewards.count if rewards else 0} rewards"
    if release.spec.strategy != "ab_test":
        return found
    return f"{found}; {describe_need(release.spec.effect, release.weight, rewards)}"


def describe_need(effect: float, share: float, rewards: RewardEvidence | None = None) -> str:
    """Return about how many rewards ``ab_test`` needs, as text."""
    total = sum(arm.total for arm in rewards.arms.values()) if rewards else 0.0
    mean = total / rewards.count if rewards and rewards.count else None
    needed = format_number(float(f"{expect_rewards(effect, share, mean):.2g}"), grouped_from=1_000.0)
    about = "about" if mean is not None else "at most about"
    return f"a difference of {format_number(effect)} needs {about} {needed} rewards"


def _compare(rewards: RewardEvidence) -> str:
    means = [f"{arm} {format_number(one.mean or 0.0)} of {one.count}" for arm, one in rewards.arms.items()]
    return ", ".join(means)
