"""A tour of what a user of MLflow's tracking does, with the stock client against ``MLFLOW_TRACKING_URI``.

Steps that the client is too old for are left out; the last line has what was done.
"""

import json
import math
import time
import warnings

warnings.simplefilter("ignore")

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

CLIENT = MlflowClient()
#: Clients of several generations may share a stack.
NAME = f"My Experiment {mlflow.__version__}"
IS_THREE = int(mlflow.__version__.split(".")[0]) >= 3
DONE = []


def step(function):
    function()
    DONE.append(function.__name__)


def expect_error(code, call, *arguments, **named):
    found = None
    try:
        call(*arguments, **named)
    except mlflow.MlflowException as error:
        found = error.error_code
    assert found == code


def log_everything():
    with mlflow.start_run(run_name="first run", tags={"team": "a b"}, description="a run"):
        mlflow.log_param("x", 1)
        mlflow.log_params({"y": "z", "long": "q" * 5_000})
        mlflow.log_metric("acc", 0.9, step=1)
        mlflow.log_metric("val loss", 0.1)
        mlflow.log_metrics({"a/b": 1.0, "nan": math.nan, "inf": math.inf}, step=2)
        mlflow.set_tags({"k": "v"})
    run = CLIENT.get_run(mlflow.last_active_run().info.run_id)
    assert run.info.status == "FINISHED"
    assert (run.data.metrics["acc"], run.data.params["y"], run.data.tags["team"]) == (0.9, "z", "a b")
    assert math.isnan(run.data.metrics["nan"])
    assert run.data.metrics["inf"] > 1e308


def log_a_long_history():
    with mlflow.start_run() as run:
        for begin in (0, 1_000):
            metrics = [Metric("loss", 1 / (i + 1), int(time.time() * 1_000), i) for i in range(begin, begin + 750)]
            CLIENT.log_batch(run.info.run_id, metrics, [Param("p", "1")], [RunTag("t", "1")])
    assert len(CLIENT.get_metric_history(run.info.run_id, "loss")) == 1_500
    assert CLIENT.get_metric_history(run.info.run_id, "nothing") == []


def keep_artifacts():
    with mlflow.start_run() as run:
        mlflow.log_text("hello", "notes/a b.txt")
        mlflow.log_dict({"a": 1}, "d.json")
    assert [one.path for one in CLIENT.list_artifacts(run.info.run_id)] == ["d.json", "notes"]
    assert mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/notes/a b.txt") == "hello"


def search():
    found = mlflow.search_runs(
        [EXPERIMENT],
        "metrics.acc > 0.5 and params.y = 'z' and tags.`team` LIKE 'a%'",
        order_by=["metrics.acc DESC", "start_time"],
    )
    assert list(found["tags.mlflow.runName"]) == ["first run"]
    page = CLIENT.search_runs([EXPERIMENT], max_results=1)
    assert len(CLIENT.search_runs([EXPERIMENT], max_results=1, page_token=page.token)) == 1
    assert [one.name for one in CLIENT.search_experiments(filter_string=f"name LIKE '{NAME}%'")] == [NAME]
    expect_error("INVALID_PARAMETER_VALUE", mlflow.search_runs, [EXPERIMENT], "metrics.acc >")


def log_a_dataset():
    frame = pd.DataFrame({"a": [1, 2], "y": [0, 1]})
    with mlflow.start_run() as run:
        mlflow.log_input(mlflow.data.from_pandas(frame, name="tiny", targets="y"), context="training")
    assert CLIENT.get_run(run.info.run_id).inputs.dataset_inputs[0].dataset.name == "tiny"
    assert len(CLIENT.search_runs([EXPERIMENT], "dataset.name = 'tiny' and dataset.context = 'training'")) == 1


def delete_and_restore():
    with mlflow.start_run() as run:
        pass
    run_id = run.info.run_id
    CLIENT.delete_run(run_id)
    assert run_id not in [one.info.run_id for one in CLIENT.search_runs([EXPERIMENT])]
    expect_error("INVALID_PARAMETER_VALUE", CLIENT.set_tag, run_id, "a", "b")
    CLIENT.restore_run(run_id)
    experiment = CLIENT.create_experiment(f"{NAME}, doomed")
    CLIENT.delete_experiment(experiment)
    CLIENT.restore_experiment(experiment)
    CLIENT.rename_experiment(experiment, f"saved {NAME}")
    assert CLIENT.get_experiment_by_name(f"saved {NAME}").experiment_id == experiment


def nest_runs():
    with mlflow.start_run() as parent, mlflow.start_run(nested=True):
        mlflow.log_metric("m", 1)
    children = CLIENT.search_runs([EXPERIMENT], f"tags.mlflow.parentRunId = '{parent.info.run_id}'")
    assert len(children) == 1


def refuse():
    expect_error("RESOURCE_DOES_NOT_EXIST", CLIENT.get_run, "0" * 32)
    expect_error("RESOURCE_ALREADY_EXISTS", CLIENT.create_experiment, NAME)
    with mlflow.start_run():
        mlflow.log_param("fixed", 1)
        expect_error("INVALID_PARAMETER_VALUE", mlflow.log_param, "fixed", 2)


def log_models():
    with mlflow.start_run() as run:
        model = mlflow.initialize_logged_model(name="model", params={"p": "1"}, tags={"stage": "new"})
        mlflow.log_metric("holdout", 0.8, model_id=model.model_id)
        mlflow.finalize_logged_model(model.model_id, "READY")
    mlflow.set_logged_model_tags(model.model_id, {"stage": "good"})
    found = mlflow.get_logged_model(model.model_id)
    assert (found.status, found.tags["stage"], found.params["p"]) == ("READY", "good", "1")
    assert [(one.key, one.value) for one in found.metrics] == [("holdout", 0.8)]
    best = mlflow.search_logged_models(
        [EXPERIMENT],
        filter_string=f"source_run_id = '{run.info.run_id}'",
        order_by=[{"field_name": "metrics.holdout", "ascending": False}],
        output_format="list",
    )
    assert [one.model_id for one in best] == [model.model_id]


def train_with_autolog():
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - not with every client

    mlflow.sklearn.autolog(log_models=False)
    with mlflow.start_run() as run:
        LogisticRegression().fit([[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1])
    mlflow.sklearn.autolog(disable=True)
    logged = CLIENT.get_run(run.info.run_id).data
    assert logged.params["max_iter"] == "100"
    assert "training_score" in logged.metrics


EXPERIMENT = mlflow.set_experiment(NAME).experiment_id
TOUR = [
    log_everything,
    log_a_long_history,
    keep_artifacts,
    search,
    log_a_dataset,
    delete_and_restore,
    nest_runs,
    refuse,
]
for one in TOUR + ([log_models, train_with_autolog] if IS_THREE else []):
    step(one)
print(json.dumps({"version": mlflow.__version__, "done": DONE}))
