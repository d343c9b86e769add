"""Upload of a table to the drop zone, which starts a training run."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from botocore.exceptions import ClientError
from millrace.errors import InvalidNameError
from millrace.layout import MARKERS, MAX_FOLDER_FILES, incoming_key
from millrace.names import make_cause_id, validate_model_name

from millrace_cli.errors import CliError, RefusedError


@dataclass(frozen=True, slots=True)
class Upload:
    """Uploaded file, or the manifest of an uploaded folder.

    Parameters
    ----------
    cause_id : str
        Id of the cause that the stack records for this upload.
    """

    model: str
    bucket: str
    key: str
    version_id: str
    cause_id: str


def check_model_name(model: str) -> None:
    """Validate a model's name before a request; raises ``RefusedError``."""
    try:
        validate_model_name(model)
    except InvalidNameError as error:
        raise RefusedError(error.message) from error


def check_upload(model: str, path: Path) -> None:
    """Check a model's name and a table before the upload.

    Raises
    ------
    RefusedError
        When the name is invalid, the file is missing or empty, or the folder has no files or too many.
    """
    check_model_name(model)
    if not path.exists():
        raise RefusedError(f"{path} does not exist", "check the path")
    if path.is_dir():
        _check_folder(path)
    elif not path.is_file():
        raise RefusedError(f"{path} is not a file", "name a CSV, Parquet or JSON Lines file, or a folder of such files")
    elif path.stat().st_size == 0:
        raise RefusedError(f"{path} is empty", "upload a table with a header and rows")


def folder_files(folder: Path) -> list[Path]:
    """Return a folder's data files in order, recursively; names that begin with ``_`` or ``.`` are skipped."""
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part.startswith(("_", ".")) for part in path.relative_to(folder).parts)
    ]


def _check_folder(folder: Path) -> None:
    files = folder_files(folder)
    if not files:
        raise RefusedError(f"{folder} has no files", "name a folder of CSV, Parquet or JSON Lines files")
    if len(files) > MAX_FOLDER_FILES:
        raise RefusedError(
            f"{folder} has {len(files):,} files; a dataset may have {MAX_FOLDER_FILES:,}",
            "write fewer, larger files",
        )
    marked = next((path for path in files if path.name in MARKERS), None)
    if marked is not None:
        raise RefusedError(
            f"{marked} has the name of a manifest", "remove it from the folder: the upload writes its own"
        )


def upload_table(
    s3: Any,
    bucket: str,
    model: str,
    file: Path,
    *,
    target: str | None = None,
    task: str | None = None,
    schema: str | None = None,
    force: bool = False,
) -> Upload:
    """Upload a table to the drop zone of ``model``: a file, or a folder of files with the same columns.

    Parameters
    ----------
    s3 : boto3 S3 client
        Client for the stack's account.
    target, task, schema : str or None
        Metadata of the object; the stack infers what is None. ``schema`` is ``replace`` to begin a new schema.
    force : bool, default=False
        Trains a new version also of rows that a version has learned from already.

    Raises
    ------
    RefusedError
        As :func:`check_upload`.
    CliError
        When S3 rejects the object.
    """
    check_upload(model, file)
    wanted = (("target", target), ("task", task), ("schema", schema), ("force", "true" if force else None))
    metadata = {name: value for name, value in wanted if value}
    if file.is_dir():
        return _upload_folder(s3, bucket, model, file, metadata)
    key = incoming_key(model, file.name)
    with file.open("rb") as body:
        version_id = _put(s3, bucket, key, body, metadata)
    return Upload(model, bucket, key, version_id, make_cause_id("upload", bucket, key, version_id))


def _upload_folder(s3: Any, bucket: str, model: str, folder: Path, metadata: dict[str, str]) -> Upload:
    """Upload a folder's files, then a manifest of exactly these; older objects in the prefix are not part of it."""
    prefix = incoming_key(model, f"{folder.resolve().name}/")
    entries = []
    for path in folder_files(folder):
        name = path.relative_to(folder).as_posix()
        with path.open("rb") as body:
            version_id = _put(s3, bucket, prefix + name, body, {})
        url, size = f"s3://{bucket}/{prefix}{name}", path.stat().st_size
        entries.append({"url": url, "mandatory": True, "version_id": version_id, "meta": {"content_length": size}})
    key = f"{prefix}manifest.json"
    version_id = _put(s3, bucket, key, json.dumps({"entries": entries}, indent=2).encode(), metadata)
    return Upload(model, bucket, key, version_id, make_cause_id("upload", bucket, key, version_id))


def _put(s3: Any, bucket: str, key: str, body: IO[bytes] | bytes, metadata: dict[str, str]) -> str:
    """Put an object in one request of any size, so that the event has the version id of the response."""
    try:
        response = s3.put_object(Bucket=bucket, Key=key, Body=body, Metadata=metadata)
    except ClientError as error:
        raise CliError(f"cannot upload to s3://{bucket}/{key}: {error.response['Error']['Message']}") from error
    return str(response["VersionId"])
