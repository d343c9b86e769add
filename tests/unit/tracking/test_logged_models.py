"""Logged models, lists of artifacts, and the server's own endpoints."""

import pytest
from millrace.errors import InvalidInputError, NotFoundError


@pytest.fixture
def experiment(server):
    return server.post("experiments/create", name="e")["experiment_id"]


@pytest.fixture
def model(server, experiment):
    created = server.post(
        "logged-models", experiment_id=experiment, name="m", tags=[{"key": "a", "value": "b"}], source_run_id="r"
    )
    return created["model"]["info"]["model_id"]


class TestLoggedModels:
    def test_its_life(self, server, experiment, model):
        found = server.get(f"logged-models/{model}")["model"]["info"]
        assert found["status"] == "LOGGED_MODEL_PENDING"
        assert found["artifact_uri"] == f"s3://models/mlflow/experiments/{experiment}/models/{model}/artifacts"
        assert server.patch(f"logged-models/{model}", status=2)["model"]["info"]["status"] == "LOGGED_MODEL_READY"
        server.post(f"logged-models/{model}/params", params=[{"key": "p", "value": "1"}])
        server.patch(f"logged-models/{model}/tags", tags=[{"key": "c", "value": "d"}])
        server.delete(f"logged-models/{model}/tags/a")
        found = server.get(f"logged-models/{model}")["model"]
        assert found["info"]["tags"] == [{"key": "c", "value": "d"}]
        assert found["data"]["params"] == [{"key": "p", "value": "1"}]
        server.delete(f"logged-models/{model}")
        with pytest.raises(NotFoundError, match="not found"):
            server.get(f"logged-models/{model}")
        assert server.get(f"logged-models/{model}", allow_deleted="true")["model"]["info"]["name"] == "m"

    @pytest.mark.parametrize("name", ["a/b", "a:b", "a.b", "a%b", "a'b", 'a"b'])
    def test_a_name_that_mlflow_refuses(self, server, experiment, name):
        with pytest.raises(InvalidInputError, match="Invalid model name"):
            server.post("logged-models", experiment_id=experiment, name=name)

    def test_metrics_of_a_run_are_those_of_a_model_too(self, server, experiment, model):
        run = server.post("runs/create", experiment_id=experiment, start_time=1)["run"]["info"]["run_id"]
        value = {"key": "acc", "value": 0.9, "timestamp": 1, "step": 1, "model_id": model}
        value |= {"dataset_name": "d", "dataset_digest": "1"}
        for _ in range(2):
            server.post("runs/log-metric", run_id=run, **value)
        assert server.get(f"logged-models/{model}")["model"]["data"]["metrics"] == [{**value, "run_id": run}]
        for half in ("dataset_name", "dataset_digest"):
            with pytest.raises(InvalidInputError, match="Both dataset_name and dataset_digest"):
                server.post("runs/log-metric", run_id=run, key="acc", value=1, timestamp=2, **{half: "d"})

    def test_a_batch_for_a_model_that_does_not_exist_changes_nothing(self, server, experiment, model):
        run = server.post("runs/create", experiment_id=experiment, start_time=1)["run"]["info"]["run_id"]
        metrics = [{"key": "acc", "value": 1, "timestamp": 1, "model_id": one} for one in (model, "m-none")]
        with pytest.raises(NotFoundError, match="m-none"):
            server.post("runs/log-batch", run_id=run, metrics=metrics)
        assert server.get(f"logged-models/{model}")["model"]["data"]["metrics"] == []
        assert server.get("runs/get", run_id=run)["run"]["data"]["metrics"] == []

    def test_search(self, server, experiment):
        run = server.post("runs/create", experiment_id=experiment, start_time=1)["run"]["info"]["run_id"]
        ids = []
        for number, dataset in enumerate(["train", "test", "test"]):
            created = server.post(
                "logged-models",
                experiment_id=experiment,
                name=f"m{number}",
                params=[{"key": "n", "value": str(number)}],
            )
            ids.append(created["model"]["info"]["model_id"])
            server.post(
                "runs/log-metric",
                run_id=run,
                key="acc",
                value=number / 10,
                timestamp=1,
                model_id=ids[-1],
                dataset_name=dataset,
                dataset_digest="d",
            )

        def names(**query):
            response = server.post("logged-models/search", experiment_ids=[experiment], **query)
            return [one["info"]["name"] for one in response["models"]]

        assert names() == ["m2", "m1", "m0"]
        assert names(filter="params.n = '1'") == ["m1"]
        assert names(filter="metrics.acc >= 0.1", datasets=[{"dataset_name": "test"}]) == ["m2", "m1"]
        assert names(datasets=[{"dataset_name": "train", "dataset_digest": "d"}]) == ["m0"]
        assert names(order_by=[{"field_name": "metrics.acc", "ascending": True}]) == ["m0", "m1", "m2"]
        assert names(order_by=[{"field_name": "metrics.acc", "ascending": True, "dataset_name": "test"}])[-1] == "m0"
        assert names(order_by=[{"field_name": "name"}], filter="name LIKE 'm%'") == ["m0", "m1", "m2"]
        assert names(filter="name IN ('m0', 'm2')") == ["m2", "m0"]
        first = server.post("logged-models/search", experiment_ids=[experiment], max_results=2)
        assert names(page_token=first["next_page_token"]) == ["m0"]
        with pytest.raises(InvalidInputError, match="`dataset_name`"):
            names(datasets=[{}])


class TestArtifacts:
    def test_files_and_folders_of_a_run(self, server, experiment):
        run = server.post("runs/create", experiment_id=experiment, start_time=1)["run"]["info"]
        root = run["artifact_uri"].removeprefix("s3://models/")
        for name in ("d.json", "notes/a b.txt", "notes/deep/x"):
            server.objects.put(f"{root}/{name}", b"four")
        found = server.get("artifacts/list", run_id=run["run_id"])
        assert found["root_uri"] == run["artifact_uri"]
        assert found["files"] == [
            {"path": "d.json", "is_dir": False, "file_size": 4},
            {"path": "notes", "is_dir": True},
        ]
        inner = server.get("artifacts/list", run_id=run["run_id"], path="notes")["files"]
        assert [one["path"] for one in inner] == ["notes/a b.txt", "notes/deep"]

    @pytest.mark.parametrize("path", ["../x", "/x", "a/../../b", "c:/x", "..\\x"])
    def test_a_path_out_of_the_folder_is_refused(self, server, experiment, path):
        run = server.post("runs/create", experiment_id=experiment)["run"]["info"]["run_id"]
        with pytest.raises(InvalidInputError, match="Invalid path"):
            server.get("artifacts/list", run_id=run, path=path)

    def test_nothing_is_listed_elsewhere(self, server):
        experiment = server.post("experiments/create", name="x", artifact_location="s3://other/x")["experiment_id"]
        run = server.post("runs/create", experiment_id=experiment)["run"]["info"]["run_id"]
        assert server.get("artifacts/list", run_id=run)["files"] == []

    def test_those_of_a_model(self, server, model):
        assert server.get(f"logged-models/{model}/artifacts/directories")["files"] == []


def test_the_server_itself(server):
    assert server.get("/version") == "3.3.0"
    assert server.get("/health") == "OK"
    assert server.get("/").startswith("<!doctype html>")
    assert server.get("/api/3.0/mlflow/server-info")["workspaces_enabled"] is False
