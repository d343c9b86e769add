"""Score one part of a batch job: its rows in order, as arrays, to one file of results, and then a receipt.

Results have a fixed key and the receipt comes after them. So a worker may die at any point, and a part may be scored
twice, even at the same time: what is there in the end is one file with every row once, and its receipt.
"""

import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from msgspec.structs import replace

from millrace.batch.captured_rows import RowCounter
from millrace.batch.explained_rows import RowExplainer
from millrace.batch.job import (
    BatchJob,
    Part,
    PartPointer,
    Piece,
    PredictionSummary,
    Receipt,
    RowError,
    add_summaries,
    load_plan,
)
from millrace.batch.object_bytes import ObjectRange, fetch
from millrace.batch.results import (
    NOT_FINITE,
    Columns,
    ResultColumns,
    ResultFile,
    file_sha256,
    input_columns,
    run_model,
    summarise,
)
from millrace.batch.table_columns import build_typer, check_names
from millrace.data.file_ranges import open_range
from millrace.data.read import DEFAULT_LIMITS, TableReader, UploadLimits, open_table
from millrace.data.typed_batches import BatchTyper, RefusedValue, TypedBatch
from millrace.documents import from_plain
from millrace.errors import ArtifactNotFoundError, InvalidInputError, MillraceError, NoRowsError
from millrace.layout import job_key, receipt_key
from millrace.ports import ObjectStore
from millrace.serving.model import LoadedModel
from millrace.spec.data import ReadSpec

#: Errors of rows that a receipt lists; the others are counted.
MAX_LISTED_ERRORS = 100
#: Reasons that a receipt counts, each by itself.
_MAX_REASONS = 100

_JSON = "application/json"
_CONTENT_TYPES = {"parquet": "application/vnd.apache.parquet", "csv": "text/csv"}

#: Seconds on a clock that only goes forward.
Clock = Callable[[], float]
Item = TypeVar("Item")


def score_planned(
    job: BatchJob,
    pointer: PartPointer,
    loaded: LoadedModel,
    store: ObjectStore,
    *,
    limits: UploadLimits = DEFAULT_LIMITS,
    clock: Clock = time.monotonic,
) -> Receipt:
    """Score the part that a lane points to, unless it has a receipt.

    A part that cannot be read, and never will be, gets a receipt with the fault: scoring it again would not help.
    Raises the store's transient errors.
    """
    try:
        found = Receipt.read(store.get(receipt_key(job.job_id, pointer.part)))
        if not found.fault:
            return found
    except ArtifactNotFoundError:
        pass
    line = store.get_range(job_key(job.job_id, "parts.jsonl"), pointer.start, pointer.end)
    return score_part(job, from_plain(Part, json.loads(line)), loaded, store, limits=limits, clock=clock)


def score_part(
    job: BatchJob,
    part: Part,
    loaded: LoadedModel,
    store: ObjectStore,
    *,
    limits: UploadLimits = DEFAULT_LIMITS,
    clock: Clock = time.monotonic,
) -> Receipt:
    """Score a part, write its results, and then its receipt. See :func:`score_planned`."""
    started = clock()
    plan = load_plan(job.job_id, store)
    with tempfile.TemporaryDirectory(prefix="millrace-") as folder:
        scorer = _PartScorer(
            job, part, loaded, store, limits, ReadSpec.model_validate(plan.reading), plan.several, Path(folder)
        )
        try:
            receipt = scorer.score()
        except MillraceError as fault:
            if fault.retryable:
                raise
            receipt = Receipt(part=part.number, fault=fault.message)
    receipt = replace(receipt, seconds=clock() - started)
    store.put(receipt_key(job.job_id, part.number), receipt.write(indent=False), _JSON)
    return receipt


def result_name(job: BatchJob, number: int) -> str:
    """Return the name of the file with a part's results."""
    return f"part-{number:05d}.{job.format}"


@dataclass(slots=True)
class _RowCounts:
    """Counts of the rows, for the receipt."""

    rows: int = 0
    refused: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    errors: list[RowError] = field(default_factory=list)
    missing: Counter[str] = field(default_factory=Counter)
    summaries: list[PredictionSummary] = field(default_factory=list)


