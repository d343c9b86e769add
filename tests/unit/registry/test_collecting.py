from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from millrace.entities import ModelState
from millrace.errors import ConflictError, ServiceUnavailableError
from millrace.layout import trial_key, version_key
from millrace.registry import garbage
from millrace.registry.garbage import ARTIFACTS, collect, find_garbage
from millrace.registry.ledger import AuditContext
from millrace.registry.promotion import promote, retire, roll_back
from millrace.spec import ModelSpec
from millrace.spec.operations import RetentionSpec

from tests.limits import at_most
from tests.registered_versions import RegisteredVersions
from tests.registry_builders import MODEL, NOW, make_cause, make_entry, make_run, make_version

RETIRED_DAYS, RUN_DAYS = 10, 20


class World(RegisteredVersions):
    """Runs with trials and versions, and a clock in days."""

    def __init__(self) -> None:
        super().__init__(0)
        self.now = NOW
        self.registry.update_run(MODEL, self.first_run_id, status="failed", stage="finished", finished_at=NOW)
        self.registry.release_run(MODEL, self.first_run_id, None, None)
        self.registry.put_spec(
            MODEL, ModelSpec.parse({"retention": {"retired_days": RETIRED_DAYS, "run_days": RUN_DAYS}})
        )
        self.runs: list[str] = []
        self.run_of: dict[int, str] = {}

    def acting(self) -> AuditContext:
        return AuditContext("ann", "because", self.now)

    def start_run(self) -> str:
        cause = make_cause(f"{len(self.runs)}.csv", at=self.now)
        run = make_run(cause, at=self.now, status="running")
        self.registry.claim_cause(cause, run, make_entry(cause.cause_id, at=self.now))
        for trial in ("t1", "t2"):
            for name in ("model.onnx", "estimator.skops", "trial.json"):
                self.models.put(trial_key(MODEL, run.run_id, trial, name), b"x" * 10)
        self.runs.append(run.run_id)
        return run.run_id

    def end_run(self, run_id: str, *, with_version: bool) -> None:
        if with_version:
            number = len(self.run_of) + 1
            self.register(number, run_id=run_id)
            self.models.put(version_key(MODEL, number, "background.npz"), b"b")
            self.run_of[number] = run_id
        self.registry.update_run(MODEL, run_id, status="succeeded", stage="finished", finished_at=self.now)
        self.registry.release_run(MODEL, run_id, None, None)

    def collect(self, *, dry_run: bool = False):
        return collect(MODEL, self.acting(), registry=self.registry, model_store=self.models, dry_run=dry_run)

    def version_is_whole(self, number: int) -> bool:
        names = {key.rsplit("/", 1)[1] for key in self.models.keys(f"{MODEL}/versions/{number}/")}
        return names >= {"model.onnx", "estimator.skops", "signature.json", "manifest.json", "background.npz"}

    def run_is_whole(self, run_id: str) -> bool:
        return len(self.models.keys(f"{MODEL}/runs/{run_id}/")) == 6


@pytest.fixture
def world():
    world = World()
    for _ in range(2):
        world.end_run(world.start_run(), with_version=True)
    promote(MODEL, 2, world.acting(), registry=world.registry, model_store=world.models)
    return world


def test_what_was_retired_long_ago_is_collected_and_its_documents_stay(world):
    retire(MODEL, 1, world.acting(), registry=world.registry)
    world.now += timedelta(days=RUN_DAYS)
    told = world.collect(dry_run=True)
    assert (told.versions, told.runs, told.objects, told.dry_run) == ((1,), (world.runs[0],), 7, True)
    assert world.version_is_whole(1)
    assert "artifacts_collected" not in world.actions

    done = world.collect()
    assert (done.versions, done.runs, done.objects, done.size) == (told.versions, told.runs, told.objects, told.size)
    left = [key.rsplit("/", 1)[1] for key in world.models.keys(f"{MODEL}/versions/1/")]
    assert sorted(left) == ["card.md", "manifest.json", "signature.json"]
    assert [key[-10:] for key in world.models.keys(f"{MODEL}/runs/{world.runs[0]}/")] == ["trial.json"] * 2
    assert world.version_is_whole(2)
    assert world.run_is_whole(world.runs[1])
    assert world.registry.get_version(MODEL, 1).collected_at == world.now
    entry = world.registry.list_ledger(MODEL)[0]
    assert (entry.action, entry.actor, entry.details["versions"], entry.details["objects"]) == (
        "artifacts_collected",
        "ann",
        [1],
        7,
    )
    assert world.collect().objects == 0


