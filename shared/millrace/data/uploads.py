"""Find the files of an upload: one, or those of a folder whose marker or manifest arrived; each pinned to one version.

A folder is complete with ``_SUCCESS``, the empty file that Spark and Hadoop write last, or with a manifest, a JSON
document as Amazon Redshift's UNLOAD writes it::

    {"entries": [{"url": "s3://bucket/incoming/churn/may/part-0.csv", "mandatory": true,
                  "meta": {"content_length": 5956875}}]}

A ``url`` may also be a name below the manifest's folder, and an entry may name a ``version_id``. Otherwise the version
is the newest that is not newer than the marker: a file that is written again while the folder waits changes nothing,
and the same marker means the same bytes for as long as the bucket keeps them.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from millrace.data.findings import Finding, error, listed, warning
from millrace.data.read import UploadLimits
from millrace.entities import Source
from millrace.errors import ArtifactNotFoundError
from millrace.layout import MAX_FOLDER_FILES, SUCCESS_MARKER, folder_of_marker, is_hidden
from millrace.ports import ObjectStore, ObjectVersion

#: Bytes that a manifest may have.
MAX_MANIFEST_BYTES = 1_000_000

_MISSING_FILE = "upload it, then the marker or manifest again"


@dataclass(frozen=True, slots=True)
class UploadedFile:
    """One file of an upload, as an object version; in a folder, the name has the folders below it."""

    name: str
    key: str
    version_id: str
    size: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {"key": self.key, "version_id": self.version_id, "size": self.size}


@dataclass(frozen=True, slots=True)
class Upload:
    """Files, in the order of their names, and metadata of an upload.

    The metadata is of the file, the marker or the manifest, with names in lower case. Error findings reject the upload.
    """

    files: tuple[UploadedFile, ...] = ()
    folder: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()


NO_UPLOAD = Upload()


class _Meta(BaseModel):
    content_length: int | None = None


class _Entry(BaseModel):
    model_config = ConfigDict(extra="ignore")

    url: str = Field(min_length=1, max_length=2_000)
    mandatory: bool = True
    version_id: str | None = None
    meta: _Meta = _Meta()


class _Manifest(BaseModel):
    model_config = ConfigDict(extra="ignore")

    entries: list[_Entry] = Field(min_length=1, max_length=MAX_FOLDER_FILES)


def find_upload(source: Source, store: ObjectStore, limits: UploadLimits) -> Upload:
    """Find the files of an upload whose file, marker or manifest arrived; its faults are findings."""
    try:
        info = store.head(source.key, source.version_id)
    except ArtifactNotFoundError:
        return Upload(findings=(error("not_found", "the uploaded object is gone"),))
    metadata = {name.lower(): value for name, value in info.metadata.items()}
    folder = folder_of_marker(source.key)
    if folder is None:
        name = source.key.rsplit("/", 1)[-1]
        files: Sequence[UploadedFile] = (UploadedFile(name, source.key, source.version_id, info.size),)
        findings: Sequence[Finding] = ()
    else:
        versions = list(store.list_versions(folder))
        # A head request gives times to the second, a listing may be finer: only listed times compare.
        listed_at = {(version.key, version.version_id): version.last_modified for version in versions}
        arrived_at = listed_at.get((source.key, source.version_id), info.last_modified)
        if source.key.endswith("/" + SUCCESS_MARKER):
            files, findings = _below(folder, versions, arrived_at)
        elif info.size > MAX_MANIFEST_BYTES:
            files, findings = (), [error("manifest", f"the manifest has more than {MAX_MANIFEST_BYTES:,} bytes")]
        else:
            body = store.get(source.key, source.version_id)
            files, findings = _named_by(body, source, folder, versions, arrived_at)
        findings = [*findings, *_unreadable_folders(files)]
    size = sum(file.size for file in files)
    if size > limits.max_bytes:
        findings = [*findings, error("too_large", limits.refusal(f"the upload has {size / 1e6:,.0f} MB"))]
    return Upload(tuple(sorted(files, key=lambda file: file.name)), folder, metadata, tuple(findings))


def download(files: Sequence[UploadedFile], store: ObjectStore, folder: Path) -> list[Path]:
    """Download files into a folder, in order; raises ``ArtifactNotFoundError`` when one is gone."""
    paths = []
    for number, file in enumerate(files):
        path = folder / f"upload-{number:04d}"
        store.download(file.key, path, file.version_id)
        paths.append(path)
    return paths


def _below(
    folder: str, versions: Sequence[ObjectVersion], arrived_at: datetime
) -> tuple[list[UploadedFile], list[Finding]]:
    """Return the files of a folder when its marker arrived; names that begin with ``_`` or ``.`` are no data."""
    visible = [version for version in versions if not is_hidden(version.key.removeprefix(folder))]
    newest = _newest(visible, arrived_at)
    files = [_file(version, folder) for version in newest.values() if not version.is_deleted]
    changed = sorted({version.key.removeprefix(folder) for version in visible if version.last_modified > arrived_at})
    findings = []
    if not files:
        findings.append(error("no_files", f"the folder holds no file beside {SUCCESS_MARKER}: upload its files first"))
    if len(files) > MAX_FOLDER_FILES:
        message = (
            f"the folder holds {len(files):,} files; at most {MAX_FOLDER_FILES:,} are read: write fewer, larger ones"
        )
        findings.append(error("too_many_files", message, None, len(files)))
    if changed:
        message = (
            f"{listed(changed, 5)} changed after the marker was written and count as they were then: upload the marker "
            "again to ingest them as they are now"
        )
        findings.append(warning("changed_file", message, None, len(changed), changed))
    return files, findings


def _named_by(
    body: bytes, source: Source, folder: str, versions: Sequence[ObjectVersion], arrived_at: datetime
) -> tuple[list[UploadedFile], list[Finding]]:
    """Return the files that a manifest names."""
    try:
        manifest = _Manifest.model_validate(json.loads(body))
    except (ValueError, ValidationError):
        form = '{"entries": [{"url": "part-0.csv"}, ...]}'
        message = f"the manifest is invalid; it should be {form}, with 1 to {MAX_FOLDER_FILES} entries"
        return [], [error("manifest", message)]
    newest = _newest(versions, arrived_at)
    exact = {(version.key, version.version_id): version for version in versions if not version.is_deleted}
    files: dict[str, UploadedFile] = {}
    findings: list[Finding] = []
    for entry in manifest.entries:
        key = _key_of(entry.url, source.bucket, folder)
        if key is None:
            message = f"the manifest names {entry.url!r}, which is outside its folder, s3://{source.bucket}/{folder}"
            findings.append(error("manifest", message))
            continue
        found = exact.get((key, entry.version_id)) if entry.version_id else newest.get(key)
        if found is None or found.is_deleted:
            findings.append(_missing_file(entry))
        elif entry.meta.content_length not in (None, found.size):
            message = (
                f"{entry.url!r} has {found.size:,} bytes, and the manifest says {entry.meta.content_length:,}: it was "
                "changed, or not written to its end; upload it again, then the manifest"
            )
            findings.append(error("changed_file", message))
        elif key in files:
            findings.append(error("manifest", f"the manifest names {entry.url!r} twice"))
        else:
            files[key] = _file(found, folder)
    if not files and not findings:
        findings.append(error("no_files", "no file that the manifest names is there"))
    return list(files.values()), findings


def _missing_file(entry: _Entry) -> Finding:
    if entry.mandatory:
        return error("missing_file", f"{entry.url!r}, which the manifest names, is not there: {_MISSING_FILE}")
    return warning("missing_file", f"{entry.url!r}, which the manifest names as optional, is not there")


def _key_of(url: str, bucket: str, folder: str) -> str | None:
    """Return the key of a manifest's entry; None when it is outside the folder."""
    own = f"s3://{bucket}/{folder}"
    name = url.removeprefix(own)
    return None if "://" in name or name.startswith("/") or ".." in name else folder + name


def _newest(versions: Sequence[ObjectVersion], arrived_at: datetime) -> dict[str, ObjectVersion]:
    """Return the version of each key at a time."""
    newest: dict[str, ObjectVersion] = {}
    for version in versions:
        known = newest.get(version.key)
        # Versions of one key come newest first, which also orders those of one second.
        if version.last_modified <= arrived_at and (known is None or version.last_modified > known.last_modified):
            newest[version.key] = version
    return newest


def _file(version: ObjectVersion, folder: str) -> UploadedFile:
    return UploadedFile(version.key.removeprefix(folder), version.key, version.version_id, version.size)


def _unreadable_folders(files: Sequence[UploadedFile]) -> list[Finding]:
    """Reject folders such as ``day=2026-05-01``: the files lack that column, and it would be lost."""
    for file in files:
        for part in file.name.split("/")[:-1]:
            if "=" in part:
                name = part.partition("=")[0]
                message = (
                    f"the folder {part!r} stands for a column that the files lack: write them without partitions, with "
                    f"{name!r} as a column"
                )
                return [error("partitions", message, name)]
    return []
