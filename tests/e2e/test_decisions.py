"""What people decide about versions, on the deployed stack: approval, promotion, rollback, history, retirement."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from millrace_cli.errors import ApiError

from tests.e2e.conftest import PATIENCE_SECONDS, DeployedStack, make_table
from tests.limits import within

pytestmark = pytest.mark.e2e

MODEL = "governed"


def wait_until_asked(stack: DeployedStack, cause_id: str) -> str:
    """Wait until a run waits for a person; returns its id."""
    for _ in within(PATIENCE_SECONDS, pause=0.5):
        try:
            run_id = stack.api.get(f"/models/{MODEL}/causes/{cause_id}")["run_id"]
            if run_id and stack.api.get(f"/models/{MODEL}/runs/{run_id}/approval")["status"] == "pending":
                break
        except ApiError as error:
            if error.status != httpx.codes.NOT_FOUND:
                raise
    return str(run_id)


def answer(stack: DeployedStack, run_id: str, decision: str, **options: Any) -> dict[str, Any]:
    body = {"decision": decision, "reason": "card read", **options}
    return stack.api.post(f"/models/{MODEL}/runs/{run_id}/approval", body)


def champion(stack: DeployedStack) -> int | None:
    return stack.api.get(f"/models/{MODEL}")["aliases"].get("champion")


@pytest.fixture(scope="module")
def approved(stack: DeployedStack, tmp_path_factory: pytest.TempPathFactory) -> list[datetime]:
    """A model with two versions, each approved by a person; returns the moments at which they began to serve."""
    stack.replace_champions(MODEL, approval="manual")
    folder: Path = tmp_path_factory.mktemp("tables")
    moments = []
    for seed in (1, 2):
        upload = stack.upload(MODEL, make_table(folder / f"{seed}.csv", seed=seed))
        run_id = wait_until_asked(stack, upload.cause_id)
        assert champion(stack) == (seed - 1 or None)
        assert answer(stack, run_id, "approve")["outcome"] == "approved"
        moments.append(datetime.now(UTC))
        snapshot = stack.wait_for(upload)
        assert (snapshot.status, champion(stack)) == ("succeeded", seed)
    return moments


def test_an_answer_lets_the_version_serve_and_is_given_once(stack: DeployedStack, approved: list[datetime]) -> None:
    runs = stack.api.get(f"/models/{MODEL}/runs")["runs"]
    newest = runs[0]["run_id"]
    assert answer(stack, newest, "approve")["outcome"] == "already"
    with pytest.raises(ApiError) as refusal:
        answer(stack, newest, "reject")
    assert refusal.value.status == 409
    executions = stack.client("stepfunctions").list_executions(
        stateMachineArn=stack.target.output("TrainingPipelineArn")
    )["executions"]
    ended = {execution["name"]: execution["status"] for execution in executions}
    assert {ended[run["run_id"]] for run in runs} == {"SUCCEEDED"}


def test_what_served_at_a_moment_is_known(stack: DeployedStack, approved: list[datetime]) -> None:
    served = [stack.api.get(f"/models/{MODEL}/history", {"at": moment.isoformat()}) for moment in approved]
    assert [document["version"]["version"] for document in served] == [1, 2]
    assert served[0]["move"]["reason"] == "card read"
    assert served[0]["move"]["actor"].startswith("arn:")
    before = stack.api.get(f"/models/{MODEL}/history", {"at": "2020-01-01"})
    assert before["version"] is None


def test_rollback_promotion_and_retirement(stack: DeployedStack, approved: list[datetime]) -> None:
    back = stack.api.post(f"/models/{MODEL}/rollback", {"reason": "complaints", "expected_champion": 2})
    assert (back["outcome"], back["to_version"], champion(stack)) == ("rolled_back", 1, 1)
    repeated = stack.api.post(f"/models/{MODEL}/rollback", {"reason": "complaints", "expected_champion": 2})
    assert repeated["outcome"] == "already"
    with pytest.raises(ApiError) as refusal:
        stack.api.post(f"/models/{MODEL}/retire", {"version": 1, "reason": "old"})
    assert refusal.value.status == 409
    assert stack.api.post(f"/models/{MODEL}/promote", {"version": 2, "reason": "mended"})["outcome"] == "promoted"
    entries = stack.api.get(f"/models/{MODEL}/ledger")["entries"]
    assert [entry["action"] for entry in entries[:2]] == ["model_promoted", "model_rolled_back"]


def test_of_many_who_decide_at_once_on_the_same_champion_one_is_obeyed(
    stack: DeployedStack, approved: list[datetime]
) -> None:
    stack.api.post(f"/models/{MODEL}/promote", {"version": 2, "reason": "to begin with"})
    entries_before = len(stack.api.get(f"/models/{MODEL}/history")["moves"])

    def go_back(number: int) -> str:
        body = {"reason": f"caller {number}", "expected_champion": 2}
        try:
            return str(stack.api.post(f"/models/{MODEL}/rollback", body)["outcome"])
        except ApiError as error:
            if error.status != httpx.codes.CONFLICT:
                raise
            return "conflict"

    with ThreadPoolExecutor(5) as pool:
        outcomes = list(pool.map(go_back, range(5)))

    assert outcomes.count("rolled_back") == 1
    assert champion(stack) == 1
    assert len(stack.api.get(f"/models/{MODEL}/history")["moves"]) == entries_before + 1


def test_listeners_are_told(stack: DeployedStack, approved: list[datetime]) -> None:
    """Nothing waits in the outbox: under its role, the function put events on the bus and emptied it."""
    waiting = stack.client("dynamodb").query(
        TableName=stack.target.output("RegistryTableName"),
        KeyConditionExpression="pk = :outbox",
        ExpressionAttributeValues={":outbox": {"S": "OUTBOX"}},
    )
    assert json.dumps(waiting["Items"]) == "[]"
