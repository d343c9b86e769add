"""Buckets."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What is known about a stored object without reading it."""

    size: int
    version_id: str | None
    last_modified: datetime
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ListedObject:
    """An object as a listing shows it."""

    key: str
    size: int
    last_modified: datetime


@dataclass(frozen=True, slots=True)
class ObjectVersion:
    """One version of an object, or the mark that it was deleted then."""

    key: str
    version_id: str
    size: int
    last_modified: datetime
    is_deleted: bool = False


class ObjectStore(Protocol):
    """One bucket."""

    def get(self, key: str, version_id: str | None = None) -> bytes:
        """Return an object's bytes; raises ``ArtifactNotFoundError`` when there is none."""
        ...

    def get_with_etag(self, key: str) -> tuple[bytes, str]:
        """Return an object's bytes and the ETag they have now; raises ``ArtifactNotFoundError``."""
        ...

    def head(self, key: str, version_id: str | None = None) -> ObjectInfo:
        """Return an object's size and metadata; raises ``ArtifactNotFoundError`` when there is none."""
        ...

    def list(self, prefix: str) -> Iterator[ListedObject]:
        """Yield the objects whose keys begin with ``prefix``, by key."""
        ...

    def list_versions(self, prefix: str) -> Iterator[ObjectVersion]:
        """Yield every version of the objects whose keys begin with ``prefix``; those of one key newest first."""
        ...

    def download(self, key: str, path: Path, version_id: str | None = None) -> None:
        """Write an object to a file, without holding it in memory; raises ``ArtifactNotFoundError``."""
        ...

    def upload_file(self, path: Path, key: str, content_type: str = "application/octet-stream") -> None:
        """Write a file as an object, whole or not at all, without holding it in memory."""
        ...

    def find_version(self, key: str, etag: str) -> str:
        """Return the newest version of an object with that ETag; raises ``ArtifactNotFoundError``."""
        ...

    def put(self, key: str, body: bytes, content_type: str = "application/octet-stream") -> None:
        """Write an object, whole or not at all."""
        ...

    def put_if_unchanged(
        self, key: str, body: bytes, etag: str | None, content_type: str = "application/octet-stream"
    ) -> bool:
        """Write an object only while it still has that ETag, or, with None, while there is none yet.

        Returns False, having written nothing, when somebody else was faster.
        """
        ...

    def copy(self, source_key: str, target_key: str, version_id: str | None = None) -> None:
        """Copy within the bucket; raises ``ArtifactNotFoundError`` when there is no source."""
        ...

    def delete(self, keys: Sequence[str]) -> None:
        """Delete objects; one that is not there is no fault. A versioned bucket keeps them as old versions for a while.

        Raises
        ------
        ServiceUnavailableError
            When some are left; deleting all of them again is right.
        """
        ...
