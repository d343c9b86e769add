"""Routing plans: exact shares, nested ranges, and selections that are independent of each other."""

import zlib

import pytest
from millrace.routing import KEY_GROUPS, PlannedArm, RoutingPlan, group_key, mark_key

KEYS = [f"customer-{number}" for number in range(100_000)]


def plan(*weights: float, release: str = "r-20261130T030000-0a1b2c3d") -> RoutingPlan:
    return RoutingPlan(release, 0, 1, tuple(PlannedArm(place + 2, weight) for place, weight in enumerate(weights)))


def keys_of(routing: RoutingPlan, keys: list[str] = KEYS) -> set[str]:
    return {key for key in keys if routing.assign(key)}


@pytest.mark.parametrize("weight", [0.0, 0.001, 0.05, 0.5, 1.0])
def test_the_share_of_keys_is_the_weight(weight):
    taken, deviation = len(keys_of(plan(weight))), (len(KEYS) * weight * (1 - weight)) ** 0.5
    assert abs(taken - len(KEYS) * weight) <= 4 * deviation


def test_a_larger_share_keeps_its_keys_and_a_smaller_one_gives_back_the_same():
    shares = [keys_of(plan(weight)) for weight in (0.05, 0.25, 0.5, 0.25)]
    assert shares[0] < shares[1] < shares[2]
    assert shares[1] == shares[3]


@pytest.mark.parametrize(
    "selected",
    [
        lambda key: zlib.crc32(key.encode()) < 0.1 * 2**32,  # as captures are sampled
        lambda key: plan(0.1, release="r-20261129T030000-0a1b2c3d").assign(key) is not None,
        lambda key: plan(0.1, release="r-20261130T030000-0a1b2c3e").assign(key) is not None,
    ],
)
def test_the_keys_are_independent_of_other_selections(selected):
    taken = keys_of(plan(0.1))
    both = sum(selected(key) for key in taken)
    assert abs(both / len(taken) - 0.1) < 0.02


def test_several_arms_have_ranges_beside_each_other():
    routing = plan(0.2, 0.3)
    found = [arm.version if arm else 1 for arm in map(routing.assign, KEYS)]
    assert [round(found.count(version) / len(found), 2) for version in (1, 2, 3)] == [0.5, 0.2, 0.3]


def test_assignments_stay_the_same_between_releases_of_the_product():
    assert [plan(0.5).assign(key) is not None for key in KEYS[:12]] == PINNED


PINNED = [False, False, False, True, True, False, True, False, True, False, True, True]


@pytest.mark.parametrize("weights", [(-0.1,), (1.2,), (0.6, 0.5), (float("nan"),)])
def test_weights_that_are_no_shares_are_refused(weights):
    with pytest.raises(ValueError, match="no shares"):
        plan(*weights)


def test_a_plan_is_read_as_it_was_written():
    routing = RoutingPlan("r-1", 3, 6, (PlannedArm(7, 0.001),), "customer_id")
    assert RoutingPlan.read(routing.write()) == routing


@pytest.mark.parametrize("text", ["", "[]", "{}", "7", '{"release_id":"r","stage":0,"baseline":1,"arms":[{}]}'])
def test_anything_else_is_no_plan(text):
    with pytest.raises(ValueError, match=r"plan|JSON|value"):
        RoutingPlan.read(text)


@pytest.mark.parametrize("key", ["", "é", "\ud800", "x" * 10_000])
def test_any_text_is_a_key(key):
    assert plan(1.0).assign(key) is not None


def test_marks_are_a_sixteenth_of_all_keys_of_either_arm_and_groups_divide_them_evenly():
    routing = plan(0.3)
    places = [routing.locate(key) for key in KEYS]
    for arm in (True, False):
        own = [place for place in places if (routing.arm_at(place) is not None) == arm]
        assert abs(sum(map(bool, map(mark_key, own))) / len(own) - 1 / 16) < 0.01
    groups = [group_key(place) for place in places]
    assert {min(groups), max(groups)} == {1, KEY_GROUPS}
    numbers = [int.from_bytes(place, "big") for place in places]
    assert sorted(places) == [place for _, place in sorted(zip(numbers, places, strict=True))]
    assert [mark_key(place) for place in places] == [
        f"{number % 2**40:010x}" if number % 2**32 < 2**28 else "" for number in numbers
    ]


@pytest.mark.parametrize("place", [b"\0" * 8, b"\xff" * 8])
def test_all_requests_and_none_are_exact_at_both_ends(place):
    assert plan(1.0).arm_at(place) is not None
    assert plan(0.0).arm_at(place) is None
