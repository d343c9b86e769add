"""The pipelines on Step Functions."""

import json
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from millrace.aws.errors import aws_errors, error_code
from millrace.errors import RunNotFoundError

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient

_NOBODY_WAITS = frozenset({"InvalidToken", "TaskDoesNotExist", "TaskTimedOut"})
_GOING = frozenset({"RUNNING", "PENDING_REDRIVE"})
#: Of an execution that is stopped; Step Functions takes 32,768 characters.
_MAX_CAUSE = 1_000


class StepFunctionsPipeline:
    """Implements :class:`millrace.ports.PipelineStarter`.

    An execution bears its run's id as its name, so starting a run twice is starting it once, and whether it is
    going can be asked without having kept anything.

    Parameters
    ----------
    client : SFNClient
        Built by :mod:`millrace.aws.clients`.
    state_machine_arn : str
        Of a standard state machine.
    """

    def __init__(self, client: "SFNClient", state_machine_arn: str) -> None:
        self._client = client
        self._state_machine_arn = state_machine_arn

    def start(self, model: str, run_id: str) -> bool:
        """Start the run's execution under the run's id; starting it again changes nothing.

        Returns whether it is going: False when an execution of that run has ended already.
        """
        with aws_errors("Step Functions"):
            try:
                self._client.start_execution(
                    stateMachineArn=self._state_machine_arn,
                    name=run_id,
                    input=json.dumps({"model": model, "run_id": run_id}),
                )
            except ClientError as error:
                if error_code(error) != "ExecutionAlreadyExists":
                    raise
            else:
                return True
        return self.is_running(run_id)

    def is_running(self, run_id: str) -> bool:
        """Tell whether the run's execution is still going."""
        with aws_errors("Step Functions"):
            try:
                status = self._client.describe_execution(executionArn=self._execution_arn(run_id))["status"]
            except ClientError as error:
                if error_code(error) == "ExecutionDoesNotExist":
                    return False
                raise
        return status in _GOING

    def stop(self, run_id: str, reason: str) -> None:
        """Stop the run's execution; one that has ended, or never began, is none to stop."""
        if not self.is_running(run_id):
            return
        with aws_errors("Step Functions"):
            try:
                self._client.stop_execution(
                    executionArn=self._execution_arn(run_id), error="Stopped", cause=reason[:_MAX_CAUSE]
                )
            except ClientError as error:
                if error_code(error) != "ExecutionDoesNotExist":
                    raise

    def _execution_arn(self, run_id: str) -> str:
        return self._state_machine_arn.replace(":stateMachine:", ":execution:", 1) + f":{run_id}"


class StepFunctionsMonitoring:
    """Implements :class:`millrace.ports.MonitoringPipeline`.

    Parameters
    ----------
    client : SFNClient
        Built by :mod:`millrace.aws.clients`.
    state_machine_arn : str
        Of a standard state machine.
    """

    def __init__(self, client: "SFNClient", state_machine_arn: str) -> None:
        self._client = client
        self._state_machine_arn = state_machine_arn

    def start(self, model: str, name: str) -> None:
        """Start looking at a model, under that name; starting it again changes nothing."""
        with aws_errors("Step Functions"):
            try:
                self._client.start_execution(
                    stateMachineArn=self._state_machine_arn, name=name, input=json.dumps({"model": model})
                )
            except ClientError as error:
                if error_code(error) != "ExecutionAlreadyExists":
                    raise

    def status(self, name: str) -> str:
        """Return ``running``, ``succeeded`` or ``failed``; raises ``RunNotFoundError`` when there is no such look."""
        arn = self._state_machine_arn.replace(":stateMachine:", ":execution:", 1) + f":{name}"
        with aws_errors("Step Functions"):
            try:
                status = self._client.describe_execution(executionArn=arn)["status"]
            except ClientError as error:
                if error_code(error) in ("ExecutionDoesNotExist", "InvalidArn"):
                    raise RunNotFoundError(f"nobody looked at a model under the name {name[:80]!r}") from error
                raise
        if status in _GOING:
            return "running"
        return "succeeded" if status == "SUCCEEDED" else "failed"


class StepFunctionsCallback:
    """Implements :class:`millrace.ports.TaskCallback`."""

    def __init__(self, client: "SFNClient") -> None:
        self._client = client

    def complete(self, task_token: str, outcome: str) -> bool:
        """End the wait that ``task_token`` stands for; False when nobody waits with it (any more)."""
        with aws_errors("Step Functions"):
            try:
                self._client.send_task_success(taskToken=task_token, output=json.dumps({"outcome": outcome}))
            except ClientError as error:
                if error_code(error) in _NOBODY_WAITS:
                    return False
                raise
        return True
