"""Logged models that are registered under the name of one of Millrace's models."""

import pytest
from millrace.errors import (
    ForbiddenError,
    InvalidInputError,
    InvalidStateError,
    NotFoundError,
    ServiceUnavailableError,
    TooManyRequestsError,
)
from millrace.tracking.model_mirror import ModelMirror
from millrace.tracking.tracking_calls import refuse_runs
from millrace.triggers.requests import finish_run

from tests.registered_versions import RegisteredVersions
from tests.registry_builders import MODEL, later, make_dataset

ANN = "arn:aws:iam::123456789012:user/ann"


@pytest.fixture
def world(server):
    """Two versions of a model of Millrace whose first run has ended, and a logged ONNX model."""
    world = RegisteredVersions(2, registry=server.registry, models=server.objects)
    server.registry.next_version(MODEL)
    server.registry.next_version(MODEL)
    server.registry.put_dataset(make_dataset("d1"))
    finish(server, world.first_run_id)
    server.mirror = ModelMirror(server.store, lambda: server.registry, "s3://models/mlflow/experiments")
    experiment = server.post("experiments/create", name="notebook")["experiment_id"]
    run = server.post("runs/create", experiment_id=experiment, start_time=1)["run"]["info"]["run_id"]
    logged = server.post("logged-models", experiment_id=experiment, name="linear", source_run_id=run)["model"]["info"]
    world.source, world.logged_run, world.model_id = f"models:/{logged['model_id']}", run, logged["model_id"]
    world.prefix = logged["artifact_uri"].removeprefix("s3://models/")
    for name in ("MLmodel", "model.onnx"):
        server.objects.put(f"{world.prefix}/{name}", b"-")
    return world


def finish(server, run_id, **changes):
    """End a run, as the pipeline does."""
    server.registry.update_run(MODEL, run_id, status="succeeded", **changes)
    server.pipeline.finish(run_id)
    return finish_run(MODEL, run_id, "", registry=server.registry, pipeline=server.pipeline, now=later(600))


def propose(server, world, **arguments):
    given = {"source": world.source, "model_id": world.model_id, "run_id": world.logged_run} | arguments
    return server.post("model-versions/create", name=MODEL, **given)["model_version"]


def search(server, **arguments):
    found = server.post("model-versions/search", **arguments)["model_versions"]
    return [(one["version"], one["status"]) for one in found]


def read(server, version="3"):
    return server.get("model-versions/get", name=MODEL, version=version)["model_version"]


def test_a_proposal_reserves_a_version_and_starts_its_run(server, world):
    version = propose(server, world)
    assert (version["name"], version["version"], version["status"]) == (MODEL, "3", "PENDING_REGISTRATION")
    [(_, run_id)] = server.pipeline.started
    run = server.registry.get_run(MODEL, run_id)
    assert (run.kind, run.version, run.sources) == ("logged_model", 3, ())
    logged = run.logged_model
    assert (logged.source, logged.prefix, logged.proposed_by) == (world.source, f"{world.prefix}/", ANN)
    assert (logged.mlflow_run_id, logged.mlflow_model_id) == (world.logged_run, world.model_id)
    entry = next(one for one in server.registry.list_ledger(MODEL) if one.details.get("kind") == "logged_model")
    assert (entry.action, entry.actor) == ("run_requested", ANN)
    assert read(server) == version | {"creation_timestamp": version["creation_timestamp"]}


@pytest.mark.parametrize("status", ["rejected", "failed"])
def test_a_proposal_that_is_not_registered_has_failed_with_the_reasons(server, world, status):
    propose(server, world)
    [(_, run_id)] = server.pipeline.started
    server.registry.update_run(MODEL, run_id, status=status, reasons=("every trial failed", "no onnx flavor"))
    found = read(server)
    assert (found["status"], found["status_message"]) == (
        "FAILED_REGISTRATION",
        "every trial failed; no onnx flavor",
    )


def test_a_registered_proposal_is_ready(server, world):
    propose(server, world)
    world.register(3, source="mlflow")
    found = read(server)
    assert found["status"] == "READY"
    assert {"key": "millrace.source", "value": "mlflow"} in found["tags"]


