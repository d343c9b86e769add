"""Base of spec parts, and the types of schedules: checked before a spec is stored."""

import re
import zoneinfo
from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from millrace.errors import FieldError, InvalidInputError


class SpecPart(BaseModel):
    """Base of every part of a spec: frozen, and an unknown field is an error, because it is a misspelt one."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def invalid_input(message: str, error: ValidationError) -> InvalidInputError:
    """Convert pydantic's error: every bad field by its path, without the values."""
    faults = [FieldError(".".join(str(part) for part in fault["loc"]), _describe(fault)) for fault in error.errors()]
    return InvalidInputError(f"{message}: {', '.join(f'{f.field}: {f.message}' for f in faults)}", faults)


def _describe(fault: ErrorDetails) -> str:
    if fault["type"] == "extra_forbidden":
        return "there is no such field"
    return fault["msg"].removeprefix("Value error, ")


_RATE = re.compile(r"rate\((\d+) (minute|minutes|hour|hours|day|days)\)\Z")
_CRON = re.compile(r"cron\(([^()]+)\)\Z")
_AT = re.compile(r"at\((\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)\)\Z")
_CRON_FIELDS = 6
#: The characters of a field of a cron expression; the Scheduler itself has the last word.
_CRON_FIELD = re.compile(r"[0-9A-Za-z*?/,#-]+\Z")
_EXAMPLES = "write rate(1 day), cron(0 6 ? * MON *) or at(2027-01-31T06:00:00)"


def _check_expression(text: str) -> str:
    expression = text.strip()
    if rate := _RATE.match(expression):
        number, unit = int(rate[1]), rate[2]
        if number < 1:
            raise ValueError(f"a rate is at least 1; {_EXAMPLES}")
        if (number == 1) == unit.endswith("s"):
            raise ValueError(f"the unit is singular after 1 and plural otherwise; {_EXAMPLES}")
    elif cron := _CRON.match(expression):
        fields = cron[1].split()
        if len(fields) != _CRON_FIELDS or not all(_CRON_FIELD.match(field) for field in fields):
            raise ValueError(f"cron has six fields: minute, hour, day, month, weekday, year; {_EXAMPLES}")
        if (fields[2] == "?") == (fields[4] == "?"):
            raise ValueError(f"exactly one of cron's day and weekday is '?'; {_EXAMPLES}")
    elif at := _AT.match(expression):
        datetime.fromisoformat(at[1])
    else:
        raise ValueError(f"{text!r} is no schedule: {_EXAMPLES}")
    return expression


def _check_time_zone(name: str) -> str:
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError) as fault:
        raise ValueError(f"{name!r} is no time zone; Europe/Berlin and UTC are some") from fault
    return name


#: An expression as EventBridge Scheduler takes it.
ScheduleExpression = Annotated[str, AfterValidator(_check_expression)]
#: A name of the IANA time zone database.
TimeZone = Annotated[str, AfterValidator(_check_time_zone)]
