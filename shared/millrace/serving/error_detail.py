"""How much errors and warnings tell a caller: everything, or nothing that a schema could be put together from."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, get_args

from millrace.errors import ConfigurationError, FieldError, InvalidInputError, MillraceError
from millrace.serving.scorer import Scores

ErrorDetail = Literal["full", "reduced"]

_INTERNAL_ERROR = 500
_BAD_REQUEST = "the request is not one that this model reads; the service's log says why"
_BAD_ROW = FieldError("*", "cannot be scored")


def parse_error_detail(text: str) -> ErrorDetail:
    """Return the setting's value; raises ``ConfigurationError`` when it is none."""
    for detail in get_args(ErrorDetail):
        if text == detail:
            return detail  # type: ignore[no-any-return]  # get_args returns the literals
    raise ConfigurationError(f"ERROR_DETAIL={text!r} is neither 'full' nor 'reduced'")


def told_of(error: MillraceError, detail: ErrorDetail) -> Mapping[str, Any]:
    """Return what a caller may know of an error: what they can mend is said, what only we can is not."""
    document = error.to_dict()
    if error.http_status == _INTERNAL_ERROR:
        return {**document, "message": "the request could not be answered; the service's log says why"}
    if detail == "reduced" and isinstance(error, InvalidInputError):
        return {"error_code": error.error_code, "message": _BAD_REQUEST}
    return document


def reduce_scores(scores: Scores) -> Scores:
    """Return scores without the names of columns: no warnings, and of bad rows only which they are."""
    return replace(scores, notices=(), bad_rows=dict.fromkeys(scores.bad_rows, (_BAD_ROW,)))
