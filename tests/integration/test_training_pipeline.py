"""The whole loop on moto: an upload becomes a served prediction, and every way it can fail is recorded."""

import csv
import hashlib
import io
import json
import os
import random
from collections import Counter
from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

import boto3
import pytest
from millrace.aws.clients import object_store, registry
from millrace.aws.object_store import S3ObjectStore
from millrace.cost.arithmetic import TrainingUsage, calculate_training
from millrace.cost.prices import US_EAST_1
from millrace.errors import ServiceUnavailableError
from millrace.spec import ModelSpec

from tests.integration.application import (
    DATA_BUCKET,
    MODELS_BUCKET,
    RETRAINING_ARN,
    Application,
    Handler,
    WorkerDiedError,
)
from tests.integration.executions import wait_for_execution

COLUMNS = ["age", "plan", "joined", "active", "label"]


def make_rows(n_rows: int = 160, seed: int = 1) -> list[dict[str, Any]]:
    """Rows whose label follows from age and plan, with some noise and some missing values."""
    generator = random.Random(seed)
    rows = []
    for _ in range(n_rows):
        age = generator.randint(18, 80)
        plan = generator.choice(["basic", "plus", "pro"])
        score = (age - 49) / 12 + (1.5 if plan == "pro" else -0.5) + generator.gauss(0, 0.6)
        rows.append(
            {
                "age": "" if generator.random() < 0.05 else age,
                "plan": plan,
                "joined": str(date(2010, 1, 1) + timedelta(days=generator.randint(0, 5000))),
                "active": generator.choice(["yes", "no"]),
                "label": int(score > 0),
            }
        )
    return rows


def as_csv(rows: list[dict[str, Any]], columns: list[str] | None = None) -> bytes:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns or COLUMNS, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue().encode()


def features_of(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: (None if row[name] == "" else row[name]) for name in COLUMNS if name != "label"}


def run_of(application: Application, model: str, run_id: str) -> dict[str, Any]:
    status, body = application.get(
        f"/models/{model}/runs/{run_id}", "/models/{model}/runs/{run_id}", {"model": model, "run_id": run_id}
    )
    assert status == 200, body
    return body


def ledger_of(application: Application, model: str) -> list[dict[str, Any]]:
    status, body = application.get(f"/models/{model}/ledger", "/models/{model}/ledger", {"model": model})
    assert status == 200, body
    return list(body["entries"])


def dying(*_: object) -> None:
    raise WorkerDiedError("out of memory")


# ---------------------------------------------------------------------------------------------- the happy path
def test_an_upload_becomes_a_served_prediction(application: Application, aws_calls: Counter[str]) -> None:
    rows = make_rows()

    [result] = application.upload("churn", "churn.csv", as_csv(rows))

    assert application.wait_until_quiet() == {result["run_id"]: "SUCCEEDED"}
    check_costs(application, aws_calls, result["run_id"])
    body = run_of(application, "churn", result["run_id"])
    assert body["run"]["status"] == "succeeded"
    assert body["run"]["version"] == 1
    assert [trial["status"] for trial in body["trials"]] == ["succeeded"] * (3 + 1)
    refit = body["trials"][-1]
    assert body["evaluation"]["trial_id"] == refit["trial_id"] == f"04-{refit['candidate']}-refitted"
    assert body["evaluation"]["decision"] == "promote"

    body = {"dataframe_records": [features_of(row) for row in rows], "params": {"interval": 0.9}}
    status, answer = application.predict("churn", body)
    assert status == 200, answer
    assert answer["model_version"] == 1
    held = sum(row["label"] in own for row, own in zip(rows, answer["sets"], strict=True))
    assert held / len(rows) > 0.85
    labels = [prediction["label"] for prediction in answer["predictions"]]
    right = sum(label == row["label"] for label, row in zip(labels, rows, strict=True))
    assert right / len(rows) > 0.75
    published = application.published_events()
    assert [(name, detail["model"], detail["run_id"]) for name, detail in published] == [
        ("ModelRegistered", "churn", result["run_id"]),
        ("ModelPromoted", "churn", result["run_id"]),
    ]


