"""Releases under writers that meet: each transaction may be preceded by somebody else's, or be the last of a tick."""

import random
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from millrace.errors import MillraceError
from millrace.registry.items import ModelKeys
from millrace.registry.promotion import promote, retire, roll_back
from millrace.registry.release_changes import list_releases
from millrace.spec import ModelSpec

from tests.fakes.memory_registry import MemoryRegistryStore
from tests.registry_builders import MODEL
from tests.release_world import CANARY, ReleaseWorld

ENDS = {"release_completed", "release_rolled_back", "release_aborted", "release_superseded", "release_expired"}


class KilledError(Exception):
    """A function that is killed: it raises nothing that anybody catches."""


def meet(monkeypatch: pytest.MonkeyPatch, before: Any, after: Any = lambda: None) -> None:
    """Call ``before`` each transaction, and ``after`` it."""
    whole = MemoryRegistryStore.transact

    def transact(store: MemoryRegistryStore, changes: Any) -> Any:
        before()
        failed = whole(store, changes)
        after()
        return failed

    monkeypatch.setattr(MemoryRegistryStore, "transact", transact)


def check(world: ReleaseWorld) -> None:
    """Check what holds between any two transactions."""
    state = world.registry.get_state(MODEL)
    routing = world.routing
    active = [release for release in list_releases(MODEL, world.registry, 100) if release.is_active]
    assert [release.release_id for release in active] == ([state.release_id] if state.release_id else [])
    assert (routing is None) == (state.release_id is None)
    if routing is not None:
        (release,) = active
        assert (routing.release_id, routing.stage) == (release.release_id, release.stage)
        assert routing.baseline == release.baseline == state.aliases["champion"]
        assert world.registry.get_version(MODEL, release.candidate).status != "retired"
    if state.pending_candidate and not state.release_id:
        assert world.has_schedule, "a version waits, and nothing will end its wait"
    status: dict[str, str] = {}
    for entry in reversed(world.registry.list_ledger(MODEL, 1_000)):
        if entry.action.startswith("release_") and "wait" not in entry.action:
            before = status.get(entry.details["release_id"], "")
            assert before not in ENDS
            if before == "release_paused":
                assert (entry.actor, entry.action) != ("evaluate_release", "release_completed")
                assert entry.action != "release_advanced"
            status[entry.details["release_id"]] = entry.action


def count_started(world: ReleaseWorld) -> int:
    return sum(entry.action == "release_started" for entry in world.registry.list_ledger(MODEL, 1_000))


class Crowd:
    """People, the driver, the gate and callers, who do something at random."""

    def __init__(self, world: ReleaseWorld, rng: random.Random) -> None:
        self.world, self.rng, self.depth, self.numbers = world, rng, 0, iter(range(4, 400))
        stores = {"registry": world.registry, "model_store": world.models}
        self.deeds = [
            *[world.tick] * 4,
            *[self.serve] * 4,
            self.wait,
            self.pass_gate,
            lambda: world.start(rng.choice((2, 3)), steps=[50]),
            lambda: world.start(rng.choice((2, 3)), strategy="blue_green", steps=None),
            lambda: world.change("pause"),
            lambda: world.change("resume"),
            lambda: world.change("abort"),
            lambda: world.change("promote"),
            lambda: promote(MODEL, rng.choice((1, 2, 3)), world.audit(), **stores),
            lambda: roll_back(MODEL, world.audit(), **stores),
            lambda: retire(MODEL, rng.choice((3, 4, 5)), world.audit(), registry=world.registry),
        ]

    def pass_gate(self) -> None:
        number = next(self.numbers)
        self.world.register(number, outcome="pending")
        self.world.passes(number)

    def wait(self) -> None:
        self.world.now += timedelta(minutes=self.rng.choice((1, 7, 61)))

    def serve(self) -> None:
        if self.world.release is not None:
            self.world.serve(self.rng.choice((50, 2_000)), fallbacks={"error": self.rng.choice((0, 0, 9))})

    def do_something(self) -> None:
        with suppress(MillraceError):
            self.rng.choice(self.deeds)()

    def interrupt(self) -> None:
        if self.depth < 2 and self.rng.random() < 0.25:
            self.depth += 1
            self.do_something()
            self.depth -= 1


@pytest.mark.parametrize("seed", range(24))
def test_whoever_comes_in_between_leaves_one_truth(monkeypatch, seed):
    world = ReleaseWorld()
    world.registry.put_spec(MODEL, ModelSpec.parse({"release": CANARY}))
    crowd, started = Crowd(world, random.Random(seed)), 0
    with monkeypatch.context() as context:
        meet(context, crowd.interrupt)
        for _ in range(40):
            world.now += timedelta(seconds=1)
            crowd.do_something()
            if (begun := count_started(world)) > started:
                world.tick()  # its event has come
                started = begun
            check(world)
    # Left alone, the driver finishes what is there, and leaves no schedule.
    for _ in range(3):
        with suppress(MillraceError):
            world.change("abort")
        world.tick()
    check(world)
    assert world.registry.get_state(MODEL).pending_candidate is None
    assert not world.has_schedule
    assert world.registry.verify_ledger(MODEL).is_intact


@pytest.mark.parametrize("last", range(6))
def test_a_tick_that_is_killed_before_or_after_any_write_is_finished_by_the_next(monkeypatch, last):
    """``last`` is the write that is not made, when even, or the last one that is, when odd."""
    world = ReleaseWorld()
    world.start(steps=[50])
    world.serve(2_000)
    writes = [0]

    def die_if(number: int) -> None:
        if writes[0] == number:
            writes[0] += 1
            raise KilledError

    def count() -> None:
        die_if(last)
        writes[0] += 1

    with monkeypatch.context() as context:
        meet(context, lambda: die_if(last), count)
        for _ in range(3):
            with suppress(KilledError):
                world.tick()
            check(world)
    world.tick()
    assert world.aliases == {"champion": 2}
    assert world.actions.count("release_completed") == world.actions.count("model_promoted") == 1
    assert not world.has_schedule
    assert world.registry.store.get(ModelKeys(MODEL).state).get("routing") is None
