"""`millrace uninstall` on moto: a stack with what outlives it, schedules of models, and executions that run."""

import json

import pytest
from botocore.session import Session
from millrace_cli import options
from millrace_cli.aws_session import make_client
from millrace_cli.commands.uninstall import Uninstallation
from millrace_cli.main import app
from millrace_cli.target import Target
from moto import mock_aws
from typer.testing import CliRunner

ROLE = "arn:aws:iam::123456789012:role/states"
WAIT = {"StartAt": "W", "States": {"W": {"Type": "Wait", "Seconds": 600, "End": True}}}
BUCKET = {"Type": "AWS::S3::Bucket", "DeletionPolicy": "Retain"}
#: Not in the template: moto's CloudFormation knows none.
GROUP_TYPE = "AWS::Scheduler::ScheduleGroup"
KEY = {"AttributeName": "pk", "AttributeType": "S"}
TABLES = ["registry", "runs", "tracking"]
TEMPLATE = {
    "Resources": {
        "DataBucket": {
            **BUCKET,
            "Properties": {"BucketName": "data", "VersioningConfiguration": {"Status": "Enabled"}},
        },
        "ModelsBucket": {**BUCKET, "Properties": {"BucketName": "models"}},
        **{
            f"{name.capitalize()}Table": {
                "Type": "AWS::DynamoDB::Table",
                "DeletionPolicy": "Retain",
                "Properties": {
                    "TableName": name,
                    "BillingMode": "PAY_PER_REQUEST",
                    "DeletionProtectionEnabled": True,
                    "AttributeDefinitions": [KEY],
                    "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
                },
            }
            for name in TABLES
        },
        "TrainingPipeline": {
            "Type": "AWS::StepFunctions::StateMachine",
            "Properties": {"StateMachineName": "training", "DefinitionString": json.dumps(WAIT), "RoleArn": ROLE},
        },
    }
}


class Account:
    """The clients, and the command in a terminal."""

    def __init__(self, monkeypatch) -> None:
        self.session = Session()
        self.monkeypatch = monkeypatch
        monkeypatch.setattr(options, "find_target", lambda _profile, stack, _region: Target(self.session, stack))
        cloudformation = make_client(self.session, "cloudformation")
        self.stack_id = cloudformation.create_stack(StackName="ml", TemplateBody=json.dumps(TEMPLATE))["StackId"]
        versioned = {"Status": "Enabled"}
        make_client(self.session, "s3").put_bucket_versioning(Bucket="data", VersioningConfiguration=versioned)
        for body in (b"one", b"two"):
            make_client(self.session, "s3").put_object(Bucket="data", Key="incoming/churn/may.csv", Body=body)
        make_client(self.session, "s3").delete_object(Bucket="data", Key="incoming/churn/may.csv")
        make_client(self.session, "s3").put_object(Bucket="models", Key="churn/versions/1/model.onnx", Body=b"onnx")
        self.execution = self.start_execution()
        make_client(self.session, "scheduler").create_schedule_group(Name="retraining")
        find = Uninstallation._of_type
        monkeypatch.setattr(
            Uninstallation, "_of_type", lambda found, kind: ["retraining"] if kind == GROUP_TYPE else find(found, kind)
        )
        make_client(self.session, "scheduler").create_schedule(
            GroupName="retraining",
            Name="churn",
            ScheduleExpression="rate(7 days)",
            FlexibleTimeWindow={"Mode": "OFF"},
            Target={"Arn": "arn:aws:lambda:eu-west-1:123456789012:function:f", "RoleArn": ROLE},
        )

    def start_execution(self) -> str:
        """Start an execution and return its ARN."""
        client = make_client(self.session, "stepfunctions")
        (machine,) = client.list_state_machines()["stateMachines"]
        return str(client.start_execution(stateMachineArn=machine["stateMachineArn"])["executionArn"])

    def uninstall(self, *arguments: str, stack: str = "ml", typed: str | None = None):
        with self.monkeypatch.context() as patch:
            patch.setattr("millrace_cli.commands.uninstall._is_interactive", lambda: typed is not None)
            return CliRunner().invoke(app, ["uninstall", "--stack", stack, *arguments], input=typed)

    @property
    def buckets(self) -> list[str]:
        return [bucket["Name"] for bucket in make_client(self.session, "s3").list_buckets()["Buckets"]]

    @property
    def tables(self) -> list[str]:
        return list(make_client(self.session, "dynamodb").list_tables()["TableNames"])

    @property
    def stacks(self) -> list[str]:
        return [stack["StackName"] for stack in make_client(self.session, "cloudformation").describe_stacks()["Stacks"]]

    @property
    def execution_status(self) -> str:
        return str(make_client(self.session, "stepfunctions").describe_execution(executionArn=self.execution)["status"])


