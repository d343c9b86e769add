"""The rules of a state machine's graph, which no linter checks: each function returns the faults that it finds.

Rules are about Amazon States Language (JSONPath) in plain dictionaries, so a machine that breaks one can be written
in a few lines.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

State = dict[str, Any]
TERMINAL = frozenset({"Succeed", "Fail"})
CATCHING = frozenset({"Task", "Map", "Parallel"})
CATCH_ALL = frozenset({"States.ALL", "States.TaskFailed", "States.Runtime"})


@dataclass(frozen=True)
class Machine:
    """A state machine, or a nested one: where it starts, its states, and whether it works on one item of a Map."""

    name: str
    start: str
    states: dict[str, State]
    is_item_processor: bool = False


def iter_machines(definition: dict[str, Any], name: str = "") -> Iterator[Machine]:
    """Yield the machine and, depth first, those inside its Map and Parallel states."""
    is_item = bool(name) and definition.get("_item", False)
    states = definition.get("States", {})
    yield Machine(name or "the machine", definition.get("StartAt", ""), states, is_item)
    for state_name, state in states.items():
        nested = [{**state[key], "_item": True} for key in ("ItemProcessor", "Iterator") if key in state]
        nested += [{**branch, "_item": False} for branch in state.get("Branches", [])]
        for inner in nested:
            yield from iter_machines(inner, state_name)


def catch_targets(state: State) -> list[str]:
    """Return where a state goes when an error is caught."""
    return [catcher.get("Next", "") for catcher in state.get("Catch", [])]


def normal_targets(state: State) -> list[str]:
    """Return where a state goes when nothing went wrong."""
    choices = [choice.get("Next", "") for choice in state.get("Choices", [])]
    return choices + [state[key] for key in ("Next", "Default") if key in state]


def reachable(machine: Machine, start: list[str]) -> set[str]:
    """Return the states that can be entered from any of the given ones, these included."""
    seen: set[str] = set()
    waiting = [name for name in start if name in machine.states]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        state = machine.states[name]
        waiting += [target for target in normal_targets(state) + catch_targets(state) if target in machine.states]
    return seen


def failure_path(machine: Machine) -> set[str]:
    """Return the states that are entered after a caught error.

    That nobody answered in time is no error where people are waited for: it is one of the answers.
    """
    caught = [
        catcher.get("Next", "")
        for state in machine.states.values()
        for catcher in state.get("Catch", [])
        if not (waits_for_people(state) and catcher.get("ErrorEquals") == ["States.Timeout"])
    ]
    return reachable(machine, caught)


def waits_for_people(state: State) -> bool:
    """Tell whether a Task ends when somebody gives back its token."""
    return state["Type"] == "Task" and state["Resource"].endswith(".waitForTaskToken")


def missing_targets(machine: Machine) -> list[str]:
    """Every StartAt, Next, Default and Catch target is a state."""
    faults = [] if machine.start in machine.states else [f"{machine.name}: StartAt {machine.start!r} does not exist"]
    for name, state in machine.states.items():
        targets = normal_targets(state) + catch_targets(state)
        faults += [f"{name}: {target!r} does not exist" for target in targets if target not in machine.states]
    return faults


def unreachable_states(machine: Machine) -> list[str]:
    """Every state can be entered."""
    return [f"{name} is never entered" for name in sorted(set(machine.states) - reachable(machine, [machine.start]))]


def dead_ends(machine: Machine) -> list[str]:
    """Every state goes on, ends or is an end; every Choice has a Default."""
    faults = []
    for name, state in machine.states.items():
        if state["Type"] == "Choice":
            if "Default" not in state:
                faults.append(f"{name} has no Default: an unforeseen outcome would end in a runtime error")
        elif state["Type"] not in TERMINAL and ("Next" in state) == bool(state.get("End")):
            faults.append(f"{name} needs either Next or End")
    return faults


def untimed_tasks(machine: Machine) -> list[str]:
    """Every Task gives up some time."""
    return [
        f"{name} has no TimeoutSeconds"
        for name, state in machine.states.items()
        if state["Type"] == "Task"
        and not isinstance(state.get("TimeoutSeconds"), int)
        and not (waits_for_people(state) and str(state.get("TimeoutSecondsPath", "")).startswith("$."))
    ]


def careless_retries(machine: Machine) -> list[str]:
    """Every Task retries named transient errors, a stated number of times, with full jitter."""
    faults = []
    for name, state in machine.states.items():
        if state["Type"] != "Task":
            continue
        if not state.get("Retry"):
            faults.append(f"{name} has no Retry")
        for retrier in state.get("Retry", []):
            if general := CATCH_ALL.intersection(retrier.get("ErrorEquals", [])):
                faults.append(f"{name} retries {', '.join(sorted(general))}: name the transient errors")
            if not retrier.get("ErrorEquals"):
                faults.append(f"{name} retries no named error")
            if not isinstance(retrier.get("MaxAttempts"), int):
                faults.append(f"{name} retries without MaxAttempts")
            if retrier.get("JitterStrategy") != "FULL":
                faults.append(f"{name} retries without JitterStrategy FULL")
    return faults


def uncaught_errors(machine: Machine) -> list[str]:
    """Every Task, Map and Parallel catches States.ALL, unless it is on the failure path itself."""
    excused = failure_path(machine)
    faults = []
    for name, state in machine.states.items():
        if state["Type"] not in CATCHING or name in excused:
            continue
        if not any(catcher.get("ErrorEquals") == ["States.ALL"] for catcher in state.get("Catch", [])):
            faults.append(f"{name} does not catch States.ALL")
    return faults


def green_failures(machine: Machine) -> list[str]:
    """Every path from a caught error ends in Fail; inside a Map it may end in a Pass that marks the item failed."""
    faults = []
    for name in sorted(failure_path(machine)):
        state = machine.states[name]
        if state["Type"] == "Fail" or not (state["Type"] == "Succeed" or state.get("End")):
            continue
        marked = {**state.get("Parameters", {}), **(state.get("Result") or {})}
        if machine.is_item_processor and state["Type"] == "Pass" and marked.get("outcome") in ("failed", "crashed"):
            continue
        faults.append(f"{name} ends green after an error")
    return faults


def ends_without_fail(machine: Machine) -> list[str]:
    """Every state on the failure path leads to an end: a loop would run until the machine times out."""
    faults = []
    for name in sorted(failure_path(machine)):
        ends = [
            other
            for other in reachable(machine, [name])
            if machine.states[other]["Type"] in TERMINAL or machine.states[other].get("End")
        ]
        if not ends:
            faults.append(f"{name} never ends")
    return faults


RULES = (
    missing_targets,
    unreachable_states,
    dead_ends,
    untimed_tasks,
    careless_retries,
    uncaught_errors,
    green_failures,
    ends_without_fail,
)


def find_faults(definition: dict[str, Any]) -> list[str]:
    """Return every fault of a definition and of the machines inside it."""
    return [fault for machine in iter_machines(definition) for rule in RULES for fault in rule(machine)]
