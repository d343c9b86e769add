"""Rewards of a release's arms: what ``ab_test`` and ``bandit`` compare, for outcomes that the decision itself changes.

A reward is a number from 0 to 1, made of the outcome that was reported for a request. It counts once, when the request
is as old as the policy's ``reward_after``, whatever it is then: an outcome that was not reported in time is a reward of
0. So an arm cannot win because its successes are reported sooner.

The test of ``ab_test`` bets on each request's reward, less the mean reward before, divided by the share of its arm, and
negative for the champion's. Its mean is the difference of the arms' mean rewards, and it is bounded, so that
``prod(1 + bet * value)`` is a test supermartingale against "the candidate is no better", and with a negative sign
against "no worse" (Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", Journal of the
Royal Statistical Society B 86, 2024). The mean over several fixed bets needs no estimate of the best one. By Ville's
inequality both hold at every evaluation.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

import numpy as np

from millrace.documents import Document, Record
from millrace.entities import Release
from millrace.errors import ArtifactIntegrityError, ArtifactNotFoundError
from millrace.layout import monitoring_key
from millrace.ports import ObjectStore
from millrace.routing import CHAMPION_ARM
from millrace.spec.release import RewardSpec

#: Probability that ``ab_test`` finds a difference, in either direction, where there is none.
REWARD_ALPHA = 0.05
#: Bets as shares of the largest that cannot lose everything at once, evenly spaced on a logarithmic scale.
_STAKES = tuple(0.5 * 0.5**place for place in range(10))
#: Largest change of an arm's share in one evaluation of ``bandit``.
LARGEST_CHANGE = 0.2
_DRAWS = 4_000


class Reward(NamedTuple):
    """The reward of a request, from 0 to 1, and the arm that it was assigned to."""

    arm: str
    value: float


class ArmRewards(Record, frozen=True, kw_only=True, eq=False):
    """Number of an arm's rewards, and their sum."""

    count: int = 0
    total: float = 0.0

    @property
    def mean(self) -> float | None:
        """Mean reward; None without any."""
        return self.total / self.count if self.count else None


class RewardEvidence(Document, frozen=True, kw_only=True):
    """Rewards of a release up to ``until``, the time of the newest request that counts.

    ``log_better`` and ``log_worse`` are the logarithms of the capital of each bet, on the candidate and against it.
    """

    model: str
    release_id: str
    since: datetime
    until: datetime
    arms: dict[str, ArmRewards] = {}  # noqa: RUF012  # msgspec copies the default
    not_reported: int = 0
    log_better: tuple[float, ...] = ()
    log_worse: tuple[float, ...] = ()

    @property
    def log_e_better(self) -> float:
        """Natural logarithm of the e-value against "the candidate is no better"."""
        return _log_mean(self.log_better)

    @property
    def log_e_worse(self) -> float:
        """Natural logarithm of the e-value against "the candidate is no worse"."""
        return _log_mean(self.log_worse)

    @property
    def count(self) -> int:
        """Rewards of all arms."""
        return sum(arm.count for arm in self.arms.values())

    def add(self, rewards: Sequence[Reward], shares: Mapping[str, float]) -> tuple[dict[str, ArmRewards], "Bets"]:
        """Return the sums and the capital after further rewards; ``shares`` are the arms' in the release's plan."""
        values = np.array([reward.value for reward in rewards])
        arms = np.array([reward.arm for reward in rewards], dtype=object)
        sums = dict(self.arms)
        for arm in shares:
            own, before = values[arms == arm], sums.get(arm, ArmRewards())
            sums[arm] = ArmRewards(count=before.count + len(own), total=before.total + float(own.sum()))
        share = 1.0 - shares[CHAMPION_ARM]
        if not len(values) or not 0.0 < share < 1.0:
            return sums, Bets(self.log_better, self.log_worse)
        # A mean of what came before: a bet may depend on nothing else.
        expected = sum(arm.total for arm in self.arms.values()) / self.count if self.count else 0.5
        is_candidate = arms != CHAMPION_ARM
        differences = np.where(is_candidate, (values - expected) / share, (expected - values) / (1.0 - share))
        largest = 1.0 / max(1.0 / share, 1.0 / (1.0 - share))
        return sums, Bets(_bet(self.log_better, differences, largest), _bet(self.log_worse, -differences, largest))