def check_costs(application: Application, calls: Counter[str], run_id: str) -> None:
    """Compare the calls of a run with those that its cost is calculated from."""
    counted = {
        "training: invocations": len(application.invocations),
        "training: S3 writes": sum(calls[f"s3:{name}"] for name in ("PutObject", "CopyObject", "ListObjectsV2")),
        "training: registry": 2 * calls["items"]
        + sum(calls[f"dynamodb:{name}"] for name in ("PutItem", "UpdateItem", "DeleteItem")),
    }
    run, trials = registry().get_run("churn", run_id), registry().list_trials("churn", run_id)
    calculated = calculate_training(TrainingUsage.of_run(run, trials, run.requested_at, 3_008), US_EAST_1)
    quantities = {line.name: line.quantity for line in calculated.lines}
    assert {name: quantities[name] for name in counted} == pytest.approx(counted, rel=0.15)


def test_the_same_rows_again_are_skipped_in_run_ledger_and_event_alike(application: Application) -> None:
    body = as_csv(make_rows())
    application.upload("churn", "churn.csv", body)
    application.wait_until_quiet()
    application.published_events()  # takes those of the first run

    [result] = application.upload("churn", "again.csv", body)

    assert application.wait_until_quiet()[result["run_id"]] == "SUCCEEDED"
    run = run_of(application, "churn", result["run_id"])["run"]
    assert (run["status"], run["version"]) == ("skipped", None)
    assert "nothing new to learn: version 1 stays" in run["reasons"][0]
    [entry] = [entry for entry in ledger_of(application, "churn") if entry["action"] == "training_skipped"]
    assert entry["reason"] == run["reasons"][0]
    expected = {"model": "churn", "run_id": result["run_id"], "reason": run["reasons"][0]}
    assert application.published_events() == [("TrainingSkipped", expected)]


def test_every_artifact_stands_in_the_manifest_and_none_is_a_pickle(application: Application) -> None:
    application.upload("churn", "churn.csv", as_csv(make_rows()))
    application.wait_until_quiet()

    manifest = application.read(MODELS_BUCKET, "churn/versions/1/manifest.json")

    folder = "churn/versions/1/"
    stored = {key.removeprefix(folder) for key in application.keys(MODELS_BUCKET, folder)}
    exported = {name for name in stored if name.startswith("mlflow/")} - {"mlflow/manifest.json"}
    assert stored - exported - {"manifest.json"} == set(manifest["artifacts"])
    of_mlflow = application.read(MODELS_BUCKET, f"{folder}mlflow/manifest.json")
    assert {name.removeprefix("mlflow/") for name in exported} == set(of_mlflow["artifacts"])
    assert {"model.onnx", "signature.json", "estimator.skops", "card.html", "card.json", "card.md"} <= stored
    card = application.read(MODELS_BUCKET, "churn/versions/1/card.json")
    assert card["data"]["split"]["fingerprint"] == manifest["split_fingerprint"] != ""
    assert {part["name"] for part in card["evaluation"]["importance"]["columns"]} == {"age", "plan", "joined", "active"}
    every_key = application.keys(MODELS_BUCKET) + application.keys(DATA_BUCKET)
    assert not [key for key in every_key if key.endswith((".pkl", ".pickle", ".joblib"))]


def test_payloads_between_states_are_pointers(application: Application) -> None:
    application.upload("churn", "churn.csv", as_csv(make_rows(400)))
    application.wait_until_quiet()

    steps = [event for function, event in application.invocations if function in ("train_candidate", "register_model")]

    assert len(steps) == 5  # three trials, the refit of the winner, its registration
    assert max(len(json.dumps(event)) for event in steps) < 300


def test_the_same_event_delivered_five_times_trains_once(application: Application) -> None:
    results = application.upload("churn", "churn.csv", as_csv(make_rows()), deliveries=5)

    assert [result["outcome"] for result in results] == ["started"] + ["duplicate"] * 4
    assert len({result["run_id"] for result in results}) == 1
    assert list(application.wait_until_quiet().values()) == ["SUCCEEDED"]


