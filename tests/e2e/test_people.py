"""Policies of people and applications, as IAM enforces them: each sends every kind of request."""

import json
from collections.abc import Iterator

import pytest
from botocore.exceptions import ClientError
from millrace_cli.api import ApiClient
from millrace_cli.aws_session import key_session
from millrace_cli.errors import ApiError
from millrace_cli.target import Target

from tests.e2e.conftest import DeployedStack

pytestmark = pytest.mark.e2e

#: A name that no model has: a permitted request gets as far as the function, which does not find it.
MODEL = "nobodys"
REQUESTS = {
    "read the registry": ("GET", "/models"),
    "read the server's state": ("GET", "/ping"),
    "predict": ("POST", f"/models/{MODEL}/invocations"),
    "report ground truth": ("POST", f"/models/{MODEL}/feedback"),
    "change the spec": ("PUT", f"/models/{MODEL}/spec"),
    "start a run": ("POST", f"/models/{MODEL}/runs"),
    "approve": ("POST", f"/models/{MODEL}/runs/r-1/approval"),
    "promote": ("POST", f"/models/{MODEL}/promote"),
    "roll back": ("POST", f"/models/{MODEL}/rollback"),
    "collect garbage": ("POST", f"/models/{MODEL}/gc"),
    "delete": ("DELETE", f"/models/{MODEL}"),
}
READ, STATE = "read the registry", "read the server's state"
MAY = {
    "DataScientistPolicy": {READ, STATE, "predict", "report ground truth", "change the spec", "start a run", "upload"},
    "ApplicationPolicy": {STATE, "predict", "report ground truth"},
    "ApplicationOfOneModelPolicy": {STATE, "predict", "report ground truth"},
    "ApproverPolicy": {READ, "approve", "promote", "roll back"},
    "AuditorPolicy": {READ},
    "OperatorPolicy": {READ, STATE, "start a run", "roll back", "collect garbage", "delete"},
    "LogReaderPolicy": set(),
}


@pytest.fixture(params=sorted(MAY))
def person(stack: DeployedStack, request: pytest.FixtureRequest) -> Iterator[tuple[str, Target]]:
    """A user with one of the policies, and the stack as that user reaches it."""
    iam, name = stack.client("iam"), f"person-{request.param}"
    arn = stack.target.output(f"{request.param}Arn")
    version = iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"]
    document = iam.get_policy_version(PolicyArn=arn, VersionId=version)["PolicyVersion"]["Document"]
    # The local IAM does not replace policy variables, as AWS does.
    document = json.dumps(document).replace("${aws:PrincipalTag/millrace-model}", MODEL)
    iam.create_user(UserName=name)
    iam.put_user_policy(UserName=name, PolicyName="own", PolicyDocument=document)
    key = iam.create_access_key(UserName=name)["AccessKey"]
    session = key_session(key["AccessKeyId"], key["SecretAccessKey"], stack.target.region)
    target = Target(session, stack.target.stack, stack.target.outputs, stack.target.endpoint, stack.target.authority)
    yield request.param, target
    iam.delete_access_key(UserName=name, AccessKeyId=key["AccessKeyId"])
    iam.delete_user_policy(UserName=name, PolicyName="own")
    iam.delete_user(UserName=name)


def is_let_in(api: ApiClient, method: str, path: str) -> bool:
    try:
        if method == "GET":
            api.get(path)
        elif method == "DELETE":
            api.delete(path, {"reason": "a test"})
        else:
            (api.put if method == "PUT" else api.post)(path, {"reason": "a test"})
    except ApiError as refusal:
        return refusal.status != 403
    return True


def is_written(target: Target, key: str) -> bool:
    try:
        target.client("s3").put_object(Bucket=target.output("DataBucketName"), Key=key, Body=b"")
    except ClientError as error:
        if error.response["Error"]["Code"] != "AccessDenied":
            raise
        return False
    return True


def test_may_do_what_the_policy_says_and_nothing_else(person: tuple[str, Target]) -> None:
    policy, target = person

    with ApiClient.for_target(target) as api:
        done = {name for name, (method, path) in REQUESTS.items() if is_let_in(api, method, path)}
        of_others = {
            name
            for name, (method, path) in REQUESTS.items()
            if MODEL in path and is_let_in(api, method, path.replace(MODEL, "another"))
        }
    if is_written(target, "incoming/names-no-model.csv"):
        done.add("upload")

    assert done == MAY[policy]
    one_model = policy == "ApplicationOfOneModelPolicy"
    assert of_others == (set() if one_model else MAY[policy] - {READ, STATE, "upload"})
    assert not is_written(target, f"datasets/{MODEL}/d1/data.parquet")


def test_the_stack_is_found_by_people_and_not_by_applications(person: tuple[str, Target]) -> None:
    policy, target = person
    try:
        target.client("cloudformation").describe_stacks(StackName=target.stack)
    except ClientError as error:
        if not error.response["Error"]["Code"].startswith("AccessDenied"):
            raise
        found = False
    else:
        found = True
    assert found == (policy not in {"ApplicationPolicy", "ApplicationOfOneModelPolicy", "LogReaderPolicy"})
