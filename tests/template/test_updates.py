"""Updates of a stack reach what serves: each change that the predict function sees publishes a version for ``live``."""

import pytest

from tests.template.template_file import functions, layer_names, load_template, referenced, walk
from tests.template.translation import copy_template, translate

FUNCTION = "PredictFunction"
#: AWS holds reserved concurrency for the function, not for a version.
OF_THE_FUNCTION = {"PredictReservedConcurrency"}
LONGEST_DESCRIPTION = 256


def seen_parameters():
    """Return the parameters that the function sees: in its own properties, and in those that every function has."""
    template = load_template()
    parts = list(walk([functions()[FUNCTION], template["Globals"]["Function"]]))
    used = [part["Fn::If"][0] for part in parts if isinstance(part, dict) and "Fn::If" in part]
    parts += walk([template["Conditions"][condition] for condition in used])
    return sorted(({referenced(part) for part in parts} & set(template["Parameters"])) - OF_THE_FUNCTION)


def resolve(pattern, values):
    for name, value in values.items():
        pattern = pattern.replace(f"${{{name}}}", value)
    assert "${" not in pattern
    return pattern


def live_version(translated, values):
    """Return what decides whether CloudFormation publishes a version: its logical id, and its resolved properties."""
    defaults = {name: str(parameter["Default"]) for name, parameter in load_template()["Parameters"].items()}
    (alias,) = [
        body
        for body in translated["Resources"].values()
        if body["Type"] == "AWS::Lambda::Alias" and referenced(body["Properties"]["FunctionName"]) == FUNCTION
    ]
    logical_id = referenced(alias["Properties"]["FunctionVersion"])
    version = translated["Resources"][logical_id]
    description = version["Properties"].get("Description", "")
    text = description["Fn::Sub"] if isinstance(description, dict) else description
    return logical_id, resolve(text, defaults | values)


def changed_value(name):
    parameter = load_template()["Parameters"][name]
    allowed = parameter.get("AllowedValues")
    if allowed:
        return str(next(value for value in allowed if value != parameter["Default"]))
    return str(int(parameter["Default"]) + 1) if parameter["Default"] else "another"


@pytest.fixture(scope="module")
def versions():
    """Translate once with nothing changed, and once for each thing that changes."""
    template = copy_template()
    requests = {"nothing": (template, {})}
    for layer in layer_names(functions()[FUNCTION]):
        changed = copy_template()
        changed["Resources"][layer]["Properties"]["ContentUri"] = f"s3://artifacts/{layer}-2"
        requests[layer] = (changed, {})
    changed = copy_template()
    changed["Resources"][FUNCTION]["Properties"]["CodeUri"] = "s3://artifacts/code-2"
    requests["code"] = (changed, {})
    for name in seen_parameters():
        requests[name] = (template, {name: changed_value(name)})
    translated = translate(*requests.values())
    return {
        change: live_version(result, values)
        for (change, (_, values)), result in zip(requests.items(), translated, strict=True)
    }


def test_the_function_sees_parameters():
    assert {"PredictMemorySize", "PredictSnapStart", "CapturePredictions", "ErrorDetail", "LogLevel"} <= set(
        seen_parameters()
    )


@pytest.mark.parametrize("change", ["code", *layer_names(functions()[FUNCTION]), *seen_parameters()])
def test_a_change_publishes_a_version(versions, change):
    assert versions[change] != versions["nothing"]


def test_no_change_publishes_no_version():
    first, second = translate((copy_template(), {}), (copy_template(), {}))
    assert live_version(first, {}) == live_version(second, {})


def test_old_versions_are_deleted():
    (translated,) = translate((copy_template(), {}))
    versions = [body for body in translated["Resources"].values() if body["Type"] == "AWS::Lambda::Version"]
    assert versions
    for body in versions:
        assert body.get("DeletionPolicy", "Delete") == "Delete"


def test_the_description_fits():
    longest = {}
    for name, parameter in load_template()["Parameters"].items():
        values = parameter.get("AllowedValues", [parameter.get("MaxValue", parameter["Default"])])
        longest[name] = max(map(str, values), key=len)
    assert len(resolve(functions()[FUNCTION]["VersionDescription"]["Fn::Sub"], longest)) <= LONGEST_DESCRIPTION


def test_layers_of_every_function_publish():
    for logical_id, body in load_template()["Resources"].items():
        if body["Type"] == "AWS::Serverless::LayerVersion":
            assert body["Properties"].get("PublishLambdaVersion") is True, logical_id