@dataclass(slots=True)
class _PartScorer:
    job: BatchJob
    part: Part
    loaded: LoadedModel
    store: ObjectStore
    limits: UploadLimits
    read: ReadSpec
    several: bool  # results name the file of each row
    folder: Path
    _counts: _RowCounts = field(default_factory=_RowCounts)
    _explainer: RowExplainer | None = None
    _counter: RowCounter | None = None

    def score(self) -> Receipt:
        columns = ResultColumns.of(self.job, self.loaded)
        self._explainer = RowExplainer.of(self.loaded) if self.job.explain else None
        self._counter = RowCounter.of(self.job, self.loaded)
        typer = build_typer(self.loaded.schema)
        path, key = self.folder / "results", self.job.destination + result_name(self.job, self.part.number)
        with ResultFile(path, self.job.format) as results:
            for piece in self.part.pieces:
                row = piece.first_row
                for batch in self._batches(piece, typer):
                    results.write(self._score_batch(batch, piece, row, columns))
                    row += batch.n_rows
                if piece.rows is not None and row - piece.first_row != piece.rows:
                    raise InvalidInputError(
                        f"{piece.source.key}: from row {piece.first_row:,} on {row - piece.first_row:,} rows were read "
                        f"where {piece.rows:,} were counted: upload the file again, and score it anew"
                    )
        counts = self._counts
        size = 0
        if counts.rows:
            size = path.stat().st_size
            self.store.upload_file(path, key, _CONTENT_TYPES[self.job.format])
        return Receipt(
            part=self.part.number,
            rows=counts.rows,
            refused=counts.refused,
            key=key if counts.rows else "",
            sha256=file_sha256(path) if counts.rows else "",
            size=size,
            predictions=add_summaries(counts.summaries),
            refused_by_reason=dict(counts.reasons.most_common(_MAX_REASONS)),
            errors=tuple(counts.errors),
            missing=dict(counts.missing),
            captured=None if self._counter is None else self._counter.counts,
        )

    def _batches(self, piece: Piece, typer: BatchTyper) -> Iterator[TypedBatch]:
        """Yield a piece's rows; the next batch is read and typed while one is scored."""
        path = self.folder / "piece"
        try:
            reader = self._open(piece, path)
            check_names(reader.names, self.loaded.schema)
            yield from _ahead(typer.batches(reader))
        except NoRowsError:
            return
        except MillraceError as fault:
            fault.message = f"{piece.source.key}: {fault.message}"
            raise
        finally:
            path.unlink(missing_ok=True)

    def _open(self, piece: Piece, path: Path) -> TableReader:
        if piece.end is not None and piece.groups is None:
            place = (self.store, piece.source, piece.start, piece.end)
            return open_range(
                lambda: ObjectRange(*place), piece.format, self.read, self.limits, delimited=piece.delimited
            )
        fetch(self.store, piece, path)
        if piece.end is None:
            return open_table(path, piece.source.key.rpartition("/")[2], self.read, self.limits)
        return open_range(path, piece.format, self.read, self.limits, groups=piece.groups)

    def _score_batch(self, batch: TypedBatch, piece: Piece, row: int, make: ResultColumns) -> Columns:
        outputs = run_model(self.loaded, batch.columns, len(batch.places))
        index = np.full(batch.n_rows, -1, dtype=np.int64)
        index[batch.places] = np.arange(len(batch.places))
        refused = list(batch.refused)
        for fault in refused:
            index[fault.place] = -1
        finite = outputs.finite
        if not finite.all():
            for place in batch.places[~finite].tolist():
                if index[place] >= 0:
                    refused.append(RefusedValue(place, NOT_FINITE))
                    index[place] = -1
        errors = self._count(batch, piece, row, refused)
        self._counts.summaries.append(summarise(self.loaded, outputs, index))
        if self._counter is not None:
            self._counter.add(batch, batch.batch.names, outputs.values, index)
        results = make.build(outputs, index)
        if self._explainer is not None:
            results |= self._explainer.explain(batch.columns, outputs.values, index)
        return self._framed(batch, piece, row, results, errors)

    def _count(self, batch: TypedBatch, piece: Piece, row: int, refused: list[RefusedValue]) -> pa.Array:
        """Count refused rows; return the first reason of each."""
        counts = self._counts
        counts.rows += batch.n_rows
        counts.missing.update(batch.missing)
        if not refused:
            return pa.nulls(batch.n_rows, pa.string())
        first: dict[int, str] = {}
        for fault in sorted(refused, key=lambda fault: fault.place):
            reason = fault.reason if fault.column is None else f"{fault.column}: {fault.reason}"
            if fault.place not in first:
                first[fault.place] = reason
                counts.reasons[
                    reason if reason in counts.reasons or len(counts.reasons) < _MAX_REASONS else "other"
                ] += 1
            if len(counts.errors) < MAX_LISTED_ERRORS:
                file = piece.source.key if self.several else None
                counts.errors.append(
                    RowError(row=row + fault.place, reason=fault.reason, column=fault.column, file=file)
                )
        counts.refused += len(first)
        errors = np.full(batch.n_rows, None, dtype=object)
        errors[list(first)] = list(first.values())
        return pa.array(errors, type=pa.string())

    def _framed(self, batch: TypedBatch, piece: Piece, row: int, results: Columns, errors: pa.Array) -> Columns:
        """Return results with what names each row before them, and errors and inputs after."""
        before: Columns = {}
        if self.several:
            zeros = pa.array(np.zeros(batch.n_rows, dtype=np.int32))
            before["file"] = pa.DictionaryArray.from_arrays(zeros, pa.array([piece.source.key]))
        before["row"] = pa.array(np.arange(row, row + batch.n_rows, dtype=np.int64))
        own = {*before, *results, "error"}
        inputs: Columns = {}
        if self.job.join:
            inputs = input_columns(batch)
        elif self.loaded.schema.identifier is not None:
            inputs = {self.loaded.schema.identifier.name: self._identifiers(batch)}
        inputs = {f"input_{name}" if name in own else name: values for name, values in inputs.items()}
        if self.job.join:
            return before | results | {"error": errors} | inputs
        return before | inputs | results | {"error": errors}

    def _identifiers(self, batch: TypedBatch) -> pa.Array:
        if batch.identifiers is None:
            return pa.nulls(batch.n_rows, pa.string())
        if batch.is_complete:
            return batch.identifiers.cast(pa.string())
        index: npt.NDArray[np.int64] = np.full(batch.n_rows, -1, dtype=np.int64)
        index[batch.places] = np.arange(len(batch.places))
        return batch.identifiers.cast(pa.string()).take(pa.array(index, mask=index < 0))


def _ahead(calls: Iterator[Callable[[], Item]]) -> Iterator[Item]:
    """Make calls in order on one thread, each while the result of the one before is used."""
    with ThreadPoolExecutor(1) as pool:

        def next_result() -> tuple[Item] | None:
            call = next(calls, None)
            return None if call is None else (call(),)

        waiting = pool.submit(next_result)
        while (found := waiting.result()) is not None:
            waiting = pool.submit(next_result)
            yield found[0]
