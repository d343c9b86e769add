"""Simulate the strategies beside a canary: blue/green, the test of shares, A/B tests, and bandits.

Streams are weeks of hours. Blue/green has a day of the champion before, and then every request. Shares are tested on a
sixteenth of the keys, each a caller of its own. A/B tests and bandits have rewards of 0 or 1, collected by the hour.

    python benchmarks/releases/strategies.py                 # docs/benchmarks.md has the tables
    python benchmarks/releases/strategies.py --streams 20 --seed 7
"""

import argparse
import math
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import numpy as np
from millrace.releases.evidence import GuardState
from millrace.releases.guards import ALPHA, BadEvents, is_worse
from millrace.releases.rewards import REWARD_ALPHA, Reward, RewardEvidence, find_best, move_shares
from millrace.releases.shares import MISMATCH_ALPHA, log_mismatch
from msgspec.structs import replace

HOURS = 168
RATES = (50, 500, 5_000)
#: Bad events of the champion by guard, as in ``simulate.py``.
BAD = {"errors": (0.002, 1.0), "slow": (0.05, 1.5), "not_finite": (0.0005, 1.0)}
TESTS = 8
KEY_SAMPLE = 1 / 16
Generator = np.random.Generator


def bake(rng: Generator, per_hour: int, factor: float, day: float) -> int | None:
    """Return the hour in which a guard of blue/green rolls back; ``day`` is a factor of all rates after the switch."""
    requests = int(rng.poisson(24 * per_hour))
    before = {name: BadEvents(requests, 0, int(rng.binomial(requests, rate)), 0) for name, (rate, _) in BAD.items()}
    states = dict.fromkeys(BAD, GuardState())
    for hour in range(HOURS):
        served = int(rng.poisson(per_hour))
        if not served:
            continue
        for name, (rate, ratio) in BAD.items():
            bad = int(rng.binomial(served, min(1.0, rate * day * (factor if name == "errors" else 1.0))))
            states[name] = states[name].add_alone(BadEvents(0, served, 0, bad), before[name], ratio, ALPHA / TESTS)
            if is_worse(states[name].log_wealth, TESTS):
                return hour
    return None


def lose(rng: Generator, per_hour: int, share: float, lost: float) -> int | None:
    """Return the hour in which shares do not match, where a part of the candidate's records is lost."""
    counts = {"champion": 0, "candidate": 0}
    shares = {"champion": 1.0 - share, "candidate": share}
    for hour in range(HOURS):
        counts["champion"] += int(rng.poisson(per_hour * KEY_SAMPLE * (1.0 - share)))
        counts["candidate"] += int(rng.poisson(per_hour * KEY_SAMPLE * share * (1.0 - lost)))
        if log_mismatch(counts, shares) >= -math.log(MISMATCH_ALPHA):
            return hour
    return None


def begin() -> RewardEvidence:
    """Return no rewards."""
    now = datetime(2026, 11, 30, tzinfo=UTC)
    return RewardEvidence(model="m", release_id="r", since=now, until=now)


def add(
    found: RewardEvidence, rng: Generator, means: dict[str, float], shares: dict[str, float], rows: int
) -> RewardEvidence:
    """Return the evidence with an hour's rewards."""
    names = [*shares]
    arms = rng.choice(len(names), size=rows, p=np.array([*shares.values()]) / sum(shares.values()))
    values = rng.random(rows) < np.array([means[name] for name in names])[arms]
    rewards = [Reward(names[arm], float(value)) for arm, value in zip(arms.tolist(), values.tolist(), strict=True)]
    sums, bets = found.add(rewards, shares)
    return replace(found, arms=sums, log_better=bets.better, log_worse=bets.worse)


def compare(rng: Generator, difference: float, share: float, most: int) -> tuple[str, int]:
    """Return what an A/B test finds for accuracies of 0.80 and the difference, and after how many labels."""
    found, means = begin(), {"champion": 0.8, "candidate": 0.8 + difference}
    shares = {"champion": 1.0 - share, "candidate": share}
    while found.count < most:
        found = add(found, rng, means, shares, 100)
        if found.log_e_worse >= math.log(2.0 / REWARD_ALPHA):
            return "worse", found.count
        if found.log_e_better >= math.log(2.0 / REWARD_ALPHA):
            return "better", found.count
    return "undecided", found.count


MEANS = {"champion": 0.10, "candidate": 0.10, "candidate_2": 0.12}
DELAY = 24