def test_proposals_wait_for_the_active_run_and_are_evaluated_one_by_one(server, world):
    first = propose(server, world)
    others = [propose(server, world, source=f"s3://models/{world.prefix}{'/' * n}")["version"] for n in (0, 1)]
    assert (first["version"], others) == ("3", ["4", "5"])
    assert "waits for the active run" in read(server, "4")["status_message"]
    [(_, run_id)] = server.pipeline.started
    follow_up = finish(server, run_id).follow_up_run_id
    assert server.registry.get_run(MODEL, follow_up).version == 4
    assert follow_up in read(server, "4")["status_message"]
    assert server.registry.get_run(MODEL, finish(server, follow_up).follow_up_run_id).version == 5


def test_a_request_that_is_repeated_is_the_same_proposal_until_that_has_ended(server, world):
    first = propose(server, world)
    [(_, run_id)] = server.pipeline.started
    server.registry.update_run(MODEL, run_id, status="running")
    other = {"source": f"s3://models/{world.prefix}"}
    waiting = propose(server, world, **other)
    assert [propose(server, world), propose(server, world, **other)] == [first, waiting]
    assert (first["version"], waiting["version"]) == ("3", "4")
    assert server.registry.get_state(MODEL).latest_version == 4
    server.registry.update_run(MODEL, run_id, status="rejected")
    assert propose(server, world)["version"] == "5"


def test_a_proposal_whose_run_was_not_started_is_started_by_the_repetition(server, world, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(server.pipeline, "start", unavailable)
        with pytest.raises(TooManyRequestsError):
            propose(server, world)
    assert propose(server, world)["version"] == "3"
    assert len(server.pipeline.started) == 1


def unavailable(*_):
    raise ServiceUnavailableError("Step Functions is busy")


def test_versions_that_are_not_registered_are_listed_with_their_state(server, world):
    propose(server, world)
    [(_, run_id)] = server.pipeline.started
    server.registry.update_run(MODEL, run_id, status="rejected", reasons=("no onnx flavor",))
    propose(server, world, source=f"s3://models/{world.prefix}")
    waiting = {"filter": f"name = '{MODEL}'", "order_by": ["version_number DESC"]}
    ready = [("2", "READY"), ("1", "READY")]
    assert search(server, **waiting) == [("4", "PENDING_REGISTRATION"), ("3", "FAILED_REGISTRATION"), *ready]
    finish(server, run_id, version=3)
    world.register(4, source="mlflow")
    assert search(server, **waiting)[0] == ("4", "READY")
    assert search(server) == search(server, order_by=["version_number DESC"])
    assert len(search(server)) == 3  # of any model: registered ones
    experiment = server.get("experiments/get-by-name", experiment_name=MODEL)["experiment"]["experiment_id"]
    runs = server.post("runs/search", experiment_ids=[experiment])["runs"]
    [rejected] = [one for one in runs if one["info"]["run_id"] == run_id]
    assert "millrace.version" not in {tag["key"] for tag in rejected["data"]["tags"]}


@pytest.mark.parametrize(("name", "reason"), [("MLmodel", "holds no ONNX model"), ("model.onnx", "converted first")])
def test_what_is_no_onnx_model_is_refused_at_once(server, world, name, reason):
    server.objects.delete([f"{world.prefix}/{name}"])
    with pytest.raises(InvalidInputError, match=reason):
        propose(server, world)
    assert server.pipeline.started == []
    assert server.registry.get_state(MODEL).latest_version == 2


def test_a_model_that_lies_elsewhere_is_refused(server, world):
    with pytest.raises(InvalidInputError, match="logged here"):
        propose(server, world, source="s3://elsewhere/1", model_id="")


@pytest.mark.parametrize(
    "given", [{"tags": [{"key": "a", "value": "b"}]}, {"description": "the best"}, {"run_link": "https://a"}]
)
def test_what_a_version_cannot_keep_is_refused(server, world, given):
    with pytest.raises(InvalidInputError, match="no tags, description or link"):
        propose(server, world, **given)


def test_a_model_without_data_takes_no_proposals_and_no_number(server, world, monkeypatch):
    monkeypatch.setattr(type(server.registry), "list_datasets", lambda *_: [])
    with pytest.raises(InvalidStateError, match="no accepted dataset"):
        propose(server, world)
    assert server.registry.get_state(MODEL).latest_version == 2


def test_a_server_that_starts_no_runs_takes_no_proposals_and_no_number(server, world, monkeypatch):
    monkeypatch.setattr(server, "make_pipeline", refuse_runs)
    with pytest.raises(ForbiddenError):
        propose(server, world)
    assert server.registry.get_state(MODEL).latest_version == 2


def test_a_version_that_was_never_proposed_is_missing(server, world):
    with pytest.raises(NotFoundError):
        read(server, "9")
