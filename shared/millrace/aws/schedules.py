"""Schedules of single models on EventBridge Scheduler: one group a purpose, one schedule a model."""

import json
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from millrace.aws.client_errors import aws_errors, error_code
from millrace.errors import FieldError, InvalidInputError
from millrace.ports import Purpose, Schedule
from millrace.settings import ReleaseScheduleSettings, ScheduleSettings

if TYPE_CHECKING:
    from mypy_boto3_scheduler import EventBridgeSchedulerClient
    from mypy_boto3_scheduler.type_defs import FlexibleTimeWindowTypeDef, TargetTypeDef

_RATE = re.compile(r"rate\((\d+) (minute|hour|day)s?\)")
_EXACTLY: "FlexibleTimeWindowTypeDef" = {"Mode": "OFF"}


class EventBridgeSchedules:
    """Implements :class:`millrace.ports.Schedules`."""

    def __init__(
        self,
        client: "EventBridgeSchedulerClient",
        settings: ScheduleSettings | ReleaseScheduleSettings,
        target_arn: str | None = None,
    ) -> None:
        self._client = client
        self._settings = settings
        self._target_arn = target_arn  # none takes the purpose's of the settings

    def get(self, model: str, purpose: Purpose) -> Schedule | None:
        """Return a model's schedule for that purpose, if it has one."""
        with aws_errors("EventBridge Scheduler"):
            try:
                found = self._client.get_schedule(GroupName=self._named(purpose, "schedule_group"), Name=model)
            except ClientError as error:
                if error_code(error) == "ResourceNotFoundException":
                    return None
                raise
        return Schedule(model, purpose, found["ScheduleExpression"], found.get("ScheduleExpressionTimezone", "UTC"))

    def put(self, schedule: Schedule) -> None:
        """Create a schedule, or replace the one its model has for that purpose; see :class:`millrace.ports.Schedules`.

        Raises ``InvalidInputError`` when the Scheduler refuses the expression.
        """
        change = self._client.create_schedule
        if self.get(schedule.model, schedule.purpose) is not None:
            change = self._client.update_schedule
        with aws_errors("EventBridge Scheduler"):
            try:
                change(
                    GroupName=self._named(schedule.purpose, "schedule_group"),
                    Name=schedule.model,
                    Description=f"{schedule.purpose} of the model {schedule.model}",
                    ScheduleExpression=schedule.expression,
                    ScheduleExpressionTimezone=schedule.time_zone,
                    **_start(schedule.expression, datetime.now(UTC)),
                    FlexibleTimeWindow=_EXACTLY,
                    State="ENABLED",
                    Target=self._target(schedule),
                )
            except (ClientError, OverflowError) as error:
                if isinstance(error, ClientError) and error_code(error) != "ValidationException":
                    raise
                fault = FieldError(f"{schedule.purpose}.schedule", "EventBridge Scheduler does not accept it")
                raise InvalidInputError(f"{schedule.expression!r} is refused as a schedule", [fault]) from error

    def delete(self, model: str, purpose: Purpose) -> None:
        """Remove a model's schedule for that purpose, if it has one."""
        with aws_errors("EventBridge Scheduler"):
            try:
                self._client.delete_schedule(GroupName=self._named(purpose, "schedule_group"), Name=model)
            except ClientError as error:
                if error_code(error) != "ResourceNotFoundException":
                    raise

    def _named(self, purpose: Purpose, setting: str) -> str:
        return str(getattr(self._settings, f"{purpose}_{setting}"))

    def _target(self, schedule: Schedule) -> "TargetTypeDef":
        payload = {
            "source": "millrace.schedule",
            "schedule": f"{self._named(schedule.purpose, 'schedule_group')}/{schedule.model}",
            "model": schedule.model,
            "time": "<aws.scheduler.scheduled-time>",
        }
        return {
            "Arn": self._target_arn or self._named(schedule.purpose, "target_arn"),
            "RoleArn": self._named(schedule.purpose, "schedule_role_arn"),
            "Input": json.dumps(payload),
            "DeadLetterConfig": {"Arn": self._settings.schedule_dead_letter_arn},
            "RetryPolicy": {"MaximumRetryAttempts": 20, "MaximumEventAgeInSeconds": 21_600},
        }


def _start(expression: str, now: datetime) -> Any:
    """Return the first time of a rate: without one, it is the time at which the schedule is created or changed."""
    rate = _RATE.fullmatch(expression)
    return {"StartDate": now + timedelta(**{f"{rate[2]}s": int(rate[1])})} if rate else {}
