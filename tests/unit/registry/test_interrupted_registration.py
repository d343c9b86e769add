"""A registration that is killed anywhere leaves no half version, and its repetition ends as if nothing had happened."""

import hashlib
import json
from collections import Counter
from contextlib import suppress

import pytest
from millrace.errors import ArtifactNotFoundError
from millrace.layout import version_key

from tests.limits import at_most
from tests.registry_builders import MODEL
from tests.unit.registry.test_registration import World


class KilledError(BaseException):
    """Stands for a process that ends: no handler of the code sees it."""


class Fuse:
    """Ends the process at one call of any store, before the call is made or after it."""

    def __init__(self, place, after):
        self.place, self.after, self.calls = place, after, 0
        self.burnt = False

    def guard(self, store):
        return Guarded(store, self)


class Guarded:
    def __init__(self, store, fuse):
        self._store, self._fuse = store, fuse

    def __getattr__(self, name):
        method, fuse = getattr(self._store, name), self._fuse

        def call(*arguments, **options):
            fuse.calls += 1
            if fuse.calls != fuse.place:
                return method(*arguments, **options)
            fuse.burnt = True
            if fuse.after:
                with suppress(ArtifactNotFoundError):
                    method(*arguments, **options)
            raise KilledError(name)

        return call


def make_world():
    """Return a model whose first version is champion, and the next run, evaluated."""
    world = World()
    world.register(world.evaluated_run())
    world.registry.release_run(MODEL, world.registry.get_state(MODEL).active_run_id, None, None)
    return world


def register_until_killed(world, run, fuse):
    stores = world.registry.store, world.models, world.data
    world.registry.store, world.models, world.data = map(fuse.guard, stores)
    try:
        world.register(run)
    except KilledError:
        pass
    finally:
        world.registry.store, world.models, world.data = stores


def assert_no_half_version(world):
    versions = world.registry.list_versions(MODEL)
    for version in versions:
        manifest = world.models.get(version_key(MODEL, version.version, "manifest.json"))
        assert hashlib.sha256(manifest).hexdigest() == version.manifest_sha256
        for name, artifact in json.loads(manifest)["artifacts"].items():
            body = world.models.get(version_key(MODEL, version.version, name))
            assert hashlib.sha256(body).hexdigest() == artifact["sha256"], name
    assert set(world.registry.get_state(MODEL).aliases.values()) <= {version.version for version in versions}


def describe(world, run):
    """Return what a registration leaves, without its number: one that was taken when the process ended stays unused."""
    state, versions = world.registry.get_state(MODEL), world.registry.list_versions(MODEL)
    by_number = {version.version: version for version in versions}
    ended = world.registry.get_run(MODEL, run.run_id)
    folder = version_key(MODEL, ended.version, "")
    return {
        "versions": [(version.run_id, version.semantic_version, version.status) for version in versions],
        "aliases": {alias: by_number[number].run_id for alias, number in state.aliases.items()},
        "run": (ended.status, ended.stage, ended.summary["alias"], ended.summary["promoted"]),
        "version of the run": by_number[ended.version].run_id,
        "ledger": Counter(entry.action for entry in world.registry.list_ledger(MODEL)),
        "events": Counter(entry.action for entry in world.registry.list_unpublished()),
        "artifacts": sorted(key.removeprefix(folder) for key in world.models.keys(folder)),
    }


@pytest.mark.parametrize("after", [False, True], ids=["before a call", "after a call"])
@pytest.mark.parametrize("decision", ["promote", "keep"])
def test_a_registration_that_is_killed_at_any_call_is_finished_by_the_next(decision, after):
    world = make_world()
    run = world.evaluated_run("b.csv", decision=decision)
    world.register(run)
    expected = describe(world, run)

    for place in at_most(500):
        world, fuse = make_world(), Fuse(place, after)
        run = world.evaluated_run("b.csv", decision=decision)

        register_until_killed(world, run, fuse)

        assert_no_half_version(world)
        if not fuse.burnt:
            break
        world.register(run, minutes=6)
        assert_no_half_version(world)
        assert describe(world, run) == expected, f"killed at call {place}"
    assert place > 30


def test_a_registration_that_is_killed_again_and_again_is_finished_at_last():
    world = make_world()
    run = world.evaluated_run("b.csv")
    for place in range(1, 60):
        fuse = Fuse(place, after=bool(place % 2))
        register_until_killed(world, run, fuse)
        assert_no_half_version(world)
        if not fuse.burnt:
            break
    world.register(run, minutes=90)
    described = describe(world, run)
    assert described["aliases"]["champion"] == run.run_id
    assert described["ledger"]["model_registered"] == 2
