"""Each rule of the graph check is seen to fail on a small machine that breaks it, and on nothing else."""

import copy

import pytest

from tests.template import asl

RETRY = [{"ErrorEquals": ["Lambda.TooManyRequestsException"], "MaxAttempts": 3, "JitterStrategy": "FULL"}]
CATCH = [{"ErrorEquals": ["States.ALL"], "Next": "Failed"}]


def task(**changes):
    state = {"Type": "Task", "Resource": "arn", "TimeoutSeconds": 60, "Retry": RETRY, "Catch": CATCH, "End": True}
    return {key: value for key, value in copy.deepcopy(state | changes).items() if value is not None}


def machine(**states):
    return {"StartAt": "Work", "States": {"Failed": {"Type": "Fail"}, **states}}


def item_machine(*, marked: dict):
    worker = task(Catch=[{"ErrorEquals": ["States.ALL"], "Next": "ItemFailed"}])
    inner = {
        "StartAt": "One",
        "States": {"One": worker, "ItemFailed": {"Type": "Pass", "Parameters": marked, "End": True}},
    }
    return machine(Work={"Type": "Map", "ItemProcessor": inner, "Catch": CATCH, "End": True})


def test_accepts_a_sound_machine():
    assert asl.find_faults(machine(Work=task())) == []


@pytest.mark.parametrize("outcome", ["failed", "crashed"])
def test_accepts_a_map_whose_failed_items_are_marked(outcome):
    assert asl.find_faults(item_machine(marked={"outcome": outcome})) == []


def test_accepts_a_failure_path_that_cleans_up_before_it_fails():
    clean_up = task(Catch=None, End=None, Next="Failed")
    caught = task(Catch=[{"ErrorEquals": ["States.ALL"], "Next": "CleanUp"}])
    assert asl.find_faults(machine(Work=caught, CleanUp=clean_up)) == []


def waiting(**changes):
    """A machine that waits for a person, and takes no answer in time for an answer."""
    expired = [{"ErrorEquals": ["States.Timeout"], "Next": "Expired"}, *CATCH]
    state = task(Resource="arn.waitForTaskToken", TimeoutSeconds=None, TimeoutSecondsPath="$.seconds", Catch=expired)
    return machine(Work={**state, **changes}, Expired={"Type": "Succeed"})


def test_accepts_a_wait_for_a_person_that_ends_unanswered():
    assert asl.find_faults(waiting()) == []


def test_a_timeout_of_anything_else_is_an_error():
    assert "Expired ends green after an error" in asl.find_faults(waiting(Resource="arn"))
    assert "Work has no TimeoutSeconds" in asl.find_faults(waiting(Resource="arn"))


@pytest.mark.parametrize(
    ("broken", "fault"),
    [
        (machine(Work=task(End=None, Next="Gone")), "Work: 'Gone' does not exist"),
        ({"StartAt": "Gone", "States": {}}, "the machine: StartAt 'Gone' does not exist"),
        (machine(Work=task(), Island={"Type": "Succeed"}), "Island is never entered"),
        (machine(Work=task(End=None)), "Work needs either Next or End"),
        (machine(Work=task(Next="Failed")), "Work needs either Next or End"),
        (machine(Work=task(TimeoutSeconds=None)), "Work has no TimeoutSeconds"),
        (machine(Work=task(Retry=None)), "Work has no Retry"),
        (
            machine(Work=task(Retry=[RETRY[0] | {"ErrorEquals": ["States.ALL"]}])),
            "Work retries States.ALL: name the transient errors",
        ),
        (machine(Work=task(Retry=[RETRY[0] | {"ErrorEquals": []}])), "Work retries no named error"),
        (machine(Work=task(Retry=[RETRY[0] | {"MaxAttempts": None}])), "Work retries without MaxAttempts"),
        (
            machine(Work=task(Retry=[RETRY[0] | {"JitterStrategy": "NONE"}])),
            "Work retries without JitterStrategy FULL",
        ),
        (
            machine(
                Work=task(Catch=[{"ErrorEquals": ["Lambda.Unknown"], "Next": "Failed"}]),
            ),
            "Work does not catch States.ALL",
        ),
        (
            machine(
                Work=task(Catch=[{"ErrorEquals": ["States.ALL"], "Next": "CleanUp"}], End=None, Next="Failed"),
                CleanUp={"Type": "Pass", "End": True},
            ),
            "CleanUp ends green after an error",
        ),
        (
            machine(
                Work=task(Catch=[{"ErrorEquals": ["States.ALL"], "Next": "Done"}], End=None, Next="Failed"),
                Done={"Type": "Succeed"},
            ),
            "Done ends green after an error",
        ),
        (item_machine(marked={"outcome": "succeeded"}), "ItemFailed ends green after an error"),
        (
            machine(
                Work=task(End=None, Next="Ask", Catch=[*CATCH]),
                Ask={"Type": "Choice", "Choices": [{"Variable": "$.a", "IsNull": True, "Next": "Failed"}]},
            ),
            "Ask has no Default: an unforeseen outcome would end in a runtime error",
        ),
    ],
)
def test_finds_exactly_the_broken_rule(broken, fault):
    assert asl.find_faults(broken) == [fault]


def test_finds_a_failure_path_that_runs_in_circles():
    circle = machine(
        Work=task(Catch=[{"ErrorEquals": ["States.ALL"], "Next": "Round"}], End=None, Next="Failed"),
        Round={"Type": "Wait", "Seconds": 1, "Next": "Again"},
        Again={"Type": "Wait", "Seconds": 1, "Next": "Round"},
    )
    assert asl.find_faults(circle) == ["Again never ends", "Round never ends"]


def test_looks_inside_parallel_branches():
    branch = {"StartAt": "Inner", "States": {"Inner": {"Type": "Pass", "Next": "Gone"}}}
    parallel = {"Type": "Parallel", "Branches": [branch], "Catch": CATCH, "End": True}
    assert asl.find_faults(machine(Work=parallel)) == ["Inner: 'Gone' does not exist"]
