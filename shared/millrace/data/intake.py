"""Taking in one upload: fetched, examined, and stored as a dataset or put into quarantine."""

import contextlib
import hashlib
import json
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from millrace.data.examination import Examination, examine
from millrace.data.findings import Finding, error, shorten, warning
from millrace.data.preparation import json_bytes
from millrace.data.reading import MAX_FILE_BYTES
from millrace.data.typed_table import TypedTable, dump_table
from millrace.data.versioning import dataset_id
from millrace.errors import ArtifactNotFoundError
from millrace.layout import dataset_key, quarantine_key, schema_key
from millrace.names import make_cause_id
from millrace.ports import ObjectStore, Registry
from millrace.registry.entities import DatasetRecord, LedgerEntry, Source
from millrace.schema import TableSchema
from millrace.spec import ModelSpec

JSON = "application/json"
PARQUET = "application/vnd.apache.parquet"
JSON_LINES = "application/x-ndjson"

#: Who the ledger says rejected a dataset.
ACTOR = "validate_dataset"


@dataclass(frozen=True, slots=True)
class Intake:
    """What became of one source: its examination, and its dataset when it was accepted."""

    source: Source
    examination: Examination
    dataset: DatasetRecord | None = None

    @property
    def file_name(self) -> str:
        """The upload's own name."""
        return self.source.key.rsplit("/", 1)[-1]

    @property
    def reasons(self) -> list[str]:
        """Why it was rejected, each sentence beginning with the file."""
        return [f"{self.file_name}: {reason}" for reason in self.examination.reasons]


