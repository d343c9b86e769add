"""Shares of the routing keys: silent while records are whole, sure where those of an arm are lost."""

import math
import random

import pytest
from millrace.captures.records import CountedRequest
from millrace.captures.traffic import count_arms
from millrace.releases.shares import KeyShares, log_mismatch
from millrace.routing import PlannedArm, RoutingPlan, mark_key

from tests.release_world import ReleaseWorld

PLAN = RoutingPlan("r-20261130T030000-0a1b2c3d", 0, 1, (PlannedArm(2, 0.1),))


def marks(first: int, last: int, lost: float = 0.0) -> dict[str, frozenset[str]]:
    """Return the marks of keys by arm; of the candidate's a share is lost."""
    rng, found = random.Random(first), {"champion": set(), "candidate": set()}
    for number in range(first, last):
        place = PLAN.locate(f"customer-{number}")
        arm = "candidate" if PLAN.arm_at(place) else "champion"
        if mark_key(place) and (arm == "champion" or rng.random() >= lost):
            found[arm].add(mark_key(place))
    return {arm: frozenset(keys) for arm, keys in found.items()}


SHARES = {"champion": 0.9, "candidate": 0.1}


def test_a_sixteenth_of_the_keys_is_marked_in_each_arm_alike():
    found = marks(0, 40_000)
    assert [len(found[arm]) for arm in ("champion", "candidate")] == pytest.approx([2_250, 250], rel=0.12)


def test_whole_records_match_at_every_evaluation_however_often_a_key_comes():
    state = KeyShares()
    for first in range(0, 30_000, 1_000):
        for _ in range(3):
            state = state.add(marks(first, first + 1_000), SHARES)
            assert not state.is_mismatch
    assert len(state.seen) == sum(state.counts.values()) > 1_500


def test_lost_records_of_an_arm_are_found():
    state = KeyShares()
    for first in range(0, 30_000, 1_000):
        state = state.add(marks(first, first + 1_000, lost=0.6), SHARES)
        if state.is_mismatch:
            break
    assert state.is_mismatch
    assert first < 20_000


def test_keys_of_an_earlier_stage_are_not_counted_again():
    state = KeyShares().add(marks(0, 5_000), SHARES).pass_stage()
    after = state.add(marks(0, 5_000), {"champion": 0.5, "candidate": 0.5})
    assert after == state


def test_a_window_of_too_many_keys_is_sampled_alike_in_both_arms():
    state = KeyShares().add(marks(0, 80_000), SHARES)
    assert (len(state.seen), state.is_mismatch) == (2_000, False)
    assert state.counts["candidate"] == pytest.approx(200, rel=0.25)


def test_the_e_value_has_a_mean_of_one_where_the_shares_are_those_of_the_plan():
    total = 12
    mean = sum(
        math.comb(total, number)
        * 0.1**number
        * 0.9 ** (total - number)
        * math.exp(log_mismatch({"candidate": number, "champion": total - number}, SHARES))
        for number in range(total + 1)
    )
    assert mean == pytest.approx(1.0, abs=1e-9)


def test_a_release_whose_records_are_lost_is_held_and_never_promoted():
    world = ReleaseWorld()
    world.start(max_duration="12h", on_undecided="promote", bake="9h")
    for hour in range(11):
        keys = marks(hour * 2_000, (hour + 1) * 2_000, lost=0.8)
        world.serve(2_000, champion={"keys": keys["champion"]}, keys=keys["candidate"])
        world.tick()
    assert "records are missing" in world.release.decision
    assert "where 10 % should be" in world.release.decision
    world.now = world.release.started_at.replace(day=world.release.started_at.day + 1)
    assert world.tick().outcome == "expired"
    assert world.aliases == {"champion": 1}


def test_an_hour_keeps_its_keys_and_no_more_than_an_item_holds(monkeypatch):
    monkeypatch.setattr("millrace.captures.traffic._MAX_KEYS", 300)
    requests = []
    for number in range(16_000):
        place = PLAN.locate(str(number))
        arm = "candidate" if PLAN.arm_at(place) else "champion"
        about = {"release": "r", "arm": arm, "key": mark_key(place)}
        requests.append(CountedRequest(str(number), 1, 200, 1.0, 1, 0, False, **about))
    counts = count_arms([*requests, *requests[:500]])
    keys = {name.rpartition("/")[2]: one.keys for name, one in counts.items()}
    assert len(keys["champion"] | keys["candidate"]) == 300
    assert len(keys["candidate"]) == pytest.approx(30, abs=16)