def test_a_run_whose_version_was_not_retired_is_kept_however_old_it_is(world):
    world.now += timedelta(days=1000)
    assert world.collect().objects == 0
    assert world.run_is_whole(world.runs[0])


def test_a_run_without_a_version_is_collected_when_it_is_old(world):
    world.end_run(world.start_run(), with_version=False)
    world.now += timedelta(days=RUN_DAYS) - timedelta(seconds=1)
    assert world.collect().objects == 0
    world.now += timedelta(seconds=1)
    assert world.collect().runs == (world.runs[2],)


def test_a_former_champion_is_kept_for_the_window_of_the_ledger(world):
    world.now += timedelta(days=50)
    promote(MODEL, 1, world.acting(), registry=world.registry, model_store=world.models)
    retire(MODEL, 2, world.acting(), registry=world.registry)
    world.now += timedelta(days=RETIRED_DAYS) - timedelta(seconds=1)
    assert world.collect().versions == ()
    world.now += timedelta(seconds=2)
    assert world.collect().versions == (2,)


def test_what_the_registry_does_not_know_is_left_alone(world):
    stray = trial_key(MODEL, "20200101T000000-000000000000", "t1", "model.onnx")
    world.models.put(stray, b"?")
    world.models.put(f"{MODEL}/runs/notes.txt", b"?")
    world.now += timedelta(days=1000)
    assert world.collect().objects == 0
    assert world.models.get(stray) == b"?"


def test_one_call_deletes_so_many_objects_and_says_that_there_are_more(world, monkeypatch):
    monkeypatch.setattr(garbage, "MAX_OBJECTS", 2)
    retire(MODEL, 1, world.acting(), registry=world.registry)
    world.now += timedelta(days=RUN_DAYS)
    sizes = []
    for _ in at_most(10):
        world.now += timedelta(seconds=1)
        collection = world.collect()
        sizes.append(collection.objects)
        if collection.is_complete:
            break
    assert sizes == [2, 2, 2, 1]


def test_a_collection_that_died_is_made_again(world, monkeypatch):
    retire(MODEL, 1, world.acting(), registry=world.registry)
    world.now += timedelta(days=RETIRED_DAYS, seconds=1)

    def die(_):
        raise ServiceUnavailableError("3 object(s) are left in S3 (InternalError)")

    with monkeypatch.context() as patched:
        patched.setattr(world.models, "delete", die)
        with pytest.raises(ServiceUnavailableError):
            world.collect()
    assert world.actions[0] == "artifacts_collected"
    assert world.registry.get_version(MODEL, 1).collected_at is None
    world.now += timedelta(seconds=1)
    assert world.collect().versions == (1,)
    assert not world.version_is_whole(1)


