"""Uploading a table to the drop zone, which is what starts a training run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError
from millrace.errors import InvalidNameError
from millrace.layout import incoming_key
from millrace.names import make_cause_id, validate_model_name

from millrace_cli.errors import CliError, RefusedError


@dataclass(frozen=True, slots=True)
class Upload:
    """An uploaded file.

    Parameters
    ----------
    cause_id : str
        The id that the stack gives the event of this very upload.
    """

    model: str
    bucket: str
    key: str
    version_id: str
    cause_id: str


def check_upload(model: str, file: Path) -> None:
    """Refuse what can be known to be wrong before anything is sent.

    Raises
    ------
    RefusedError
        For a name no model can have, a file that is missing, empty or no file.
    """
    try:
        validate_model_name(model)
    except InvalidNameError as error:
        raise RefusedError(error.message) from error
    if not file.exists():
        raise RefusedError(f"{file} does not exist", "check the path")
    if not file.is_file():
        raise RefusedError(f"{file} is not a file", "name one CSV, Parquet or JSON Lines file")
    if file.stat().st_size == 0:
        raise RefusedError(f"{file} is empty", "a table needs a header and rows")


def upload_table(
    s3: Any, bucket: str, model: str, file: Path, *, target: str | None = None, task: str | None = None
) -> Upload:
    """Send a table to the drop zone of ``model``.

    Parameters
    ----------
    s3 : boto3 S3 client
        Of the stack.
    target, task : str or None
        Travel as the object's metadata; None lets the stack infer them.

    Raises
    ------
    RefusedError
        As :func:`check_upload`.
    CliError
        When the bucket refuses the object.
    """
    check_upload(model, file)
    key = incoming_key(model, file.name)
    metadata = {name: value for name, value in (("target", target), ("task", task)) if value}
    try:
        # One request, however large, so that the version id in the answer is the one in the event.
        with file.open("rb") as body:
            answer = s3.put_object(Bucket=bucket, Key=key, Body=body, Metadata=metadata)
    except ClientError as error:
        raise CliError(f"cannot upload to s3://{bucket}/{key}: {error.response['Error']['Message']}") from error
    version_id = answer["VersionId"]
    return Upload(model, bucket, key, version_id, make_cause_id("upload", bucket, key, version_id))
