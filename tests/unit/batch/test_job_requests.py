"""Requests for batch jobs: one job a cause, by a version that is pinned; what cannot be a job is recorded."""

import json
from datetime import timedelta

import pytest
from millrace.batch.job_records import change_job, get_job, list_jobs
from millrace.batch.job_requests import (
    ScoringPorts,
    cancel_job,
    handle_job_event,
    read_batch_request,
    read_job_event,
    request_job,
    retry_job,
)
from millrace.errors import (
    BatchNotFoundError,
    ConflictError,
    InvalidInputError,
    ModelDeletedError,
    ModelNotFoundError,
    ModelNotReadyError,
    UnfitVersionError,
    VersionNotFoundError,
)
from millrace.registry.garbage import collect
from millrace.registry.ledger import AuditContext
from millrace.registry.promotion import retire
from millrace.registry.transactions import DeleteModel
from millrace.spec import ModelSpec
from millrace.triggers.requests import REFUSED_UPLOADS

from tests.fakes.memory_scoring import MemoryScoring
from tests.registered_versions import RegisteredVersions, acting
from tests.registry_builders import MODEL, NOW, later, make_transaction

BUCKET = "data"


class World:
    """A model with two versions, the first one its champion, and a clock."""

    def __init__(self):
        self.versions = RegisteredVersions(2)
        self.versions.point("champion", 1)
        self.registry, self.items, self.pipeline = self.versions.registry, self.versions.registry.store, MemoryScoring()
        self.now = later(10)

    @property
    def ports(self):
        return ScoringPorts(self.registry, self.items, self.pipeline, self.now)

    def arrive(self, key, version_id="v1", at=NOW):
        event = {
            "source": "aws.s3",
            "detail-type": "Object Created",
            "time": at.isoformat(),
            "detail": {"bucket": {"name": BUCKET}, "object": {"key": key, "version-id": version_id}},
        }
        requested = read_job_event(event, self.now)
        return handle_job_event(requested, self.ports) if requested else []

    def request(self, model=MODEL, **body):
        return request_job(read_batch_request(model, http(body), BUCKET, self.now), self.ports)

    def fire(self, slot):
        event = {"source": "millrace.schedule", "schedule": "g/churn", "model": MODEL, "time": slot}
        return handle_job_event(read_job_event(event, self.now), self.ports)

    def delete(self, at):
        moves = make_transaction("deleted", self.registry.get_state(MODEL).revision, DeleteModel(), at=at)
        self.registry.commit(moves)

    @property
    def refused(self):
        return [entry.reason for entry in self.registry.list_ledger(REFUSED_UPLOADS)]

    @property
    def actions(self):
        return [one.action for one in self.registry.list_ledger(MODEL) if one.action.startswith("batch")]


def http(body, request_id="r1"):
    return {"requestContext": {"requestId": request_id, "identity": {"userArn": "ann"}}, "body": json.dumps(body)}


@pytest.fixture
def world():
    return World()


