"""`millrace runs ...` and `millrace compare`, on a run that was trained in memory."""

import io
import json
from copy import deepcopy

import pytest
from botocore.exceptions import ClientError
from millrace.errors import ArtifactNotFoundError
from millrace.layout import evaluation_key, trial_key
from millrace.registry.queries import describe_run
from millrace_cli.main import app
from typer.testing import CliRunner

from tests.fakes.fake_api import FakeApi, answer_commands
from tests.prepared_data import make_dataset
from tests.training_run import MODEL, RUN_ID, TrainingRun


class FakeTarget:
    """Its buckets are the world's stores."""

    def __init__(self, world: TrainingRun) -> None:
        self.stores = {"DataBucketName": world.data_store, "ModelsBucketName": world.model_store}

    def output(self, name: str) -> str:
        return name

    def client(self, service: str) -> "FakeTarget":
        return self

    def get_object(self, *, Bucket: str, Key: str) -> dict[str, object]:
        try:
            return {"Body": io.BytesIO(self.stores[Bucket].get(Key))}
        except ArtifactNotFoundError as error:
            raise ClientError({"Error": {"Code": "NoSuchKey"}}, "GetObject") from error


@pytest.fixture(scope="module")
def trained() -> TrainingRun:
    world = TrainingRun.prepared(make_dataset("binary"), training={"trials": 3, "folds": 2, "max_rows": 100})
    world.evaluate(world.train_all())
    return world


@pytest.fixture
def world(trained, monkeypatch) -> TrainingRun:
    world = deepcopy(trained)
    serve(world, monkeypatch)
    return world


def serve(world: TrainingRun, monkeypatch) -> None:
    document = json.loads(json.dumps(describe_run(MODEL, RUN_ID, world.registry, world.model_store)))
    answers = {
        f"/runs/{RUN_ID}": [(200, document)],
        f"/models/{MODEL}/runs": [(200, {"runs": [document["run"]]})],
        f"/models/{MODEL}/runs/{RUN_ID}": [(200, document)],
    }
    answer_commands(monkeypatch, FakeApi(answers), FakeTarget(world))


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, [*arguments], env={"COLUMNS": "200"})
    return result.exit_code, result.output


@pytest.mark.parametrize("arguments", [(MODEL,), ("list", MODEL)])
def test_runs_of_a_model_are_listed_with_and_without_the_word(world, arguments):
    code, output = run("runs", *arguments)

    assert code == 0
    assert RUN_ID in output


@pytest.mark.parametrize("arguments", [("show", RUN_ID), ("show", RUN_ID, "--model", MODEL), (MODEL, RUN_ID)])
def test_a_run_is_shown_with_its_search_and_every_trial(world, arguments):
    code, output = run("runs", *arguments)

    assert code == 0
    assert "3 sampled with seed 0, 3 at once" in output
    assert "100, a sample of 200: the spec trains on at most 100 rows" in output
    assert "Leaderboard, mean of 2 folds" in output
    for trial_id in ("01-baseline", "02-logistic_regression", "03-hist_gradient_boosting"):
        assert trial_id in output


def test_a_run_that_is_still_training_shows_the_metrics_so_far(monkeypatch):
    world = TrainingRun.prepared(make_dataset("binary"))
    pointers = world.plan().trials
    world.train(pointers[1])
    serve(world, monkeypatch)

    code, output = run("runs", "show", RUN_ID)

    assert code == 0
    (done,) = [line for line in output.splitlines() if "02-logistic_regression" in line]
    auc = world.registry.get_trial(MODEL, RUN_ID, "02-logistic_regression").metrics["roc_auc"]
    assert f"{auc:.4g}" in done
    (waiting,) = [line for line in output.splitlines() if "03-hist_gradient_boosting" in line]
    assert "planned" in waiting


def test_a_run_that_no_model_has_is_said_in_one_sentence(world):
    code, output = run("runs", "show", "20300101T000000-000000000000")

    assert code == 1
    assert "no model has a run 20300101T000000-000000000000" in output


def test_a_trial_is_trained_again_to_the_same_model(world):
    code, output = run("runs", "reproduce", RUN_ID)

    assert code == 0
    assert "the models are byte-identical" in output
    code, output = run("runs", "reproduce", RUN_ID, "--trial", "01-baseline", "--json")
    assert code == 0
    assert json.loads(output)["byte_equal"] is True


def test_a_trial_that_was_recorded_otherwise_is_another_model(world):
    key = trial_key(MODEL, RUN_ID, "03-hist_gradient_boosting", "trial.json")
    record = json.loads(world.model_store.get(key))
    record["parameters"]["learning_rate"] = 0.3
    record["libraries"]["numpy"] = "1.0.0"
    world.model_store.put(key, json.dumps(record).encode())

    code, output = run("runs", "reproduce", RUN_ID, "--trial", "03-hist_gradient_boosting")

    assert code == 1
    assert "the models differ; predictions differ by up to" in output
    assert "numpy: 1.0.0 in the record" in output


def test_a_trial_without_a_record_is_said(world):
    code, output = run("runs", "reproduce", RUN_ID, "--trial", "09-oracle")

    assert code == 1
    assert "has no record of trial 09-oracle" in output


def test_two_runs_are_compared(world):
    code, output = run("compare", RUN_ID, RUN_ID)

    assert code == 0
    assert "parameters: identical" in output
    assert "roc_auc" in output
    code, output = run("compare", RUN_ID, RUN_ID, "--json")
    assert json.loads(output)["parameters"] == {}


def test_two_runs_are_compared_without_any_evaluation(world, monkeypatch):
    del world.model_store._objects[evaluation_key(MODEL, RUN_ID)]
    serve(world, monkeypatch)

    code, output = run("compare", RUN_ID, RUN_ID)

    assert code == 0
    assert "winner: identical" in output
