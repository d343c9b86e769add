"""Logged models that are registered under the name of one of Millrace's models."""

import pytest
from millrace.errors import ForbiddenError, InvalidInputError, InvalidStateError, NotFoundError
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
    others = [propose(server, world)["version"] for _ in range(2)]
    assert (first["version"], others) == ("3", ["4", "5"])
    assert "waits for the active run" in read(server, "4")["status_message"]
    [(_, run_id)] = server.pipeline.started
    follow_up = finish(server, run_id).follow_up_run_id
    assert server.registry.get_run(MODEL, follow_up).version == 4
    assert follow_up in read(server, "4")["status_message"]
    assert server.registry.get_run(MODEL, finish(server, follow_up).follow_up_run_id).version == 5


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
    with pytest.raises(InvalidInputError, match="no tags"):
        propose(server, world, tags=[{"key": "a", "value": "b"}])


def test_a_model_without_data_takes_no_proposals(server, world, monkeypatch):
    monkeypatch.setattr(type(server.registry), "list_datasets", lambda *_: [])
    with pytest.raises(InvalidStateError, match="no accepted dataset"):
        propose(server, world)


def test_a_version_that_was_never_proposed_is_missing(server, world):
    with pytest.raises(NotFoundError):
        read(server, "9")
    with pytest.raises(ForbiddenError):
        refuse_runs()
