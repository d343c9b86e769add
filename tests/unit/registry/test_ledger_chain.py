"""The chain of the ledger: a changed, missing or inserted entry is found, wherever it is."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from millrace.ports import Key, Put
from millrace.registry.items import ModelKeys, encode
from millrace.registry.ledger import Append

from tests.fakes.memory_registry import MemoryRegistry
from tests.registry_builders import MODEL, later, make_cause, make_entry, make_run

COUNT = 5
KEYS = ModelKeys(MODEL)


class World:
    """A registry whose ledger somebody with access to the table changes."""

    def __init__(self, count=COUNT):
        self.registry = MemoryRegistry()
        self.store = self.registry.store
        for number in range(count):
            self.registry.append_ledger(make_entry(f"e{number}", at=later(number)))

    def items(self):
        return sorted(self.store.query(KEYS.partition, "LEDGER#"), key=lambda item: item.get("sequence", 0))

    def put(self, item, **changes):
        changed = {**item, **changes}
        self.store.write(Put(Key(changed["pk"], changed["sk"]), changed, replace=True))

    def remove(self, item):
        del self.store.store._items[Key(item["pk"], item["sk"])]

    @property
    def faults(self):
        return [(fault.kind, fault.sequence) for fault in self.registry.verify_ledger(MODEL).faults]


@pytest.fixture
def world():
    return World()


def test_what_nobody_touched_is_intact(world):
    verified = world.registry.verify_ledger(MODEL)
    assert (verified.entries, verified.before_the_chain, verified.faults, verified.is_intact) == (COUNT, 0, (), True)
    assert [item["sequence"] for item in world.items()] == [1, 2, 3, 4, 5]


def test_a_model_without_a_ledger_is_intact():
    assert MemoryRegistry().verify_ledger(MODEL).is_intact


def test_the_order_of_writing_counts_and_not_that_of_the_times(world):
    world.registry.append_ledger(make_entry("uploaded long ago", at=later(-99)))
    assert world.items()[-1]["entry_id"] == "uploaded long ago"
    assert world.faults == []


@pytest.mark.parametrize("number", range(COUNT))
class TestOneEntry:
    @pytest.mark.parametrize(
        "changes",
        [
            {"actor": "somebody"},
            {"reason": ""},
            {"details": '{"version":7}'},
            {"action": "model_promoted"},
            {"occurred_at": "2020-01-01T00:00:00+00:00"},
            {"previous": "0" * 64},
        ],
    )
    def test_changed_is_found(self, world, number, changes):
        world.put(world.items()[number], **changes)
        assert ("changed", number + 1) in world.faults

    def test_changed_with_a_hash_that_fits_is_found(self, world, number):
        forged = MemoryRegistry()
        forged.append_ledger(replace(make_entry(f"e{number}", at=later(number)), actor="somebody"))
        (item,) = forged.store.query(KEYS.partition, "LEDGER#")
        world.put(item, sequence=number + 1)
        assert world.faults == [("changed", number + 1)]

    def test_removed_is_found(self, world, number):
        world.remove(world.items()[number])
        assert world.faults == [("missing", number + 1)]

    def test_copied_under_another_key_is_found(self, world, number):
        item = world.items()[number]
        world.put(item, sk=KEYS.item("LEDGER", later(99), "copy").sort)
        assert world.faults == [("inserted", number + 1)]

    def test_moved_under_another_key_is_found(self, world, number):
        item = world.items()[number]
        world.remove(item)
        world.put(item, sk=KEYS.item("LEDGER", later(99), "moved").sort)
        assert world.faults == [("changed", number + 1)]

    def test_inserted_without_a_number_is_found(self, world, number):
        entry = make_entry("forged", at=later(number + 0.5))
        key = KEYS.item("LEDGER", entry.occurred_at, entry.entry_id)
        world.put({**encode(entry), "pk": key.partition, "sk": key.sort})
        assert world.faults == [("inserted", None)]


def test_inserted_at_the_end_is_found(world):
    forged = World(COUNT + 1)
    world.put(forged.items()[-1])
    assert world.faults == [("inserted", COUNT + 1)]


def test_the_newest_entries_cannot_vanish_together_with_nothing(world):
    for item in world.items()[3:]:
        world.remove(item)
    assert world.faults == [("missing", 4), ("missing", 5)]


def test_a_lost_head_is_told(world):
    del world.store.store._items[KEYS.chain]
    assert world.faults == [("missing", None)]


def test_entries_of_a_release_without_a_chain_are_before_it():
    world = World(0)
    for number in range(3):
        entry = make_entry(f"old{number}", at=later(number - 10))
        world.store.write(Put(KEYS.item("LEDGER", entry.occurred_at, entry.entry_id), encode(entry)))
    assert world.registry.verify_ledger(MODEL).is_intact
    world.registry.append_ledger(make_entry("first"))
    world.registry.append_ledger(make_entry("second", at=later(1)))
    verified = world.registry.verify_ledger(MODEL)
    assert (verified.entries, verified.before_the_chain, verified.is_intact) == (2, 3, True)
    assert [entry.entry_id for entry in world.registry.list_ledger(MODEL)][:2] == ["second", "first"]


def test_an_entry_is_never_written_over(world):
    before = world.items()
    world.registry.append_ledger(replace(make_entry("e2", at=later(2)), reason="something else"))
    assert world.items() == before
    assert world.faults == []


def test_many_writers_make_one_chain(world):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: world.registry.append_ledger(make_entry(f"t{number}", at=later(50))), range(40)))
    verified = world.registry.verify_ledger(MODEL)
    assert (verified.entries, verified.is_intact) == (COUNT + 40, True)


def test_a_write_that_another_entry_overtakes_is_made_after_it(world, monkeypatch):
    get = world.store.get
    rivals = [make_entry("rival", at=later(30))]

    def read_and_be_overtaken(key):
        item = get(key)
        if key == KEYS.chain and rivals:
            world.registry._transact([Append(rivals.pop())])
        return item

    monkeypatch.setattr(world.store, "get", read_and_be_overtaken)
    cause = make_cause()
    assert (
        world.registry.claim_cause(cause, make_run(cause), make_entry(cause.cause_id, at=later(31))).outcome
        == "started"
    )
    assert [item["entry_id"] for item in world.items()[-2:]] == ["rival", cause.cause_id]
    assert world.faults == []
