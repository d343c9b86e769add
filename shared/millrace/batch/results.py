"""Results of a batch job: predictions of a block of rows as columns, and the files that they are written to.

Every row has a place in the results, in the order of its file. A refused row has nulls, and its first reason as
``error``.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from millrace.batch.job import BatchJob, PredictionSummary
from millrace.data.typed_batches import TypedBatch
from millrace.errors import InvalidInputError
from millrace.features import build_features
from millrace.serving.intervals import Bounds, find_bounds
from millrace.serving.model import LoadedModel
from millrace.serving.scoring import decide_classes, most_probable, score_block

Columns = dict[str, pa.Array]

#: Rows, and numbers of their matrix, that a model gets at once.
BLOCK_ROWS, _BLOCK_NUMBERS = 16_384, 8_000_000
#: Distinct labels that a summary counts.
_COUNTED_LABELS = 1_000

NOT_FINITE = "the model's output is not a finite number"
_CSV_OPTIONS = pa_csv.WriteOptions(include_header=False)


@dataclass(frozen=True, slots=True)
class Outputs:
    """Outputs of a model for some rows: probabilities of shape (n_rows, n_classes), or values of shape (n_rows,)."""

    values: npt.NDArray[Any]

    @property
    def finite(self) -> npt.NDArray[np.bool_]:
        """Mask of the rows with a prediction."""
        finite = np.isfinite(self.values)
        return np.asarray(finite if finite.ndim == 1 else finite.all(axis=1))


def run_model(loaded: LoadedModel, columns: Mapping[str, npt.NDArray[Any]], n_rows: int) -> Outputs:
    """Score typed columns as arrays, some rows at a time: the numbers are those of requests for the same rows.

    They do not depend on the blocks that rows come in. One row alone is scored twice: ONNX Runtime multiplies a vector
    otherwise than a matrix, which may change the last bit of a linear model's output.
    """
    schema = loaded.schema
    width = max(1, len(schema.number_names))
    size = max(1_024, min(BLOCK_ROWS, _BLOCK_NUMBERS // width))
    found = []
    for start in range(0, n_rows, size):
        stop = min(start + size, n_rows)
        rows = [start, start] if stop - start == 1 else slice(start, stop)
        block = {name: values[rows] for name, values in columns.items()}
        features = build_features(schema, block, max(2, stop - start), texts=object)
        found.append(score_block(loaded, features)[: stop - start])
    if not found:
        return Outputs(np.empty((0, len(schema.classes)) if schema.classes else 0, dtype=np.float32))
    return Outputs(found[0] if len(found) == 1 else np.concatenate(found))


@dataclass(frozen=True, slots=True)
class ResultColumns:
    """Makes the columns of results from a model's outputs."""

    loaded: LoadedModel
    bounds: Bounds | None

    @classmethod
    def of(cls, job: BatchJob, loaded: LoadedModel) -> Self:
        """Return those of a job; ``InvalidInputError`` when the version has no intervals of its level."""
        return cls(loaded, None if job.interval is None else find_bounds(loaded, job.interval))

    def build(self, outputs: Outputs, index: npt.NDArray[np.int64]) -> Columns:
        """Return columns; ``index`` has the output of each row, -1 for a row without one."""
        values, gone = outputs.values, index < 0
        mask = None
        if gone.any():
            some = len(values) > 0
            values = values[np.maximum(index, 0)] if some else np.zeros((len(index), *values.shape[1:]), values.dtype)
            mask = gone
        if not self.loaded.schema.classes:
            return self._regression(values.astype(np.float64), mask)
        return self._classification(values, mask)

    def _regression(self, values: npt.NDArray[np.float64], mask: npt.NDArray[np.bool_] | None) -> Columns:
        columns = {"prediction": pa.array(values, mask=mask)}
        if self.bounds is not None:
            lower, upper = self.bounds.find_ends(values)
            columns |= {"lower": pa.array(lower, mask=mask), "upper": pa.array(upper, mask=mask)}
        return columns

    def _classification(self, values: npt.NDArray[Any], mask: npt.NDArray[np.bool_] | None) -> Columns:
        winners = most_probable(values)
        decided = winners if self.loaded.threshold is None else decide_classes(values, self.loaded.threshold)
        columns: Columns = {"prediction": self._labels(winners, mask), "decision": self._labels(decided, mask)}
        for place, name in enumerate(self.loaded.schema.classes):
            columns[f"probability_{name}"] = pa.array(np.ascontiguousarray(values[:, place]), mask=mask)
        if self.bounds is not None:
            columns["set"] = self._sets(values.astype(np.float64), mask)
        return columns

    def _labels(self, places: npt.NDArray[np.intp], mask: npt.NDArray[np.bool_] | None) -> pa.Array:
        names = pa.array(list(self.loaded.labels))
        codes = pa.array(places.astype(np.int32), mask=mask)
        if pa.types.is_string(names.type):
            return pa.DictionaryArray.from_arrays(codes, names)
        return names.take(codes)

    def _sets(self, values: npt.NDArray[np.float64], mask: npt.NDArray[np.bool_] | None) -> pa.Array:
        if self.bounds is None:
            raise ValueError("there are no sets without a level")
        ranked, sizes = self.bounds.rank_sets(values)
        held = np.arange(ranked.shape[1]) < sizes[:, None]
        if mask is not None:
            held &= ~mask[:, None]
        names = pa.array([str(label) for label in self.loaded.labels])
        offsets = np.concatenate([[0], np.cumsum(held.sum(axis=1))]).astype(np.int32)
        members = names.take(pa.array(ranked[held]))
        return pa.ListArray.from_arrays(pa.array(offsets), members, mask=None if mask is None else pa.array(mask))