def test_an_upload_during_a_run_waits_and_is_trained_by_one_follow_up(application: Application) -> None:
    late = [application.put(f"incoming/churn/late-{i}.csv", as_csv(make_rows(seed=10 + i))) for i in range(2)]
    outcomes: list[dict[str, Any]] = []
    plan = application.handlers["plan_training"]

    def plan_while_uploads_arrive(event: Mapping[str, Any], context: Any) -> Any:
        while late:
            outcomes.append(application.trigger(late.pop()))
        return plan(event, context)

    application.handlers["plan_training"] = plan_while_uploads_arrive
    [first] = application.upload("churn", "churn.csv", as_csv(make_rows()))
    executions = application.wait_until_quiet()

    assert [outcome["outcome"] for outcome in outcomes] == ["deferred", "deferred"]
    assert list(executions.values()) == ["SUCCEEDED", "SUCCEEDED"]
    [follow_up] = set(executions) - {first["run_id"]}
    body = run_of(application, "churn", follow_up)
    assert len(body["run"]["cause_ids"]) == 2
    assert len(body["run"]["dataset_ids"]) == 3
    assert body["run"]["version"] == 2


def test_a_second_upload_is_compared_with_the_champion_on_the_same_holdout(application: Application) -> None:
    application.upload("churn", "first.csv", as_csv(make_rows(seed=1)))
    application.wait_until_quiet()
    [result] = application.upload("churn", "second.csv", as_csv(make_rows(seed=2)))
    application.wait_until_quiet()

    body = run_of(application, "churn", result["run_id"])

    champion = body["evaluation"]["champion"]
    assert champion["version"] == 1
    assert set(champion["metrics"]) == set(body["evaluation"]["holdout"]["metrics"])  # measured, not only named
    [check] = [check for check in body["evaluation"]["gate"] if check["name"] == "champion"]
    assert isinstance(check["value"], float)
    assert body["run"]["version"] == 2


def test_the_schedule_retrains_what_has_data(application: Application) -> None:
    application.upload("churn", "churn.csv", as_csv(make_rows()))
    application.wait_until_quiet()
    slot = {"source": "millrace.schedule", "schedule": "weekly", "model": "*", "time": "2026-05-10T00:00:00Z"}

    for number in range(2):
        execution = boto3.client("stepfunctions").start_execution(
            stateMachineArn=RETRAINING_ARN, name=f"delivery-{number}", input=json.dumps(slot)
        )
        assert wait_for_execution(execution["executionArn"])["status"] == "SUCCEEDED"

    executions = application.wait_until_quiet()
    assert list(executions.values()) == ["SUCCEEDED", "SUCCEEDED"]
    assert {entry["action"] for entry in ledger_of(application, "churn")} >= {"run_requested", "model_registered"}


# ------------------------------------------------------------------------------------------ what is refused
@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("empty.csv", b""),
        ("header.csv", b"age,plan,label\n"),
        ("one_class.csv", as_csv([{**row, "label": 1} for row in make_rows()])),
        ("no_target.csv", as_csv(make_rows(), columns=["age", "plan", "joined"])),
        ("not_a_table.csv", b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20),
        ("duplicate.csv", b"age,age,label\n" + b"1,2,0\n3,4,1\n" * 40),
        ("half.parquet", b"PAR1" + b"\x00" * 200),
    ],
)
def test_a_bad_file_ends_visibly_with_its_reasons(application: Application, name: str, body: bytes) -> None:
    [result] = application.upload("churn", name, body)

    assert application.wait_until_quiet() == {result["run_id"]: "FAILED"}
    assert application.execution(result["run_id"])["error"] == "DatasetRejected"
    run = run_of(application, "churn", result["run_id"])["run"]
    assert run["status"] == "rejected"
    assert run["reasons"]
    [verdict] = [key for key in application.keys(DATA_BUCKET, "quarantine/churn/") if key.endswith("validation.json")]
    assert application.read(DATA_BUCKET, verdict)["findings"]
    expected = {"model": "churn", "run_id": result["run_id"]}
    assert application.published_events() == [("DatasetRejected", expected)]


def test_a_bad_file_blocks_nothing(application: Application) -> None:
    application.upload("churn", "empty.csv", b"")
    application.wait_until_quiet()
    [later] = application.upload("churn", "good.csv", as_csv(make_rows()))
    assert application.wait_until_quiet()[later["run_id"]] == "SUCCEEDED"