def thompson(found: RewardEvidence, shares: dict[str, float], hour: int) -> dict[str, float]:
    """Return the next shares of a bandit."""
    return move_shares(shares, find_best(found.arms, hour), 0.05) if found.count else shares


def even(_found: RewardEvidence, shares: dict[str, float], _hour: int) -> dict[str, float]:
    """Return the same shares."""
    return shares


def test_then_winner(found: RewardEvidence, shares: dict[str, float], hour: int) -> dict[str, float]:
    """Return even shares for half of the time, then everything for the arm with the largest mean."""
    if hour != HOURS // 2 or not found.count:
        return shares
    best = max(found.arms, key=lambda arm: found.arms[arm].mean or 0.0)
    return {arm: float(arm == best) for arm in shares}


def play(rng: Generator, per_hour: int, policy: Callable[..., dict[str, float]]) -> tuple[float, bool]:
    """Return the reward that a policy loses to always the best arm, as a share of it, and whether it names that arm."""
    shares, found, waiting, lost = dict.fromkeys(MEANS, 1 / 3), begin(), list[dict[str, float]](), 0.0
    for hour in range(HOURS):
        lost += sum(share * (max(MEANS.values()) - MEANS[arm]) for arm, share in shares.items())
        waiting.append(shares)
        if hour >= DELAY:
            found = add(found, rng, MEANS, waiting[hour - DELAY], int(rng.poisson(per_hour)))
        shares = policy(found, shares, hour)
    best = max(found.arms, key=lambda arm: found.arms[arm].mean or 0.0)
    return lost / HOURS / max(MEANS.values()), best == "candidate_2"


def describe(hours: list[int | None]) -> str:
    """Return the share of streams in which something was found, and the median hour."""
    found = [hour for hour in hours if hour is not None]
    median = f" · {int(np.median(found)) + 1} h" if found else ""
    return f"{len(found) / len(hours):.1%}{median}"


def rows(streams: int, seed: int) -> Iterator[str]:
    """Yield the tables, line by line."""
    rng = np.random.default_rng(seed)
    yield "| blue/green | 50 requests/h | 500 | 5,000 |\n|---|---|---|---|"
    for name, factor, day in (
        ("harmless", 1.0, 1.0),
        ("harmless, every rate 20 % up since the switch", 1.0, 1.2),
        ("harmless, every rate twice as large since the switch", 1.0, 2.0),
        ("errors x5", 5.0, 1.0),
        ("errors x25", 25.0, 1.0),
    ):
        yield (
            f"| {name} | "
            + " | ".join(describe([bake(rng, rate, factor, day) for _ in range(streams)]) for rate in RATES)
            + " |"
        )
    yield "\n| candidate's records, share 10 % | 50 keys/h | 500 | 5,000 |\n|---|---|---|---|"
    for lost in (0.0, 0.2, 0.5, 1.0):
        yield (
            f"| {lost:.0%} lost | "
            + " | ".join(describe([lose(rng, rate, 0.1, lost) for _ in range(streams)]) for rate in RATES)
            + " |"
        )
    yield "\n| A/B test, accuracy 0.80 | found worse | found better | median labels |\n|---|---|---|---|"
    for difference in (0.0, -0.02, -0.05, 0.02, 0.05):
        ends = [compare(rng, difference, 0.5, 30_000) for _ in range(streams)]
        labels = [count for end, count in ends if end != "undecided"]
        shown = f"{int(np.median(labels)):,}" if len(labels) > len(ends) // 2 else "-"
        parts = [f"{sum(end == kind for end, _ in ends) / len(ends):.0%}" for kind in ("worse", "better")]
        yield f"| {difference * 100:+.0f} points | {' | '.join(parts)} | {shown} |"
    yield "\n| a week, rewards 10 %, 10 %, 12 %, a day late | 50 requests/h | 500 | 5,000 |\n|---|---|---|---|"
    for title, policy in (
        ("even split", even),
        ("A/B for half a week, then the winner", test_then_winner),
        ("Thompson, floor 5 %", thompson),
    ):
        cells = []
        for rate in RATES:
            played = [play(rng, rate, policy) for _ in range(max(5, streams // 4))]
            lost, named = (np.mean(column) for column in zip(*played, strict=True))
            cells.append(f"{lost:.1%} lost · best arm named {named:.0%}")
        yield f"| {title} | {' | '.join(cells)} |"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    for line in rows(chosen.streams, chosen.seed):
        print(line, flush=True)


if __name__ == "__main__":
    main()
