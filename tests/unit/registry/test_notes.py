"""Notes for the ledger, left by functions that may not write there."""

from dataclasses import replace

import pytest
from millrace.ports import Put
from millrace.registry.items import ModelKeys, encode
from millrace.registry.store import VALIDATION_ACTOR

from tests.fakes.memory_registry import MemoryRegistry
from tests.registry_builders import MODEL, later, make_entry

KEYS = ModelKeys(MODEL)
NOTE = replace(make_entry("n1", at=later(1)), actor=VALIDATION_ACTOR, action="dataset_rejected")


@pytest.fixture
def registry():
    return MemoryRegistry()


def notes(registry):
    return list(registry.store.query(KEYS.partition, "NOTE#", table="runs"))


def test_a_note_is_in_the_ledger_once_it_is_filed(registry):
    registry.note(NOTE)
    registry.note(NOTE)
    assert registry.list_ledger(MODEL) == []
    registry.file_notes(MODEL)
    assert registry.list_ledger(MODEL) == [NOTE]
    assert notes(registry) == []


def test_one_that_is_left_again_is_no_second_entry(registry):
    for _ in range(2):
        registry.note(NOTE)
        registry.file_notes(MODEL)
    assert registry.list_ledger(MODEL) == [NOTE]
    assert registry.verify_ledger(MODEL).is_intact


@pytest.mark.parametrize(
    "forged",
    [
        replace(NOTE, action="model_promoted"),
        replace(NOTE, action="model_deleted"),
        replace(NOTE, actor="arn:aws:iam::123456789012:user/ann"),
        replace(NOTE, model="other"),
    ],
)
def test_a_note_says_nothing_else_and_is_dropped(registry, forged):
    key = KEYS.item("NOTE", forged.occurred_at, forged.entry_id)
    registry.store.write(Put(key, encode(forged)))
    registry.note(replace(NOTE, entry_id="good"))
    registry.file_notes(MODEL)
    assert [entry.entry_id for entry in registry.list_ledger(MODEL)] == ["good"]
    assert registry.list_ledger("other") == []
    assert registry.list_unpublished() == []
    assert notes(registry) == []


@pytest.mark.parametrize("changes", [{"occurred_at": "never"}, {"details": "{"}, {"entry_id": 7}])
def test_one_that_cannot_be_read_stops_nothing(registry, changes):
    key = KEYS.item("NOTE", later(0), "bad")
    registry.store.write(Put(key, {**encode(NOTE), **changes}))
    registry.note(replace(NOTE, entry_id="good"))
    registry.file_notes(MODEL)
    assert [entry.entry_id for entry in registry.list_ledger(MODEL)] == ["good"]
    assert notes(registry) == []


@pytest.mark.parametrize("other", [{"action": "model_promoted"}, {"actor": "pipeline"}])
def test_a_note_that_would_be_dropped_is_not_taken(registry, other):
    with pytest.raises(ValueError, match="no note says"):
        registry.note(replace(NOTE, **other))
    assert notes(registry) == []
