from dataclasses import replace

import pytest
from millrace.errors import ServiceUnavailableError
from millrace.registry.ledger import to_event
from millrace.registry.promotion import promote

from tests.fakes.memory_events import MemoryEvents
from tests.registered_versions import RegisteredVersions, acting
from tests.registry_builders import MODEL, make_entry


@pytest.fixture
def world():
    return RegisteredVersions(2)


def do_promote(world, version, minutes=60):
    promote(MODEL, version, acting(minutes), registry=world.registry, model_store=world.models)


def test_an_act_is_told_once(world):
    bus = MemoryEvents()
    do_promote(world, 1)
    assert world.registry.publish_waiting(bus) == 1
    assert world.registry.publish_waiting(bus) == 0
    (event,) = bus.published
    assert event.detail_type == "ModelPromoted"
    assert event.detail == {
        "event_version": 1,
        "event_id": "churn/champion-1",
        "model": "churn",
        "occurred_at": "2026-05-03T15:15:00+00:00",
        "actor": "ann",
        "reason": "because",
        "alias": "champion",
        "from_version": None,
        "to_version": 1,
    }


def test_what_a_busy_bus_did_not_take_the_next_act_tells_in_order(world):
    bus = MemoryEvents()
    bus.is_down = True
    do_promote(world, 1)
    with pytest.raises(ServiceUnavailableError):
        world.registry.publish_waiting(bus)
    assert world.aliases == {"champion": 1}
    bus.is_down = False
    do_promote(world, 2, minutes=61)
    assert world.registry.publish_waiting(bus) == 2
    assert [event.detail["to_version"] for event in bus.published] == [1, 2]


def test_a_publisher_that_died_before_it_noted_so_tells_again_under_the_same_id(world, monkeypatch):
    bus = MemoryEvents()
    do_promote(world, 1)

    def die(_):
        raise ServiceUnavailableError("DynamoDB is busy")

    with monkeypatch.context() as patched:
        patched.setattr(world.registry, "mark_published", die)
        with pytest.raises(ServiceUnavailableError):
            world.registry.publish_waiting(bus)
    world.registry.publish_waiting(bus)
    first, second = bus.published
    assert first == second
    assert first.detail["event_id"] == second.detail["event_id"]


def test_details_never_hide_what_every_event_says():
    entry = replace(make_entry("v1", model="churn"), action="model_registered", details={"model": "x", "version": 3})
    assert to_event(entry).detail["model"] == "churn"
    assert to_event(entry).detail["version"] == 3
