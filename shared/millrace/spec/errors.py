"""From pydantic's errors to ours."""

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from millrace.errors import FieldError, InvalidInputError


def invalid_input(message: str, error: ValidationError) -> InvalidInputError:
    """Turn pydantic's error into ours: every bad field by its path, without the values."""
    faults = [FieldError(".".join(str(part) for part in fault["loc"]), _in_words(fault)) for fault in error.errors()]
    return InvalidInputError(f"{message}: {', '.join(f'{f.field}: {f.message}' for f in faults)}", faults)


def _in_words(fault: ErrorDetails) -> str:
    if fault["type"] == "extra_forbidden":
        return "there is no such field"
    return fault["msg"].removeprefix("Value error, ")
