"""A version that waits for a release to end, on both registries: DynamoDB refuses what a dictionary takes."""

import pytest
from millrace.registry.store import Registry
from millrace.spec import ModelSpec

from tests.registry_builders import MODEL
from tests.release_world import CANARY, ReleaseWorld


@pytest.fixture
def world(registry: Registry) -> ReleaseWorld:
    world = ReleaseWorld(registry)
    registry.put_spec(MODEL, ModelSpec.parse({"release": CANARY}))
    for number in (4, 5):
        world.register(number, outcome="pending")
    world.passes(4)
    assert "waits for release" in world.passes(5).message
    return world


@pytest.mark.parametrize(
    ("release", "action", "aliases"),
    [
        (CANARY, "release_started", {"champion": 1, "challenger": 5}),
        ("all_at_once", "model_promoted", {"champion": 5}),
    ],
)
def test_it_comes_into_service_when_the_release_has_ended(world, release, action, aliases):
    world.registry.put_spec(MODEL, ModelSpec.parse({"release": release}))
    world.change("abort")
    assert world.tick().reason == action
    assert world.aliases == aliases
    assert world.registry.get_state(MODEL).pending_candidate is None
    assert world.registry.verify_ledger(MODEL).is_intact


def test_it_waits_in_vain_where_the_champion_is_another_by_then(world):
    world.change("promote")
    assert world.tick().reason == "release_wait_ended"
    assert world.registry.get_state(MODEL).pending_candidate is None
