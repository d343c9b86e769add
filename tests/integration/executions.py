"""Executions of state machines in moto, waited for by its own records.

A request for their status takes milliseconds of the processor that they run on, again and again.
"""

from typing import Any

import boto3
from moto.stepfunctions.parser.models import stepfunctions_parser_backends

from tests.limits import within

ACCOUNT = "123456789012"
REGION = "eu-west-1"
_PAUSE_SECONDS = 0.01


def wait_for_machine(machine_arn: str, seconds: float = 120.0) -> dict[str, str]:
    """Wait until no execution of a machine is running; returns the status of each by name, the newest first."""
    for _ in within(seconds, _PAUSE_SECONDS):
        if not any(arn.startswith(f"{_executions_prefix(machine_arn)}:") for arn in _running()):
            break
    found = boto3.client("stepfunctions").list_executions(stateMachineArn=machine_arn)["executions"]
    return {execution["name"]: execution["status"] for execution in found}


def wait_for_execution(arn: str, seconds: float = 120.0) -> dict[str, Any]:
    """Wait until an execution has ended; returns what Step Functions says of it."""
    for _ in within(seconds, _PAUSE_SECONDS):
        if arn not in _running():
            break
    return dict(boto3.client("stepfunctions").describe_execution(executionArn=arn))


def _executions_prefix(machine_arn: str) -> str:
    return machine_arn.replace(":stateMachine:", ":execution:")


def _running() -> set[str]:
    machines = stepfunctions_parser_backends[ACCOUNT][REGION].state_machines
    executions = [one for machine in list(machines) for one in list(machine.executions)]
    return {one.execution_arn for one in executions if one.status == "RUNNING"}
