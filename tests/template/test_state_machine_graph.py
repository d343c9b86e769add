"""The state machines as shipped: sound graphs, and substitutions that the template declares."""

import json
import re

import pytest
from millrace.spec.operations import MAX_APPROVAL_HOURS

from tests.template import asl
from tests.template.template_file import ROOT, functions, load_template, resources, walk

#: Room for a cold start and for delivery: Step Functions' clock starts before the function's.
STARTING_SECONDS = 60
DEFINITIONS = sorted((ROOT / "statemachines").glob("*.asl.json"))
PLACEHOLDER = re.compile(r"\$\{(\w+)\}")


def state_machine(path):
    """Return the template's properties of the state machine whose definition a file is."""
    uri = path.relative_to(ROOT).as_posix()
    found = [
        body["Properties"]
        for body in resources("AWS::Serverless::StateMachine").values()
        if body["Properties"].get("DefinitionUri") == uri
    ]
    assert len(found) == 1, f"{uri} must be the definition of exactly one state machine"
    return found[0]


def test_every_state_machine_has_its_definition_in_a_file():
    uris = {body["Properties"].get("DefinitionUri") for body in resources("AWS::Serverless::StateMachine").values()}
    assert uris == {path.relative_to(ROOT).as_posix() for path in DEFINITIONS} != set()


@pytest.mark.parametrize("path", DEFINITIONS, ids=lambda path: path.name)
class TestDefinition:
    def test_graph_is_sound(self, path):
        # Substitutions that stood outside strings would already fail to parse.
        assert asl.find_faults(json.loads(path.read_text(encoding="utf-8"))) == []

    def test_overall_timeout_is_set(self, path):
        assert json.loads(path.read_text(encoding="utf-8"))["TimeoutSeconds"] > 0

    def test_substitutions_are_declared_and_used(self, path):
        used = set(PLACEHOLDER.findall(path.read_text(encoding="utf-8")))
        assert used == set(state_machine(path)["DefinitionSubstitutions"])

    def test_states_wait_longer_than_their_functions_run(self, path):
        default = load_template()["Globals"]["Function"]["Timeout"]
        tasks = [
            part
            for part in walk(json.loads(path.read_text(encoding="utf-8")))
            if isinstance(part, dict) and "lambda:invoke" in str(part.get("Resource", ""))
        ]
        assert tasks
        for task in tasks:
            if task["Resource"].endswith(".waitForTaskToken"):
                continue
            (arn,) = PLACEHOLDER.findall(task["Parameters"]["FunctionName"])
            runs = functions()[arn.removesuffix("Arn")].get("Timeout", default)
            assert task["TimeoutSeconds"] >= runs + STARTING_SECONDS, task.get("Comment", arn)

    def test_substitutions_of_functions_are_named_after_their_resource(self, path):
        for name, value in state_machine(path)["DefinitionSubstitutions"].items():
            if name.endswith("FunctionArn"):
                assert value == {"Fn::GetAtt": [name.removesuffix("Arn"), "Arn"]}


def test_the_function_that_starts_the_runs_of_all_models_has_all_the_time_there_is():
    assert functions()["RequestTrainingFunction"]["Timeout"] == 900


def test_a_person_has_as_long_as_a_spec_may_say():
    definition = json.loads((ROOT / "statemachines" / "training.asl.json").read_text(encoding="utf-8"))
    for_the_work_itself = 6 * 3_600
    assert definition["TimeoutSeconds"] >= MAX_APPROVAL_HOURS * 3_600 + for_the_work_itself


def test_every_event_of_a_pipeline_names_the_stack():
    for path in DEFINITIONS:
        machine = json.loads(path.read_text(encoding="utf-8"))
        for part in walk(machine):
            if isinstance(part, dict) and "Detail" in part:
                assert part["Detail"]["stack"] == "${StackName}", path.name
