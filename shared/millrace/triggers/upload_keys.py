"""Which keys of the drop zone are uploads, and what is wrong with those that are not."""

import re
from dataclasses import dataclass

from millrace.errors import InvalidNameError
from millrace.layout import INCOMING_PREFIX, MARKERS
from millrace.names import validate_model_name

_WHERE = f"upload to {INCOMING_PREFIX}<model>/<file>, for example {INCOMING_PREFIX}churn/may.csv"
_UNREADABLE = re.compile(r"[\s\\\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a key cannot be an upload, and how to mend it, in words."""

    reason: str
    remedy: str


def read_upload_key(key: str) -> str | Refusal:
    """Return the model that an uploaded key belongs to, or why it belongs to none.

    A file in a folder below the model's, as ``incoming/churn/may/part-0.csv``, is for ``churn`` too: it is one file
    of a dataset, see :func:`millrace.layout.folder_of_part`.
    """
    if not key.startswith(INCOMING_PREFIX):
        return Refusal(f"the key is outside {INCOMING_PREFIX}", _WHERE)
    model, slash, path = key.removeprefix(INCOMING_PREFIX).partition("/")
    if not slash:
        return Refusal("the key names no model: it lies directly in the drop zone", _WHERE)
    try:
        validate_model_name(model)
    except InvalidNameError as error:
        return Refusal(error.message, _WHERE)
    return _refuse_path(path) or model


def _refuse_path(path: str) -> Refusal | None:
    if path in MARKERS:
        where = f"put it, with the files that it finishes, into a folder: {INCOMING_PREFIX}<model>/<folder>/{path}"
        return Refusal("the key is a marker that finishes no folder: it lies directly below the model", where)
    if not path or path.endswith("/"):
        return Refusal("the key ends with '/': it is a folder marker, not a file", _WHERE)
    if ".." in path:
        return Refusal("the file name holds '..'", "rename the file without '..' and upload it again")
    if _UNREADABLE.search(path):
        return Refusal(
            "the file name holds spaces, backslashes or control characters",
            "rename the file, with '-' or '_' for each space, and upload it again",
        )
    if any(part in ("", ".") for part in path.split("/")):
        return Refusal("the key holds an empty or '.' folder name", _WHERE)
    return None
