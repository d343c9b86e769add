"""A dataset as it is kept: its documents, written once, and the manifest that says what they are and where from.

The manifest is written last and never overwritten: the same content uploaded again leaves the dataset as it is, and
the verdict on that upload beside it.
"""

import hashlib
import io
import json
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import millrace
from millrace.data.examination import Examination
from millrace.data.prepare import json_bytes
from millrace.data.row_store import ParquetRows, StoredColumns, is_text, rows_at_once, storage_type, to_values
from millrace.data.typed_table import TypedTable, missing_mask, stored_parts, stored_tables
from millrace.data.uploads import Upload
from millrace.entities import DatasetRecord, Source
from millrace.features import MISSING_STRING
from millrace.layout import dataset_key, quarantine_key
from millrace.names import make_cause_id
from millrace.ports import ObjectStore
from millrace.schema import Column, TableSchema


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
        for part in _bytes_of_words(table, column) if is_text(column) else _bytes_of_values(table, column):
            digest.update(part)
    return digest.hexdigest()


def _bytes_of_values(table: TypedTable, column: Column) -> Iterator[bytes]:
    """Yield numbers, booleans and moments as 8 bytes each; missing ones are all the same NaN or NaT."""
    for part in stored_parts(table, column):
        values = to_values(part)
        if values.dtype.kind == "M":
            yield values.astype("datetime64[us]").astype("<i8").tobytes()
        else:
            yield np.where(missing_mask(values), np.nan, values + 0.0).astype("<f8").tobytes()


def _bytes_of_words(table: TypedTable, column: Column) -> Iterator[bytes]:
    """Yield the length of every word in UTF-8, then all words; a missing one is empty."""
    for part in _words(table, column):
        yield pc.binary_length(part).to_numpy(zero_copy_only=False).astype("<i8").tobytes()
    for part in _words(table, column):
        offsets = np.frombuffer(part.buffers()[1], dtype=np.int64)[part.offset : part.offset + len(part) + 1]
        words = part.buffers()[2]
        yield b"" if words is None else words[int(offsets[0]) : int(offsets[-1])].to_pybytes()


def _words(table: TypedTable, column: Column) -> Iterator[pa.LargeStringArray]:
    """Yield some rows at a time, so that a category's words are never all written out at once."""
    for part in stored_parts(table, column):
        yield pc.fill_null(part.cast(pa.string()), MISSING_STRING).cast(pa.large_string())


_EXACT_INTEGERS = 2.0**53
#: Parts of a row group: enough to compress well, few enough to be held while they are written.
_PARTS_A_GROUP = 2


def write_record(table: TypedTable, sink: Path | IO[bytes]) -> None:
    """Write a typed table as Parquet; the same rows give the same bytes however they were taken in."""
    columns = {column.name: _record_type(table, column) for column in table.schema.columns}
    schema = pa.schema(list(columns.items()))
    waiting: list[pa.Table] = []
    size = _PARTS_A_GROUP * rows_at_once(len(columns), _row_bytes(table))
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


def dump_record(table: TypedTable) -> bytes:
    """Return what :func:`write_record` writes."""
    buffer = io.BytesIO()
    write_record(table, buffer)
    return buffer.getvalue()


def open_record(source: Path | IO[bytes], schema: TableSchema) -> TypedTable:
    """Open what :func:`write_record` wrote under the same version of the schema; a column added since is missing."""
    words = [column.name for column in schema.columns if column.type == "category"]
    absent = {column.name: storage_type(column) for column in schema.columns}
    rows = ParquetRows(source, words, absent)
    return TypedTable(schema, StoredColumns(rows), rows.num_rows)


def _row_bytes(table: TypedTable) -> float:
    """Return what a row takes, so that a row group is bounded however long the texts are."""
    texts = [column for column in table.schema.columns if is_text(column)]
    parts = (part for column in texts for part in stored_parts(table, column))
    letters = sum(pc.sum(pc.binary_length(part.cast(pa.string()))).as_py() or 0 for part in parts)
    return 8.0 * len(table.schema.columns) + letters / max(1, len(table))


def _record_type(table: TypedTable, column: Column) -> pa.DataType:
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


#: Bytes of records that are kept on disk, for when they are looked at again.
KEPT_BYTES = 1_000_000_000


@dataclass(frozen=True, slots=True)
class StoredTables(Sequence[TypedTable]):
    """Datasets as tables; only the one that was asked for last may be used.

    Parameters
    ----------
    model : str
        The model's name.
    datasets : sequence of DatasetRecord
        In order.
    schema : TableSchema
        What they are read as.
    data_store : ObjectStore
        The data bucket.
    folder : Path
        Where they may be written.
    before : sequence of TypedTable, default=()
        Tables that come before the datasets.
    """

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
        """Return a table; raises ``ArtifactNotFoundError`` when its record is gone."""
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
        return open_record(path, self.schema)


#: What is stored: bytes, or a file of them.
Document = bytes | Path

JSON = "application/json"
PARQUET = "application/vnd.apache.parquet"
JSON_LINES = "application/x-ndjson"
HTML = "text/html; charset=utf-8"

