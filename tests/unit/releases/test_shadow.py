"""Shadow releases: captured traffic is replayed, and nobody is served by a candidate before that is in order."""

from datetime import timedelta
from typing import Any

import pytest
from millrace.layout import replay_key
from millrace.releases.control import describe_release
from millrace.releases.replay_evidence import PairedQuality, ReplayEvidence

from tests.registry_builders import MODEL
from tests.release_world import ReleaseWorld

SHADOW = {"strategy": "shadow", "steps": None}
CANARY_AFTER = {"strategy": "canary", "steps": [10], "shadow_first": "24h"}


@pytest.fixture
def world() -> ReleaseWorld:
    return ReleaseWorld()


def replay(world: ReleaseWorld, *, gain: float = 0.0, log_e: float = -1.0, **changes: Any) -> None:
    """Store a replay's evidence up to now."""
    quality = PairedQuality(
        metric="accuracy",
        pairs=400,
        margin=0.01,
        champion_loss=0.2,
        candidate_loss=0.2 - gain,
        gain=gain,
        low=-0.1,
        high=0.1,
        log_e_worse=log_e,
        log_e_safe=0.0,
    )
    release = world.release
    document = {
        "model": MODEL,
        "replay_id": release.release_id,
        "baseline": 1,
        "candidate": 2,
        "status": "running",
        "since": world.now - timedelta(days=1),
        "until": world.now,
        "checked_at": world.now,
        "rows": 2_000,
        "agreement": 0.97,
        "quality": quality,
    }
    key = replay_key(MODEL, release.release_id, "evidence.json")
    world.data.put(key, ReplayEvidence(**document | changes).write())


def test_a_shadow_serves_nobody_and_is_promoted_by_its_replay(world):
    world.start(**SHADOW)
    assert (world.routing.arms, world.release.weight) == ((), 0.0)
    assert world.tick().reason.startswith("held at replay: 0 of 100 captured rows are replayed")
    replay(world)
    assert world.tick().outcome == "held"  # not for an hour yet
    world.now += timedelta(minutes=61)
    replay(world)
    tick = world.tick()
    assert (tick.outcome, world.aliases) == ("completed", {"champion": 2})
    assert tick.reason == "every stage passed: 2000 captured rows replayed, no guard objects"


def test_traffic_is_replayed_before_the_first_request_is_served(world):
    world.start(**CANARY_AFTER)
    assert world.routing.arms == ()
    replay(world, until=world.now - timedelta(hours=3))
    assert world.tick().outcome == "held"  # not as far as the release's beginning yet
    replay(world)
    assert world.tick().outcome == "advanced"
    assert world.routing.arms[0].weight == 0.1


@pytest.mark.parametrize("policy", [SHADOW, CANARY_AFTER, {"guards": {"quality": {"margin": 0.01}}}])
def test_a_candidate_with_worse_quality_is_rolled_back_with_the_evidence(world, policy):
    world.start(**policy)
    replay(world, gain=-0.06, log_e=9.0)
    tick = world.tick()
    assert tick.outcome == "rolled_back"
    assert "the guard quality finds the candidate worse: accuracy is 0.06 worse on 400 labelled rows" in tick.reason
    entry = world.registry.list_ledger(MODEL)[0]
    assert {"guard": "quality", "pairs": 400}.items() <= entry.details.items()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"status": "void", "reason": "3 rows differ"}, "the replay is void: 3 rows differ"),
        ({"output_shift": 0.9}, "the outputs shift"),
        ({"rows": 99}, "99 of 100 captured rows are replayed"),
    ],
)
def test_what_a_replay_objects_to_or_has_too_little_of_holds(world, changes, says):
    world.start(**CANARY_AFTER, guards={"output": {"shift": 0.2}})
    replay(world, **changes)
    tick = world.tick()
    assert (tick.outcome, says in tick.reason) == ("held", True)


def test_traffic_that_cannot_be_replayed_ends_the_release_with_the_way_out(world):
    world.start(**CANARY_AFTER)
    replay(world, status="refused", reason="the feature age is sensitive", rows=0, until=None)
    tick = world.tick()
    assert tick.outcome == "expired"
    assert "cannot be replayed: the feature age is sensitive; release it without shadow_first" in tick.reason


def test_a_replay_is_requested_once_an_hour_and_only_where_a_guard_needs_it(world):
    world.start()
    world.tick()
    world.change("abort")
    assert world.events.published == []
    world.now += timedelta(minutes=1)
    release = world.start(**CANARY_AFTER)
    world.tick()
    replay(world, rows=5)
    world.tick()
    world.now += timedelta(hours=1)
    world.tick()
    assert [event.detail_type for event in world.events.published] == ["ReplayDue", "ReplayDue"]
    assert {event.detail["replay_id"] for event in world.events.published} == {release.release_id}


def test_the_replay_is_described_and_its_guard_is_among_the_others(world):
    world.start(**CANARY_AFTER)
    replay(world, gain=0.01)
    world.tick()
    described = describe_release(world.release)
    assert described["replay"]["agreement"] == 0.97
    (quality,) = [guard for guard in described["guards"] if guard["guard"] == "quality"]
    assert (quality["candidate_bad"], quality["champion_bad"], quality["candidate_requests"]) == (76.0, 80.0, 400)
    assert "quality" in described["history"][-1]["log_e"]
