"""Lambda's filter of log lines, for the JSON format.

https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-log-level.html
"""

import json
import re
from typing import Literal

LEVELS = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")
LogLevel = Literal["DEBUG", "INFO", "WARN", "ERROR"]
_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")


def line_level(line: str) -> str:
    """Return the level that Lambda gives a line of standard output."""
    try:
        document = json.loads(line)
    except ValueError:
        return "INFO"
    if not isinstance(document, dict) or not _RFC_3339.fullmatch(str(document.get("timestamp", ""))):
        return "INFO"
    level = str(document.get("level", "")).upper()
    return level if level in LEVELS else "INFO"


def passing_lines(output: str, log_level: LogLevel) -> list[str]:
    """Return the lines that reach CloudWatch Logs from a function with that ``ApplicationLogLevel``."""
    least = LEVELS.index(log_level)
    return [line for line in output.splitlines() if LEVELS.index(line_level(line)) >= least]
