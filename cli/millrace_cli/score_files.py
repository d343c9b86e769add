"""Files of batch jobs: their upload below ``score/``, and the download and copy of results, with progress."""

import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from millrace.layout import SCORE_PREFIX, SUCCESS_MARKER
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from millrace_cli.errors import CliError, RefusedError
from millrace_cli.upload import folder_files

#: Characters that the names of objects to score may not have; see :func:`millrace.triggers.trigger_events`.
_UNREADABLE = re.compile(r"[\s\\\x00-\x1f\x7f]|\.\.")
_FOLDER_CHARACTERS = re.compile(r"[^A-Za-z0-9_-]+")
_S3_URL = re.compile(r"s3://([^/]+)/(.*)\Z", re.S)
#: Of a path, in the name of the folder that is made for it.
_MAX_STEM = 40


def check_source(source: str) -> Path | None:
    """Return the path of a local source, None for ``s3://``; raises ``RefusedError`` when there is nothing to score."""
    if source.startswith("s3://"):
        split_url(source)
        return None
    path = Path(source)
    if not path.exists():
        raise RefusedError(f"{path} does not exist", "check the path, or name s3://bucket/key")
    files = folder_files(path) if path.is_dir() else [path]
    if not files:
        raise RefusedError(f"{path} has no files", "name a folder of CSV, Parquet or JSON Lines files")
    if not any(file.stat().st_size for file in files):
        raise RefusedError(f"{path} is empty", "score a table with a header and rows")
    return path


def split_url(url: str) -> tuple[str, str]:
    """Return bucket and key of ``s3://bucket/key``; raises ``RefusedError``."""
    found = _S3_URL.match(url)
    if found is None:
        raise RefusedError(f"{url} is no address in S3", "write s3://bucket/key, or s3://bucket/folder/")
    return found[1], found[2]


def put_source(s3: Any, bucket: str, model: str, source: str, console: Console) -> str:
    """Put what is to be scored into the data bucket, unless it is there; return the key of the file or folder.

    An object of another bucket is copied by S3 itself, with the caller's rights. Files get a folder of their own: files
    in folders wait for the request that names them, so the upload alone starts nothing.
    """
    path = check_source(source)
    if path is None:
        return _copy_source(s3, bucket, model, source, console)
    folder = _new_folder(model, path.stem)
    if path.is_file():
        key = folder + _readable(path.name)
        _send([(path, key)], s3, bucket, console)
        return key
    names = [(file, folder + _readable(file.relative_to(path).as_posix())) for file in folder_files(path)]
    _send([(file, key) for file, key in names if file.stat().st_size], s3, bucket, console)
    return folder


def _new_folder(model: str, stem: str) -> str:
    name = _FOLDER_CHARACTERS.sub("-", stem).strip("-_")[:_MAX_STEM] or "files"
    return f"{SCORE_PREFIX}{model}/{name}-{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}/"


def _readable(name: str) -> str:
    return _UNREADABLE.sub("-", name)


def _send(files: Sequence[tuple[Path, str]], s3: Any, bucket: str, console: Console) -> None:
    """Upload files, large ones in parts."""
    with _progress(console, "uploading", sum(path.stat().st_size for path, _ in files)) as advance:
        for path, key in files:
            with _explained(f"cannot upload to s3://{bucket}/{key}"):
                s3.upload_file(str(path), bucket, key, Callback=advance)


def _copy_source(s3: Any, bucket: str, model: str, source: str, console: Console) -> str:
    origin, key = split_url(source)
    if origin == bucket and key.startswith(f"{SCORE_PREFIX}{model}/"):
        return key
    objects = list(_list(s3, origin, key))
    if not objects:
        raise RefusedError(f"there is nothing at {source} that may be read", "check the key and your permissions")
    is_folder = key.endswith("/") or not key
    if not is_folder and [name for name, _ in objects] != [key]:
        objects = [(name, size) for name, size in objects if name == key]
        if not objects:
            raise RefusedError(f"{source} is no object", f"to score a folder, end it with a slash: {source}/")
    base = key if is_folder else key.rpartition("/")[0] + "/" if "/" in key else ""
    folder = _new_folder(model, Path(key.rstrip("/") or origin).stem)
    copies = [(name, folder + _readable(name.removeprefix(base)), size) for name, size in objects if size]
    copy_objects(s3, origin, bucket, copies, console)
    return folder if is_folder else copies[0][1]


def _list(s3: Any, bucket: str, prefix: str) -> Iterator[tuple[str, int]]:
    with _explained(f"cannot list s3://{bucket}/{prefix}"):
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            yield from ((found["Key"], found["Size"]) for found in page.get("Contents", []))


def copy_objects(s3: Any, origin: str, bucket: str, copies: Iterable[tuple[str, str, int]], console: Console) -> None:
    """Copy objects between buckets, by S3 itself; each is a key, its new key and its size."""
    every = list(copies)
    with _progress(console, "copying", sum(size for _, _, size in every)) as advance:
        for key, new_key, _ in every:
            with _explained(f"cannot copy s3://{origin}/{key} to s3://{bucket}/{new_key}"):
                s3.copy({"Bucket": origin, "Key": key}, bucket, new_key, Callback=advance)


def _results(s3: Any, bucket: str, destination: str) -> list[tuple[str, int]]:
    """Return the objects of a job's results; ``_SUCCESS``, which says that they are complete, last."""
    return sorted(_list(s3, bucket, destination), key=lambda found: (found[0].endswith(SUCCESS_MARKER), found[0]))


def download_results(s3: Any, bucket: str, destination: str, folder: Path, console: Console) -> int:
    """Download the results of a job into a folder; return the number of files."""
    found = _results(s3, bucket, destination)
    folder.mkdir(parents=True, exist_ok=True)
    with _progress(console, "downloading", sum(size for _, size in found)) as advance:
        for key, _ in found:
            path = folder / key.removeprefix(destination)
            with _explained(f"cannot download s3://{bucket}/{key}"):
                s3.download_file(bucket, key, str(path), Callback=advance)
    return len(found)


def copy_results(s3: Any, bucket: str, destination: str, target: str, console: Console) -> int:
    """Copy the results of a job to ``s3://bucket/prefix``, with the caller's rights; return the number of objects."""
    to_bucket, folder = split_url(target)
    prefix = folder if not folder or folder.endswith("/") else f"{folder}/"
    objects = _results(s3, bucket, destination)
    copies = [(key, prefix + key.removeprefix(destination), size) for key, size in objects]
    copy_objects(s3, bucket, to_bucket, copies, console)
    return len(copies)


def check_target(target: str | None, bucket: str) -> None:
    """Raise ``RefusedError`` when results cannot be copied there."""
    if target is None:
        return
    to_bucket, folder = split_url(target)
    if to_bucket == bucket and folder.startswith(SCORE_PREFIX):
        raise RefusedError(
            f"{target} lies among the files to score: results there would be scored in turn",
            "choose another folder, or leave --to out",
        )


@contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except ClientError as error:
        raise CliError(f"{what}: {error.response['Error'].get('Message', error)}", "check your permissions") from error
    except (BotoCoreError, OSError) as error:
        raise CliError(f"{what}: {error}") from error


@contextmanager
def _progress(console: Console, what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show bytes while they move; yields what advances them."""
    columns = (TextColumn(what), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda amount: progress.advance(task, amount)
