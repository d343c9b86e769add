"""The checks of a first day on AWS, by the code of ``millrace verify``, on the local stack."""

from pathlib import Path

import pytest
from millrace_cli.verification.checks import CHECKS
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