def test_five_hundred_classes_are_refused_with_the_limit_and_the_remedy(application: Application) -> None:
    rows = [{**row, "label": f"class {number % 500}"} for number, row in enumerate(make_rows(2_000))]
    [result] = application.upload("churn", "classes.csv", as_csv(rows))

    assert application.wait_until_quiet() == {result["run_id"]: "FAILED"}
    assert application.execution(result["run_id"])["error"] == "DatasetRejected"
    run = run_of(application, "churn", result["run_id"])["run"]
    assert run["reasons"] == [
        (
            "classes.csv: the target 'label' has 500 classes; at most 100 are supported: "
            "merge the rarer ones into one, such as 'other'"
        )
    ]
    assert run["status"] == "rejected"
    assert "plan_training" not in {function for function, _ in application.invocations}


@pytest.mark.parametrize("key", ["incoming/../x/a.csv", "incoming/my model/a.csv", "incoming/a.csv", "incoming/m/"])
def test_a_key_that_names_no_model_is_recorded_with_the_reason(application: Application, key: str) -> None:
    for _ in range(2):
        assert application.call("request_training", application.put(key, as_csv(make_rows()))) == {"results": []}

    status, body = application.get("/uploads/refused", "/uploads/refused", {})
    assert status == 200
    assert [entry["details"]["key"] for entry in body["refused"]] == [key, key]
    assert all(entry["reason"] and entry["details"]["remedy"] for entry in body["refused"])
    assert application.wait_until_quiet() == {}


def test_malformed_rows_go_to_quarantine_and_the_good_ones_go_on(application: Application) -> None:
    body = as_csv(make_rows()) + b"1,2\nthis,is,not,a,row,at,all\n"

    [result] = application.upload("churn", "churn.csv", body)

    assert application.wait_until_quiet() == {result["run_id"]: "SUCCEEDED"}
    [rows] = [key for key in application.keys(DATA_BUCKET, "quarantine/churn/") if key.endswith("rows.jsonl")]
    assert rows
    assert run_of(application, "churn", result["run_id"])["run"]["summary"]["quarantined_rows"] == 2


# ------------------------------------------------------------------------------------------------- what fails
@pytest.mark.parametrize("step", ["validate_dataset", "plan_training", "evaluate_candidates", "register_model"])
def test_a_failing_step_marks_the_run_failed_and_the_next_upload_trains(application: Application, step: str) -> None:
    handler = application.handlers[step]
    application.handlers[step] = dying
    [result] = application.upload("churn", "churn.csv", as_csv(make_rows()))

    statuses = application.wait_until_quiet()
    assert list(statuses.values()) == ["FAILED", "FAILED"]  # it is tried twice
    assert application.execution(result["run_id"])["error"] == "TrainingFailed"
    runs = [run_of(application, "churn", run_id)["run"] for run_id in statuses]
    assert [run["status"] for run in runs] == ["failed", "failed"]
    assert all("churn.csv ended without a result (WorkerDiedError)" in run["reasons"][0] for run in runs)
    assert [name for name, _ in application.published_events()] == ["TrainingFailed", "TrainingFailed"]

    application.handlers[step] = handler
    [later] = application.upload("churn", "again.csv", as_csv(make_rows(seed=5)))
    assert application.wait_until_quiet()[later["run_id"]] == "SUCCEEDED"


