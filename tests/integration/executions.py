"""Executions of state machines in moto, waited for by its own records.

A request for their status takes milliseconds of the processor that they run on, again and again.
"""

from typing import Any

import boto3
from moto.stepfunctions.parser.models import stepfunctions_parser_backends

from tests.limits import within

_PAUSE_SECONDS = 0.01


def wait_for_machine(machine_arn: str, seconds: float = 120.0) -> dict[str, str]:
    """Wait until no execution of a machine is running; returns the status of each by name, the newest first."""
    own = machine_arn.replace(":stateMachine:", ":execution:")
    for _ in within(seconds, _PAUSE_SECONDS):
        if not any(arn.startswith(f"{own}:") for arn in _running(machine_arn)):
            break
    found = boto3.client("stepfunctions").list_executions(stateMachineArn=machine_arn)["executions"]
    return {execution["name"]: execution["status"] for execution in found}


def wait_for_execution(arn: str, seconds: float = 120.0) -> dict[str, Any]:
    """Wait until an execution has ended; returns what Step Functions says of it."""
    for _ in within(seconds, _PAUSE_SECONDS):
        if arn not in _running(arn):
            break
    return dict(boto3.client("stepfunctions").describe_execution(executionArn=arn))


def _running(arn: str) -> set[str]:
    """Return the running executions where a machine, or an execution, is."""
    region, account = arn.split(":")[3:5]
    machines = stepfunctions_parser_backends[account][region].state_machines
    executions = [one for machine in list(machines) for one in list(machine.executions)]
    # One that is about to start is there without a status.
    return {one.execution_arn for one in executions if vars(one)["exec_status"] in (None, "RUNNING")}
