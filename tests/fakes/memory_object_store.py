"""A versioned bucket in memory."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from millrace.errors import ArtifactNotFoundError, ConflictError
from millrace.ports import ListedObject, ObjectInfo, ObjectVersion

WRITTEN_AT = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class StoredObject:
    version_id: str
    body: bytes
    content_type: str
    metadata: Mapping[str, str]
    last_modified: datetime
    is_deleted: bool = False


class MemoryObjectStore:
    """Implements :class:`millrace.ports.ObjectStore`; keeps every version, as a versioned bucket does."""

    def __init__(self, bucket_name: str = "bucket") -> None:
        self.bucket_name = bucket_name
        self._objects: dict[str, list[StoredObject]] = {}

    def upload(
        self, key: str, body: bytes, metadata: Mapping[str, str] | None = None, last_modified: datetime = WRITTEN_AT
    ) -> str:
        """Put an object as a user would, with metadata; returns its version id."""
        versions = self._objects.setdefault(key, [])
        version_id = f"v{len(versions) + 1}"
        versions.append(StoredObject(version_id, body, "text/csv", dict(metadata or {}), last_modified))
        return version_id

    def keys(self, prefix: str = "") -> list[str]:
        """Every key below ``prefix`` whose object is not deleted, sorted."""
        return [key for key in self._every_key(prefix) if not self._objects[key][-1].is_deleted]

    def get(self, key: str, version_id: str | None = None) -> bytes:
        return self._find(key, version_id).body

    def get_with_etag(self, key: str) -> tuple[bytes, str]:
        body = self.get(key)
        return body, _etag(body)

    def get_range(self, key: str, start: int, end: int, *, etag: str = "", version_id: str | None = None) -> bytes:
        body = self._find(key, version_id).body
        if etag and etag.strip('"') != _etag(body):
            raise ConflictError(f"the object {key!r} was replaced since it was listed")
        return body[start:end]

    def head(self, key: str, version_id: str | None = None) -> ObjectInfo:
        found = self._find(key, version_id)
        return ObjectInfo(len(found.body), found.version_id, found.last_modified, found.metadata, _etag(found.body))

    def list(self, prefix: str) -> Iterator[ListedObject]:
        for key in self.keys(prefix):
            stored = self._find(key, None)
            yield ListedObject(key, len(stored.body), stored.last_modified, _etag(stored.body))

    def list_versions(self, prefix: str) -> Iterator[ObjectVersion]:
        for key in self._every_key(prefix):
            for stored in reversed(self._objects[key]):
                yield ObjectVersion(
                    key, stored.version_id, len(stored.body), stored.last_modified, is_deleted=stored.is_deleted
                )

    def download(self, key: str, path: Path, version_id: str | None = None) -> None:
        path.write_bytes(self.get(key, version_id))

    def upload_file(self, path: Path, key: str, content_type: str = "application/octet-stream") -> None:
        self.put(key, path.read_bytes(), content_type)

    def find_version(self, key: str, etag: str) -> str:
        for stored in reversed(self._objects.get(key, [])):
            if _etag(stored.body) == etag.strip('"'):
                return stored.version_id
        raise ArtifactNotFoundError(f"no version of {key!r} in {self.bucket_name!r} has the ETag {etag}")

    def content_type(self, key: str) -> str:
        """What an object's newest version was stored as."""
        return self._find(key, None).content_type

    def put(self, key: str, body: bytes, content_type: str = "application/octet-stream") -> None:
        versions = self._objects.setdefault(key, [])
        versions.append(StoredObject(f"v{len(versions) + 1}", bytes(body), content_type, {}, WRITTEN_AT))

    def put_if_unchanged(
        self, key: str, body: bytes, etag: str | None, content_type: str = "application/octet-stream"
    ) -> bool:
        present = _etag(self.get(key)) if key in self._objects else None
        if present != etag:
            return False
        self.put(key, body, content_type)
        return True

    def sign_read(self, key: str) -> str:
        return f"memory://{self.bucket_name}/{key}"

    def sign_write(self, key: str) -> str:
        return f"memory://{self.bucket_name}/{key}"

    def copy(self, source_key: str, target_key: str, version_id: str | None = None) -> None:
        found = self._find(source_key, version_id)
        versions = self._objects.setdefault(target_key, [])
        versions.append(
            StoredObject(f"v{len(versions) + 1}", found.body, found.content_type, found.metadata, WRITTEN_AT)
        )

    def delete(self, keys: Sequence[str], last_modified: datetime = WRITTEN_AT) -> None:
        """Mark objects as deleted, as a versioned bucket does."""
        for key in keys:
            if versions := self._objects.get(key):
                versions.append(StoredObject(f"v{len(versions) + 1}", b"", "", {}, last_modified, is_deleted=True))

    def _every_key(self, prefix: str) -> Sequence[str]:
        return sorted(key for key in self._objects if key.startswith(prefix))

    def _find(self, key: str, version_id: str | None) -> StoredObject:
        for stored in reversed(self._objects.get(key, [])):
            if version_id in (None, stored.version_id):
                if stored.is_deleted:
                    break
                return stored
        raise ArtifactNotFoundError(f"there is no object {key!r} in {self.bucket_name!r}")


def _etag(body: bytes) -> str:
    return hashlib.md5(body, usedforsecurity=False).hexdigest()
