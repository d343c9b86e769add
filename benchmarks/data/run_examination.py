"""A whole first examination: infer the schema, check, profile."""

from pathlib import Path

from millrace.data import read
from millrace.data.validation import validate_upload
from millrace.spec import ModelSpec
from worker import Counts, serve

read.DEFAULT_LIMITS = read.UploadLimits(max_bytes=10**11)


def whole(path: Path) -> Counts:
    """Examine the file as a model's first upload."""
    examined = validate_upload(path, "t.csv", ModelSpec(), {}, None)
    assert examined.accepted, examined.reasons
    return {}


serve(lambda path: path, whole, whole)
