"""Runs of MLflow's API: creation, changes, deletion, and what clients log to them."""

import json
from typing import ClassVar

import pytest
from millrace.errors import ForbiddenError, InvalidInputError, InvalidStateError, NotFoundError
from millrace.tracking.tracking_calls import NoMirror
from millrace.tracking.tracking_records import ExperimentRecord, RunRecord


@pytest.fixture
def experiment(server):
    return server.post("experiments/create", name="churn study")["experiment_id"]


@pytest.fixture
def run(server, experiment):
    created = server.post("runs/create", experiment_id=experiment, user_id="ann", start_time=1_000, run_name="first")
    return created["run"]["info"]["run_id"]


def read(server, run):
    found = server.get("runs/get", run_id=run)["run"]
    data = found["data"]
    return (
        {one["key"]: one["value"] for one in data["metrics"]},
        {one["key"]: one["value"] for one in data["params"]},
        {one["key"]: one["value"] for one in data["tags"]},
    )


class TestCreation:
    def test_a_run_has_a_name_and_a_place_for_artifacts(self, server, experiment):
        run = server.post("runs/create", experiment_id=experiment, start_time=5, tags=[{"key": "a", "value": "b"}])[
            "run"
        ]
        assert run["info"]["status"] == "RUNNING"
        assert run["info"]["run_uuid"] == run["info"]["run_id"]
        assert run["info"]["artifact_uri"].endswith(
            f"mlflow/experiments/{experiment}/{run['info']['run_id']}/artifacts"
        )
        assert {"key": "mlflow.runName", "value": run["info"]["run_name"]} in run["data"]["tags"]

    def test_the_default_experiment_exists(self, server):
        assert server.post("runs/create")["run"]["info"]["experiment_id"] == "0"
        assert server.get("experiments/get-by-name", experiment_name="Default")["experiment"]["experiment_id"] == "0"

    def test_a_name_and_a_tag_that_differ_are_refused(self, server):
        with pytest.raises(InvalidInputError, match="different values"):
            server.post("runs/create", run_name="a", tags=[{"key": "mlflow.runName", "value": "b"}])

    def test_a_deleted_experiment_takes_no_runs(self, server, experiment):
        server.post("experiments/delete", experiment_id=experiment)
        with pytest.raises(InvalidInputError, match="must be in the 'active' state"):
            server.post("runs/create", experiment_id=experiment)


class TestChanges:
    def test_status_end_and_name(self, server, run):
        info = server.post("runs/update", run_id=run, status="FINISHED", end_time=9, run_name="last")["run_info"]
        assert (info["status"], info["end_time"], info["run_name"]) == ("FINISHED", 9, "last")
        assert read(server, run)[2]["mlflow.runName"] == "last"

    @pytest.mark.parametrize("status", ["DONE", 9, []])
    def test_another_status_is_refused(self, server, run, status):
        with pytest.raises(InvalidInputError, match="'status'"):
            server.post("runs/update", run_id=run, status=status)

    def test_a_deleted_run_is_read_and_not_changed(self, server, run):
        server.post("runs/delete", run_id=run)
        assert server.get("runs/get", run_id=run)["run"]["info"]["lifecycle_stage"] == "deleted"
        with pytest.raises(InvalidInputError, match="must be in the 'active' state"):
            server.post("runs/set-tag", run_id=run, key="a", value="b")
        server.post("runs/restore", run_id=run)
        server.post("runs/set-tag", run_id=run, key="a", value="b")

    def test_the_stage_of_an_experiment_is_that_of_its_runs_until_they_get_their_own(self, server, experiment, run):
        other = server.post("runs/create", experiment_id=experiment)["run"]["info"]["run_id"]

        def stages():
            return [server.get("runs/get", run_id=one)["run"]["info"]["lifecycle_stage"] for one in (run, other)]

        server.post("runs/delete", run_id=other)
        assert stages() == ["active", "deleted"]
        server.post("experiments/delete", experiment_id=experiment)
        assert stages() == ["deleted", "deleted"]
        server.post("runs/restore", run_id=run)
        assert stages() == ["active", "deleted"]
        server.post("experiments/restore", experiment_id=experiment)
        assert stages() == ["active", "active"]

    def test_what_is_not_there(self, server):
        with pytest.raises(NotFoundError, match=f"Run with id={'a' * 32} not found"):
            server.get("runs/get", run_id="a" * 32)
        with pytest.raises(InvalidInputError, match="Missing value for required parameter 'run_id'"):
            server.post("runs/set-tag", key="a")

    def test_a_run_is_found_under_either_name_of_its_id(self, server, run):
        server.post("runs/set-tag", run_uuid=run, key="a", value="b")
        assert read(server, run)[2]["a"] == "b"


