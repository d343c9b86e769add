"""Store a dataset: its content id, its Parquet file, its documents, and the manifest that is written last.

A manifest is never overwritten: the same content uploaded again leaves the dataset as it is, and only adds the
validation of that upload.
"""

import hashlib
import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import millrace
from millrace.data.dataset_documents import DatasetManifest, DatasetSource
from millrace.data.typed_table import (
    ParquetRows,
    StoredColumns,
    TypedTable,
    is_text,
    rows_at_once,
    storage_type,
    stored_parts,
    stored_tables,
    to_values,
)
from millrace.data.uploads import Upload
from millrace.data.validation import ValidationResult
from millrace.entities import DatasetRecord, Source
from millrace.features import MISSING_STRING, missing_mask
from millrace.layout import dataset_key, quarantine_key
from millrace.names import make_cause_id
from millrace.ports import ObjectStore
from millrace.schema import Column, TableSchema

#: Bytes of Parquet files that are kept on disk, for when they are read again.
KEPT_BYTES = 1_000_000_000

JSON = "application/json"
HTML = "text/html; charset=utf-8"
_CONTENT_TYPES = {
    ".json": JSON,
    ".parquet": "application/vnd.apache.parquet",
    ".html": HTML,
    ".jsonl": "application/x-ndjson",
}
_EXACT_INTEGERS = 2.0**53
#: Parts of a row group: enough to compress well, few enough to be held while they are written.
_PARTS_PER_GROUP = 2

#: Contents of a stored object.
Body = bytes | Path


def dataset_id(table: TypedTable) -> str:
    """Return the SHA-256 of a table's canonical content, as 64 hexadecimal digits.

    The content is the schema's version, every column's name and type, and every typed value in row order: a table
    written as CSV, gzipped or as Parquet is one dataset, and under another schema it is another.
    """
    digest = hashlib.sha256()
    columns = [(column.name, column.type, is_text(column)) for column in table.schema.columns]
    header = {"schema_version": table.schema.version, "rows": len(table), "columns": columns}
    digest.update(json.dumps(header, ensure_ascii=False).encode())
    for column in table.schema.columns:
        for part in _string_bytes(table, column) if is_text(column) else _number_bytes(table, column):
            digest.update(part)
    return digest.hexdigest()


def _number_bytes(table: TypedTable, column: Column) -> Iterator[bytes]:
    """Yield numbers, booleans and timestamps as 8 bytes each; missing ones are all the same NaN or NaT."""
    for part in stored_parts(table, column):
        values = to_values(part)
        if values.dtype.kind == "M":
            yield values.astype("datetime64[us]").astype("<i8").tobytes()
        else:
            yield np.where(missing_mask(values), np.nan, values + 0.0).astype("<f8").tobytes()


def _string_bytes(table: TypedTable, column: Column) -> Iterator[bytes]:
    """Yield the length of every string in UTF-8, then all strings; a missing one is empty."""
    for part in _strings(table, column):
        yield pc.binary_length(part).to_numpy(zero_copy_only=False).astype("<i8").tobytes()
    for part in _strings(table, column):
        offsets = np.frombuffer(part.buffers()[1], dtype=np.int64)[part.offset : part.offset + len(part) + 1]
        letters = part.buffers()[2]
        yield b"" if letters is None else letters[int(offsets[0]) : int(offsets[-1])].to_pybytes()


def _strings(table: TypedTable, column: Column) -> Iterator[pa.LargeStringArray]:
    """Yield some rows at a time, so that a category's strings are never all written out at once."""
    for part in stored_parts(table, column):
        yield pc.fill_null(part.cast(pa.string()), MISSING_STRING).cast(pa.large_string())


def write_parquet(table: TypedTable, sink: Path | IO[bytes]) -> None:
    """Write a typed table as Parquet; the same rows give the same bytes however they were read."""
    columns = {column.name: _parquet_type(table, column) for column in table.schema.columns}
    schema = pa.schema(list(columns.items()))
    waiting: list[pa.Table] = []
    size = _PARTS_PER_GROUP * rows_at_once(len(columns), _row_bytes(table))
    with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
        for part in stored_tables(table):
            cast = [part.column(name).cast(kind) for name, kind in columns.items()]
            waiting.append(pa.Table.from_arrays(cast, schema=schema))
            if sum(group.num_rows for group in waiting) >= size:
                whole = pa.concat_tables(waiting)
                writer.write_table(whole.slice(0, size), size)
                waiting = [whole.slice(size)]
        if waiting:
            writer.write_table(pa.concat_tables(waiting), size)


def open_parquet(source: Path | IO[bytes], schema: TableSchema) -> TypedTable:
    """Open a dataset's Parquet file under the same schema version; a column added since is missing throughout."""
    categories = [column.name for column in schema.columns if column.type == "category"]
    rows = ParquetRows(source, categories, {column.name: storage_type(column) for column in schema.columns})
    return TypedTable(schema, StoredColumns(rows), rows.num_rows)


def _row_bytes(table: TypedTable) -> float:
    """Return the size of a row, so that a row group is bounded however long the texts are."""
    texts = [column for column in table.schema.columns if is_text(column)]
    parts = (part for column in texts for part in stored_parts(table, column))
    letters = sum(pc.sum(pc.binary_length(part.cast(pa.string()))).as_py() or 0 for part in parts)
    return 8.0 * len(table.schema.columns) + letters / max(1, len(table))


def _parquet_type(table: TypedTable, column: Column) -> pa.DataType:
    kind = storage_type(column)
    if pa.types.is_dictionary(kind):
        return pa.string()
    whole = column.type == "integer" and pa.types.is_floating(kind)
    return pa.int64() if whole and all(_is_whole(part) for part in stored_parts(table, column)) else kind


