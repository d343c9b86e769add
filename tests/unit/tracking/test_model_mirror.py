"""Millrace's own models in MLflow's API: shown, promoted by their alias, and otherwise left alone."""

import orjson
import pytest
from millrace.errors import (
    AlreadyExistsError,
    ConflictError,
    ForbiddenError,
    InvalidInputError,
    NotFoundError,
    UnfitVersionError,
)
from millrace.spec import ModelSpec
from millrace.tracking.model_mirror import ModelMirror, mirrored_experiment_id

from tests.registered_versions import RegisteredVersions
from tests.registry_builders import MODEL, make_trial


@pytest.fixture
def world(server):
    """Three versions of a model of Millrace, of which the first serves."""
    world = RegisteredVersions(3, registry=server.registry, models=server.objects)
    world.point("champion", 1)
    world.point("challenger", 3)
    world.registry.put_trials([make_trial("t1", world.first_run_id)])
    server.mirror = ModelMirror(server.store, lambda: server.registry, "s3://models/mlflow/experiments")
    return world


def test_a_model_is_a_registered_model_with_its_aliases_and_versions(server, world):
    model = server.get("registered-models/get", name=MODEL)["registered_model"]
    assert model["aliases"] == [{"alias": "challenger", "version": "3"}, {"alias": "champion", "version": "1"}]
    assert [one["version"] for one in model["latest_versions"]] == ["3"]
    version = server.get("registered-models/alias", name=MODEL, alias="champion")["model_version"]
    assert (version["version"], version["aliases"], version["status"]) == ("1", ["champion"], "READY")
    assert version["source"] == f"s3://models/{MODEL}/versions/1/mlflow"
    tags = {tag["key"]: tag["value"] for tag in version["tags"]}
    assert tags["millrace.semantic_version"] == world.registry.get_version(MODEL, 1).semantic_version
    found = server.get("model-versions/search", filter=f"name='{MODEL}'", order_by=["version_number"])
    assert [one["version"] for one in found["model_versions"]] == ["1", "2", "3"]
    with pytest.raises(InvalidInputError, match="alias best not found"):
        server.get("registered-models/alias", name=MODEL, alias="best")


def test_models_of_users_and_of_millrace_are_found_together(server, world):
    server.post("registered-models/create", name="zoo")
    server.post("model-versions/create", name="zoo", source="s3://elsewhere/1")
    names = [one["name"] for one in server.get("registered-models/search")["registered_models"]]
    assert names == [MODEL, "zoo"]
    versions = server.get("model-versions/search", order_by=["name", "version_number"])["model_versions"]
    assert [(one["name"], one["version"]) for one in versions] == [
        (MODEL, "1"), (MODEL, "2"), (MODEL, "3"), ("zoo", "1"),
    ]  # fmt: skip


def test_a_version_is_downloaded_from_its_directory_if_it_has_one(server, world):
    server.objects.put(f"{MODEL}/versions/1/mlflow/MLmodel", b"{}")
    uri = server.get("model-versions/get-download-uri", name=MODEL, version="1")["artifact_uri"]
    assert uri == f"s3://models/{MODEL}/versions/1/mlflow"
    with pytest.raises(NotFoundError, match=f"millrace export {MODEL} 2 --to mlflow DIR"):
        server.get("model-versions/get-download-uri", name=MODEL, version="2")
    with pytest.raises(NotFoundError):
        server.get("model-versions/get-download-uri", name=MODEL, version="9")


def test_the_alias_champion_promotes_under_the_name_of_the_caller(server, world):
    server.post("registered-models/alias", name=MODEL, alias="champion", version="3")
    assert world.aliases == {"champion": 3}
    entry = world.registry.list_ledger(MODEL)[0]
    assert (entry.action, entry.actor) == ("model_promoted", "arn:aws:iam::123456789012:user/ann")
    assert "client of MLflow" in entry.reason
    written = len(world.registry.list_ledger(MODEL))
    server.post("registered-models/alias", name=MODEL, alias="champion", version="3")
    assert len(world.registry.list_ledger(MODEL)) == written


def test_a_damaged_version_is_not_promoted(server, world):
    world.damage(3)
    with pytest.raises(UnfitVersionError):
        server.post("registered-models/alias", name=MODEL, alias="champion", version="3")
    assert world.aliases["champion"] == 1


