"""The pipelines on Step Functions, and the executions that their functions may take."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from millrace.aws.client_errors import aws_errors, error_code
from millrace.errors import RunNotFoundError

if TYPE_CHECKING:
    from mypy_boto3_stepfunctions import SFNClient

_NOTHING_WAITS = frozenset({"InvalidToken", "TaskDoesNotExist", "TaskTimedOut"})
_RUNNING = frozenset({"RUNNING", "PENDING_REDRIVE"})
#: Of an execution that is stopped; Step Functions takes 32,768 characters.
_MAX_CAUSE = 1_000


class _Executions:
    """Executions of one state machine, by name.

    Parameters
    ----------
    state_machine_arn : str
        Of a standard state machine.
    """

    def __init__(self, client: "SFNClient", state_machine_arn: str) -> None:
        self._client = client
        self._state_machine_arn = state_machine_arn

    def _start(self, name: str, payload: dict[str, Any]) -> bool:
        """Start an execution; False when there is one of that name."""
        with aws_errors("Step Functions"):
            try:
                self._client.start_execution(
                    stateMachineArn=self._state_machine_arn, name=name, input=json.dumps(payload)
                )
            except ClientError as error:
                if error_code(error) == "ExecutionAlreadyExists":
                    return False
                raise
        return True

    def _find_status(self, name: str, missing: tuple[str, ...] = ("ExecutionDoesNotExist",)) -> str | None:
        with aws_errors("Step Functions"):
            try:
                return self._client.describe_execution(executionArn=self._execution_arn(name))["status"]
            except ClientError as error:
                if error_code(error) in missing:
                    return None
                raise

    def _stop(self, name: str, reason: str) -> None:
        """Stop an execution, unless it has ended or never began."""
        if self._find_status(name) not in _RUNNING:
            return
        with aws_errors("Step Functions"):
            try:
                self._client.stop_execution(
                    executionArn=self._execution_arn(name), error="Stopped", cause=reason[:_MAX_CAUSE]
                )
            except ClientError as error:
                if error_code(error) != "ExecutionDoesNotExist":
                    raise

    def _execution_arn(self, name: str) -> str:
        return self._state_machine_arn.replace(":stateMachine:", ":execution:", 1) + f":{name}"


class LambdaConcurrency:
    """Implements :class:`millrace.ports.AccountConcurrency`."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def unreserved(self) -> int:
        """Return the executions at once that no function has reserved."""
        with aws_errors("Lambda"):
            settings = self._client.get_account_settings()
        return int(settings["AccountLimit"]["UnreservedConcurrentExecutions"])


class StepFunctionsPipeline(_Executions):
    """Implements :class:`millrace.ports.PipelineStarter`.

    An execution has its run's id as its name, so starting a run twice is starting it once.
    """

    def start(self, model: str, run_id: str) -> bool:
        """Start the run's execution; see :meth:`millrace.ports.PipelineStarter.start`."""
        return self._start(run_id, {"model": model, "run_id": run_id}) or self.is_running(run_id)

    def is_running(self, run_id: str) -> bool:
        """Return True while the run's execution goes on."""
        return self._find_status(run_id) in _RUNNING

    def stop(self, run_id: str, reason: str) -> None:
        """Stop the run's execution, unless it has ended or never began."""
        self._stop(run_id, reason)


class StepFunctionsScoring(_Executions):
    """Implements :class:`millrace.ports.ScoringPipeline`."""

    def start(self, model: str, job_id: str, execution: str) -> bool:
        """Start an execution; see :meth:`millrace.ports.ScoringPipeline.start`."""
        started = self._start(execution, {"model": model, "job_id": job_id, "execution": execution})
        return started or self._find_status(execution) in _RUNNING

    def stop(self, execution: str, reason: str) -> None:
        """Stop an execution, unless it has ended or never began."""
        self._stop(execution, reason)


class StepFunctionsMonitoring(_Executions):
    """Implements :class:`millrace.ports.MonitoringPipeline`."""

    def start(self, model: str, name: str) -> None:
        """Start a monitoring run under that name; starting it again changes nothing."""
        self._start(name, {"model": model})

    def start_batch(self, models: Sequence[str], name: str) -> None:
        """Start one execution for several models; see :meth:`millrace.ports.MonitoringPipeline.start_batch`."""
        self._start(name, {"models": [{"model": model, "round": 0} for model in models]})

    def status(self, name: str) -> str:
        """Return ``running``, ``succeeded`` or ``failed``; raises ``RunNotFoundError`` for an unknown name."""
        # A name of a caller may make the ARN invalid.
        status = self._find_status(name, ("ExecutionDoesNotExist", "InvalidArn"))
        if status is None:
            raise RunNotFoundError(f"there is no monitoring run {name[:80]!r}")
        if status in _RUNNING:
            return "running"
        return "succeeded" if status == "SUCCEEDED" else "failed"


class StepFunctionsCallback:
    """Implements :class:`millrace.ports.TaskCallback`."""

    def __init__(self, client: "SFNClient") -> None:
        self._client = client

    def complete(self, task_token: str, outcome: str) -> bool:
        """End the wait that ``task_token`` stands for; False when nothing waits with it (any more)."""
        with aws_errors("Step Functions"):
            try:
                self._client.send_task_success(taskToken=task_token, output=json.dumps({"outcome": outcome}))
            except ClientError as error:
                if error_code(error) in _NOTHING_WAITS:
                    return False
                raise
        return True
