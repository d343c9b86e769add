"""A worker that is killed loses no upload; a function that reads files of users can write nothing that serves."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from millrace_cli.local.process import list_processes

from tests.e2e.conftest import DeployedStack, make_table, wait_until

pytestmark = pytest.mark.e2e

COUNT = 5
#: The function that is killed in each stage; ``KILL_STAGES=all`` kills in each, a quarter of a minute apiece. The suite
#: kills in the first alone: ``test_training_pipeline.py`` does it in every state of the shipped machine, also in
#: planning, which is too short to be met here.
STAGES = {
    "validating": "ValidateDatasetFunction",
    "training": "TrainCandidateFunction",
    "evaluating": "EvaluateCandidatesFunction",
    "registering": "RegisterModelFunction",
}
TRIED = STAGES if os.environ.get("KILL_STAGES") == "all" else ("validating",)
PARSERS = ("ValidateDatasetFunction", "PlanTrainingFunction", "TrainCandidateFunction", "EvaluateCandidatesFunction")


def kill_workers(stack: DeployedStack, function: str) -> int:
    """Kill the workers of a function, as running out of memory does; returns their number."""
    killed = 0
    mark = f"AWS_LAMBDA_FUNCTION_NAME={stack.resource(function)}".encode()
    for pid in list_processes(stack.project.local_dir):
        try:
            if mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                os.kill(pid, signal.SIGKILL)
                killed += 1
        except OSError:  # it ended meanwhile
            continue
    return killed


@pytest.mark.parametrize("stage", TRIED)
def test_a_killed_worker_loses_none_of_the_uploads_of_its_run(stack: DeployedStack, tmp_path: Path, stage: str) -> None:
    model = f"killed-{stage}"
    stack.search_little(model)
    first = stack.upload(model, make_table(tmp_path / "first.csv"))
    wait_until("the first run began", lambda: stack.api.get(f"/models/{model}")["active_run_id"])
    uploads = [
        stack.upload(model, make_table(tmp_path / f"{number}.csv", n_rows=6_000, seed=10 + number))
        for number in range(COUNT)
    ]

    def find_batch() -> dict[str, Any] | None:
        runs = stack.api.get(f"/models/{model}/runs")["runs"]
        return next((run for run in runs if len(run["cause_ids"]) > 1), None)

    # Not after waiting for the first run: a stage takes less than a second.
    batch = wait_until("one run answers several uploads", find_batch, 0.02)

    def read_batch() -> dict[str, Any]:
        return stack.api.get(f"/models/{model}/runs/{batch['run_id']}")["run"]

    wait_until("it reached the stage", lambda: read_batch()["stage"] in (stage, "finished"), 0.02)
    wait_until("its worker was killed", lambda: kill_workers(stack, STAGES[stage]) or read_batch()["finished_at"], 0.02)
    ended = wait_until("it ended", lambda: (run := read_batch())["finished_at"] and run)

    # A trial without a result is a failed trial, and the others go on.
    if stage != "training" or ended["status"] != "succeeded":
        assert ended["status"] == "failed", "the worker was not killed in time"
        assert "ended without a result" in ended["reasons"][0]
        assert "tried once more" in ended["reasons"][0]
    assert stack.wait_for(first).status == "succeeded"
    followed = [stack.wait_for(upload) for upload in uploads]
    reasons = [(snapshot.run or {}).get("reasons") for snapshot in followed]
    # One whose rows another run has learnt from is skipped: its dataset was stored before the worker died.
    assert {snapshot.status for snapshot in followed} <= {"succeeded", "skipped"}, reasons
    state = wait_until(
        "nothing is left", lambda: (found := stack.api.get(f"/models/{model}"))["active_run_id"] is None and found
    )
    assert state["pending_causes"] == 0
    datasets = stack.api.get(f"/models/{model}/datasets")["datasets"]
    assert len(datasets) == COUNT + 1
    verified = stack.api.get(f"/models/{model}/ledger/verification")
    assert (verified["is_intact"], verified["faults"]) == (True, [])


@pytest.fixture(params=PARSERS)
def parser(stack: DeployedStack, request: pytest.FixtureRequest) -> Iterator[Any]:
    """Return a client of DynamoDB with the policy of a function that reads files of users."""
    iam, lambdas = stack.client("iam"), stack.client("lambda")
    role = lambdas.get_function(FunctionName=stack.resource(request.param))["Configuration"]["Role"].rpartition("/")[2]
    name = f"taken-over-{request.param}"
    iam.create_user(UserName=name)
    for policy in iam.list_role_policies(RoleName=role)["PolicyNames"]:
        document = iam.get_role_policy(RoleName=role, PolicyName=policy)["PolicyDocument"]
        iam.put_user_policy(
            UserName=name,
            PolicyName=policy,
            PolicyDocument=document if isinstance(document, str) else json.dumps(document),
        )
    key = iam.create_access_key(UserName=name)["AccessKey"]
    admin = stack.client("dynamodb")
    yield boto3.client(
        "dynamodb",
        endpoint_url=admin.meta.endpoint_url,
        verify=stack.target.authority,
        region_name=admin.meta.region_name,
        aws_access_key_id=key["AccessKeyId"],
        aws_secret_access_key=key["SecretAccessKey"],
    )
    iam.delete_access_key(UserName=name, AccessKeyId=key["AccessKeyId"])
    for policy in iam.list_user_policies(UserName=name)["PolicyNames"]:
        iam.delete_user_policy(UserName=name, PolicyName=policy)
    iam.delete_user(UserName=name)


def test_what_serves_is_out_of_reach_of_a_function_that_reads_files(stack: DeployedStack, parser: Any) -> None:
    registry, runs_table = stack.target.output("RegistryTableName"), stack.target.output("RunsTableName")
    key = {"pk": {"S": "MODEL#nobody"}, "sk": {"S": "STATE"}}
    writes = {
        "put_item": {"Item": key},
        "delete_item": {"Key": key},
        "update_item": {"Key": key, "UpdateExpression": "SET a = :a", "ExpressionAttributeValues": {":a": {"S": "x"}}},
    }
    for name, request in writes.items():
        with pytest.raises(ClientError, match="AccessDenied"):
            getattr(parser, name)(TableName=registry, **request)
    with pytest.raises(ClientError, match="AccessDenied"):
        parser.transact_write_items(TransactItems=[{"Put": {"TableName": registry, "Item": key}}])
    parser.put_item(TableName=runs_table, Item=key)
    assert parser.get_item(TableName=registry, Key=key).get("Item") is None
    stack.client("dynamodb").delete_item(TableName=runs_table, Key=key)
