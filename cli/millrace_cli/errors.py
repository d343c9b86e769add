"""Errors of the command line, each with its fix and its exit code.

Exit codes: 0 success; 1 failure; 2 invalid input; 130 interrupted.

    CliError
    ├── RefusedError          exit code 2
    ├── MissingObjectError
    └── ApiError
"""

from collections.abc import Sequence
from typing import ClassVar

#: Exit code after Ctrl-C.
INTERRUPTED = 130


class CliError(Exception):
    """Error shown as one sentence with its fix, without a traceback.

    Parameters
    ----------
    message : str
        The problem.
    hint : str, default=""
        The fix.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class RefusedError(CliError):
    """Invalid input: a wrong file, a wrong name, a rejected dataset."""

    exit_code = 2


class MissingObjectError(CliError):
    """Object of a bucket that does not exist or that the caller may not read."""


class ApiError(CliError):
    """Error response of the API.

    Parameters
    ----------
    status : int
        HTTP status.
    error_code : str
        The API's own code, such as ``RESOURCE_DOES_NOT_EXIST``.
    fields : sequence of (str, str), default=()
        Invalid fields with their messages; the message lists them too.
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