_CONTENT_TYPES = {".json": JSON, ".parquet": PARQUET, ".html": HTML, ".jsonl": JSON_LINES}


@dataclass(frozen=True, slots=True)
class DatasetFolder:
    """Where one model's datasets and rejected uploads are kept.

    Parameters
    ----------
    model : str
        The model's name.
    run_id : str
        The run that takes them in.
    """

    model: str
    run_id: str
    data_store: ObjectStore

    def store(
        self,
        dataset: DatasetRecord,
        upload: Upload,
        examination: Examination,
        documents: Mapping[str, Document],
        parents: Sequence[str],
    ) -> None:
        """Keep a dataset that is new: its documents, the rows that were set aside, then the manifest.

        Parameters
        ----------
        documents : mapping of str to bytes or Path
            By name, beside the manifest.
        parents : sequence of str
            The datasets that it was compared with.
        """
        for name, body in documents.items():
            self._put(dataset_key(self.model, dataset.dataset_id, name), body)
        self.store_rows(dataset.dataset_id, examination)
        manifest = json_bytes(
            build_manifest(self.run_id, dataset, upload, examination, documents=documents, parents=parents)
        )
        self._put(dataset_key(self.model, dataset.dataset_id, "manifest.json"), manifest)

    def store_again(self, dataset: DatasetRecord, source: Source, upload: Upload, examination: Examination) -> None:
        """Keep the verdict on an upload of content that is a dataset already, beside that dataset."""
        identifier = upload_id(source)
        verdict = self.verdict(source, upload, examination, dataset.dataset_id)
        self._put(dataset_key(self.model, dataset.dataset_id, f"uploads/{identifier}.json"), verdict)
        self.store_rows(identifier, examination)

    def store_rows(self, identifier: str, examination: Examination) -> None:
        """Keep the rows that were set aside, with their reasons; nothing when there are none."""
        if not examination.quarantined:
            return
        with tempfile.TemporaryDirectory(prefix="millrace-") as folder:
            path = Path(folder) / "rows.jsonl"
            with path.open("w", encoding="utf-8") as file:
                file.writelines(json.dumps(row.to_dict(), ensure_ascii=False) + "\n" for row in examination.quarantined)
            self._put(quarantine_key(self.model, identifier, "rows.jsonl"), path)

    def verdict(self, source: Source, upload: Upload, examination: Examination, identity: str | None = None) -> bytes:
        """Return ``validation.json``."""
        told: dict[str, Any] = {"file": source.key, "version_id": source.version_id}
        if upload.folder is not None:
            told |= {"folder": upload.folder, "files": [file.name for file in upload.files]}
        told |= {"uploaded_at": source.uploaded_at.isoformat(), "run_id": self.run_id, "dataset_id": identity}
        return json_bytes(told | examination.verdict())

    def _put(self, key: str, body: Document) -> None:
        content_type = _CONTENT_TYPES[key[key.rindex(".") :]]
        if isinstance(body, Path):
            self.data_store.upload_file(body, key, content_type)
        else:
            self.data_store.put(key, body, content_type)


def upload_id(source: Source) -> str:
    """Return the id of an upload: that of the cause it was."""
    return make_cause_id("upload", source.bucket, source.key, source.version_id)


def upload_name(source: Source, upload: Upload) -> str:
    """Return what people call an upload: its file's name, or its folder's with ``/`` at the end."""
    if upload.folder is None:
        return source.key.rsplit("/", 1)[-1]
    return upload.folder.rstrip("/").rsplit("/", 1)[-1] + "/"


def build_manifest(
    run_id: str,
    dataset: DatasetRecord,
    upload: Upload,
    examination: Examination,
    *,
    documents: Mapping[str, Document],
    parents: Sequence[str],
) -> dict[str, Any]:
    """Return a dataset's manifest: what it is, which bytes it came from, by which code, and what was found."""
    source = dataset.source
    severities = Counter(finding.severity for finding in examination.findings)
    files = {} if upload.folder is None else {"files": [file.to_dict() for file in upload.files]}
    return {
        "manifest_version": 1,
        "model": dataset.model,
        "dataset_id": dataset.dataset_id,
        "accepted_at": dataset.accepted_at.isoformat(),
        "run_id": run_id,
        "code_version": millrace.__version__,
        "source": {
            "bucket": source.bucket,
            "key": source.key,
            "version_id": source.version_id,
            "uploaded_at": source.uploaded_at.isoformat(),
            "format": dict(examination.description),
            **files,
        },
        "schema_version": dataset.schema_version,
        "schema_revision": dataset.schema_revision,
        "rows": dataset.rows,
        "columns": dataset.columns,
        "row_counts": {
            "read": examination.rows,
            "accepted": dataset.rows,
            "quarantined": len(examination.quarantined),
        },
        "checks": {
            "errors": severities["error"],
            "warnings": severities["warning"],
            "by_name": dict(sorted(Counter(finding.check for finding in examination.findings).items())),
        },
        "parents": list(parents),
        "sha256": {name: _sha256(body) for name, body in documents.items()},
    }


def _sha256(body: Document) -> str:
    if isinstance(body, bytes):
        return hashlib.sha256(body).hexdigest()
    with body.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
