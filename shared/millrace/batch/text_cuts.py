"""Cuts of a job's large text files, kept between calls: one call has no time to read files of any size."""

from collections.abc import Callable
from dataclasses import dataclass

from millrace.batch.job import SourceObject
from millrace.batch.object_bytes import stream_bytes
from millrace.data.file_ranges import CutFile, FileHead, cut_text
from millrace.documents import Document
from millrace.errors import ArtifactNotFoundError
from millrace.layout import job_key
from millrace.ports import ObjectStore

_CUTS = "cuts.json"


class UnfinishedCutsError(Exception):
    """The time of a call is over; what was cut is kept, for the next call. ``rows`` are counted so far."""

    def __init__(self, rows: int) -> None:
        super().__init__(rows)
        self.rows = rows


class StoredCuts(Document, frozen=True, kw_only=True, eq=False):
    """Ranges of files so far, by :func:`_name`."""

    files: dict[str, CutFile]


@dataclass(slots=True)
class TextCuts:
    """Cuts text files into parts, and goes on where an earlier call for the job stopped.

    ``is_late`` returns True when no further range may be begun. Each call adds at least one, so that they end.
    """

    job_id: str
    store: ObjectStore
    is_late: Callable[[], bool]
    _files: dict[str, CutFile] | None = None

    def cut(self, source: SourceObject, head: FileHead, target: int) -> CutFile:
        """Cut a file; raises ``UnfinishedCutsError`` when it is late, with everything kept."""
        if self._files is None:
            self._files = self._load()
        name = _name(source)
        before = self._files.get(name)
        if before is not None and before.is_complete:
            return before
        start = before.ranges[-1].end if before else head.start
        found = cut_text(stream_bytes(self.store, source, start), head, target, before=before, is_late=self.is_late)
        self._files[name] = found
        if not found.is_complete:
            body = StoredCuts(files=self._files).write()
            self.store.put(job_key(self.job_id, _CUTS), body, "application/json")
            raise UnfinishedCutsError(sum(one.rows for cut in self._files.values() for one in cut.ranges))
        return found

    def _load(self) -> dict[str, CutFile]:
        try:
            return dict(StoredCuts.read(self.store.get(job_key(self.job_id, _CUTS))).files)
        except ArtifactNotFoundError:
            return {}


def _name(source: SourceObject) -> str:
    """Return the identity of an object's bytes: one that is replaced meanwhile is cut again."""
    return "\n".join((source.key, source.etag, source.version_id or ""))
