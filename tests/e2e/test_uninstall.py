"""`millrace uninstall` on a stack of its own: first what it keeps, then the rest."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from millrace_cli import options
from millrace_cli.api import ApiClient
from millrace_cli.local import stack as local_stack
from millrace_cli.local.project import Project, require_project
from millrace_cli.main import app
from millrace_cli.target import Target, local_target
from typer.testing import CliRunner

from tests.e2e.conftest import DeployedStack, make_table, port_from


@pytest.fixture
def stack() -> Iterator[DeployedStack]:
    project = Project(require_project().root, local_name="e2e-uninstall")
    local_stack.down(project)  # what a killed session left
    state = local_stack.up(project, port_from(4800), print).state
    target = local_target(state)
    with ApiClient.for_target(target) as api:
        yield DeployedStack(project, state, target, api)
    local_stack.down(project)


def uninstall(target: Target, *arguments: str) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(options, "find_target", lambda *_: target)
        result = CliRunner().invoke(app, ["uninstall", "--json", *arguments])
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout))


def test_a_stack_is_uninstalled_while_it_trains(stack: DeployedStack, tmp_path: Path) -> None:
    spec = {"retraining": {"schedule": "cron(0 6 ? * MON *)"}}
    stack.api.put("/models/churn/spec", {"spec": spec, "reason": "a schedule of its own"})
    stack.upload("churn", make_table(tmp_path / "churn.csv"))
    data, models = stack.target.output("DataBucketName"), stack.target.output("ModelsBucketName")

    plan = uninstall(stack.target, "--dry-run")
    assert [store["name"] for store in plan["keep"]][:2] == [data, models]
    assert plan["schedules"] == 3

    done = uninstall(stack.target, "--yes", "--delete", "models")
    assert [store["store"] for store in done["left"]] == ["data", "registry", "runs", "tracking"]
    with pytest.raises(ClientError, match="does not exist"):
        stack.client("cloudformation").describe_stacks(StackName=stack.target.stack)
    assert stack.client("scheduler").list_schedules()["Schedules"] == []
    assert data in [bucket["Name"] for bucket in stack.client("s3").list_buckets()["Buckets"]]

    by_id = Target(
        stack.target.session, done["stack"], endpoint=stack.target.endpoint, authority=stack.target.authority
    )
    parts = [option for part in ("data", "registry", "runs", "tracking") for option in ("--delete", part)]
    assert uninstall(by_id, "--yes", *parts)["left"] == []
    left = [bucket["Name"] for bucket in stack.client("s3").list_buckets()["Buckets"]]
    assert not {data, models} & set(left)
