"""Plan a batch job: find its objects, see that they can be scored, and cut them into parts.

The plan is written once, before anything is scored, so that a part is the same whenever it is scored again.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from io import BytesIO

from millrace.batch.captured_rows import describe_obstacle
from millrace.batch.explained_rows import check_explained_parts, most_explained_rows
from millrace.batch.job import (
    MAX_LANE_PARTS,
    BatchJob,
    Part,
    PartPointer,
    Piece,
    Plan,
    SourceObject,
    check_destination,
    load_plan,
)
from millrace.batch.object_bytes import get_bytes
from millrace.batch.table_columns import check_names
from millrace.batch.text_cuts import TextCuts
from millrace.data.file_ranges import (
    HEAD_BYTES,
    CutFile,
    FileHead,
    cut_parquet,
    read_footer,
    read_head,
)
from millrace.data.read import DEFAULT_LIMITS, UploadLimits
from millrace.documents import dump, to_plain
from millrace.errors import ArtifactNotFoundError, InvalidInputError, MillraceError, NoRowsError, PayloadTooLargeError
from millrace.layout import is_hidden, job_key
from millrace.ports import ObjectStore
from millrace.schema import TableSchema
from millrace.serving.intervals import find_bounds
from millrace.serving.model import LoadedModel
from millrace.spec.data import ReadSpec

#: Bytes of a part. A smaller file is one piece; several are scored together.
PART_BYTES = 64 << 20
#: Files of a part: each takes a request.
MAX_PART_FILES = 500
#: Bytes, unpacked, of a file that is scored in one call.
MAX_WHOLE_BYTES = 1_000_000_000
#: Small files of which so few are read already by the planner, which counts their rows. Of more, only the first ones
#: are, for their columns; the others are checked when they are scored.
MAX_KNOWN_FILES, CHECKED_FILES = 20, 3

_JSON = "application/json"


def plan_job(
    job: BatchJob,
    loaded: LoadedModel,
    read: ReadSpec,
    store: ObjectStore,
    *,
    lanes: int,
    limits: UploadLimits = DEFAULT_LIMITS,
    is_late: Callable[[], bool] = lambda: False,
) -> Plan:
    """Plan a job and write its plan; a job that has one keeps it, so that only what is missing is scored again.

    Parameters
    ----------
    loaded : LoadedModel
        The job's version.
    read : ReadSpec
        How the model's spec has files read.
    store : ObjectStore
        The data bucket.
    lanes : int
        Parts that are scored at the same time.
    limits : UploadLimits
        Of a file that is scored in one call, and of what a range of one unpacks to.
    is_late : callable
        Returns True when large text files are to be cut on by another call.

    Raises
    ------
    UnfinishedCutsError
        When it is late: what was cut is kept.
    InvalidInputError
        When a file is no table, lacks a column, or the results would lie among the sources.
    PayloadTooLargeError
        When the job is too large, a file has more rows than it may explain, or one that cannot be cut is.
    """
    try:
        return load_plan(job.job_id, store)
    except ArtifactNotFoundError:
        pass
    plan, parts = plan_parts(job, loaded, read, store, lanes=lanes, limits=limits, is_late=is_late)
    pointers, lines, position = [], [], 0
    for part in parts:
        line = dump(to_plain(part)) + b"\n"
        lines.append(line)
        pointers.append(PartPointer(part=part.number, start=position, end=position + len(line)))
        position += len(line)
    items = [{"lane": lane, "parts": pointers[lane :: plan.lanes]} for lane in range(plan.lanes)]
    store.put(job_key(job.job_id, "parts.jsonl"), b"".join(lines), _JSON)
    store.put(job_key(job.job_id, "lanes.json"), dump(to_plain(items)), _JSON)
    store.put(job_key(job.job_id, "plan.json"), plan.write(), _JSON)
    return plan


def plan_parts(
    job: BatchJob,
    loaded: LoadedModel,
    read: ReadSpec,
    store: ObjectStore,
    *,
    lanes: int,
    limits: UploadLimits = DEFAULT_LIMITS,
    is_late: Callable[[], bool] = lambda: False,
) -> tuple[Plan, list[Part]]:
    """Cut a job's objects into parts; writes no plan. See :func:`plan_job`."""
    check_destination(job)
    if job.interval is not None:
        find_bounds(loaded, job.interval)
    most_rows = most_explained_rows(loaded) if job.explain else None
    sources = list(_sources(job, store))
    if not sources:
        raise InvalidInputError(f"there is no file below {job.folder!r}: upload files first")
    planner = _Planner(job, loaded.schema, read, store, limits, most_rows, TextCuts(job.job_id, store, is_late))
    for place, source in enumerate(sources):
        planner.add(source, known=len(sources) <= MAX_KNOWN_FILES or place < CHECKED_FILES)
    parts = planner.finish()
    if not parts:
        raise NoRowsError("every file is empty: upload files with rows")
    n_lanes = max(1, min(lanes, len(parts)))
    if len(parts) > n_lanes * MAX_LANE_PARTS:
        raise PayloadTooLargeError(
            f"the job has {len(parts):,} parts, and {n_lanes:,} lanes take {n_lanes * MAX_LANE_PARTS:,}: score it as "
            "several jobs, or raise the stack's ScoringConcurrency"
        )
    if job.explain:
        check_explained_parts(parts, loaded, MAX_KNOWN_FILES)
    obstacle = describe_obstacle(loaded) if job.capture != "none" else ""
    warnings = [*planner.warnings, *([obstacle] if obstacle else [])]
    rows = [part.rows for part in parts]
    plan = Plan(
        job_id=job.job_id,
        parts=len(parts),
        lanes=n_lanes,
        objects=len(sources),
        size=sum(source.size for source in sources),
        rows=None if None in rows else sum(count for count in rows if count is not None),
        reading=read.model_dump(mode="json", exclude_unset=True),
        several=len(sources) > 1,
        warnings=tuple(warnings),
    )
    return plan, parts


