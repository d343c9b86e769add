"""Rewards: collected once and in time, compared by bets that hold at every evaluation, and moving a bandit's shares."""

import json
import random
from datetime import timedelta
from itertools import pairwise

import numpy as np
import pytest
from millrace.captures.records import FeedbackRecord
from millrace.errors import InvalidInputError
from millrace.releases.rewards import (
    ArmRewards,
    Reward,
    RewardEvidence,
    expect_rewards,
    find_best,
    find_rewards,
    move_shares,
    read_reward,
)
from millrace.releases.upkeep import collect_rewards
from millrace.schema import Column, TableSchema
from millrace.spec.release import RewardSpec
from msgspec.structs import replace

from tests.captured_rows import make_row, store_feedback, store_rows
from tests.registry_builders import MODEL, NOW
from tests.release_world import ReleaseWorld

TEST = {"strategy": "ab_test", "steps": None, "reward": "true", "reward_after": "2h", "max_duration": "30d"}
BANDIT = {"strategy": "bandit", "steps": None, "reward": "true", "reward_after": "1h", "versions": [3]}


SCHEMA = TableSchema((Column("age", "integer"), Column("y", "boolean", "target")), "binary", ("false", "true"))


@pytest.fixture
def world() -> ReleaseWorld:
    return ReleaseWorld(signature=json.dumps({"format_version": 1, "schema": SCHEMA.to_dict()}).encode())


def serve(world: ReleaseWorld, rates: dict[str, float], requests: int, seed: int = 0, late: bool = False) -> None:
    """Capture an hour's requests of the arms by their shares, with outcomes half an hour later."""
    rng, release = random.Random(f"{seed}{world.now}"), world.release
    shares = release.arm_shares
    rows, records = [], []
    for number in range(requests):
        arm = rng.choices([*shares], [*shares.values()])[0]
        name = f"{world.now:%d%H%M}{number}"
        at = world.now + timedelta(seconds=number / requests * 3_000)
        changes = {"release": release.release_id, "arm": arm, "row_id": f"c{name}"}
        rows.append(make_row(prediction_id=f"p{name}-0", model=MODEL, predicted_at=at, **changes))
        received = at + timedelta(hours=5 if late else 0.5)
        outcome = "true" if rng.random() < rates[arm] else "false"
        records.append(FeedbackRecord(f"f{name}", MODEL, f"p{name}", None, outcome, received, received))
    store_rows(world.data, rows, f"{world.now:%H}")
    store_feedback(world.data, records, f"{world.now:%H}")
    world.now += timedelta(hours=1)


def collect(world: ReleaseWorld) -> RewardEvidence | None:
    return collect_rewards(MODEL, world.registry, world.data, world.now)


def begin(world: ReleaseWorld, **policy: object) -> None:
    world.now = (world.now + timedelta(hours=1)).replace(minute=0, second=0)
    world.start(**policy)


class TestCollection:
    def test_a_reward_counts_once_when_its_request_is_old_enough(self, world):
        begin(world, **TEST)
        serve(world, {"champion": 0.2, "candidate": 0.6}, 200)
        assert collect(world).count == 0
        world.now += timedelta(hours=2)
        first = collect(world)
        assert first.count == 200
        means = [first.arms[arm].mean for arm in ("champion", "candidate")]
        assert means == pytest.approx([0.2, 0.6], abs=0.12)
        assert collect(world) == first == find_rewards(world.release, world.data)

    def test_an_outcome_that_comes_too_late_is_none(self, world):
        begin(world, **TEST)
        serve(world, {"champion": 1.0, "candidate": 1.0}, 50, late=True)
        world.now += timedelta(hours=9)
        found = collect(world)
        assert (found.not_reported, found.arms["champion"].total) == (50, 0.0)

    def test_without_rewards_nothing_is_collected(self, world):
        assert collect(world) is None
        world.start()
        assert collect(world) is None

    def test_traffic_that_was_replayed_first_does_not_count(self, world):
        begin(world, **TEST, shadow_first="24h")
        serve(world, {"champion": 0.5, "candidate": 0.5}, 20)
        world.now += timedelta(hours=4)
        assert collect(world) is None


@pytest.mark.parametrize(
    ("outcome", "reward", "value"),
    [
        ("yes", RewardSpec(outcome="yes"), 1.0),
        ("no", RewardSpec(outcome="yes"), 0.0),
        (None, RewardSpec(outcome="yes"), 0.0),
        (50.0, RewardSpec(low=0, high=200), 0.25),
        (900.0, RewardSpec(low=0, high=200), 1.0),
        (None, RewardSpec(low=-5, high=5), 0.0),
    ],
)
def test_an_outcome_is_a_reward_from_0_to_1(outcome, reward, value):
    assert read_reward(outcome, reward) == value


def evidence() -> RewardEvidence:
    return RewardEvidence(model=MODEL, release_id="r", since=NOW, until=NOW)


