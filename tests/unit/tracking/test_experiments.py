"""Experiments of MLflow's API."""

import pytest
from millrace.errors import AlreadyExistsError, EndpointNotFoundError, InvalidInputError, NotFoundError


def test_an_experiment_is_created_once(server):
    created = server.post("experiments/create", name="a b", tags=[{"key": "k", "value": "v"}])
    found = server.get("experiments/get", **created)["experiment"]
    assert found["name"] == "a b"
    assert found["tags"] == [{"key": "k", "value": "v"}]
    assert found["artifact_location"] == f"s3://models/mlflow/experiments/{created['experiment_id']}"
    with pytest.raises(AlreadyExistsError, match="already exists"):
        server.post("experiments/create", name="a b")


def test_what_is_missing_is_named(server):
    with pytest.raises(InvalidInputError, match="Missing value for required parameter 'name'"):
        server.post("experiments/create")
    with pytest.raises(NotFoundError, match="No Experiment with id=7 exists"):
        server.get("experiments/get", experiment_id="7")


@pytest.mark.parametrize("path", ["traces/search", "/", "/api/3.0/mlflow/datasets/create", "experiments/nothing"])
def test_an_unknown_endpoint_is_not_found(server, path):
    with pytest.raises(EndpointNotFoundError):
        server.post(path)