@pytest.fixture
def account(isolated_from_aws, monkeypatch):
    with mock_aws():
        yield Account(monkeypatch)


def test_a_dry_run_shows_what_would_go_and_changes_nothing(account):
    result = account.uninstall("--dry-run", "--json", "--delete", "data")
    assert result.exit_code == 0, result.output
    plan = json.loads(result.stdout)
    assert (plan["executions"], plan["schedules"]) == (1, 1)
    assert [(store["name"], store["entries"], store["bytes"]) for store in plan["delete"]] == [("data", 3, 6)]
    assert [store["name"] for store in plan["keep"]] == ["models", *TABLES]
    assert (account.stacks, account.execution_status) == (["ml"], "RUNNING")


@pytest.mark.parametrize("typed", [None, "mil\n"])
def test_nothing_is_done_without_the_name(account, typed):
    result = account.uninstall(typed=typed)
    assert result.exit_code == 1
    assert "keeps" in result.stderr
    assert "data: 3 objects and versions" in " ".join(result.stderr.split())
    assert (account.stacks, account.execution_status) == (["ml"], "RUNNING")


def test_the_stores_are_kept_and_named_with_their_cost(account):
    result = account.uninstall("--json", typed="ml\n")
    assert result.exit_code == 0, result.output
    assert account.stacks == []
    assert make_client(account.session, "scheduler").list_schedules()["Schedules"] == []
    assert (sorted(account.buckets), account.tables) == (["data", "models"], TABLES)
    left = json.loads(result.stdout.partition("ml\n")[2])  # the runner shows what is typed, too
    assert [(store["store"], store["usd_a_month"]) for store in left["left"]] == [
        ("data", 0.0),
        ("models", 0.0),
        *((table, 0.0) for table in TABLES),
    ]
    assert any("aws-sam-cli-managed-default" in where for where in left["elsewhere"])


def test_stores_are_deleted_as_told_with_every_version(account):
    result = account.uninstall("--yes", "--delete", "data", "--delete", "registry")
    assert result.exit_code == 0, result.output
    assert (account.buckets, account.tables, account.stacks) == (["models"], ["runs", "tracking"], [])


def test_what_was_kept_is_deleted_later_by_the_stacks_id(account):
    assert account.uninstall("--yes").exit_code == 0
    again = account.uninstall("--yes", "--delete", "models", "--delete", "data", stack=account.stack_id)
    assert again.exit_code == 0, again.output
    assert account.buckets == []


def test_executions_that_a_stop_releases_are_stopped_too(account, monkeypatch):
    waiting, installed = [account.start_execution], Uninstallation(Target(account.session, "ml"))
    stop = installed.running

    def running() -> list[str]:
        found = stop()
        if found and waiting:
            waiting.pop()()
        return found

    monkeypatch.setattr(installed, "running", running)
    assert installed.stop_executions() == 2
    assert installed.running() == []


def test_a_stack_whose_executions_never_end_is_left_alone(account, monkeypatch):
    monkeypatch.setattr(Uninstallation, "running", lambda _: [account.execution])
    result = account.uninstall("--yes")
    assert result.exit_code == 1
    assert "executions keep starting" in result.stderr
    assert account.stacks == ["ml"]
