"""The files of an upload: one, or those of a folder whose marker or manifest arrived; each pinned to one version.

A folder is finished by ``_SUCCESS``, the empty file that Spark and Hadoop write last, or by a manifest, a JSON
document as Amazon Redshift's UNLOAD writes it::

    {"entries": [{"url": "s3://bucket/incoming/churn/may/part-0.csv", "mandatory": true,
                  "meta": {"content_length": 5956875}}]}

A ``url`` may also be a name below the manifest's folder, and an entry may name a ``version_id``. Where it names none,
the version is the newest that is not newer than the marker: a file that is written again while the folder waits for
its turn changes nothing, and the same marker means the same bytes for as long as the bucket keeps them.
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
from millrace.layout import MAX_FOLDER_FILES, SUCCESS_MARKER, folder_of_marker
from millrace.ports import ObjectStore, ObjectVersion

#: Bytes that a manifest may have.
MAX_MANIFEST_BYTES = 1_000_000

_MISSING_FILE = "upload it, then the marker or manifest again"


@dataclass(frozen=True, slots=True)
class UploadedFile:
    """One file of an upload.

    Parameters
    ----------
    name : str
        Its name; in a folder, with the folders below it.
    key, version_id : str
        Exactly which bytes.
    size : int
        In bytes, as they are stored.
    """

    name: str
    key: str
    version_id: str
    size: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {"key": self.key, "version_id": self.version_id, "size": self.size}


@dataclass(frozen=True, slots=True)
class Upload:
    """What arrived.

    Parameters
    ----------
    files : tuple of UploadedFile
        By name, which is the order that their rows have.
    folder : str or None
        Its key, when it is a folder.
    metadata : mapping of str to str
        Of the file, the marker or the manifest; names in lower case.
    findings : tuple of Finding
        Errors say why it cannot be read.
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
    """Find the files of an upload.

    Parameters
    ----------
    source : Source
        The object that arrived: a file, a marker or a manifest.
    store : ObjectStore
        The data bucket.
    limits : Limits
        What they may come to.

    Raises
    ------
    MillraceError
        When the bucket fails; whatever is wrong with the upload is a finding instead.
    """
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
        # An object's own answer tells its time to the second, a listing may be finer: only listed times compare.
        listed_at = {(version.key, version.version_id): version.last_modified for version in versions}
        moment = listed_at.get((source.key, source.version_id), info.last_modified)
        if source.key.endswith("/" + SUCCESS_MARKER):
            files, findings = _below(folder, versions, moment)
        elif info.size > MAX_MANIFEST_BYTES:
            files, findings = (), [error("manifest", f"the manifest has more than {MAX_MANIFEST_BYTES:,} bytes")]
        else:
            body = store.get(source.key, source.version_id)
            files, findings = _named_by(body, source, folder, versions, moment)
        findings = [*findings, *_unreadable_folders(files)]
    size = sum(file.size for file in files)
    if size > limits.max_bytes:
        findings = [*findings, error("too_large", limits.refusal(f"the upload has {size / 1e6:,.0f} MB"))]
    return Upload(tuple(sorted(files, key=lambda file: file.name)), folder, metadata, tuple(findings))


def download(files: Sequence[UploadedFile], store: ObjectStore, folder: Path) -> list[Path]:
    """Fetch files into a folder, in order; raises ``ArtifactNotFoundError`` when one is gone."""
    paths = []
    for number, file in enumerate(files):
        path = folder / f"upload-{number:04d}"
        store.download(file.key, path, file.version_id)
        paths.append(path)
    return paths


def _below(
    folder: str, versions: Sequence[ObjectVersion], moment: datetime
) -> tuple[list[UploadedFile], list[Finding]]:
    """Take what the folder held when its marker arrived; names that begin with ``_`` or ``.`` are no data."""
    visible = [version for version in versions if not _is_hidden(version.key.removeprefix(folder))]
    newest = _newest(visible, moment)
    files = [_file(version, folder) for version in newest.values() if not version.is_deleted]
    changed = sorted({version.key.removeprefix(folder) for version in visible if version.last_modified > moment})
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
            "again to take them in as they are now"
        )
        findings.append(warning("changed_file", message, None, len(changed), changed))
    return files, findings


def _named_by(
    body: bytes, source: Source, folder: str, versions: Sequence[ObjectVersion], moment: datetime
) -> tuple[list[UploadedFile], list[Finding]]:
    """Take what a manifest names."""
    try:
        manifest = _Manifest.model_validate(json.loads(body))
    except (ValueError, ValidationError):
        form = '{"entries": [{"url": "part-0.csv"}, ...]}'
        message = f"the manifest is not as it should be: {form}, with 1 to {MAX_FOLDER_FILES} entries"
        return [], [error("manifest", message)]
    newest = _newest(versions, moment)
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
    """Return the key of what a manifest names; None when it is elsewhere."""
    own = f"s3://{bucket}/{folder}"
    name = url.removeprefix(own)
    return None if "://" in name or name.startswith("/") or ".." in name else folder + name


def _newest(versions: Sequence[ObjectVersion], moment: datetime) -> dict[str, ObjectVersion]:
    """Return the version that each key had at a moment."""
    newest: dict[str, ObjectVersion] = {}
    for version in versions:
        known = newest.get(version.key)
        # Versions of one key come newest first, which also tells those of one second apart.
        if version.last_modified <= moment and (known is None or version.last_modified > known.last_modified):
            newest[version.key] = version
    return newest


def _file(version: ObjectVersion, folder: str) -> UploadedFile:
    return UploadedFile(version.key.removeprefix(folder), version.key, version.version_id, version.size)


def _is_hidden(name: str) -> bool:
    """Tell what Spark, Hive and Athena take for no data either, and the markers and folders themselves."""
    parts = name.split("/")
    return (
        name.endswith("/")
        or not name
        or folder_of_marker(f"x/x/x/{parts[-1]}") is not None
        or any(part.startswith(("_", ".")) for part in parts)
    )


def _unreadable_folders(files: Sequence[UploadedFile]) -> list[Finding]:
    """Refuse folders such as ``day=2026-05-01``: the files lack that column, and it would be lost."""
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