class Histories(RuleBasedStateMachine):
    """Random histories. What is referred to is kept account of here, independently of the code under test."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.moves: list[tuple[object, int]] = []
        self.retired: dict[int, object] = {}
        self.ended: dict[str, object] = {}
        self.active: str | None = None

    @initialize()
    def begin(self):
        for _ in range(2):
            self.start()
            self.end(with_version=True)

    @precondition(lambda self: self.active is None)
    @rule()
    def start(self):
        self.world.now += timedelta(minutes=1)
        self.active = self.world.start_run()

    @precondition(lambda self: self.active is not None)
    @rule(with_version=st.booleans())
    def end(self, with_version):
        self.world.end_run(self.active, with_version=with_version)
        self.ended[self.active] = self.world.now
        self.active = None

    @rule(days=st.sampled_from([1, 4, 9, 10, 11, 25]))
    def wait(self, days):
        self.world.now += timedelta(days=days)

    @rule(data=st.data())
    def do_promote(self, data):
        self._act(lambda number: promote(MODEL, number, **self._with()), data)

    @rule()
    def do_roll_back(self):
        self._act(lambda _: roll_back(MODEL, **self._with()), None)

    @rule(data=st.data())
    def do_challenge(self, data):
        number = data.draw(st.sampled_from(sorted(self.world.run_of)))
        if number not in self.retired:
            before = self.world.aliases
            self.world.now += timedelta(minutes=1)
            minutes = (self.world.now - NOW).total_seconds() / 60
            self.world.point("challenger", number, minutes)
            self._note(before)

    @rule(data=st.data())
    def do_retire(self, data):
        number = data.draw(st.sampled_from(sorted(self.world.run_of)))
        try:
            done = retire(MODEL, number, self.world.acting(), registry=self.world.registry)
        except ConflictError:
            return
        if done.outcome == "retired":
            self.retired[number] = self.world.now

    @rule(dry_run=st.booleans())
    def do_collect(self, dry_run):
        self.world.now += timedelta(minutes=1)
        self.world.collect(dry_run=dry_run)

    @invariant()
    def nothing_that_is_referred_to_is_lost(self):
        now = self.world.now
        window = timedelta(days=RETIRED_DAYS)
        lately = {number for moment, number in self.moves if now - moment < window}
        kept = {
            number
            for number in self.world.run_of
            if number not in self.retired
            or now - self.retired[number] < window
            or number in lately
            or number in self.world.aliases.values()
        }
        for number in kept:
            assert self.world.version_is_whole(number), number
        runs = {self.world.run_of[number] for number in kept}
        runs |= {run_id for run_id, ended in self.ended.items() if now - ended < timedelta(days=RUN_DAYS)}
        runs |= {self.active} - {None}
        for run_id in runs:
            assert self.world.run_is_whole(run_id), run_id
        for number in self.world.run_of:
            names = {key.rsplit("/", 1)[1] for key in self.world.models.keys(f"{MODEL}/versions/{number}/")}
            assert names >= {"manifest.json", "signature.json", "card.md"}

    def _with(self):
        return {"audit": self.world.acting(), "registry": self.world.registry, "model_store": self.world.models}

    def _act(self, act, data):
        self.world.now += timedelta(minutes=1)
        number = data.draw(st.sampled_from(sorted(self.world.run_of))) if data else None
        before = self.world.aliases
        try:
            act(number)
        except ConflictError:
            return
        self._note(before)

    def _note(self, before):
        """Remember which versions an alias moved from and to just now."""
        after = self.world.aliases
        for alias in before.keys() | after.keys():
            if before.get(alias) != after.get(alias):
                touched = {before.get(alias), after.get(alias)} - {None}
                self.moves += [(self.world.now, number) for number in touched]


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@pytest.mark.parametrize("reference", ["alias", "move", "nothing"])
def test_even_a_retired_version_is_kept_when_something_refers_to_it(reference):
    """Neither can happen by the rules of retirement; garbage collection does not rely on that."""
    retired = replace(make_version(1), status="retired", retired_at=NOW - timedelta(days=99))
    state = ModelState(MODEL, aliases={"candidate": 1} if reference == "alias" else {}, active_run_id="r9")
    moved = frozenset({1} if reference == "move" else ())
    garbage = find_garbage(state, {1: retired}, moved, RetentionSpec(), NOW)
    assert garbage.versions == (frozenset({1}) if reference == "nothing" else frozenset())
    assert garbage.kept_runs == {"r9"} | (set() if reference == "nothing" else {retired.run_id})


def test_documents_are_never_among_what_is_collected():
    assert not any(name.endswith((".md", ".html")) for name in ARTIFACTS)
    assert ARTIFACTS.isdisjoint({"manifest.json", "signature.json", "evaluation.json", "card.json", "trial.json"})