@pytest.mark.parametrize(
    ("step", "most"),
    [
        ("validate_dataset", 1),
        ("plan_training", 1),
        ("train_candidate", 1),
        ("train_candidate", 2),  # every trial's
        ("evaluate_candidates", 1),
        ("register_model", 1),
    ],
)
def test_a_worker_that_dies_in_a_run_of_three_uploads_loses_none(
    application: Application, step: str, most: int
) -> None:
    spec = ModelSpec.parse({"training": {"trials": 2}, "candidates": ["baseline", "logistic_regression"]})
    registry().put_spec("churn", spec)
    uploads = [application.put(f"incoming/churn/{number}.csv", as_csv(make_rows(seed=number))) for number in range(3)]
    handler, deaths = application.handlers[step], []

    def die_in_the_run_of_three(event: Mapping[str, Any], context: Any) -> Any:
        of_three = len(run_of(application, "churn", event["run_id"])["run"]["cause_ids"]) == 3
        if of_three and len(deaths) < most:  # last, as workers run side by side
            deaths.append(event["run_id"])
            dying()
        return handler(event, context)

    application.handlers[step] = die_in_the_run_of_three
    plan = application.handlers["plan_training"]

    def plan_while_uploads_arrive(event: Mapping[str, Any], context: Any) -> Any:
        while uploads:
            application.trigger(uploads.pop())
        return plan(event, context)

    application.handlers["plan_training"] = plan_while_uploads_arrive
    application.upload("churn", "first.csv", as_csv(make_rows(seed=9)))
    application.wait_until_quiet(300)

    assert len(deaths) == most
    if most > 1:
        run = run_of(application, "churn", deaths[0])["run"]
        assert "ended without a result (WorkerCrashedError" in run["reasons"][0]
        assert "its 3 causes are, one by one, tried once more" in run["reasons"][0]
    status, body = application.get("/models/churn/datasets", "/models/{model}/datasets", {"model": "churn"})
    assert status == 200
    keys = {dataset["source"]["key"].rpartition("/")[2] for dataset in body["datasets"]}
    assert keys == {"first.csv", *(f"{number}.csv" for number in range(3))}
    state = registry().get_state("churn")
    assert (state.active_run_id, state.pending_causes) == (None, 0)


@pytest.mark.parametrize(
    ("error", "statuses", "version"),
    [
        (WorkerDiedError("killed"), ["FAILED", "SUCCEEDED"], 2),
        (ServiceUnavailableError("S3 is busy"), ["SUCCEEDED"], 1),
    ],
    ids=["killed", "throttled"],
)
def test_a_registration_that_ends_while_it_copies_leaves_no_half_version(
    application: Application, monkeypatch: pytest.MonkeyPatch, error: Exception, statuses: list[str], version: int
) -> None:
    copy, copied = S3ObjectStore.copy, []

    def copy_one(store: S3ObjectStore, source: str, target: str, version_id: str | None = None) -> None:
        copied.append(target)
        if len(copied) == 2:
            raise error
        copy(store, source, target, version_id)

    monkeypatch.setattr(S3ObjectStore, "copy", copy_one)
    [result] = application.upload("churn", "churn.csv", as_csv(make_rows()))

    ended = application.wait_until_quiet()
    assert [ended[result["run_id"]], *(ended[run_id] for run_id in ended.keys() - {result["run_id"]})] == statuses
    models = registry()
    assert [registered.version for registered in models.list_versions("churn")] == [version]
    assert models.get_state("churn").aliases == {"champion": version}
    assert copied[0] == "churn/versions/1/model.onnx"

    [later] = application.upload("churn", "again.csv", as_csv(make_rows(seed=5)))
    assert application.wait_until_quiet()[later["run_id"]] == "SUCCEEDED"
    newest = models.list_versions("churn")[0]
    manifest = object_store(MODELS_BUCKET).get(f"churn/versions/{newest.version}/manifest.json")
    assert hashlib.sha256(manifest).hexdigest() == newest.manifest_sha256


@pytest.mark.parametrize(
    ("step", "pointer"),
    [
        ("validate_dataset", {}),
        ("plan_training", {}),
        ("train_candidate", {"trial_id": "t1"}),
        ("evaluate_candidates", {"trials": []}),
    ],
)
@pytest.mark.parametrize("sort", ["STATE", "VERSION#000001", "LEDGER#2026", "CHAIN", "SPEC"])
def test_a_parser_that_was_taken_over_writes_nothing_that_serves(
    application: Application, step: str, pointer: dict[str, Any], sort: str
) -> None:
    def take_over(*_: object) -> None:
        boto3.client("dynamodb").put_item(
            TableName=os.environ["REGISTRY_TABLE"], Item={"pk": {"S": "MODEL#churn"}, "sk": {"S": sort}}
        )

    application.handlers[step] = take_over
    with pytest.raises(PermissionError):
        application.call(step, {"model": "churn", "run_id": "r", **pointer})
    assert application.denied == [f"{step}: PutItem on MODEL#churn of RegistryTable"]
    application.denied.clear()