def simulate(rng: np.random.Generator, difference: float, share: float, most: int) -> tuple[str, int]:
    """Return what an A/B test finds, and after how many rewards."""
    found = evidence()
    while found.count < most:
        is_candidate = rng.random(500) < share
        values = rng.random(500) < np.where(is_candidate, 0.5 + difference, 0.5)
        rewards = [
            Reward("candidate" if one else "champion", float(value))
            for one, value in zip(is_candidate, values, strict=True)
        ]
        arms, bets = found.add(rewards, {"champion": 1 - share, "candidate": share})
        found = replace(found, arms=arms, log_better=bets.better, log_worse=bets.worse)
        if max(found.log_e_better, found.log_e_worse) >= np.log(40):
            return ("better" if found.log_e_better > found.log_e_worse else "worse"), found.count
    return "undecided", found.count


@pytest.mark.parametrize("share", [0.5, 0.2])
def test_equal_arms_are_rarely_found_different_and_different_ones_as_they_are(share):
    rng = np.random.default_rng(1)
    equal = [simulate(rng, 0.0, share, 10_000)[0] for _ in range(60)]
    assert equal.count("undecided") >= 60 * 0.95 - 3
    assert {simulate(rng, 0.1, share, 30_000)[0] for _ in range(10)} == {"better"}
    assert {simulate(rng, -0.1, share, 30_000)[0] for _ in range(10)} == {"worse"}


def test_the_expected_number_of_rewards_is_about_what_is_needed():
    rng = np.random.default_rng(2)
    needed = np.median([simulate(rng, 0.1, 0.5, 30_000)[1] for _ in range(20)])
    assert needed == pytest.approx(expect_rewards(0.1, 0.5), rel=0.5)


class TestAbTest:
    def test_it_says_before_it_starts_what_it_compares_and_needs(self, world):
        begin(world, **TEST)
        assert world.release.decision == (
            "begun with 50 % of the requests; compares the mean of outcomes that are true: "
            "a difference of 0.02 needs at most about 30,000 rewards"
        )
        assert world.tick().reason.startswith(
            "held at 50 %: 0 rewards; a difference of 0.02 needs at most about 30,000"
        )

    @pytest.mark.parametrize(("rate", "outcome", "champion"), [(0.8, "completed", 2), (0.1, "rolled_back", 1)])
    def test_it_ends_with_the_better_arm(self, world, rate, outcome, champion):
        begin(world, **TEST)
        for _ in range(6):
            serve(world, {"champion": 0.4, "candidate": rate}, 200)
            collect(world)
            tick = world.tick()
            if tick.outcome != "held":
                break
        assert (tick.outcome, world.aliases["champion"]) == (outcome, champion)
        assert "the candidate's reward is" in tick.reason

    @pytest.mark.parametrize(
        ("reward", "says"), [("converted", "a reward is one of false, true"), ({"low": 0, "high": 1}, "are classes")]
    )
    def test_a_reward_that_no_outcome_has_is_refused(self, world, reward, says):
        with pytest.raises(InvalidInputError, match=says):
            world.start(**TEST | {"reward": reward})


class TestBandit:
    def test_shares_follow_the_rewards_and_the_best_arm_wins(self, world):
        begin(world, **BANDIT)
        assert [(arm.name, arm.version) for arm in world.routing.arms] == [("candidate", 2), ("candidate_2", 3)]
        assert world.release.weight == pytest.approx(2 / 3)
        outcomes, shares = [], []
        for _ in range(40):
            serve(world, {"champion": 0.3, "candidate": 0.35, "candidate_2": 0.6}, 150)
            collect(world)
            shares.append(world.release.arm_shares)
            outcomes.append(world.tick().outcome)
            if outcomes[-1] == "completed":
                break
        assert "advanced" in outcomes
        assert outcomes[-1] == "completed"
        assert world.aliases["champion"] == 3
        assert min(min(each.values()) for each in shares) >= 0.05 - 1e-9
        moved = [abs(after[arm] - before[arm]) for before, after in pairwise(shares) for arm in before]
        assert max(moved) <= 0.2 + 1e-9
        assert shares[-1]["candidate_2"] > shares[0]["candidate_2"]

    def test_the_champion_may_win(self, world):
        begin(world, **BANDIT | {"max_duration": "4h"})
        for _ in range(5):
            serve(world, {"champion": 0.9, "candidate": 0.1, "candidate_2": 0.1}, 50)
            collect(world)
            if world.tick().outcome == "rolled_back":
                break
        assert (world.release, world.aliases["champion"]) == (None, 1)

    def test_further_versions_are_live_and_no_others_are(self, world):
        with pytest.raises(InvalidInputError, match="further candidates"):
            world.start(**BANDIT | {"versions": [1]})
        begin(world, **BANDIT)
        assert world.release.versions == (1, 2, 3)


def test_shares_keep_their_floor_and_add_up():
    arms = {"champion": ArmRewards(count=100, total=10), "candidate": ArmRewards(count=100, total=60)}
    chances = find_best(arms, 1)
    assert chances["candidate"] > 0.99
    shares = {"champion": 0.5, "candidate": 0.5}
    for _ in range(5):
        shares = move_shares(shares, chances, 0.05)
        assert sum(shares.values()) == pytest.approx(1.0)
    assert shares["champion"] == pytest.approx(0.05, abs=0.01)