def summarise(loaded: LoadedModel, outputs: Outputs, index: npt.NDArray[np.int64]) -> PredictionSummary:
    """Return the distribution of the predictions that a block's results hold."""
    values = outputs.values[index[index >= 0]]
    if not len(values):
        return PredictionSummary()
    names = [str(label) for label in loaded.labels]
    last = values if not names else values[:, -1]
    return PredictionSummary(
        rows=len(values),
        labels=_count(names, most_probable(values)) if names else {},
        decisions=_count(names, decide_classes(values, loaded.threshold)) if names else {},
        total=float(last.sum(dtype=np.float64)),
        least=float(last.min()),
        greatest=float(last.max()),
    )


def _count(names: Sequence[str], places: npt.NDArray[np.intp]) -> dict[str, int]:
    counts = np.bincount(places, minlength=len(names))
    return {names[place]: int(counts[place]) for place in np.flatnonzero(counts)[:_COUNTED_LABELS].tolist()}


def input_columns(batch: TypedBatch) -> Columns:
    """Return the inputs of a block as they were read, with nulls for what could not be read as a row."""
    stored = batch.batch.stored if batch.batch.stored is not None else batch.batch.strings
    table = stored.combine_chunks()
    columns = {name: _one(table.column(name)) for name in table.column_names}
    if batch.is_complete:
        return columns
    index = np.full(batch.n_rows, -1, dtype=np.int64)
    index[batch.places] = np.arange(len(batch.places))
    taken = pa.array(index, mask=index < 0)
    return {name: values.take(taken) for name, values in columns.items()}


def _one(column: pa.ChunkedArray) -> pa.Array:
    values = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    return values.cast(values.type.value_type) if pa.types.is_dictionary(values.type) else values


@dataclass(slots=True)
class ResultFile:
    """A file of results, written block after block; its columns are those of the first block."""

    path: Path
    form: str
    rows: int = 0
    _schema: pa.Schema | None = None
    _parquet: pq.ParquetWriter | None = None
    _csv: IO[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._parquet is not None:
            self._parquet.close()
        if self._csv is not None:
            self._csv.close()

    def write(self, columns: Columns) -> None:
        """Write a block; raises ``InvalidInputError`` when its columns are not those of the first one."""
        table = pa.table(columns)
        if self._schema is None:
            self._schema = table.schema
        if table.schema != self._schema:
            table = _with_schema(table, self._schema)
        if self.form == "csv":
            self._write_csv(table)
        else:
            self._write_parquet(table)
        self.rows += table.num_rows

    def _write_parquet(self, table: pa.Table) -> None:
        if self._parquet is None:
            # Numbers of rows do not repeat and probabilities hardly: a dictionary of them would be made in vain.
            repeated = [one.name for one in table.schema if one.name != "row" and not pa.types.is_floating(one.type)]
            self._parquet = pq.ParquetWriter(
                self.path, table.schema, compression="zstd", compression_level=1, use_dictionary=repeated
            )
        self._parquet.write_table(table, row_group_size=1 << 20)

    def _write_csv(self, table: pa.Table) -> None:
        plain = pa.table({name: _plain_column(table.column(name)) for name in table.column_names})
        if self._csv is None:
            self._csv = self.path.open("wb")
            pa_csv.write_csv(plain.slice(0, 0), self._csv)
        pa_csv.write_csv(plain, self._csv, _CSV_OPTIONS)


def _with_schema(table: pa.Table, schema: pa.Schema) -> pa.Table:
    columns = {}
    try:
        for one in schema:
            present = one.name in table.column_names
            columns[one.name] = table.column(one.name).cast(one.type) if present else pa.nulls(len(table), one.type)
    except pa.ArrowException as fault:
        raise InvalidInputError(
            "the files have different types in columns of one name, which one file of results cannot hold: leave out "
            "join, or write the files alike"
        ) from fault
    return pa.table(columns, schema=schema)


def _plain_column(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column as CSV can hold it; numbers with the digits that replies to requests have."""
    kind = column.type
    if pa.types.is_floating(kind):
        return column.cast(pa.float64())
    if pa.types.is_dictionary(kind):
        return column.cast(kind.value_type)
    if pa.types.is_list(kind):
        return pc.binary_join(column.cast(pa.list_(pa.string())), "|")
    return column.cast(pa.string()) if pa.types.is_nested(kind) else column


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