def test_a_trial_that_dies_does_not_sink_the_run(application: Application) -> None:
    train = application.handlers["train_candidate"]

    def die_once(event: Mapping[str, Any], context: Any) -> Any:
        return dying() if event["trial_id"].startswith("01") else train(event, context)

    application.handlers["train_candidate"] = die_once
    [result] = application.upload("churn", "churn.csv", as_csv(make_rows()))

    assert application.wait_until_quiet() == {result["run_id"]: "SUCCEEDED"}
    trials = run_of(application, "churn", result["run_id"])["trials"]
    assert [trial["status"] for trial in trials] == ["failed", "succeeded", "succeeded", "succeeded"]  # the refit last
    assert "WorkerDiedError" in trials[0]["reason"]


def test_rounds_of_successive_halving_end_with_the_best_on_every_row(application: Application) -> None:
    training = {"trials": 6, "rounds": 3, "max_concurrency": 2}
    spec = ModelSpec.parse({"training": training, "candidates": ["baseline", "logistic_regression"]})
    registry().put_spec("churn", spec)
    [result] = application.upload("churn", "churn.csv", as_csv(make_rows(400)))

    assert application.wait_until_quiet() == {result["run_id"]: "SUCCEEDED"}

    rounds = [event["round"] for function, event in application.invocations if function == "train_candidate"]
    assert [rounds.count(number) for number in (1, 2, 3, 4)] == [6, 3, 3, 1]  # the refit last
    planning = [event for function, event in application.invocations if function == "plan_training"]
    assert [event.get("finished_round", 0) for event in planning] == [0, 1, 2, 3]
    body = run_of(application, "churn", result["run_id"])
    trials = {trial["trial_id"]: trial for trial in body["trials"]}
    winner = trials[trials[body["evaluation"]["trial_id"]]["refit_of"][0]]
    assert [earlier["rows"] for earlier in winner["earlier_rounds"]] == body["run"]["summary"]["search"]["rounds"][:2]
    stages = body["run"]["stages"]
    begins = [earlier["started_at"] for earlier in winner["earlier_rounds"]] + [winner["started_at"]]
    times = [body["run"]["requested_at"], stages["validating"], stages["planning"], *begins, stages["evaluating"]]
    times += [stages["registering"], body["run"]["finished_at"]]
    assert times == sorted(times)
    assert (winner["round"], winner["rows"]) == (3, None)
    assert {trial["status"] for trial in body["trials"]} == {"succeeded", "eliminated"}


def test_a_spent_budget_skips_what_has_not_begun(application: Application) -> None:
    registry().put_spec("churn", ModelSpec.parse({"training": {"max_seconds": 1e-6}}))
    [result] = application.upload("churn", "churn.csv", as_csv(make_rows()))

    assert application.wait_until_quiet() == {result["run_id"]: "FAILED"}

    body = run_of(application, "churn", result["run_id"])
    assert {trial["status"] for trial in body["trials"]} == {"skipped"}
    assert "the search's time budget of 1e-06 s was spent before it began" in body["run"]["reasons"][1]


def test_a_run_whose_trials_all_die_registers_nothing(application: Application) -> None:
    application.handlers["train_candidate"] = dying
    [result] = application.upload("churn", "churn.csv", as_csv(make_rows()))

    statuses = application.wait_until_quiet()
    assert list(statuses.values()) == ["FAILED", "FAILED"]  # it is tried twice
    assert application.execution(result["run_id"])["error"] == "TrainingFailed"
    runs = [run_of(application, "churn", run_id)["run"] for run_id in sorted(statuses)]
    assert [run["status"] for run in runs] == ["failed", "failed"]
    assert "training of churn.csv ended without a result (WorkerCrashedError" in runs[0]["reasons"][0]
    assert sum("larger TrainingMemorySize" in run["reasons"][0] for run in runs) == 1
    assert application.predict("churn", {"dataframe_records": [features_of(make_rows(1)[0])]})[0] == 404


def test_a_model_that_misses_a_floor_is_rejected_with_the_number(application: Application) -> None:
    generator = random.Random(3)
    noise = [{**row, "label": generator.randint(0, 1)} for row in make_rows()]

    [result] = application.upload("churn", "noise.csv", as_csv(noise))

    assert application.wait_until_quiet() == {result["run_id"]: "FAILED"}
    assert application.execution(result["run_id"])["error"] == "ModelRejected"
    body = run_of(application, "churn", result["run_id"])
    assert body["run"]["status"] == "rejected"
    assert [check for check in body["evaluation"]["gate"] if not check["passed"]]


