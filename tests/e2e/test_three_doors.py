"""The three doors, on the deployed stack: predictions, S3 uploads, scheduled retraining; and models that users log."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from millrace.causes import AUTOMATIC_CAUSES, CAUSES, finding_cause_id
from millrace_cli.api import ApiClient
from millrace_cli.aws_session import key_session
from millrace_cli.errors import ApiError
from millrace_cli.target import Target

from tests.e2e.conftest import PATIENCE_SECONDS, DeployedStack, make_table, read_features, wait_until
from tests.limits import within
from tests.logged_models import churn_files, fit_churn

pytestmark = pytest.mark.e2e


def deny(role_name: str, action: str, resource: str, iam: Any) -> None:
    statement = {"Effect": "Deny", "Action": action, "Resource": resource}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    iam.put_role_policy(RoleName=role_name, PolicyName="deny-for-a-test", PolicyDocument=document)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_table(tmp_path_factory.mktemp("tables") / "churn.csv")


@pytest.fixture(scope="module")
def trained(stack: DeployedStack, table: Path) -> str:
    """A model that an upload has trained, by name."""
    snapshot = stack.wait_for(stack.upload("churn", table))
    assert snapshot.status == "succeeded", snapshot
    stack.replace_champions("churn")
    return "churn"


# ------------------------------------------------------------------------------------------------ door: upload
def test_an_upload_becomes_a_served_prediction(stack: DeployedStack, trained: str, table: Path) -> None:
    rows, labels = read_features(table)

    answer = stack.api.post(f"/models/{trained}/invocations", {"dataframe_records": rows})

    assert answer["model_version"] >= 1
    assert answer["prediction_id"]
    predicted = [prediction["label"] for prediction in answer["predictions"]]
    assert sum(a == b for a, b in zip(predicted, labels, strict=True)) / len(labels) > 0.75
    assert all(abs(sum(p["probabilities"].values()) - 1) < 1e-5 for p in answer["predictions"])
    split = {"columns": list(rows[0]), "data": [list(row.values()) for row in rows]}
    same = stack.api.post(f"/models/{trained}/invocations", {"dataframe_split": split})
    assert same["predictions"] == answer["predictions"]
    # Nothing was said about costs: the decision is the likelier class.
    assert [prediction["decision"] for prediction in answer["predictions"]] == predicted
    card = stack.api.get(f"/models/{trained}/versions/{answer['model_version']}/card")
    assert (card["model"], card["version"]["version"]) == (trained, answer["model_version"])
    assert card["evaluation"]["decision"] in ("promote", "keep")
    assert {column["name"] for column in card["evaluation"]["importance"]["columns"]} == set(rows[0])


def test_every_dialect_answers_through_the_gateway(stack: DeployedStack, trained: str, table: Path) -> None:
    rows, _ = read_features(table)
    expected = stack.api.post(f"/models/{trained}/invocations", {"dataframe_records": rows})["predictions"]

    version = stack.api.post(f"/models/{trained}/versions/champion/invocations", {"instances": rows})
    kserve = stack.api.post(f"/v1/models/{trained}:predict", {"instances": rows})
    (example,) = next(
        operation["requestBody"]["content"]["application/json"]["examples"].values()
        for path, operations in stack.api.get(f"/models/{trained}/openapi.json")["paths"].items()
        if path.endswith("/infer")
        for operation in operations.values()
    )
    inferred = stack.api.post(f"/v2/models/{trained}/infer", example["value"])

    assert version["predictions"] == kserve["predictions"] == expected
    assert [output["name"] for output in inferred["outputs"]] == ["label", "probabilities", "decision"]
    assert stack.api.get(f"/v2/models/{trained}/ready")["ready"] is True
    assert stack.api.get(f"/v1/models/{trained}")["ready"] is True
    assert stack.api.get("/v2/health/live")["live"] is True
    assert stack.api.get("/")["status"] == "alive"


def test_an_event_delivered_six_times_at_once_trains_once(stack: DeployedStack, tmp_path: Path) -> None:
    stack.search_little("once")
    upload = stack.upload("once", make_table(tmp_path / "once.csv", seed=2))
    event = {
        "source": "aws.s3",
        "detail-type": "Object Created",
        "time": datetime.now(UTC).isoformat(),
        "detail": {
            "bucket": {"name": upload.bucket},
            "object": {"key": upload.key, "version-id": upload.version_id},
        },
    }
    function = stack.resource("RequestTrainingFunction")

    def deliver(_: int) -> dict[str, Any]:
        answer = stack.client("lambda").invoke(FunctionName=function, Payload=json.dumps(event).encode())
        assert "FunctionError" not in answer, answer["Payload"].read()
        (result,) = json.loads(answer["Payload"].read())["results"]
        return dict(result)

    with ThreadPoolExecutor(5) as pool:
        results = list(pool.map(deliver, range(5)))
    snapshot = stack.wait_for(upload)

    assert snapshot.status == "succeeded"
    assert {result["run_id"] for result in results} == {snapshot.run_id}
    assert sum(result["outcome"] == "started" for result in results) <= 1  # S3's own event may have been first
    assert [run["run_id"] for run in stack.api.get("/models/once/runs")["runs"]] == [snapshot.run_id]
    executions = stack.client("stepfunctions").list_executions(
        stateMachineArn=stack.target.output("TrainingPipelineArn")
    )["executions"]
    assert [execution["name"] for execution in executions].count(snapshot.run_id) == 1


def test_uploads_that_arrive_together_are_all_trained_on(stack: DeployedStack, tmp_path: Path) -> None:
    stack.search_little("many")
    uploads = [stack.upload("many", make_table(tmp_path / f"{seed}.csv", seed=seed)) for seed in (11, 12, 13)]

    snapshots = [stack.wait_for(upload) for upload in uploads]

    assert [snapshot.status for snapshot in snapshots] == ["succeeded"] * 3
    runs = stack.api.get("/models/many/runs")["runs"]
    first, follow_up = sorted(runs, key=lambda run: len(run["cause_ids"]))
    assert len(first["cause_ids"]) == 1
    assert len(follow_up["cause_ids"]) == 2  # one run for all that waited
    assert len(follow_up["dataset_ids"]) == 3


def test_a_bad_file_gets_a_verdict_and_blocks_nothing(stack: DeployedStack, tmp_path: Path) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text("age,plan,label\n")

    stack.search_little("strict")
    snapshot = stack.wait_for(stack.upload("strict", bad))

    assert snapshot.status == "rejected"
    assert snapshot.run
    assert "row" in snapshot.run["reasons"][0]
    bucket = stack.target.output("DataBucketName")
    keys = stack.client("s3").list_objects_v2(Bucket=bucket, Prefix="quarantine/strict/")["Contents"]
    assert any(item["Key"].endswith("validation.json") for item in keys)
    good = stack.wait_for(stack.upload("strict", make_table(tmp_path / "good.csv", seed=3)))
    assert good.status == "succeeded"


# ---------------------------------------------------------------------------------------------- door: schedule
def test_the_schedule_fires_and_retrains(stack: DeployedStack, trained: str) -> None:
    scheduler = stack.client("scheduler")
    schedule = scheduler.get_schedule(Name=stack.target.output("RetrainingScheduleName"))
    assert schedule["State"] == "DISABLED"  # as it ships

    soon = datetime.now(UTC) + timedelta(seconds=2)
    settings = {name: schedule[name] for name in ("Name", "GroupName", "FlexibleTimeWindow", "Target")}
    once = f"at({soon:%Y-%m-%dT%H:%M:%S})"
    try:
        scheduler.update_schedule(**settings, ScheduleExpression=once, State="ENABLED")
        for _ in within(PATIENCE_SECONDS, pause=0.5):
            runs = [r for r in stack.api.get(f"/models/{trained}/runs")["runs"] if r["kind"] == "schedule"]
            if runs and runs[0]["status"] not in ("queued", "running"):
                break
    finally:
        scheduler.update_schedule(
            **settings, ScheduleExpression=schedule["ScheduleExpression"], State=schedule["State"]
        )

    assert len(runs) == 1
    assert runs[0]["status"] == "succeeded"
    (cause_id,) = runs[0]["cause_ids"]
    assert stack.api.get(f"/models/{trained}/causes/{cause_id}")["kind"] == "schedule"


def test_every_finding_and_a_person_start_a_run(stack: DeployedStack, trained: str) -> None:
    """Findings come over the stack's event bus and its rule, a person's request through the API."""
    spec = {"retraining": {"causes": list(AUTOMATIC_CAUSES), "cooldown_hours": 0, "runs_per_day": 100}}
    stack.replace_champions(trained, **spec)
    kinds = [kind for kind in CAUSES.values() if kind.is_finding]
    incident = uuid4().hex  # a repeated test has causes of its own: those of the first attempt are known already
    detail = {"event_version": 1, "stack": stack.target.stack, "model": trained, "request": 1, "reason": "in a test"}
    slow = [{"verdict": "serving_health", "subject": "latency", "message": "slow"}]
    for kind in kinds:
        found = detail | {
            "incident_id": f"{kind.name}-{incident}",
            "occurred_at": datetime.now(UTC).isoformat(),
            "findings": slow,
        }
        event = {"Source": "millrace", "DetailType": kind.event, "Detail": json.dumps(found)}
        assert stack.client("events").put_events(Entries=[event])["FailedEntryCount"] == 0
    asked = stack.api.post(f"/models/{trained}/runs", {"reason": "in a test"})

    found_ids = {finding_cause_id(kind.name, trained, f"{kind.name}-{incident}", 1) for kind in kinds}
    expected = {asked["cause_id"], *found_ids}
    runs: list[dict[str, Any]] = []
    for _ in within(PATIENCE_SECONDS, 0.5, lambda: (expected, runs)):
        runs[:] = stack.api.get(f"/models/{trained}/runs")["runs"]
        covering = [run for run in runs if expected & set(run["cause_ids"])]
        covered = {cause for run in covering for cause in run["cause_ids"]}
        if expected <= covered and all(run["status"] not in ("queued", "running") for run in covering):
            break
    assert {run["status"] for run in covering} == {"succeeded"}, covering
    causes = [stack.api.get(f"/models/{trained}/causes/{cause_id}") for cause_id in expected]
    assert {cause["kind"] for cause in causes} == {"manual", *(kind.name for kind in kinds)}
    assert {cause["run_id"] for cause in causes} == {run["run_id"] for run in covering}


# --------------------------------------------------------------------------------------------------- door: API
def test_an_unsigned_request_is_refused(stack: DeployedStack, trained: str) -> None:
    for path in (f"/models/{trained}/invocations", f"/models/{trained}/runs"):
        answer = httpx.post(stack.target.api_url + path, json={}, verify=False, trust_env=False)  # noqa: S501  # a made-up authority
        assert answer.status_code == 403


def test_a_signature_without_the_right_to_call_is_refused(stack: DeployedStack, trained: str) -> None:
    iam = stack.client("iam")
    iam.create_user(UserName="nobody")
    key = iam.create_access_key(UserName="nobody")["AccessKey"]
    session = key_session(key["AccessKeyId"], key["SecretAccessKey"], stack.target.region)
    target = Target(session, stack.target.stack, stack.target.outputs, stack.target.endpoint, stack.target.authority)

    with ApiClient.for_target(target) as api, pytest.raises(ApiError) as refusal:
        api.get(f"/models/{trained}")

    assert refusal.value.status == 403


def test_functions_run_under_their_own_roles(stack: DeployedStack, trained: str) -> None:
    assert stack.api.get(f"/models/{trained}")["model"] == trained
    iam, role = stack.client("iam"), stack.resource("ManageModelsFunctionRole")
    deny(role, "dynamodb:GetItem", "*", iam)
    try:
        with pytest.raises(ApiError) as refusal:
            stack.api.get(f"/models/{trained}")
    finally:
        iam.delete_role_policy(RoleName=role, PolicyName="deny-for-a-test")

    assert refusal.value.status == 500
    assert "dynamodb" not in str(refusal.value).lower()  # the reason is in the log, not in the answer
    assert stack.api.get(f"/models/{trained}")["model"] == trained


def test_bad_requests_name_what_is_wrong(stack: DeployedStack, trained: str) -> None:
    row = {"age": "old", "plan": 3, "joined": "2020-01-01", "active": "yes"}
    with pytest.raises(ApiError) as refusal:
        stack.api.post(f"/models/{trained}/invocations", {"dataframe_records": [row]})
    assert refusal.value.status == 400
    assert "age" in str(refusal.value)
    assert "plan" in str(refusal.value)

    with pytest.raises(ApiError) as refusal:
        stack.api.post("/models/nobody-trained-this/invocations", {"dataframe_records": [row]})
    assert refusal.value.status == 404


def test_a_new_version_takes_over_without_a_failed_request(
    stack: DeployedStack, trained: str, table: Path, tmp_path: Path
) -> None:
    rows, _ = read_features(table)
    before = stack.api.get(f"/models/{trained}")["aliases"]["champion"]
    answers: list[dict[str, Any]] = []
    failures: list[Exception] = []
    stop = threading.Event()

    def keep_asking() -> None:
        while not stop.is_set():
            try:
                answers.append(stack.api.post(f"/models/{trained}/invocations", {"dataframe_records": rows[:3]}))
            except Exception as error:  # noqa: BLE001  # every kind of failure counts
                failures.append(error)
            stop.wait(0.1)

    asking = threading.Thread(target=keep_asking)
    asking.start()
    try:
        snapshot = stack.wait_for(stack.upload(trained, make_table(tmp_path / "more.csv", n_rows=600, seed=9)))
        after = stack.api.get(f"/models/{trained}")["aliases"]["champion"]
        for _ in within(PATIENCE_SECONDS, pause=0.2):
            if failures or answers[-1]["model_version"] == after:
                break
    finally:
        stop.set()
        asking.join()

    assert snapshot.status == "succeeded"
    assert snapshot.evaluation
    assert snapshot.evaluation["champion"]["metrics"]  # compared on the same holdout
    assert after > before
    assert failures == []
    assert answers[-1]["model_version"] == after
    assert {answer["model_version"] for answer in answers} <= {before, after}


# ------------------------------------------------------------------------------------- models that users log
def test_a_logged_model_becomes_the_challenger_with_iam_on(stack: DeployedStack, trained: str, table: Path) -> None:
    rows, labels = read_features(table)
    labelled = [{**row, "label": label} for row, label in zip(rows, labels, strict=True)]
    bucket, folder = stack.target.output("ModelsBucketName"), "mlflow/experiments/1/r1/artifacts/model"
    for name, body in churn_files(fit_churn(labelled), labelled).items():
        stack.client("s3").put_object(Bucket=bucket, Key=f"{folder}/{name}", Body=body)
    champion = stack.api.get(f"/models/{trained}")["aliases"]["champion"]
    api = "/mlflow/api/2.0/mlflow/model-versions"

    proposed = stack.api.post(f"{api}/create", {"name": trained, "source": f"s3://{bucket}/{folder}"})["model_version"]
    assert proposed["status"] == "PENDING_REGISTRATION"

    def find_version() -> Any:
        listed = stack.api.post(f"{api}/search", {"filter": f"name = '{trained}'"})["model_versions"]
        [version] = [one for one in listed if one["version"] == proposed["version"]]
        return None if version["status"] == proposed["status"] else version

    version = wait_until("the proposed version is still pending", find_version)
    assert (version["status"], version["aliases"]) == ("READY", ["challenger"]), version
    number = int(proposed["version"])
    assert stack.api.get(f"/models/{trained}")["aliases"] == {"champion": champion, "challenger": number}
    assert stack.api.get(f"/models/{trained}/versions/{number}")["source"] == "mlflow"