def _sources(job: BatchJob, store: ObjectStore) -> Iterator[SourceObject]:
    if job.folder is None:
        yield from job.sources
        return
    for found in store.list(job.folder):
        if not is_hidden(found.key.removeprefix(job.folder)):
            yield SourceObject(key=found.key, size=found.size, etag=found.etag)


@dataclass(slots=True)
class _Planner:
    """Collects the parts of a job, object after object."""

    job: BatchJob
    schema: TableSchema
    read: ReadSpec
    store: ObjectStore
    limits: UploadLimits
    most_rows: int | None  # of small files that share a part
    text_cuts: TextCuts
    parts: list[Part] = field(default_factory=list)
    warnings: dict[str, None] = field(default_factory=dict)
    _waiting: list[Piece] = field(default_factory=list)
    _waiting_bytes: int = 0
    _waiting_rows: int = 0

    def add(self, source: SourceObject, *, known: bool) -> None:
        """Cut an object; a small one waits for others to share a part with, and is read now only to be ``known``."""
        small = source.size <= PART_BYTES
        pieces: list[Piece] = []
        if small and not known:
            pieces = [Piece(source=source, format="delimited")] if source.size else []
        else:
            with _Naming(source.key), suppress(NoRowsError):
                pieces = self._cut(source)
        if not small:
            self._flush()
            for piece in pieces:
                self._append((piece,))
            return
        rows = sum(piece.rows or 0 for piece in pieces)
        if self.most_rows is not None and self._waiting_rows + rows > self.most_rows:
            self._flush()
        self._waiting.extend(pieces)
        self._waiting_rows += rows
        self._waiting_bytes += source.size
        if self._waiting_bytes >= PART_BYTES or len(self._waiting) >= MAX_PART_FILES:
            self._flush()

    def finish(self) -> list[Part]:
        """Return the parts."""
        self._flush()
        return self.parts

    def _flush(self) -> None:
        if self._waiting:
            self._append(tuple(self._waiting))
            self._waiting.clear()
            self._waiting_bytes = self._waiting_rows = 0

    def _append(self, pieces: tuple[Piece, ...]) -> None:
        self.parts.append(Part(number=len(self.parts), pieces=pieces))

    def _cut(self, source: SourceObject) -> list[Piece]:
        head = self._head(source)
        if head.compressed:
            return [self._whole(source, head, "it is gzipped", head.ratio)]
        if head.format == "parquet":
            names, cut = self._parquet(source)
            self._check_names(names)
        else:
            self._check_names(head.names)
            cut = CutFile(reason="it is not written in UTF-8")
            if head.is_utf8:
                cut = self.text_cuts.cut(source, head, PART_BYTES)
        if cut.reason:
            return [self._whole(source, head, cut.reason)]
        return list(_pieces(source, head, cut))

    def _parquet(self, source: SourceObject) -> tuple[tuple[str, ...], CutFile]:
        def tail(count: int) -> bytes:
            return get_bytes(self.store, source, max(0, source.size - count), source.size)

        footer = read_footer(tail)
        return cut_parquet(BytesIO(b"PAR1" + footer), source.size, PART_BYTES)

    def _whole(self, source: SourceObject, head: FileHead, reason: str, ratio: float = 1.0) -> Piece:
        """Return an object as one piece, if one call can score it."""
        size, most = source.size * ratio, min(MAX_WHOLE_BYTES, self.limits.max_bytes)
        about = f", about {size / 1e6:,.0f} MB unpacked" if head.compressed else f", {size / 1e6:,.0f} MB"
        if size > most:
            raise PayloadTooLargeError(
                f"{reason}, so that it would be scored in one call{about}, and at most {most / 1e6:,.0f} MB are: write "
                "it as CSV in UTF-8 whose values with quotes are quoted, as Parquet, or as several files"
            )
        if source.size > PART_BYTES:
            self.warnings[f"{source.key} is scored as one part: {reason}"] = None
        return Piece(source=source, format=head.format)

    def _head(self, source: SourceObject) -> FileHead:
        head = get_bytes(self.store, source, 0, min(HEAD_BYTES, source.size))
        return read_head(head, source.size, source.key.rpartition("/")[2], self.read)

    def _check_names(self, names: Sequence[str]) -> None:
        self.warnings.update(dict.fromkeys(check_names(names, self.schema)))


def _pieces(source: SourceObject, head: FileHead, cut: CutFile) -> Iterator[Piece]:
    delimited = None if head.delimited is None else to_plain(replace(head.delimited, regular=cut.regular))
    row = 1
    for one in cut.ranges:
        yield Piece(
            source=source,
            format=head.format,
            start=one.start,
            end=one.end,
            first_row=row,
            rows=one.rows,
            groups=one.groups,
            delimited=delimited,
        )
        row += one.rows


@dataclass(frozen=True, slots=True)
class _Naming:
    """Names the object in errors about it."""

    key: str

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, fault: BaseException | None, trace: object) -> None:
        if isinstance(fault, MillraceError) and not fault.retryable:
            fault.message = f"{self.key}: {fault.message}"
            fault.args = (fault.message,)