def _is_whole(part: pa.Array) -> bool:
    if not pa.types.is_floating(part.type):
        return True
    bounds = pc.min_max(part).as_py()
    if bounds["min"] is None:
        return True
    exact = max(-bounds["min"], bounds["max"]) < _EXACT_INTEGERS
    return exact and pc.all(pc.equal(part, pc.round(part))).as_py() is not False


@dataclass(frozen=True, slots=True)
class StoredTables(Sequence[TypedTable]):
    """Stored datasets as tables, after those of ``before``; only the table returned last may be used."""

    model: str
    datasets: Sequence[DatasetRecord]
    schema: TableSchema
    data_store: ObjectStore
    folder: Path
    before: Sequence[TypedTable] = ()

    def __len__(self) -> int:
        return len(self.before) + len(self.datasets)

    @overload
    def __getitem__(self, index: int) -> TypedTable: ...

    @overload
    def __getitem__(self, index: slice) -> list[TypedTable]: ...

    def __getitem__(self, index: int | slice) -> TypedTable | list[TypedTable]:
        """Return a table; raises ``ArtifactNotFoundError`` when its file is gone."""
        if isinstance(index, slice):
            return [self[position] for position in range(len(self))[index]]
        if index < len(self.before):
            return self.before[index]
        identity = self.datasets[index - len(self.before)].dataset_id
        path = self.folder / f"{identity}.parquet"
        if not path.exists():
            kept = list(self.folder.iterdir())
            if sum(file.stat().st_size for file in kept) > KEPT_BYTES:
                for file in kept:
                    file.unlink()
            self.data_store.download(dataset_key(self.model, identity, "data.parquet"), path)
        return open_parquet(path, self.schema)


@dataclass(frozen=True, slots=True)
class DatasetFolder:
    """Stored objects of one model's datasets and rejected uploads."""

    model: str
    run_id: str
    data_store: ObjectStore

    def store(self, manifest: DatasetManifest, documents: Mapping[str, Body], result: ValidationResult) -> None:
        """Store a new dataset: its documents, its quarantined rows, then the manifest."""
        for name, body in documents.items():
            self._put(dataset_key(self.model, manifest.dataset_id, name), body)
        self.store_rows(manifest.dataset_id, result)
        self._put(dataset_key(self.model, manifest.dataset_id, "manifest.json"), manifest.write())

    def store_again(self, dataset: DatasetRecord, source: Source, upload: Upload, result: ValidationResult) -> None:
        """Store the validation of an upload whose content is a dataset already, beside that dataset."""
        identifier = upload_id(source)
        document = result.document(source, upload, self.run_id, dataset.dataset_id)
        self._put(dataset_key(self.model, dataset.dataset_id, f"uploads/{identifier}.json"), document.write())
        self.store_rows(identifier, result)

    def store_rows(self, identifier: str, result: ValidationResult) -> None:
        """Store the quarantined rows with their reasons, if there are any."""
        if not result.quarantined:
            return
        with tempfile.TemporaryDirectory(prefix="millrace-") as folder:
            path = Path(folder, "rows.jsonl")
            with path.open("w", encoding="utf-8") as file:
                file.writelines(json.dumps(row.to_dict(), ensure_ascii=False) + "\n" for row in result.quarantined)
            self._put(quarantine_key(self.model, identifier, "rows.jsonl"), path)

    def _put(self, key: str, body: Body) -> None:
        content_type = _CONTENT_TYPES[key[key.rindex(".") :]]
        if isinstance(body, Path):
            self.data_store.upload_file(body, key, content_type)
        else:
            self.data_store.put(key, body, content_type)


def upload_id(source: Source) -> str:
    """Return the id of an upload, which is that of its cause."""
    return make_cause_id("upload", source.bucket, source.key, source.version_id)


def upload_name(source: Source, upload: Upload) -> str:
    """Return the file's name, or the folder's with ``/`` at the end."""
    if upload.folder is None:
        return source.key.rsplit("/", 1)[-1]
    return upload.folder.rstrip("/").rsplit("/", 1)[-1] + "/"


def build_dataset_manifest(
    run_id: str,
    dataset: DatasetRecord,
    upload: Upload,
    result: ValidationResult,
    *,
    documents: Mapping[str, Body],
    parents: Sequence[str],
) -> DatasetManifest:
    """Return a dataset's manifest."""
    source = dataset.source
    severities = Counter(finding.severity for finding in result.findings)
    return DatasetManifest(
        model=dataset.model,
        dataset_id=dataset.dataset_id,
        accepted_at=dataset.accepted_at,
        run_id=run_id,
        code_version=millrace.__version__,
        source=DatasetSource(
            bucket=source.bucket,
            key=source.key,
            version_id=source.version_id,
            uploaded_at=source.uploaded_at,
            format=dict(result.description),
            files=() if upload.folder is None else [file.to_dict() for file in upload.files],
        ),
        schema_version=dataset.schema_version,
        schema_revision=dataset.schema_revision,
        rows=dataset.rows,
        columns=dataset.columns,
        row_counts={"read": result.rows, "accepted": dataset.rows, "quarantined": len(result.quarantined)},
        checks={
            "errors": severities["error"],
            "warnings": severities["warning"],
            "by_name": dict(sorted(Counter(finding.check for finding in result.findings).items())),
        },
        parents=list(parents),
        sha256={name: _sha256(body) for name, body in documents.items()},
    )


def _sha256(body: Body) -> str:
    if isinstance(body, bytes):
        return hashlib.sha256(body).hexdigest()
    with body.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
