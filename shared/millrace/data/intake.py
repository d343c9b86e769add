"""Taking in one upload: fetched, examined, and stored as a dataset or put into quarantine."""

import contextlib
import json
from dataclasses import dataclass, replace
from datetime import datetime

import millrace
from millrace.data.evolution import SchemaChange, next_schema, numbered, record_change
from millrace.data.examination import Examination, examine
from millrace.data.findings import error, shorten, warning
from millrace.data.history import History
from millrace.data.preparation import json_bytes
from millrace.data.reading import MAX_FILE_BYTES
from millrace.data.records import HTML, JSON, DatasetFolder, build_manifest, upload_id
from millrace.data.reports import dataset_report
from millrace.data.schemas import load_schema, store_schema
from millrace.data.typed_table import TypedTable, dump_table
from millrace.data.versioning import dataset_id
from millrace.errors import ArtifactNotFoundError
from millrace.layout import dataset_key, quarantine_key
from millrace.names import make_cause_id
from millrace.ports import ObjectStore, Registry
from millrace.registry.entities import DatasetRecord, LedgerEntry, Source
from millrace.schema import TableSchema
from millrace.spec import ModelSpec

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
        schema = None if anew or current is None else next_schema(current, self.spec)
        return examine(body, source.key, self.spec, metadata, schema, history=self._history(source))

    def _accept(
        self, source: Source, examination: Examination, table: TypedTable, current: TableSchema | None
    ) -> Intake:
        schema = numbered(table.schema, current)
        change = record_change(schema, current)
        table = replace(table, schema=schema)
        if current and change.kind == "incompatible":
            found = warning("new_schema", f"schema version {schema.version} starts here: {'; '.join(change.details)}")
            examination = replace(examination, findings=(*examination.findings, found))
        examination = replace(examination, schema=schema, table=table)
        if change.kind != "none":
            self._change_schema(schema, change)
        identity = dataset_id(table)
        known, earlier = self._known(identity)
        if known and known.source != source:
            found = warning("known_content", f"the same content was uploaded before, as {known.source.key!r}")
            examination = replace(examination, findings=(*examination.findings, found))
            self._folder.store_again(known, source, examination)
            return Intake(source, examination, replace(known, source=source))
        dataset = DatasetRecord(
            model=self.model,
            dataset_id=identity,
            rows=len(table),
            columns=len(schema.columns),
            quarantined_rows=len(examination.quarantined),
            schema_version=schema.version,
            schema_revision=schema.revision,
            source=source,
            accepted_at=self.now,
            warnings=sum(finding.severity == "warning" for finding in examination.findings),
            code_version=millrace.__version__,
        )
        if known is None:
            documents = self._documents(dataset, examination, table, earlier[-1:])
            self._folder.store(dataset, examination, documents, earlier[-1:])
        self.registry.put_dataset(dataset)
        return Intake(source, examination, dataset)

    @property
    def _folder(self) -> DatasetFolder:
        return DatasetFolder(self.model, self.run_id, self.data_store)

    def _known(self, identity: str) -> tuple[DatasetRecord | None, list[str]]:
        """Return the dataset of that content if there is one, and the ids of the datasets there are."""
        datasets = self.registry.list_datasets(self.model)
        known = next((dataset for dataset in datasets if dataset.dataset_id == identity), None)
        return known, [dataset.dataset_id for dataset in datasets]

    def _history(self, source: Source) -> History:
        """Return the rows of the datasets that came before this source, and the newest one's profile."""
        known = [dataset for dataset in self.registry.list_datasets(self.model) if dataset.source != source]
        datasets = sorted(known, key=lambda dataset: dataset.accepted_at)
        profile = {}
        if datasets:
            key = dataset_key(self.model, datasets[-1].dataset_id, "profile.json")
            with contextlib.suppress(ArtifactNotFoundError):
                profile = json.loads(self.data_store.get(key))
        return History([dataset.rows for dataset in datasets], profile, self.now)

    def _change_schema(self, schema: TableSchema, change: SchemaChange) -> None:
        """Make a schema the model's, and tell the ledger what is new about it."""
        store_schema(self.model, schema, self.registry, self.data_store)
        number = f"{schema.version}.{schema.revision}"
        self.registry.append_ledger(
            LedgerEntry(
                model=self.model,
                entry_id=make_cause_id("schema_changed", self.model, number)[:12],
                occurred_at=self.now,
                actor=ACTOR,
                action="schema_changed",
                reason=shorten("; ".join(change.details), 1_000),
                details={"version": schema.version, "revision": schema.revision, "kind": change.kind},
            )
        )

    def _documents(
        self, dataset: DatasetRecord, examination: Examination, table: TypedTable, parents: list[str]
    ) -> dict[str, bytes]:
        verdict = self._folder.verdict(dataset.source, examination, dataset.dataset_id)
        documents = {
            "data.parquet": dump_table(table),
            "profile.json": json_bytes(examination.profile),
            "validation.json": verdict,
        }
        # The report tells what the manifest says of the other documents; the manifest kept says it of the report too.
        manifest = build_manifest(self.run_id, dataset, examination, documents, parents)
        return documents | {"report.html": dataset_report(self.model, self.spec, examination, verdict, manifest)}

    def _reject(self, intake: Intake) -> Intake:
        """Keep a copy of the upload beside the verdict, and tell the ledger."""
        source, examination = intake.source, intake.examination
        identifier = upload_id(source)
        with contextlib.suppress(ArtifactNotFoundError):
            original = quarantine_key(self.model, identifier, f"original/{intake.file_name}")
            self.data_store.copy(source.key, original, source.version_id)
        verdict_key = quarantine_key(self.model, identifier, "validation.json")
        verdict = self._folder.verdict(source, examination)
        self.data_store.put(verdict_key, verdict, JSON)
        report_key = quarantine_key(self.model, identifier, "report.html")
        self.data_store.put(report_key, dataset_report(self.model, self.spec, examination, verdict), HTML)
        self._folder.store_rows(identifier, examination)
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