class TestFiles:
    def test_a_file_is_a_job_once_however_often_and_late_its_event_comes(self, world):
        [job] = world.arrive("score/churn/may.csv")
        world.now = later(600)
        [again] = world.arrive("score/churn/may.csv")
        [other] = world.arrive("score/churn/may.csv", "v2", later(1))

        assert again == job
        assert other.job_id != job.job_id
        assert world.pipeline.started == [job.job_id, other.job_id]
        assert (job.source, job.source_version, job.version, job.alias) == ("score/churn/may.csv", "v1", 1, "champion")
        assert job.destination == f"scored/churn/{job.job_id}/"
        assert world.actions == ["batch_requested", "batch_requested"]

    def test_what_was_begun_is_finished_by_a_repetition(self, world, monkeypatch):
        monkeypatch.setattr(world.pipeline, "start", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            world.arrive("score/churn/may.csv")
        monkeypatch.undo()

        [job] = world.arrive("score/churn/may.csv")

        assert world.pipeline.started == [job.job_id]
        assert world.actions == ["batch_requested"]

    def test_files_of_a_folder_wait_for_its_marker(self, world):
        assert world.arrive("score/churn/may/part-0.csv") == []
        assert world.arrive("score/churn/may/part-1.csv") == []
        [job] = world.arrive("score/churn/may/_SUCCESS")
        assert (job.source, job.source_version) == ("score/churn/may/", None)

    @pytest.mark.parametrize(
        ("key", "why"),
        [
            ("score/may.csv", "names no model"),
            ("score/churn/may report.csv", "spaces"),
            ("score/no-such/may.csv", "there is no model called 'no-such'"),
            ("score/churn/_SUCCESS", "finishes no folder"),
        ],
    )
    def test_what_cannot_be_a_job_is_a_refused_upload(self, world, key, why):
        assert world.arrive(key) == []
        assert world.arrive(key) == []
        [reason] = world.refused
        assert why in reason
        assert world.pipeline.started == []

    def test_a_model_without_a_champion_refuses_with_the_remedy(self, world):
        world.versions = RegisteredVersions(1)
        world.registry, world.items = world.versions.registry, world.versions.registry.store
        world.arrive("score/churn/may.csv")
        assert "has no champion to score with yet: promote one" in world.refused[0]


class TestRequests:
    def test_it_names_a_version_or_an_alias_and_what_the_spec_leaves_out(self, world):
        scoring = {"scoring": {"format": "csv", "join": True, "explain": True, "destination": "monthly"}}
        world.registry.put_spec(MODEL, ModelSpec.parse(scoring))
        job = world.request(source="s3://data/score/churn/may/", version=2, join=False)
        assert (job.version, job.alias, job.format, job.join, job.explain) == (2, None, "csv", False, True)
        assert job.destination == f"scored/churn/monthly/{job.job_id}/"
        assert (job.requested_by, job.source) == ("ann", "score/churn/may/")

    def test_the_same_request_sent_again_is_one_job(self, world):
        body = {"source": "score/churn/may.csv", "request_id": "0123456789"}
        first = world.request(**body)
        world.now = later(20)
        assert world.request(**body) == first

    def test_a_champion_that_moves_changes_nothing(self, world):
        job = world.request(source="score/churn/may.csv")
        world.versions.point("champion", 2, minutes=1)
        assert get_job(MODEL, job.job_id, world.items).version == 1

    @pytest.mark.parametrize(
        ("body", "error", "why"),
        [
            ({"source": "s3://elsewhere/may.csv"}, InvalidInputError, "lies in another bucket"),
            ({"source": "scored/churn/b-1/part-0.csv"}, InvalidInputError, "results lie below scored/"),
            ({"source": "incoming/churn/may.csv"}, InvalidInputError, "upload it to s3://data/score/churn/"),
            ({"source": "score/other/may.csv"}, InvalidInputError, "upload it to s3://data/score/churn/"),
            ({"source": "score/churn/"}, InvalidInputError, "the whole drop zone is no source"),
            ({"source": "score/churn/../other/may.csv"}, InvalidInputError, "holds '..'"),
            ({"source": "score/churn/a b.csv"}, InvalidInputError, "spaces"),
            ({"source": "score/churn/a.csv", "destination": "../x"}, InvalidInputError, "is no folder"),
            ({"source": "score/churn/a.csv", "version": 1, "alias": "champion"}, InvalidInputError, "not both"),
            ({"source": "score/churn/a.csv", "verion": 1}, InvalidInputError, "no such field"),
            ({"source": "score/churn/a.csv", "version": 9}, VersionNotFoundError, "no version 9"),
            ({"source": "score/churn/a.csv", "alias": "shadow"}, VersionNotFoundError, "has no shadow"),
            ({"source": "score/none/a.csv", "model": "none"}, ModelNotFoundError, "no model called 'none'"),
        ],
    )
    def test_it_is_refused_in_words(self, world, body, error, why):
        body = dict(body)
        with pytest.raises(error, match=why):
            world.request(body.pop("model", MODEL), **body)
        assert list_jobs(MODEL, world.items) == []

    def test_a_retired_version_scores_nothing(self, world):
        retire(MODEL, 2, acting(), registry=world.registry)
        with pytest.raises(UnfitVersionError, match="is retired"):
            world.request(source="score/churn/a.csv", version=2)

    def test_a_model_without_a_champion_and_a_deleted_one_say_so(self, world):
        empty = RegisteredVersions(1)
        ports = ScoringPorts(empty.registry, empty.registry.store, world.pipeline, world.now)
        order = read_batch_request(MODEL, http({"source": "score/churn/a.csv"}), BUCKET, world.now)
        with pytest.raises(ModelNotReadyError):
            request_job(order, ports)
        world.delete(later(5))
        with pytest.raises(ModelDeletedError):
            world.request(source="score/churn/a.csv")


class TestSchedules:
    def test_each_slot_is_one_job_of_the_folder_that_the_spec_names(self, world):
        scoring = {"schedule": "cron(0 3 * * ? *)", "source": "nightly/", "destination": "nightly"}
        world.registry.put_spec(MODEL, ModelSpec.parse({"scoring": scoring}))
        [job] = world.fire("2026-05-03T03:00:00Z")
        [again] = world.fire("2026-05-03T03:00:00Z")
        [next_night] = world.fire("2026-05-04T03:00:00Z")
        assert again == job
        assert job.source == "score/churn/nightly/"
        assert job.destination == f"scored/churn/nightly/{job.job_id}/"
        assert world.pipeline.started == [job.job_id, next_night.job_id]

    def test_one_that_cannot_score_says_so_in_the_ledger_of_the_model(self, world):
        assert world.fire("2026-05-03T03:00:00Z") == []
        [entry] = [one for one in world.registry.list_ledger(MODEL) if one.action == "batch_refused"]
        assert "names no source any more" in entry.reason

    def test_a_schedule_needs_a_source(self):
        with pytest.raises(InvalidInputError, match="a schedule needs a source"):
            ModelSpec.parse({"scoring": {"schedule": "rate(1 day)"}})


class TestEnds:
    def test_a_cancelled_job_stops_and_stays_cancelled(self, world):
        job = world.request(source="score/churn/a.csv")
        world.now = later(11)
        ended = cancel_job(MODEL, job.job_id, http({"reason": "the wrong month"}), world.ports)
        again = cancel_job(MODEL, job.job_id, http({}), world.ports)
        assert (ended.status, ended.reasons, ended.ended_by) == ("cancelled", ("cancelled: the wrong month",), "ann")
        assert again == ended
        assert world.pipeline.stopped[0] == job.job_id
        assert not change_job(job, world.items, status="scoring")
        assert world.actions == ["batch_cancelled", "batch_requested"]

    def test_a_job_that_ended_badly_runs_again_under_a_name_of_its_own(self, world):
        job = world.request(source="score/churn/a.csv")
        with pytest.raises(ConflictError, match="is still queued"):
            retry_job(MODEL, job.job_id, http({}), world.ports)
        cancel_job(MODEL, job.job_id, http({}), world.ports)

        again = retry_job(MODEL, job.job_id, http({}), world.ports)

        stored = get_job(MODEL, job.job_id, world.items)
        assert stored == again
        assert (stored.status, stored.attempt, stored.reasons, stored.finished_at) == ("queued", 2, (), None)
        assert world.pipeline.started == [job.job_id, f"{job.job_id}-2"]
        assert not change_job(job, world.items, status="scoring"), "what the first attempt still does changes nothing"

    def test_an_execution_that_was_stopped_ends_its_job_and_an_earlier_one_does_not(self, world):
        job = world.request(source="score/churn/a.csv")
        world.now = later(11)
        ended = {"model": MODEL, "job_id": job.job_id}

        def stopped(name):
            detail = {"name": name, "status": "ABORTED", "input": json.dumps(ended)}
            event = {"source": "aws.states", "detail-type": "Step Functions Execution Status Change", "detail": detail}
            return handle_job_event(read_job_event(event, world.now), world.ports)

        assert stopped(f"{job.job_id}-2") == []
        [failed] = stopped(job.job_id)
        [again] = stopped(job.job_id)
        assert (failed.status, failed.reasons) == ("failed", ("the execution ended as ABORTED",))
        assert again == failed
        assert world.actions == ["batch_failed", "batch_requested"]

    def test_the_jobs_of_a_deleted_model_are_cancelled_and_those_of_the_next_one_are_not(self, world):
        first = world.request(source="score/churn/a.csv")
        deleted_at = world.now + timedelta(minutes=1)
        world.delete(deleted_at)
        detail = {
            "model": MODEL,
            "occurred_at": deleted_at.isoformat(),
            "stopped_run": None,
            "actor": "ann",
            "reason": "over",
        }
        event = {"source": "millrace", "detail-type": "ModelDeleted", "detail": detail}
        [ended] = handle_job_event(read_job_event(event, later(20)), world.ports)
        assert (ended.job_id, ended.status) == (first.job_id, "cancelled")
        assert handle_job_event(read_job_event(event, later(30)), world.ports) == []
        with pytest.raises(ModelDeletedError):
            retry_job(MODEL, first.job_id, http({}), world.ports)

    def test_garbage_collection_keeps_the_version_of_a_job_that_goes_on(self, world):
        job = world.request(source="score/churn/a.csv", version=2)
        retire(MODEL, 2, acting(), registry=world.registry)
        year_later = AuditContext("ann", "tidy", NOW + timedelta(days=400))
        models = world.versions.models

        def garbage():
            return collect(MODEL, year_later, registry=world.registry, model_store=models, dry_run=True).versions

        assert garbage() == ()
        cancel_job(MODEL, job.job_id, http({}), world.ports)
        assert garbage() == (2,)

    def test_an_unknown_job_says_so(self, world):
        with pytest.raises(BatchNotFoundError, match="no batch job"):
            cancel_job(MODEL, "b-20260503T141500-0f3a9c2b7d1e", http({}), world.ports)


@pytest.mark.parametrize(
    "event",
    [
        {"source": "aws.s3", "detail-type": "Object Created", "detail": {}},
        {"source": "aws.states", "detail-type": "Step Functions Execution Status Change", "detail": {"input": "x"}},
        {"source": "millrace", "detail-type": "DriftDetected", "detail": {}},
        {"source": "elsewhere"},
    ],
)
def test_other_events_are_refused(event):
    with pytest.raises(InvalidInputError):
        read_job_event(event, NOW)
