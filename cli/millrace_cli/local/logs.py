"""Log lines of a stack's functions, in the order of time."""

from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line that a function logged.

    Parameters
    ----------
    timestamp : int
        Milliseconds since 1970.
    function : str
        The function's name in the template.
    """

    timestamp: int
    function: str
    message: str


class LogReader:
    """Reads lines that were not read before.

    Parameters
    ----------
    logs, cloudformation : boto3 clients
        Of the stack.
    stack : str
        The stack's name.
    """

    def __init__(self, logs: Any, cloudformation: Any, stack: str) -> None:
        self._logs = logs
        self._cloudformation = cloudformation
        self._stack = stack
        self._seen: dict[str, set[str]] = {}
        self._since: dict[str, int] = {}

    def read(self, name_part: str | None = None) -> list[LogLine]:
        """Return new lines of every function whose name holds ``name_part``, whatever its case."""
        lines: list[LogLine] = []
        for function, group in self._groups():
            if name_part is None or name_part.lower().replace("_", "") in function.lower():
                lines += self._new_lines(function, group)
        return sorted(lines, key=lambda line: line.timestamp)

    def _groups(self) -> list[tuple[str, str]]:
        """Return each function's name in the template and its log group; the template declares every group."""
        pages = self._cloudformation.get_paginator("list_stack_resources").paginate(StackName=self._stack)
        return [
            (resource["LogicalResourceId"].removesuffix("LogGroup"), resource["PhysicalResourceId"])
            for page in pages
            for resource in page["StackResourceSummaries"]
            if resource["ResourceType"] == "AWS::Logs::LogGroup"
        ]

    def _new_lines(self, function: str, group: str) -> list[LogLine]:
        seen = self._seen.setdefault(group, set())
        lines: list[LogLine] = []
        try:
            pages = self._logs.get_paginator("filter_log_events").paginate(
                logGroupName=group, startTime=self._since.get(group, 0)
            )
            for page in pages:
                for event in page["events"]:
                    identity = f"{event.get('eventId')}{event['timestamp']}{event['message']}"
                    if identity not in seen:
                        seen.add(identity)
                        lines.append(LogLine(event["timestamp"], function, event["message"].rstrip("\n")))
        except ClientError as error:
            if error.response["Error"]["Code"] != "ResourceNotFoundException":
                raise  # a function that never ran has no log group
        if lines:
            self._since[group] = max(line.timestamp for line in lines)
        return lines
