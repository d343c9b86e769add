"""What the command line reports: a fault, how to mend it, and the exit code a script sees.

Exit codes: 0 done; 1 something failed; 2 the input was refused; 130 interrupted.
"""

from collections.abc import Sequence
from typing import ClassVar


class CliError(Exception):
    """A fault that is shown as one sentence, with the way to mend it, and no traceback.

    Parameters
    ----------
    message : str
        What is wrong.
    hint : str, default=""
        What to do about it.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class RefusedError(CliError):
    """The input cannot be accepted: a wrong file, a wrong name, a rejected dataset."""

    exit_code = 2


class ApiError(CliError):
    """The API answered with an error.

    Parameters
    ----------
    status : int
        HTTP status.
    error_code : str
        The API's own code, such as ``RESOURCE_DOES_NOT_EXIST``.
    fields : sequence of (str, str), default=()
        What is wrong, field by field, which the message holds too.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        error_code: str = "",
        hint: str = "",
        fields: Sequence[tuple[str, str]] = (),
    ) -> None:
        super().__init__(message, hint)
        self.status = status
        self.error_code = error_code
        self.fields = tuple(fields)