def test_a_version_that_waits_for_an_approval_is_not_promoted(server, world):
    world.register(4, outcome="awaiting_approval")
    with pytest.raises(ConflictError, match="approve or reject run"):
        server.post("registered-models/alias", name=MODEL, alias="champion", version="4")


def test_a_spec_with_a_release_strategy_begins_a_release(server, world):
    world.registry.put_spec(MODEL, ModelSpec.parse({"release": "canary"}))
    server.post("registered-models/alias", name=MODEL, alias="champion", version="3")
    assert world.aliases["champion"] == 1
    assert world.registry.get_state(MODEL).release_id
    assert world.actions[0] == "release_started"


@pytest.mark.parametrize(("alias", "words"), [("challenger", "when a version is registered"), ("best", "champion and")])
def test_other_aliases_are_refused_with_the_way_out(server, world, alias, words):
    with pytest.raises(ForbiddenError, match=words):
        server.post("registered-models/alias", name=MODEL, alias=alias, version="3")
    assert world.aliases == {"champion": 1, "challenger": 3}


@pytest.mark.parametrize(
    ("method", "path", "arguments"),
    [
        ("patch", "registered-models/update", {"description": "x"}),
        ("post", "registered-models/rename", {"new_name": "mine"}),
        ("delete", "registered-models/delete", {}),
        ("post", "registered-models/set-tag", {"key": "a", "value": "b"}),
        ("delete", "registered-models/delete-tag", {"key": "a"}),
        ("delete", "registered-models/alias", {"alias": "champion"}),
        ("patch", "model-versions/update", {"version": "1", "description": "x"}),
        ("delete", "model-versions/delete", {"version": "1"}),
        ("post", "model-versions/transition-stage", {"version": "1", "stage": "Production"}),
        ("post", "model-versions/set-tag", {"version": "1", "key": "a", "value": "b"}),
        ("delete", "model-versions/delete-tag", {"version": "1", "key": "a"}),
    ],
)
def test_everything_else_is_refused_with_the_way_out(server, world, method, path, arguments):
    before = world.actions
    with pytest.raises(ForbiddenError, match="read-only here"):
        getattr(server, method)(path, name=MODEL, **arguments)
    assert (world.actions, world.aliases) == (before, {"champion": 1, "challenger": 3})


def test_names_of_models_are_taken(server, world):
    with pytest.raises(AlreadyExistsError, match="one of Millrace's models"):
        server.post("registered-models/create", name=MODEL)
    server.post("registered-models/create", name="mine")
    with pytest.raises(AlreadyExistsError):
        server.post("registered-models/rename", name="mine", new_name=MODEL)
    with pytest.raises(ForbiddenError):
        server.post("experiments/create", name=MODEL)


def test_a_model_is_an_experiment_with_its_runs_and_trials(server, world):
    experiment = server.get("experiments/get-by-name", experiment_name=MODEL)["experiment"]
    assert experiment["experiment_id"] == mirrored_experiment_id(MODEL)
    assert experiment["experiment_id"] in [
        one["experiment_id"] for one in server.post("experiments/search", max_results=10)["experiments"]
    ]
    found = server.post("runs/search", experiment_ids=[experiment["experiment_id"]], max_results=10)
    runs = orjson.loads(orjson.dumps(found["runs"]))
    by_id = {run["info"]["run_id"]: run for run in runs}
    trial = by_id[f"{world.first_run_id}-t1"]
    tags = {tag["key"]: tag["value"] for tag in trial["data"]["tags"]}
    assert tags["mlflow.parentRunId"] == world.first_run_id
    assert world.first_run_id in by_id
    assert {"key": "candidate", "value": make_trial("t1", "r").candidate} in trial["data"]["params"]
    assert server.get("runs/get", run_id=f"{world.first_run_id}-t1")["run"] == trial
    with pytest.raises(ForbiddenError):
        server.post("runs/set-tag", run_id=world.first_run_id, key="a", value="b")
    with pytest.raises(NotFoundError):
        server.get("runs/get", run_id=f"{world.first_run_id}-t9")


def test_the_run_of_a_version_is_found(server, world):
    found = server.get("model-versions/get", name=MODEL, version="1")["model_version"]
    assert found["run_id"].startswith(world.registry.get_version(MODEL, 1).run_id)