@dataclass(frozen=True, slots=True)
class SourceIntake:
    """Takes in a model's uploads.

    Parameters
    ----------
    model : str
        The model's name.
    run_id : str
        The run that asks for it.
    now : datetime
        When, in UTC.
    """

    model: str
    run_id: str
    spec: ModelSpec
    registry: Registry
    data_store: ObjectStore
    now: datetime

    def take_in(self, source: Source) -> Intake:
        """Examine one source and store the result; the same source again gives the same result.

        Raises
        ------
        MillraceError
            When the bucket or the registry fails; whatever is wrong with the upload is a verdict instead.
        """
        current = load_schema(self.model, self.registry, self.data_store)
        examination = self._examine(source, current)
        if not examination.accepted or examination.table is None:
            return self._reject(Intake(source, examination))
        return self._accept(source, examination, examination.table, current)

    def _examine(self, source: Source, current: TableSchema | None) -> Examination:
        try:
            info = self.data_store.head(source.key, source.version_id)
            if info.size > MAX_FILE_BYTES:
                message = (
                    f"the file has {info.size / 1e6:,.0f} MB; at most {MAX_FILE_BYTES // 1_000_000:,} MB are read: "
                    "upload it in parts, or as Parquet"
                )
                return Examination((error("too_large", message),))
            body = self.data_store.get(source.key, source.version_id)
        except ArtifactNotFoundError:
            return Examination((error("not_found", "the uploaded object is gone"),))
        metadata = {name.lower(): value for name, value in info.metadata.items()}
        anew = metadata.get("schema", "").strip().lower() == "replace"
        return examine(body, source.key, self.spec, metadata, None if anew else current)

    def _accept(
        self, source: Source, examination: Examination, table: TypedTable, current: TableSchema | None
    ) -> Intake:
        version = self._schema_version(table.schema, current)
        table = replace(table, schema=table.schema.with_version(version))
        dataset = DatasetRecord(
            model=self.model,
            dataset_id=dataset_id(table),
            rows=len(table),
            columns=len(table.schema.columns),
            quarantined_rows=len(examination.quarantined),
            schema_version=version,
            source=source,
            accepted_at=self.now,
        )
        examination = replace(
            examination, table=table, findings=(*examination.findings, *self._known_content(dataset, source))
        )
        self._store_dataset(dataset, examination, table)
        self.registry.put_dataset(dataset)
        return Intake(source, examination, dataset)

    def _schema_version(self, schema: TableSchema, current: TableSchema | None) -> int:
        """Return the version of the schema the dataset was held to, making it the model's when it is new."""
        if current and same_contract(schema, current):
            return current.version
        version = current.version + 1 if current else 1
        self.data_store.put(schema_key(self.model, version), json_bytes(schema.with_version(version).to_dict()), JSON)
        self.registry.set_schema_version(self.model, version)
        return version

    def _known_content(self, dataset: DatasetRecord, source: Source) -> list[Finding]:
        for known in self.registry.list_datasets(self.model):
            same_upload = (known.source.key, known.source.version_id) == (source.key, source.version_id)
            if known.dataset_id == dataset.dataset_id and not same_upload:
                return [warning("known_content", f"the same content was uploaded before, as {known.source.key!r}")]
        return []

    def _store_dataset(self, dataset: DatasetRecord, examination: Examination, table: TypedTable) -> None:
        documents = {
            "data.parquet": dump_table(table),
            "profile.json": json_bytes(examination.profile),
            "validation.json": self._verdict(dataset.source, examination, dataset.dataset_id),
        }
        manifest = {
            "dataset_id": dataset.dataset_id,
            "schema_version": dataset.schema_version,
            "rows": dataset.rows,
            "columns": dataset.columns,
            "sha256": {name: hashlib.sha256(body).hexdigest() for name, body in documents.items()},
        }
        for name, body in documents.items():
            key = dataset_key(self.model, dataset.dataset_id, name)
            self.data_store.put(key, body, PARQUET if name.endswith(".parquet") else JSON)
        self.data_store.put(dataset_key(self.model, dataset.dataset_id, "manifest.json"), json_bytes(manifest), JSON)
        if examination.quarantined:
            self._store_rows(dataset.dataset_id, examination)

    def _reject(self, intake: Intake) -> Intake:
        """Keep a copy of the upload beside the verdict, and tell the ledger."""
        source, examination = intake.source, intake.examination
        identifier = make_cause_id("upload", source.bucket, source.key, source.version_id)
        with contextlib.suppress(ArtifactNotFoundError):
            original = quarantine_key(self.model, identifier, f"original/{intake.file_name}")
            self.data_store.copy(source.key, original, source.version_id)
        verdict_key = quarantine_key(self.model, identifier, "validation.json")
        self.data_store.put(verdict_key, self._verdict(source, examination), JSON)
        if examination.quarantined:
            self._store_rows(identifier, examination)
        self.registry.append_ledger(
            LedgerEntry(
                model=self.model,
                entry_id=make_cause_id("dataset_rejected", self.run_id, identifier)[:12],
                occurred_at=self.now,
                actor=ACTOR,
                action="dataset_rejected",
                reason=shorten("; ".join(intake.reasons), 1_000),
                details={"key": source.key, "version_id": source.version_id, "verdict": verdict_key},
            )
        )
        return intake

    def _store_rows(self, identifier: str, examination: Examination) -> None:
        lines = [json.dumps(row.to_dict(), ensure_ascii=False) for row in examination.quarantined]
        key = quarantine_key(self.model, identifier, "rows.jsonl")
        self.data_store.put(key, ("\n".join(lines) + "\n").encode(), JSON_LINES)

    def _verdict(self, source: Source, examination: Examination, identity: str | None = None) -> bytes:
        upload = {"file": source.key, "version_id": source.version_id, "uploaded_at": source.uploaded_at.isoformat()}
        return json_bytes(upload | {"run_id": self.run_id, "dataset_id": identity} | examination.verdict())


def load_schema(model: str, registry: Registry, data_store: ObjectStore) -> TableSchema | None:
    """Return the model's current schema, or None before the first accepted dataset."""
    version = registry.get_state(model).schema_version
    if not version:
        return None
    return TableSchema.from_dict(json.loads(data_store.get(schema_key(model, version))))


def same_contract(one: TableSchema, other: TableSchema) -> bool:
    """Tell whether two schemas ask the same of a table, whatever values they have seen."""
    return _contract(one) == _contract(other)


def _contract(schema: TableSchema) -> tuple[Any, ...]:
    columns = [
        (column.name, column.type, column.role, column.formats, column.true_values, column.false_values)
        for column in schema.columns
    ]
    return schema.task, schema.classes, columns