class Bets(NamedTuple):
    """Logarithms of the capital of each bet, on the candidate and against it."""

    better: tuple[float, ...]
    worse: tuple[float, ...]


def _bet(
    before: tuple[float, ...], values: "np.ndarray[tuple[int], np.dtype[np.float64]]", largest: float
) -> tuple[float, ...]:
    gained = [float(np.log1p(stake * largest * values).sum()) for stake in _STAKES]
    return tuple(old + new for old, new in zip(before or (0.0,) * len(_STAKES), gained, strict=True))


def _log_mean(logs: Sequence[float]) -> float:
    if not logs:
        return 0.0
    largest = max(logs)
    return largest + math.log(sum(math.exp(one - largest) for one in logs) / len(logs))


def read_reward(outcome: str | float | None, reward: RewardSpec) -> float:
    """Return the reward of an outcome, from 0 to 1; 0 of one that was not reported, or that is no number."""
    if reward.outcome is not None:
        return float(outcome == reward.outcome)
    if reward.low is None or reward.high is None or not isinstance(outcome, int | float):
        return 0.0
    return min(1.0, max(0.0, (outcome - reward.low) / (reward.high - reward.low)))


def expect_rewards(effect: float, share: float, mean: float | None = None) -> int:
    """Return about how many rewards of both arms ``ab_test`` needs to find an effect.

    The capital of the best bet on values of mean ``effect`` and variance ``v`` grows by about ``effect ** 2 / (2 v)`` a
    value (Waudby-Smith and Ramdas 2024, section 5), and has to reach the number of bets over half the error
    probability. The variance of one reward is ``mean (1 - mean)``, at most a quarter.
    """
    variance = (mean * (1.0 - mean) if mean is not None and 0.0 < mean < 1.0 else 0.25) / (share * (1.0 - share))
    return math.ceil(2.0 * math.log(2.0 * len(_STAKES) / REWARD_ALPHA) * (variance + effect**2) / effect**2)


def find_best(arms: Mapping[str, ArmRewards], seed: int) -> dict[str, float]:
    """Return each arm's probability of having the largest mean reward.

    By draws from Beta distributions around a uniform prior, as Thompson sampling does (Agrawal and Goyal, "Analysis of
    Thompson sampling for the multi-armed bandit problem", COLT 2012, also for rewards between 0 and 1).
    """
    names, rng = sorted(arms), np.random.default_rng(seed)
    draws = np.array(
        [rng.beta(1.0 + arms[name].total, 1.0 + arms[name].count - arms[name].total, _DRAWS) for name in names]
    )
    won = np.bincount(draws.argmax(axis=0), minlength=len(names)) / _DRAWS
    return dict(zip(names, won.tolist(), strict=True))


def move_shares(present: Mapping[str, float], wanted: Mapping[str, float], floor: float) -> dict[str, float]:
    """Return shares between the present and the wanted ones: none below ``floor``, none further than a tick may move.

    All move by the same part of their way, so they add up to one.
    """
    free = 1.0 - floor * len(present)
    targets = {arm: floor + free * wanted.get(arm, 0.0) for arm in present}
    furthest = max(abs(targets[arm] - share) for arm, share in present.items())
    part = min(1.0, LARGEST_CHANGE / furthest) if furthest else 1.0
    return {arm: share + part * (targets[arm] - share) for arm, share in present.items()}


def reward_evidence_key(release: Release) -> str:
    """Return the key of the rewards of a release."""
    return monitoring_key(release.model, f"rewards/{release.release_id}.json")


def find_rewards(release: Release, data_store: ObjectStore) -> RewardEvidence | None:
    """Return the rewards of a release; None before the first, or when they cannot be read."""
    try:
        return RewardEvidence.read(data_store.get(reward_evidence_key(release)))
    except (ArtifactNotFoundError, ArtifactIntegrityError):
        return None


def first_of_each(keys: Iterable[str]) -> list[int]:
    """Return the places of the first of equal keys."""
    first: dict[str, int] = {}
    for place, key in enumerate(keys):
        first.setdefault(key, place)
    return list(first.values())
