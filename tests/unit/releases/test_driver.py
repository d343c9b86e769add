"""The driver: ticks on recorded traffic, from the beginning of a release to each of its ends."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from millrace.captures.traffic import TrafficCounts, TrafficHour, arm_key, record_traffic
from millrace.errors import ConflictError, InvalidInputError, ModelNotReadyError, ReleaseNotFoundError
from millrace.ports import Update
from millrace.registry import promotion
from millrace.registry.deletion import delete_model
from millrace.registry.garbage import collect
from millrace.registry.items import ModelKeys, encode_value
from millrace.registry.promotion import GateDecision, assign_alias, promote, retire, retire_version, roll_back
from millrace.registry.release_changes import get_release
from millrace.releases import control, driver
from millrace.releases.control import describe_release, describe_releases
from millrace.releases.driver import Tick, evaluate_release
from millrace.releases.upkeep import remind_of_release
from millrace.spec import ModelSpec

from tests.fakes.memory_events import MemoryEvents
from tests.fakes.memory_monitoring import MemoryMonitoring
from tests.fakes.memory_people import MemoryCallback
from tests.registered_versions import RegisteredVersions
from tests.registry_builders import MODEL, NOW
from tests.release_world import BEGIN, CANARY, ReleaseWorld


@pytest.fixture
def world() -> ReleaseWorld:
    return ReleaseWorld()


def test_a_release_advances_stage_by_stage_and_completes(world):
    world.start()
    assert (world.routing.arms[0].weight, world.routing.baseline) == (0.1, 1)
    assert world.tick().outcome == "held"
    assert world.has_schedule
    world.serve(2_000)
    assert world.tick().outcome == "advanced"
    assert (world.routing.arms[0].weight, world.routing.stage) == (0.5, 1)
    world.serve(2_000)
    release_id = world.release.release_id
    assert world.tick().outcome == "completed"
    assert world.aliases == {"champion": 2}
    assert (world.routing, world.release) == (None, None)
    assert get_release(MODEL, release_id, world.registry).status == "completed"
    assert world.actions[:4] == ["release_completed", "model_promoted", "release_advanced", "release_started"]
    assert world.tick().outcome == "idle"
    assert not world.has_schedule
    assert world.registry.verify_ledger(MODEL).is_intact
    published = {entry.action for entry in world.registry.list_unpublished()}
    assert {"release_started", "release_advanced", "release_completed", "model_promoted"} <= published


def test_too_little_data_holds_and_so_does_too_little_time(world):
    world.start()
    world.serve(90, minutes=600)  # nine requests of the candidate
    assert world.tick().outcome == "held"
    world.serve(5_000, minutes=0)
    world.now = world.release.stage_since + timedelta(minutes=59)
    assert world.tick().outcome == "held"
    assert world.release.stage == 0


@pytest.mark.parametrize(
    ("bad", "guard"),
    [
        ({"fallbacks": {"error": 6}}, "errors"),
        ({"fallbacks": {"not_loaded": 6}}, "errors"),
        ({"fallbacks": {"refused": 6}}, "refusals"),
        ({"fallbacks": {"not_finite": 6}}, "not_finite"),
    ],
)
def test_a_candidate_that_fails_is_rolled_back_with_the_evidence(world, bad, guard):
    world.start()
    world.serve(1_000, minutes=5, **bad)
    tick = world.tick()
    assert tick.outcome == "rolled_back"
    assert f"the guard {guard} finds the candidate worse: 6 of 100 requests" in tick.reason
    assert (world.aliases, world.routing) == ({"champion": 1}, None)
    entry = world.registry.list_ledger(MODEL)[0]
    facts = {"guard": guard, "candidate_bad": 6, "candidate_requests": 100, "champion_requests": 900, "champion_bad": 0}
    assert entry.action == "release_rolled_back"
    assert facts.items() <= entry.details.items()
    assert entry.details["log_e"] > 4.0


@pytest.mark.parametrize("of_champion", [0, 2])  # beside so few of the champion's, ten failures refute nothing
@pytest.mark.parametrize("fallback", ["error", "not_loaded", "refused", "not_finite"])
@pytest.mark.parametrize(("minutes", "outcome"), [(5, "held"), (61, "ended")])
def test_a_candidate_of_which_most_requests_fail_never_passes(world, of_champion, fallback, minutes, outcome):
    world.start(steps=[50], bake="0m", min_requests=10, max_duration="1h")
    world.serve(20, minutes=minutes, champion={"requests": of_champion}, fallbacks={fallback: 10})
    release_id = world.release.release_id
    tick = world.tick()
    assert "10 of 10 requests of the candidate count as" in tick.reason
    assert world.aliases == {"champion": 1}
    assert get_release(MODEL, release_id, world.registry).status == {"held": "running", "ended": "expired"}[outcome]


def test_a_release_without_guards_goes_on_by_requests_and_time_alone(world):
    world.start(guards=dict.fromkeys(("errors", "slow", "refusals", "not_finite")))
    world.serve(2_000, fallbacks={"error": 150})
    assert world.tick().outcome == "advanced"


def test_a_stage_does_not_pass_while_a_guard_is_halfway(world):
    world.start(steps=[50], bake="0m", min_requests=10)
    world.serve(60, minutes=5, fallbacks={"error": 7})
    tick = world.tick()
    assert (tick.outcome, world.aliases) == ("held", {"champion": 1})
    assert "the guard errors is halfway to finding the candidate worse" in tick.reason


def test_a_candidate_that_is_slow_is_rolled_back_by_the_latency_of_the_day_before(world):
    day_before = world.now - timedelta(hours=2)
    usual = TrafficCounts(requests=1_000, latencies={4: 900, 8: 100})
    record_traffic(world.registry.store, TrafficHour(model=MODEL, hour=day_before, versions={1: usual}))
    world.start()
    world.serve(2_000, minutes=5, latency_us=0)
    assert world.tick().outcome == "held"
    state = describe_release(world.release)
    assert 2.0 <= state["slow_over_ms"] <= 5.0
    key = arm_key(world.release.release_id, 0, "candidate")
    hour = world.now.replace(minute=0, second=0, microsecond=0)
    slow = TrafficCounts(requests=200, statuses={"2xx": 200}, latencies={14: 200})
    world.arms[hour][key] = world.arms[hour][key] + slow
    world.serve(1_000, minutes=5)
    tick = world.tick()
    assert (tick.outcome, "guard slow" in tick.reason) == ("rolled_back", True)


def test_a_guard_that_is_off_says_nothing(world):
    world.registry.put_spec(MODEL, ModelSpec.parse({"release": CANARY | {"guards": {"refusals": None}}}))
    world.start()
    world.serve(1_000, minutes=5, fallbacks={"refused": 50})
    assert world.tick().outcome == "held"


def test_an_undecided_release_ends_as_its_policy_says(world):
    for ends, outcome, champion in (("rollback", "expired", 1), ("hold", "held", 1), ("promote", "completed", 2)):
        release = world.start(max_duration="2h", on_undecided=ends)
        world.now += timedelta(hours=3)
        assert world.tick().outcome == outcome
        assert world.aliases["champion"] == champion
        if outcome == "held":
            assert world.change("abort", release.release_id) == "aborted"
        else:
            assert get_release(MODEL, release.release_id, world.registry).ended_at is not None


class TestPeople:
    def test_pause_holds_and_resume_goes_on(self, world):
        world.start()
        assert world.change("pause") == "paused"
        assert world.change("pause") == "already"
        world.serve(2_000)
        assert world.tick().outcome == "held"
        assert world.routing.arms[0].weight == 0.1
        assert world.change("resume") == "resumed"
        assert world.tick().outcome == "advanced"

    def test_a_paused_release_is_rolled_back_all_the_same(self, world):
        world.start()
        world.change("pause")
        world.serve(1_000, minutes=5, fallbacks={"error": 9})
        assert world.tick().outcome == "rolled_back"

    def test_abort_is_one_write_that_says_who(self, world):
        release = world.start()
        assert world.change("abort") == "aborted"
        assert (world.routing, world.aliases["champion"]) == (None, 1)
        assert world.registry.list_ledger(MODEL)[0].actor == "ann"
        assert world.change("abort", release.release_id) == "already"
        with pytest.raises(ConflictError, match="is over: aborted"):
            world.change("resume", release.release_id)
        with pytest.raises(ReleaseNotFoundError, match="no active release"):
            world.change("pause")

    def test_promote_completes_at_once(self, world):
        release = world.start()
        assert world.change("promote") == "promoted"
        assert (world.aliases["champion"], world.routing) == (2, None)
        assert get_release(MODEL, release.release_id, world.registry).status == "completed"

    def test_a_second_release_is_refused_with_the_way_out(self, world):
        world.start()
        with pytest.raises(ConflictError, match=r"is active; promote or abort it first"):
            world.start(3)

    def test_a_model_without_a_champion_is_refused_with_the_way_out(self):
        world = ReleaseWorld.__new__(ReleaseWorld)
        RegisteredVersions.__init__(world, 2)
        world.now = BEGIN
        with pytest.raises(ModelNotReadyError, match="promote it instead"):
            world.start()

    @pytest.mark.parametrize(
        ("overrides", "says"),
        [
            ({"steps": [5, 120]}, "more than 100 percent"),
            ({"steps": [50, 5]}, r"ascend: write \[5, 50\]"),
            ({"steps": []}, "1 to 100 steps"),
            ({"bake": "soon"}, "no duration"),
            ({"strategy": "linear", "steps": [5]}, "start: 10, by: 10"),
            ({"strategy": "magic"}, "canary"),
        ],
    )
    def test_a_policy_that_is_none_is_refused(self, world, overrides, says):
        with pytest.raises(InvalidInputError, match=says):
            world.start(**overrides)
        assert world.release is None

    def test_the_champion_is_no_candidate(self, world):
        with pytest.raises(ConflictError, match="champion already"):
            world.start(1)

    def test_releases_are_described_newest_first(self, world):
        world.start()
        world.change("abort")
        world.now += timedelta(minutes=1)
        world.start(3)
        described = describe_releases(MODEL, world.registry)["releases"]
        assert [(one["candidate"], one["status"]) for one in described] == [(3, "running"), (2, "aborted")]
        assert described[0]["weight"] == 0.1


class TestWhatHappensMeanwhile:
    def test_another_promotion_supersedes_it_in_the_same_transaction(self, world):
        release = world.start()
        world.now += timedelta(minutes=1)
        promote(MODEL, 3, world.audit(), registry=world.registry, model_store=world.models)
        ended = get_release(MODEL, release.release_id, world.registry)
        assert (ended.status, world.routing, world.aliases["champion"]) == ("superseded", None, 3)
        assert world.actions[:2] == ["release_superseded", "model_promoted"]
        assert world.tick().outcome == "idle"

    def test_a_promotion_of_the_candidate_completes_it(self, world):
        release = world.start()
        promote(MODEL, 2, world.audit(), registry=world.registry, model_store=world.models)
        assert get_release(MODEL, release.release_id, world.registry).status == "completed"

    def test_a_rollback_supersedes_it(self, world):
        promote(MODEL, 3, world.audit(), registry=world.registry, model_store=world.models)
        world.now += timedelta(minutes=1)
        release = world.start()
        roll_back(MODEL, world.audit(), registry=world.registry, model_store=world.models)
        assert get_release(MODEL, release.release_id, world.registry).status == "superseded"

    def test_the_candidate_cannot_be_retired_and_is_no_garbage(self, world):
        world.start()
        with pytest.raises(ConflictError, match="release abort"):
            retire(MODEL, 2, world.audit(), registry=world.registry)
        collected = collect(MODEL, world.audit(), registry=world.registry, model_store=world.models)
        assert collected.versions == ()

    def test_a_retirement_that_was_decided_before_it_began_is_void(self, world):
        state = world.registry.get_state(MODEL)
        world.start()
        with pytest.raises(ConflictError):
            retire_version(world.registry.get_version(MODEL, 2), state, world.audit(), world.registry)

    def test_a_deletion_ends_it(self, world):
        release = world.start()
        ports = {"schedules": world.schedules, "callback": MemoryCallback(), "monitoring": MemoryMonitoring()}
        delete_model(MODEL, world.audit(), registry=world.registry, **ports)
        assert get_release(MODEL, release.release_id, world.registry).status == "superseded"
        assert world.routing is None
        assert world.tick().outcome == "idle"

    def test_a_candidate_that_was_damaged_is_rolled_back_when_it_should_be_promoted(self, world):
        world.start(steps=[50])
        world.damage(2)
        world.serve(2_000)
        tick = world.tick()
        assert (tick.outcome, world.aliases["champion"]) == ("rolled_back", 1)
        assert "model.onnx" in tick.reason

    def test_two_ticks_at_once_do_one_thing(self, world, monkeypatch):
        world.start()
        world.serve(2_000)
        whole, again = driver.step, []

        def step_and_tick(*arguments: Any, **more: Any) -> Any:
            decision = whole(*arguments, **more)
            if not again:
                again.append("")
                again[0] = world.tick().outcome
            return decision

        monkeypatch.setattr(driver, "step", step_and_tick)
        assert world.tick().outcome == "overtaken"
        assert again == ["advanced"]
        assert world.actions.count("release_advanced") == 1
        assert world.release.stage == 1

    def test_a_tick_that_died_after_saving_the_evidence_is_finished_by_the_next(self, world, monkeypatch):
        world.start(steps=[50])
        world.serve(2_000)
        with monkeypatch.context() as broken:
            broken.setattr("millrace.releases.driver.promote", die)
            with pytest.raises(RuntimeError):
                world.tick()
        assert world.release is not None
        assert world.tick().outcome == "completed"

    @pytest.mark.parametrize("action", ["abort", "pause"])
    def test_a_release_that_people_end_or_pause_while_it_is_being_completed_is_not_completed(
        self, world, monkeypatch, action
    ):
        world.start(steps=[50])
        world.serve(2_000)
        whole = driver.promote

        def change_and_promote(*arguments: Any, **more: Any) -> Any:
            world.change(action)
            return whole(*arguments, **more)

        monkeypatch.setattr(driver, "promote", change_and_promote)
        assert world.tick().outcome == "overtaken"
        assert world.aliases == {"champion": 1}
        assert "model_promoted" not in world.actions[:2]

    @pytest.mark.parametrize("action", ["pause", "abort", "promote"])
    def test_people_win_against_a_tick_that_stores_its_evidence_meanwhile(self, world, monkeypatch, action):
        world.start()
        world.serve(500, minutes=30)
        name = "promote" if action == "promote" else "change_release"
        whole, ticks = getattr(control, name), []

        def tick_and_change(*arguments: Any, **more: Any) -> Any:
            if not ticks:
                ticks.append(world.tick().outcome)
            return whole(*arguments, **more)

        monkeypatch.setattr(control, name, tick_and_change)
        assert world.change(action) == {"pause": "paused", "abort": "aborted", "promote": "promoted"}[action]
        assert ticks == ["held"]

    def test_a_second_writer_gets_the_reason(self, world, monkeypatch):
        world.start()
        whole = control.change_release

        def promote_and_change(*arguments: Any, **more: Any) -> Any:
            promote(MODEL, 3, world.audit(), registry=world.registry, model_store=world.models)
            return whole(*arguments, **more)

        monkeypatch.setattr(control, "change_release", promote_and_change)
        with pytest.raises(ConflictError):
            world.change("pause")

    def test_a_schedule_that_was_deleted_is_made_again_and_one_that_was_not_is_deleted(self, world):
        world.start()
        world.tick()
        world.schedules.delete(MODEL, "release")
        world.tick()
        assert world.has_schedule
        world.change("abort")
        assert world.has_schedule
        world.tick()
        assert not world.has_schedule


def die(*_: Any, **__: Any) -> None:
    raise RuntimeError("killed")


class TestAVersionThatPassesTheGate:
    @pytest.fixture
    def gated(self, world: ReleaseWorld) -> Iterator[ReleaseWorld]:
        world.registry.put_spec(MODEL, ModelSpec.parse({"release": CANARY}))
        for number in (4, 5):
            world.register(number, outcome="pending")
        return world

    def test_begins_a_release_instead_of_serving(self, gated):
        assigned = gated.passes(4)
        assert assigned.outcome == "kept"
        assert f"release {gated.release.release_id} begins with 10 %" in assigned.message
        assert gated.aliases == {"champion": 1, "challenger": 4}
        assert (gated.release.candidate, gated.release.run_id) == (4, gated.first_run_id)
        assert gated.passes(4).outcome == "kept"  # repeated
        gated.serve(2_000)
        gated.tick()
        gated.serve(2_000)
        assert gated.tick().outcome == "completed"
        assert gated.aliases == {"champion": 4}
        assert gated.registry.get_version(MODEL, 4).outcome == "promoted"

    def test_waits_while_a_release_is_active_and_the_newest_wins(self, gated):
        gated.passes(4)
        gated.change("pause")
        assert "it waits for release" in gated.passes(5).message
        gated.register(6, outcome="pending")
        gated.passes(6)
        assert gated.registry.get_state(MODEL).pending_candidate == {"version": 6, "champion": 1}
        gated.change("abort")
        assert gated.tick() == Tick(MODEL, "introduced", reason="release_started")
        assert gated.release.candidate == 6
        assert gated.registry.get_state(MODEL).pending_candidate is None
        assert gated.has_schedule

    def test_does_not_wait_for_a_release_that_ends_meanwhile(self, gated, monkeypatch):
        gated.passes(4)
        whole = promotion.introduce

        def introduce_and_abort(*arguments: Any) -> Any:
            introduced = whole(*arguments)
            if gated.release is not None and gated.release.candidate == 4:
                gated.change("abort")
            return introduced

        monkeypatch.setattr(promotion, "introduce", introduce_and_abort)
        assert "release" in gated.passes(5).message
        assert gated.registry.get_state(MODEL).pending_candidate is None
        assert gated.release.candidate == 5

    def test_is_no_garbage_while_it_waits(self, gated):
        gated.passes(4)
        gated.passes(5)
        gated.point("challenger", 3, minutes=70)
        gated.now += timedelta(days=400)
        collected = collect(MODEL, gated.audit(), registry=gated.registry, model_store=gated.models)
        assert not {1, 4, 5} & {*collected.versions}

    def test_waits_in_vain_where_the_champion_is_another_by_then(self, gated):
        gated.passes(4)
        gated.passes(5)
        gated.change("promote")
        assert gated.tick().reason == "release_wait_ended"
        assert gated.release is None
        assert "compared with version 1" in gated.registry.list_ledger(MODEL)[0].reason
        assert gated.tick().outcome == "idle"

    def test_serves_at_once_where_nothing_served(self):
        world = ReleaseWorld.__new__(ReleaseWorld)
        RegisteredVersions.__init__(world)
        world.now = BEGIN
        world.registry.put_spec(MODEL, ModelSpec.parse({"release": CANARY}))
        world.register(1, outcome="pending")
        decision = GateDecision(True, None, "the first", world.first_run_id)
        assigned = assign_alias(decision, world.registry.get_version(MODEL, 1), world.registry, world.now)
        assert assigned.outcome == "promoted"


def test_monitoring_requests_a_tick_while_a_release_is_active_and_not_otherwise(world):
    publisher = MemoryEvents()
    assert not remind_of_release(MODEL, world.registry, publisher, world.now)
    release = world.start()
    assert remind_of_release(MODEL, world.registry, publisher, world.now)
    (event,) = publisher.published
    assert (event.detail_type, event.detail["release_id"]) == ("ReleaseDue", release.release_id)
    world.change("abort")
    assert not remind_of_release("nobody", world.registry, publisher, world.now)


def test_a_model_that_is_not_known_has_no_release(world):
    ports = {"registry": world.registry, "model_store": world.models, "item_store": world.registry.store}
    assert evaluate_release("nobody", now=NOW, **ports, **world.ports).outcome == "not_found"


def test_a_release_is_read_as_it_was_written(world):
    release = world.start()
    assert replace(release) == get_release(MODEL, release.release_id, world.registry)


def test_a_release_of_an_older_product_is_read_and_goes_on(world):
    release = world.start()
    key = ModelKeys(MODEL).item("RELEASE", release.release_id)
    policy = {"strategy": "canary", "steps": [10.0, 50.0], "bake": "1h", "min_requests": 100, "guards": {}}
    world.registry.store.write(Update(key, {"policy": encode_value(policy)}, remove=("history",)))
    world.serve(2_000)
    assert world.tick().outcome == "advanced"


def test_the_history_holds_the_evidence_over_time_and_is_bounded(world, monkeypatch):
    monkeypatch.setattr("millrace.releases.evidence.MAX_POINTS", 6)
    world.start(bake="30d", max_duration="60d")
    for _ in range(9):
        world.serve(1_000)
        assert world.tick().outcome == "held"
    history = world.release.history
    assert len(history) <= 6
    times = [point["at"] for point in history]
    assert times == sorted(times)
    assert history[-1]["requests"] == {"champion": 8_100, "candidate": 900}
    assert history[-1]["log_e"].keys() == {"errors", "slow", "refusals", "not_finite"}
    assert describe_release(world.release)["history"] == list(history)


def test_errors_of_one_caller_roll_nothing_back(world):
    """The evidence, with groups of keys, is stored with the release between two evaluations."""
    world.start(steps=[10], bake="9h", min_requests=100)
    for errors in (4, 9, 30):
        failed = {"statuses": {"2xx": 100 - errors, "5xx": errors}, "groups": {"5xx": {7: errors}}}
        world.serve(1_000, **failed)
        assert world.tick().outcome == "held"
    assert world.release is not None
    assert set(world.release.evidence["guards"]["errors"]["repeats"]) == {"7"}
    world.serve(1_000, statuses={"2xx": 94, "5xx": 6}, groups={"5xx": dict.fromkeys(range(20, 26), 1)})
    assert world.tick().outcome == "rolled_back"
