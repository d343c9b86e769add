"""Incident ids on whatever an incident of monitoring led to, from its request to the champion and its end."""

import json

import pytest
from millrace.documents import to_plain
from millrace.entities import Cause, CauseRecord, Run
from millrace.registry.approvals import decide_approval, expire_approval, request_approval
from millrace.registry.items import decode, encode
from millrace.registry.ledger import to_event
from millrace.registry.queries import describe_cause
from millrace.registry.registration import register_run
from millrace.spec import ModelSpec
from millrace.triggers.requests import finish_run, handle_trigger, request_training
from millrace.triggers.trigger_events import RunEnded, parse_event

from tests.fakes.memory_people import MemoryCallback, MemoryNotifier
from tests.fakes.memory_pipeline import MemoryPipeline
from tests.registered_versions import acting
from tests.registry_builders import MODEL, later, make_cause, make_dataset
from tests.unit.registry.test_approving import BUCKET
from tests.unit.registry.test_registration import World as Evaluated

DRIFT, QUALITY = "0f3a9c2b7d1e", "77aa0c2b7d1e"


def finding(incident_id=DRIFT, name="DriftDetected", **changes):
    detail = {
        "model": MODEL,
        "version": 3,
        "incident_id": incident_id,
        "incident": name,
        "event_id": f"{incident_id}-opened",
        "occurred_at": later(1).isoformat(),
        "reason": "age shifted",
    }
    return {"source": "millrace", "detail-type": name, "detail": detail | changes}


def resolution(incident_id=DRIFT, name="DriftDetected", minutes=90):
    times = {"since": later(0), "opened_at": later(1), "resolved_at": later(minutes)}
    written = {field: time.isoformat() for field, time in times.items()}
    event = finding(incident_id, name, event_id=f"{incident_id}-resolved-{minutes}", **written)
    return {**event, "detail-type": "IncidentResolved"}


class World(Evaluated):
    """A model with a dataset, and the function that takes events."""

    def __init__(self):
        super().__init__()
        self.pipeline, self.callback = MemoryPipeline(), MemoryCallback()
        self.registry.put_dataset(make_dataset("d1"))

    def hear(self, event, minutes=2):
        trigger = parse_event(event, later(minutes))
        return handle_trigger(trigger, registry=self.registry, pipeline=self.pipeline, now=later(minutes))

    def evaluated(self, run_id):
        """Give a run a trial and an evaluation, and register it."""
        return self.register(self.evaluated_run(run=self.registry.get_run(MODEL, run_id)))

    def end(self, run_id, minutes):
        self.registry.update_run(MODEL, run_id, status="succeeded", stage="finished")
        return finish_run(MODEL, run_id, "", registry=self.registry, pipeline=self.pipeline, now=later(minutes))

    def ids(self):
        entries = reversed(self.registry.list_ledger(MODEL))
        return [(entry.action, list(entry.details.get("incident_ids", ()))) for entry in entries]


@pytest.fixture
def world():
    return World()


def test_request_run_version_champion_and_resolution_carry_the_incident(world):
    (result,) = world.hear(finding())
    assert describe_cause(MODEL, result.cause_id, world.registry)["incident_id"] == DRIFT
    assert world.registry.get_run(MODEL, result.run_id).incident_ids == (DRIFT,)
    world.evaluated(result.run_id)
    for _ in range(2):
        assert world.hear(resolution()) == []
    assert world.ids() == [
        ("run_requested", [DRIFT]),
        ("model_registered", [DRIFT]),
        ("model_promoted", [DRIFT]),
        ("incident_resolved", [DRIFT]),
    ]
    resolved = world.registry.list_ledger(MODEL)[0]
    assert (resolved.actor, resolved.reason, resolved.occurred_at) == ("monitoring", "age shifted", later(90))
    assert resolved.details["opened_at"] == later(1).isoformat()
    assert world.registry.verify_ledger(MODEL).is_intact
    promoted = [entry for entry in world.registry.list_unpublished() if entry.action == "model_promoted"]
    assert to_event(promoted[0]).detail["incident_ids"] == [DRIFT]


def test_a_run_of_several_incidents_names_each_and_one_of_none_names_none(world):
    (first,) = world.hear(finding())
    world.hear(finding(QUALITY, "QualityDegraded"), minutes=3)
    assert world.ids()[-1] == ("trigger_skipped", [QUALITY])
    world.end(first.run_id, 5)
    world.registry.put_spec(MODEL, ModelSpec.parse({"retraining": {"cooldown_hours": 0, "runs_per_day": 24}}))
    upload = make_cause("a.csv")
    run_id = request_training(upload, registry=world.registry, pipeline=world.pipeline, now=later(6)).run_id
    assert world.registry.get_run(MODEL, run_id).incident_ids == ()
    for minutes, incident_id in ((7, DRIFT), (8, QUALITY)):
        world.hear(finding(incident_id, request=2), minutes=minutes)
    assert world.ids()[-1] == ("trigger_deferred", [QUALITY])
    follow_up = world.end(run_id, 9).follow_up_run_id
    assert world.registry.get_run(MODEL, follow_up).incident_ids == (DRIFT, QUALITY)
    assert world.ids()[-1] == ("run_requested", [DRIFT, QUALITY])
    ended = RunEnded(MODEL, follow_up, "the pipeline ended as failed", "Runtime.ExitError")
    handle_trigger(ended, registry=world.registry, pipeline=world.pipeline, now=later(10))
    assert ("run_failed", [DRIFT, QUALITY]) in world.ids()


@pytest.mark.parametrize("decision", ["approve", "reject", "expire"])
def test_an_approval_and_its_decision_carry_the_incident(world, decision):
    world.registry.put_spec(MODEL, ModelSpec.parse({"approval": "manual"}))
    (result,) = world.hear(finding())
    world.evaluated(result.run_id)
    doors = {"registry": world.registry, "callback": world.callback}
    request_approval(MODEL, result.run_id, "t1", 600, notifier=MemoryNotifier(), bucket=BUCKET, now=later(10), **doors)
    if decision == "expire":
        expire_approval(MODEL, result.run_id, registry=world.registry, now=later(30))
    else:
        decide_approval(MODEL, result.run_id, decision, acting(11, "read"), model_store=world.models, **doors)
    assert len(world.ids()) == 5
    assert {tuple(ids) for _, ids in world.ids()} == {(DRIFT,)}


def test_a_resolution_of_an_incident_that_requests_no_run_is_recorded_each_time(world):
    for minutes in (90, 90, 200):
        world.hear(resolution(name="DataQualityDegraded", minutes=minutes))
    assert world.ids() == [("incident_resolved", [DRIFT])] * 2


def test_records_of_an_earlier_release_have_none():
    cause = Cause("c1", MODEL, "drift", later(0), reason="age shifted")
    stored = encode(CauseRecord(cause, "started", "r1"))
    plain = json.loads(stored["cause"])
    del plain["incident_id"]
    assert decode(CauseRecord, {**stored, "cause": json.dumps(plain)}).cause == cause
    run = encode(Run(MODEL, "r1", ("c1",), "drift", later(0)))
    del run["incident_ids"]
    assert decode(Run, run).incident_ids == ()
    assert to_plain(decode(Run, run))["incident_ids"] == []


def test_registration_of_a_run_without_incidents_is_as_before(world):
    register_run(
        world.evaluated_run(), registry=world.registry, model_store=world.models, data_store=world.data, now=later(5)
    )
    assert all("incident_ids" not in entry.details for entry in world.registry.list_ledger(MODEL))