class TestLogging:
    def test_a_batch(self, server, run):
        server.post(
            "runs/log-batch",
            run_id=run,
            metrics=[
                {"key": "loss", "value": 0.5, "timestamp": 1, "step": 0},
                {"key": "loss", "value": 0.25, "timestamp": 2, "step": 1},
                {"key": "nan", "value": "NaN", "timestamp": 1},
                {"key": "inf", "value": "Infinity", "timestamp": 1},
            ],
            params=[{"key": "depth", "value": "3"}],
            tags=[{"key": "team", "value": "a"}],
        )
        metrics, params, tags = read(server, run)
        assert metrics == {"loss": 0.25, "nan": "NaN", "inf": pytest.approx(1.797e308, rel=1e-3)}
        assert (params, tags["team"]) == ({"depth": "3"}, "a")

    def test_a_batch_with_a_fault_changes_nothing(self, server, run):
        server.post("runs/log-parameter", run_id=run, key="depth", value="3")
        before = read(server, run)
        with pytest.raises(InvalidInputError, match="Changing param values is not allowed"):
            server.post(
                "runs/log-batch",
                run_id=run,
                metrics=[{"key": "loss", "value": 1, "timestamp": 1}],
                params=[{"key": "new", "value": "1"}, {"key": "depth", "value": "4"}],
                tags=[{"key": "team", "value": "a"}],
            )
        assert read(server, run) == before

    def test_the_same_batch_again_changes_nothing(self, server, run):
        batch = {
            "metrics": [{"key": "loss", "value": 0.5, "timestamp": 1, "step": step} for step in range(100)],
            "params": [{"key": "depth", "value": "3"}],
        }
        for _ in range(2):
            server.post("runs/log-batch", run_id=run, **batch)
        history = server.get("metrics/get-history", run_id=run, metric_key="loss")["metrics"]
        assert [one["step"] for one in history] == list(range(100))

    def test_a_request_that_changes_nothing_writes_nothing(self, server, run):
        server.post("runs/log-parameter", run_id=run, key="depth", value="3")
        written = []
        write = server.store.write
        server.store.write = lambda change: written.append(change) or write(change)
        server.post("runs/log-parameter", run_id=run, key="depth", value="3")
        assert written == []

    @pytest.mark.parametrize(
        ("batch", "message"),
        [
            ({"metrics": [{"key": "a", "value": 1, "timestamp": 1}] * 1_001}, "at most 1000 metrics. Got 1001 metrics"),
            ({"params": [{"key": f"p{i}", "value": "1"} for i in range(101)]}, "at most 100 params. Got 101 params"),
            ({"tags": [{"key": f"t{i}", "value": "1"} for i in range(101)]}, "at most 100 tags. Got 101 tags"),
            (
                {
                    "metrics": [{"key": "a", "value": 1, "timestamp": 1}] * 950,
                    "tags": [{"key": f"t{i}", "value": "1"} for i in range(100)],
                },
                "at most 1000 metrics, params, and tags. Got 1050",
            ),
            ({"params": [{"key": "p", "value": "1"}] * 2}, "Duplicate parameter keys have been submitted"),
            ({"metrics": [{"key": "a", "timestamp": 1}]}, r"required parameter 'metrics\[0\].value'"),
            ({"metrics": [{"key": "a", "value": "x", "timestamp": 1}]}, r"for parameter 'metrics\[0\].value' supplied"),
            ({"metrics": [{"key": "a", "value": 1, "timestamp": -1}]}, "Timestamp must be a nonnegative long"),
            (
                {"metrics": [{"key": "a/../b", "value": 1, "timestamp": 1}]},
                r"'metrics\[0\].name' supplied: Names may be",
            ),
            ({"metrics": [{"key": "a", "value": 1, "timestamp": 1}, 5]}, "expected a list of objects"),
            ({"params": [{"value": "1"}]}, r"required parameter 'params\[0\].key'"),
            ({"tags": [{"key": "a*b", "value": "1"}]}, r"'tags\[0\].key' supplied: Names may only contain"),
            ({"params": [{"key": "k" * 251, "value": "1"}]}, "exceeds the maximum length of 250"),
        ],
    )
    def test_limits_and_faults_are_named(self, server, run, batch, message):
        with pytest.raises(InvalidInputError, match=message):
            server.post("runs/log-batch", run_id=run, **batch)

    def test_long_values_are_cut_as_mlflow_cuts_them(self, server, run):
        server.post("runs/log-parameter", run_id=run, key="p", value="x" * 7_000)
        server.post("runs/set-tag", run_id=run, key="t", value="x" * 9_000)
        _, params, tags = read(server, run)
        assert (len(params["p"]), len(tags["t"])) == (6_000, 8_000)

    def test_the_latest_value_is_that_of_the_highest_step(self, server, run):
        for step, value in ((5, 1.0), (3, 2.0), (5, 0.5)):
            server.post("runs/log-metric", run_id=run, key="m", value=value, timestamp=1, step=step)
        assert read(server, run)[0] == {"m": 1.0}

    def test_a_tag_is_deleted_once(self, server, run):
        server.post("runs/set-tag", run_id=run, key="a", value="b")
        server.post("runs/delete-tag", run_id=run, key="a")
        with pytest.raises(NotFoundError, match="No tag with name: a in run"):
            server.post("runs/delete-tag", run_id=run, key="a")

    def test_a_record_that_no_item_can_hold_is_an_object(self, server, run):
        # Texts that do not compress.
        values = {
            f"p{i}": "".join(chr(33 + (i * 7_919 + j * j * 31 + j // 7) % 900) for j in range(5_500))
            for i in range(100)
        }
        pairs = [{"key": key, "value": value} for key, value in values.items()]
        server.post("runs/log-batch", run_id=run, params=pairs[:50])
        server.post("runs/log-batch", run_id=run, params=pairs[50:])
        assert read(server, run)[1] == values
        server.post("runs/set-tag", run_id=run, key="a", value="b")
        assert read(server, run)[2]["a"] == "b"

    def test_writers_at_once_lose_nothing(self, server, run):
        get_many, others = server.store.get_many, ["x", "y"]

        def interrupt(keys):
            found = get_many(keys)
            if others:
                server.post("runs/set-tag", run_id=run, key=others.pop(), value="1")
            return found

        server.store.get_many = interrupt
        server.post("runs/set-tag", run_id=run, key="z", value="1")
        assert {"x", "y", "z"} <= set(read(server, run)[2])


class TestInputs:
    DATASET: ClassVar = {
        "name": "tiny",
        "digest": "d1",
        "source_type": "local",
        "source": "{}",
        "schema": "s",
        "profile": "p",
    }

    def test_datasets_and_models(self, server, experiment, run):
        given = {"dataset": self.DATASET, "tags": [{"key": "mlflow.data.context", "value": "training"}]}
        for _ in range(2):
            server.post("runs/log-inputs", run_id=run, datasets=[given], models=[{"model_id": "m-1"}])
        server.post("runs/outputs", run_id=run, models=[{"model_id": "m-2", "step": 3}])
        found = server.get("runs/get", run_id=run)["run"]
        assert found["inputs"] == {"dataset_inputs": [given], "model_inputs": [{"model_id": "m-1"}]}
        assert found["outputs"] == {"model_outputs": [{"model_id": "m-2", "step": 3}]}
        summaries = server.post("/api/2.0mlflow/experiments/search-datasets", experiment_ids=[experiment])
        assert summaries["dataset_summaries"] == [
            {"experiment_id": experiment, "name": "tiny", "digest": "d1", "context": "training"}
        ]

    def test_a_large_profile_is_an_object(self, server, run):
        profile = "".join(chr(33 + (i * i * 31 + i // 7) % 900) for i in range(900_000))
        server.post("runs/log-inputs", run_id=run, datasets=[{"dataset": {**self.DATASET, "profile": profile}}])
        (found,) = server.get("runs/get", run_id=run)["run"]["inputs"]["dataset_inputs"]
        assert found["dataset"]["profile"] == profile

    @pytest.mark.parametrize("missing", ["name", "digest", "source_type", "source"])
    def test_what_a_dataset_lacks_is_named(self, server, run, missing):
        dataset = {key: value for key, value in self.DATASET.items() if key != missing}
        with pytest.raises(InvalidInputError, match=rf"'datasets\[0\].dataset.{missing}'"):
            server.post("runs/log-inputs", run_id=run, datasets=[{"dataset": dataset}])

    def test_the_model_of_an_older_client(self, server, run):
        model = '{"artifact_path": "m", "flavors": {}, "utc_time_created": "t", "run_id": "r"}'
        server.post("runs/log-model", run_id=run, model_json=model)
        assert read(server, run)[2]["mlflow.log-model.history"] == f"[{model}]"
        with pytest.raises(InvalidInputError, match="missing mandatory fields"):
            server.post("runs/log-model", run_id=run, model_json='{"flavors": {}}')


class OneModel(NoMirror):
    """A mirror with one model, ``churn``, and one run."""

    EXPERIMENT = ExperimentRecord(
        experiment_id="9" * 18, name="churn", artifact_location="s3://x", created_ms=1, updated_ms=1, is_mirrored=True
    )
    RUN = RunRecord(
        run_id="20260503T141500-0f3a9c2b7d1e",
        experiment_id="9" * 18,
        name="run",
        user="millrace",
        artifact_uri="s3://x/y",
        started_ms=7,
        is_mirrored=True,
    )

    def list_experiments(self):
        return [self.EXPERIMENT]

    def find_experiment(self, experiment_id):
        return self.EXPERIMENT

    def find_experiment_named(self, name):
        return self.EXPERIMENT if name == "churn" else None

    def list_runs(self, experiment_id):
        return [self.RUN]

    def find_run(self, run_id):
        return self.RUN if run_id == self.RUN.run_id else None


class TestMirror:
    @pytest.fixture(autouse=True)
    def _mirror(self, server):
        server.mirror = OneModel()

    def test_models_are_experiments_and_their_runs_are_found(self, server):
        assert [one["name"] for one in server.post("experiments/search")["experiments"]] == ["Default", "churn"]
        assert server.get("experiments/get-by-name", experiment_name="churn")["experiment"]["name"] == "churn"
        (run,) = server.post("runs/search", experiment_ids=["9" * 18])["runs"]
        assert run["info"]["run_id"] == OneModel.RUN.run_id
        assert server.get("runs/get", run_id=OneModel.RUN.run_id)["run"]["info"]["start_time"] == 7

    @pytest.mark.parametrize(
        ("path", "body"),
        [
            ("experiments/create", {"name": "churn"}),
            ("experiments/delete", {"experiment_id": "9" * 18}),
            ("experiments/update", {"experiment_id": "9" * 18, "new_name": "x"}),
            ("experiments/set-experiment-tag", {"experiment_id": "9" * 18, "key": "a", "value": "b"}),
            ("runs/create", {"experiment_id": "9" * 18}),
            ("runs/set-tag", {"run_id": OneModel.RUN.run_id, "key": "a", "value": "b"}),
            ("runs/delete", {"run_id": OneModel.RUN.run_id}),
            ("logged-models", {"experiment_id": "9" * 18}),
        ],
    )
    def test_and_nobody_changes_them(self, server, path, body):
        with pytest.raises(ForbiddenError, match="Millrace's"):
            server.post(path, **body)


def test_renaming(server, experiment):
    server.post("experiments/update", experiment_id=experiment, new_name="other")
    assert server.get("experiments/get-by-name", experiment_name="other")["experiment"]["experiment_id"] == experiment
    # The old name is free again.
    again = server.post("experiments/create", name="churn study")["experiment_id"]
    server.post("experiments/delete", experiment_id=again)
    with pytest.raises(InvalidStateError, match="Cannot rename a non-active experiment"):
        server.post("experiments/update", experiment_id=again, new_name="x")


DATASET = {"name": "d", "digest": "1", "source_type": "local", "source": "here"}
METRIC = {"key": "a", "value": 1.0, "timestamp": 1, "step": 0}


@pytest.mark.parametrize(
    ("path", "arguments"),
    [
        ("runs/log-inputs", {"datasets": [{"dataset": DATASET | {"schema": {"a": 1}}}]}),
        ("runs/log-inputs", {"datasets": [{"dataset": DATASET, "tags": 5}]}),
        ("runs/log-batch", {"metrics": [METRIC | {"model_id": 5}]}),
        ("runs/log-batch", {"metrics": [METRIC | {"model_id": "m-1", "dataset_name": 5}]}),
    ],
)
def test_values_of_another_type_are_refused_and_the_run_can_be_read(server, path, arguments):
    run_id = server.post("runs/create", experiment_id="0")["run"]["info"]["run_id"]
    with pytest.raises(InvalidInputError):
        server.post(path, run_id=run_id, **arguments)
    assert server.get("runs/get", run_id=run_id)["run"]["info"]["run_id"] == run_id


def test_a_model_is_logged_where_its_tag_holds_another_text(server):
    run_id = server.post("runs/create", experiment_id="0")["run"]["info"]["run_id"]
    server.post("runs/set-tag", run_id=run_id, key="mlflow.log-model.history", value="x")
    model = {"artifact_path": "m", "flavors": {}, "utc_time_created": "2026", "run_id": run_id}
    server.post("runs/log-model", run_id=run_id, model_json=json.dumps(model))
    tags = {tag["key"]: tag["value"] for tag in server.get("runs/get", run_id=run_id)["run"]["data"]["tags"]}
    assert json.loads(tags["mlflow.log-model.history"]) == [model]
