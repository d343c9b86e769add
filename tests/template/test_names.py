"""Names of resources: each stays within its service's limit for the longest stack name that CloudFormation accepts."""

from typing import Any

import pytest
import yaml
from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER

from tests.template.template_file import load_template, resources

PSEUDO_PARAMETERS = {
    "AWS::StackName": "s" * 128,
    "AWS::StackId": f"arn:aws-us-gov:cloudformation:us-gov-west-1:123456789012:stack/{'s' * 128}/{'8' * 36}",
    "AWS::Region": "ap-southeast-1",
    "AWS::Partition": "aws-us-gov",
    "AWS::AccountId": "1" * 12,
}
#: Longest name of each type that the template names (the service's API reference).
LIMITS = {
    ("AWS::Scheduler::Schedule", "Name"): 64,
    ("AWS::Scheduler::ScheduleGroup", "Name"): 64,
    ("AWS::StepFunctions::StateMachine", "StateMachineName"): 80,
    ("AWS::Logs::LogGroup", "LogGroupName"): 512,
    ("AWS::ApiGateway::RestApi", "Name"): 1024,
    ("AWS::CloudWatch::Dashboard", "DashboardName"): 255,
}
SAM_TYPES = {
    "AWS::Serverless::StateMachine": ("AWS::StepFunctions::StateMachine", {"Name": "StateMachineName"}),
    "AWS::Serverless::Api": ("AWS::ApiGateway::RestApi", {"Name": "Name"}),
    "AWS::Serverless::Function": ("AWS::Lambda::Function", {"FunctionName": "FunctionName"}),
    "AWS::Serverless::LayerVersion": ("AWS::Lambda::LayerVersion", {"LayerName": "LayerName"}),
}


def resolve(value: Any) -> str:
    """Resolve the intrinsic functions of a name, with the longest stack name."""
    if not isinstance(value, dict):
        return str(value)
    ((function, argument),) = value.items()
    if function == "Ref":
        return PSEUDO_PARAMETERS[argument]
    if function == "Fn::Select":
        index, parts = argument
        separator, text = parts["Fn::Split"]
        return resolve(text).split(separator)[index]
    assert function == "Fn::Sub", function
    pattern, variables = argument if isinstance(argument, list) else (argument, {})
    for name, replacement in {**PSEUDO_PARAMETERS, **variables}.items():
        pattern = pattern.replace(f"${{{name}}}", resolve(replacement))
    assert "${" not in pattern, pattern
    return str(pattern)


def named_resources():
    """Yield (logical id, type, property, name) of every resource whose name the template chooses."""
    for logical_id, body in load_template()["Resources"].items():
        kind, renamed = SAM_TYPES.get(body["Type"], (body["Type"], {}))
        properties = {renamed.get(name, name): value for name, value in body.get("Properties", {}).items()}
        for name in sorted(set(properties) & ({"Name", *renamed.values()} | names_of(kind))):
            yield logical_id, kind, name, properties[name]


def names_of(kind):
    """Return the properties that name a resource of a type: its primary identifier, if it can be written."""
    schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema("us-east-1", kind).schema
    own = {path.rpartition("/")[2] for path in schema.get("primaryIdentifier", [])}
    return {name for name in own if name.endswith("Name") and not name.startswith(("Function", "Bucket", "Table"))}


NAMED = list(named_resources())


def test_there_are_names_to_check():
    assert {kind for _, kind, _, _ in NAMED} == {kind for kind, _ in LIMITS}


@pytest.mark.parametrize(("logical_id", "kind", "name", "value"), NAMED, ids=[item[0] for item in NAMED])
def test_the_longest_stack_name_fits(logical_id, kind, name, value):
    assert len(resolve(value)) <= LIMITS[kind, name]


@pytest.mark.parametrize(("kind", "name"), LIMITS)
def test_limits_are_those_of_the_schemas(kind, name):
    schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema("us-east-1", kind).schema
    assert LIMITS[kind, name] <= schema["properties"][name].get("maxLength", LIMITS[kind, name])


def test_no_two_resources_of_a_kind_share_a_name():
    names = [(kind, yaml.safe_dump(value)) for _, kind, _, value in NAMED]
    assert len(names) == len(set(names))


def test_no_policy_is_named():
    # A name would need CAPABILITY_NAMED_IAM, and would collide between stacks.
    for kind in ("AWS::IAM::ManagedPolicy", "AWS::IAM::Role"):
        for logical_id, body in resources(kind).items():
            assert not {"ManagedPolicyName", "RoleName"} & set(body["Properties"]), logical_id
