"""A bucket as a folder: what a batch job needs of one."""

import hashlib
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from millrace.errors import ArtifactNotFoundError
from millrace.ports import ListedObject, ObjectInfo

_BEGUN = datetime(2026, 1, 1, tzinfo=UTC)


class FolderStore:
    """Implements the reads and writes of :class:`millrace.ports.ObjectStore`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, key: str, version_id: str | None = None) -> bytes:  # noqa: ARG002 - there is one version
        """Return an object's bytes."""
        try:
            return (self._folder / key).read_bytes()
        except FileNotFoundError as error:
            raise ArtifactNotFoundError(key) from error

    def get_range(self, key: str, start: int, end: int, *, etag: str = "", version_id: str | None = None) -> bytes:  # noqa: ARG002 - nothing is replaced
        """Return some of an object's bytes."""
        with (self._folder / key).open("rb") as file:
            file.seek(start)
            return file.read(end - start)

    def head(self, key: str, version_id: str | None = None) -> ObjectInfo:  # noqa: ARG002 - there is one version
        """Return an object's size."""
        etag = hashlib.md5(key.encode(), usedforsecurity=False).hexdigest()
        return ObjectInfo((self._folder / key).stat().st_size, None, _BEGUN, {}, etag)

    def list(self, prefix: str) -> Iterator[ListedObject]:
        """Yield the objects below a folder."""
        for path in sorted((self._folder / prefix).rglob("*")):
            if path.is_file():
                yield ListedObject(str(path.relative_to(self._folder)), path.stat().st_size, _BEGUN)

    def put(self, key: str, body: bytes, content_type: str = "") -> None:  # noqa: ARG002 - a file has none
        """Write an object."""
        path = self._folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)

    def upload_file(self, path: Path, key: str, content_type: str = "") -> None:  # noqa: ARG002 - a file has none
        """Write a file as an object."""
        target = self._folder / key
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
