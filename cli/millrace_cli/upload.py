"""Uploading a table to the drop zone, which is what starts a training run."""

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


def check_upload(model: str, path: Path) -> None:
    """Refuse what can be known to be wrong before anything is sent.

    Raises
    ------
    RefusedError
        For a name no model can have, a file that is missing or empty, a folder without files.
    """
    try:
        validate_model_name(model)
    except InvalidNameError as error:
        raise RefusedError(error.message) from error
    if not path.exists():
        raise RefusedError(f"{path} does not exist", "check the path")
    if path.is_dir():
        _check_folder(path)
    elif not path.is_file():
        raise RefusedError(f"{path} is not a file", "name one CSV, Parquet or JSON Lines file, or a folder of them")
    elif path.stat().st_size == 0:
        raise RefusedError(f"{path} is empty", "a table needs a header and rows")


def folder_files(folder: Path) -> list[Path]:
    """Return a folder's files by name, also from folders below; what begins with ``_`` or ``.`` is no data."""
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(part.startswith(("_", ".")) for part in path.relative_to(folder).parts)
    ]


def _check_folder(folder: Path) -> None:
    files = folder_files(folder)
    if not files:
        raise RefusedError(f"{folder} holds no files", "name a folder of CSV, Parquet or JSON Lines files")
    if len(files) > MAX_FOLDER_FILES:
        raise RefusedError(
            f"{folder} holds {len(files):,} files; at most {MAX_FOLDER_FILES:,} are one dataset",
            "write fewer, larger ones",
        )
    marked = next((path for path in files if path.name in MARKERS), None)
    if marked is not None:
        raise RefusedError(
            f"{marked} has the name of a manifest", "take it out of the folder: one is made for the upload"
        )


def upload_table(
    s3: Any, bucket: str, model: str, file: Path, *, target: str | None = None, task: str | None = None
) -> Upload:
    """Send a table to the drop zone of ``model``: a file, or a folder of files that are one table.

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
    metadata = {name: value for name, value in (("target", target), ("task", task)) if value}
    if file.is_dir():
        return _upload_folder(s3, bucket, model, file, metadata)
    key = incoming_key(model, file.name)
    with file.open("rb") as body:
        version_id = _put(s3, bucket, key, body, metadata)
    return Upload(model, bucket, key, version_id, make_cause_id("upload", bucket, key, version_id))


def _upload_folder(s3: Any, bucket: str, model: str, folder: Path, metadata: dict[str, str]) -> Upload:
    """Send a folder's files, and then the manifest that names exactly these: what lay there before does not count."""
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
    """Write an object in one request, however large, so that the version id in the answer is the one in the event."""
    try:
        answer = s3.put_object(Bucket=bucket, Key=key, Body=body, Metadata=metadata)
    except ClientError as error:
        raise CliError(f"cannot upload to s3://{bucket}/{key}: {error.response['Error']['Message']}") from error
    return str(answer["VersionId"])
