"""The checks of a first day on AWS, by the code of ``millrace verify``, on the local stack."""

from pathlib import Path

import pytest
from millrace_cli.api import ApiClient
from millrace_cli.local.deploy import deploy
from millrace_cli.target import local_target
from millrace_cli.verification.checks import CHECKS, STACK_DELETION
from millrace_cli.verification.context import Check, CheckResult, Verification, clean_up, run_checks

from tests.e2e.conftest import DeployedStack

pytestmark = pytest.mark.e2e


class Quiet:
    def begin(self, check: Check) -> None:
        pass

    def end(self, result: CheckResult) -> None:
        pass


def parameters(stack: DeployedStack) -> dict[str, str]:
    (description,) = stack.client("cloudformation").describe_stacks(StackName=stack.target.stack)["Stacks"]
    return {parameter["ParameterKey"]: parameter["ParameterValue"] for parameter in description["Parameters"]}


def test_every_check_passes_here_but_those_that_need_aws_and_nothing_is_left(
    stack: DeployedStack, tmp_path: Path
) -> None:
    before = parameters(stack)
    verification = Verification(stack.target, stack.api, tmp_path, "first-day")
    try:
        results = run_checks(verification, CHECKS, Quiet())
    finally:
        left = clean_up(verification)

    assert {result.check.name: result.detail for result in results if result.status == "failed"} == {}
    assert {result.check.name for result in results if result.status == "skipped"} == {"prediction, gzip", "metrics"}
    assert parameters(stack) == before
    assert not [entry for entry in left if "Error" in entry]
    s3 = stack.client("s3")
    for output in ("DataBucketName", "ModelsBucketName"):
        listed = s3.list_object_versions(Bucket=stack.target.output(output))
        keys = [entry["Key"] for entry in [*listed.get("Versions", ()), *listed.get("DeleteMarkers", ())]]
        assert not [key for key in keys if "first-day" in key and "/captures/" not in f"/{key}"]


def test_a_stack_is_deleted_and_its_data_are_kept(stack: DeployedStack, tmp_path: Path) -> None:
    state = stack.state.with_changes(stack="second-stack")
    deploy(stack.project, state)
    target = local_target(state)
    kept = target.output("DataBucketName"), target.output("RegistryTableName")
    try:
        with ApiClient.for_target(target) as api:
            verification = Verification(target, api, tmp_path, "first-day")
            (result,) = run_checks(verification, [STACK_DELETION], Quiet())
        assert result.status == "passed", result.detail
        assert all(name in result.detail for name in kept)
        assert stack.api.get("/v2")["name"] == "millrace"  # the other stack goes on
    finally:
        s3, dynamodb = target.client("s3"), target.client("dynamodb")
        for bucket in (target.output("DataBucketName"), target.output("ModelsBucketName")):
            s3.delete_bucket(Bucket=bucket)
        dynamodb.update_table(TableName=target.output("RegistryTableName"), DeletionProtectionEnabled=False)
        dynamodb.delete_table(TableName=target.output("RegistryTableName"))
