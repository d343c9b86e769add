"""Blue/green: every environment loads the candidate, all requests move at once, and the return is one write."""

import math

import pytest
from millrace.releases.guards import bound_rate, update_wealth_alone

from tests.registry_builders import MODEL
from tests.release_world import ReleaseWorld


@pytest.fixture
def world() -> ReleaseWorld:
    world = ReleaseWorld()
    world.serve_before(2_000, statuses={"2xx": 1_980, "5xx": 20})
    world.start(strategy="blue_green", steps=None)
    return world


def preload(world: ReleaseWorld) -> None:
    world.serve(1_000, minutes=6)
    assert world.tick().outcome == "advanced"


def test_it_loads_then_switches_then_bakes_with_the_champion_beside_it(world):
    assert (world.routing.arms[0].weight, world.routing.arms[0].version) == (0.0, 2)
    world.serve(50, minutes=6)
    assert world.tick().reason.startswith("held at preload: 50 of 100 requests, since")
    preload(world)
    assert world.registry.list_ledger(MODEL)[0].reason == (
        "advanced to 100 %: every environment of the last 1050 requests has loaded it"
    )
    assert world.routing.arms[0].weight == 1.0
    assert world.aliases == {"champion": 1}  # so that the return is one write
    world.serve(1_000, minutes=30, statuses={"2xx": 990, "5xx": 10})
    assert world.tick().outcome == "held"
    world.serve(1_000, minutes=31, statuses={"2xx": 990, "5xx": 10})
    assert world.tick().outcome == "completed"
    assert world.aliases == {"champion": 2}


def test_environments_that_cannot_load_it_hold_it_and_if_none_can_it_ends(world):
    world.serve(500, minutes=6, champion={"unloaded": 7})
    assert "7 of 500 requests were in environments that have not loaded it" in world.tick().reason
    world.serve(500, minutes=6)
    assert world.tick().outcome == "advanced"
    world.change("abort")
    world.start(strategy="blue_green", steps=None)
    world.serve(500, minutes=6, champion={"unloaded": 500})
    tick = world.tick()
    assert (tick.outcome, "no environment could load version 2" in tick.reason) == ("rolled_back", True)


def test_environments_that_cannot_load_it_are_no_promotion_after_its_time(world):
    world.change("abort")
    world.start(strategy="blue_green", steps=None, max_duration="2h", on_undecided="promote")
    world.serve(500, minutes=150, champion={"unloaded": 7})
    assert world.tick().outcome == "expired"
    assert world.aliases == {"champion": 1}


def test_it_is_compared_with_the_champion_s_day_before_and_returns_at_once(world):
    preload(world)
    world.serve(1_000, minutes=6, statuses={"2xx": 930, "5xx": 70})
    tick = world.tick()
    assert tick.outcome == "rolled_back"
    assert (
        tick.reason == "the guard errors finds the candidate worse: 70 of 1000 requests, 20 of 3000 of the champion's"
    )
    assert (world.routing, world.aliases) == (None, {"champion": 1})


def test_without_traffic_before_the_guards_say_nothing():
    world = ReleaseWorld()
    world.start(strategy="blue_green", steps=None, min_requests=1)
    world.serve(1, minutes=6)
    world.tick()
    world.serve(1_000, minutes=6, fallbacks={"error": 3})
    assert world.tick().outcome == "held"


@pytest.mark.parametrize(("bad", "requests"), [(0, 1_000), (3, 200), (20, 2_000)])
def test_the_bound_of_a_rate_is_too_low_with_no_more_than_its_probability(bad, requests):
    alpha = 0.05 / 8
    bound = bound_rate(bad, requests, alpha)
    at_most_bad = sum(
        math.comb(requests, number) * bound**number * (1 - bound) ** (requests - number) for number in range(bad + 1)
    )
    assert alpha / 10 < at_most_bad <= alpha * (1 + 1e-9)


def test_a_rate_that_may_be_anything_refutes_nothing():
    assert set(update_wealth_alone((), 10, 10, 1.0)) == {0.0}