def test_a_throttled_step_is_tried_again(application: Application) -> None:
    plan, calls = application.handlers["plan_training"], []

    def throttled_once(event: Mapping[str, Any], context: Any) -> Any:
        calls.append(event)
        if len(calls) == 1:
            raise ServiceUnavailableError("the table is throttled")
        return plan(event, context)

    application.handlers["plan_training"] = throttled_once
    [result] = application.upload("churn", "churn.csv", as_csv(make_rows()))

    assert application.wait_until_quiet() == {result["run_id"]: "SUCCEEDED"}
    assert len(calls) == 3  # the refit is planned once


def test_a_run_that_was_stopped_from_outside_is_recorded_and_released(application: Application) -> None:
    released: list[Handler] = []
    plan = application.handlers["plan_training"]

    def stopped(event: Mapping[str, Any], context: Any) -> Any:
        application.call(
            "request_training",
            {
                "source": "aws.states",
                "detail-type": "Step Functions Execution Status Change",
                "time": "2026-05-03T13:00:00Z",
                "detail": {"name": event["run_id"], "status": "ABORTED", "input": json.dumps(dict(event))},
            },
        )
        released.append(plan)
        return dying()

    application.handlers["plan_training"] = stopped
    [result] = application.upload("churn", "churn.csv", as_csv(make_rows()))
    application.wait_until_quiet()

    assert released
    assert run_of(application, "churn", result["run_id"])["run"]["status"] == "failed"
    application.handlers["plan_training"] = plan
    [later] = application.upload("churn", "again.csv", as_csv(make_rows(seed=5)))
    assert application.wait_until_quiet()[later["run_id"]] == "SUCCEEDED"


# ------------------------------------------------------------------------------------------------------ short text
def reviews(n_rows: int = 400, seed: int = 3) -> list[dict[str, Any]]:
    """Rows whose label follows from what their text says, and from nothing else."""
    generator = random.Random(seed)
    openings = ["the parcel was here", "we ordered two of them and", "for my mother", "it is blue and", "as last year"]
    good, bad = ["on time", "friendly", "works well", "recommended"], ["late", "broken again", "rude", "never again"]
    rows = []
    for _ in range(n_rows):
        label = generator.random() < 0.5
        words = [generator.choice(good if label else bad) for _ in range(2)]
        if generator.random() < 0.1:
            words = [generator.choice(bad if label else good)]
        review = f"{generator.choice(openings)}, {' and '.join(words)} ({generator.randint(1, 10_000)})"
        rows.append(
            {"age": generator.randint(18, 80), "review": review if generator.random() > 0.03 else "", "label": label}
        )
    return rows


def test_what_only_a_text_says_is_learnt_served_and_explained(application: Application) -> None:
    rows = reviews()
    [result] = application.upload("orders", "orders.csv", as_csv(rows, ["age", "review", "label"]))

    assert application.wait_until_quiet() == {result["run_id"]: "SUCCEEDED"}
    evaluation = application.read(MODELS_BUCKET, f"orders/runs/{result['run_id']}/evaluation.json")
    measured, trivial = evaluation["holdout"]["metrics"]["roc_auc"], evaluation["baseline"]["metrics"]["roc_auc"]
    assert measured["low"] > 0.8 > trivial == 0.5
    assert [column["name"] for column in evaluation["importance"]["columns"]] == ["review", "age"]
    for name in ("signature.json", "reference.json"):
        assert "friendly" not in json.dumps(application.read(MODELS_BUCKET, f"orders/versions/1/{name}"))

    asked = [
        "The parcel was here: Broken AGAIN, and late (12)",
        "for my mother, on time and friendly \N{THUMBS UP SIGN} (7)",
        None,
        "wörter \x07 die niemand kennt " * 400,
    ]
    body = {"dataframe_records": [{"age": 40, "review": review} for review in asked], "params": {"explain": True}}
    status, answer = application.predict("orders", body)
    assert status == 200, answer
    assert [prediction["label"] for prediction in answer["predictions"]][:2] == [False, True]
    explained = answer["explanations"][0]["attributions"]
    assert set(explained) == {"age", "review"}
    assert abs(explained["review"]) > abs(explained["age"])
