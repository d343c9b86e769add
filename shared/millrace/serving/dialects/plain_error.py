"""Errors as KServe's clients read them: one sentence, and 503 for a model that is not there yet."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from millrace.errors import MillraceError, ModelNotReadyError

#: Bad fields that the sentence names; it ends up in exceptions and logs.
NAMED_FIELDS = 20


def plain_error(error: MillraceError, document: Mapping[str, Any]) -> tuple[int, Mapping[str, Any]]:
    """Return status and body for an error, whose ``document`` is what a caller may know of it."""
    fields = document.get("fields", [])
    named = "; ".join(f"{fault['field']} {fault['message']}" for fault in fields[:NAMED_FIELDS])
    rest = f"; and {len(fields) - NAMED_FIELDS} more" if len(fields) > NAMED_FIELDS else ""
    message = document["message"]
    # A single bad field is the whole message already.
    sentence = message if not fields or message == named else f"{message}: {named}{rest}"
    status = HTTPStatus.SERVICE_UNAVAILABLE if isinstance(error, ModelNotReadyError) else error.http_status
    return int(status), {"error": sentence}
