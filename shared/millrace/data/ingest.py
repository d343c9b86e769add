"""Taking in one upload: fetched, examined, and stored as a dataset or put into quarantine."""

import contextlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import millrace
from millrace.data.compare import History
from millrace.data.dataset import (
    HTML,
    JSON,
    DatasetFolder,
    Document,
    build_manifest,
    dataset_id,
    upload_id,
    upload_name,
    write_record,
)
from millrace.data.examination import Bench, Examination, examine
from millrace.data.findings import Finding, error, errors_among, shorten, warning
from millrace.data.prepare import json_bytes
from millrace.data.read import DEFAULT_LIMITS, Limits
from millrace.data.schema_changes import SchemaChange, load_schema, next_schema, numbered, record_change, store_schema
from millrace.data.skew import profile_captures
from millrace.data.typed_table import TypedTable
from millrace.data.uploads import NO_UPLOAD, Upload, download, find_upload
from millrace.entities import DatasetRecord, LedgerEntry, Source
from millrace.errors import ArtifactNotFoundError
from millrace.layout import dataset_key, quarantine_key
from millrace.names import make_cause_id
from millrace.ports import ObjectStore, Registry
from millrace.reports import SHOWN_QUARANTINED, render_dataset_report
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
    upload: Upload = NO_UPLOAD

    @property
    def file_name(self) -> str:
        """The upload's own name."""
        return upload_name(self.source, self.upload)

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
    limits : Limits, default=DEFAULT_LIMITS
        What an upload may come to.
    """

    model: str
    run_id: str
    spec: ModelSpec
    registry: Registry
    data_store: ObjectStore
    now: datetime
    limits: Limits = DEFAULT_LIMITS

    def take_in(self, source: Source) -> Intake:
        """Examine one source and store the result; the same source again gives the same result.

        Raises
        ------
        MillraceError
            When the bucket or the registry fails; whatever is wrong with the upload is a verdict instead.
        """
        current = load_schema(self.model, self.registry, self.data_store)
        # What does not fit into memory goes there, the upload itself to begin with.
        with tempfile.TemporaryDirectory(prefix="millrace-") as folder:
            upload = find_upload(source, self.data_store, self.limits)
            examination = self._examine(source, upload, current, Path(folder))
            if not examination.accepted or examination.table is None:
                return self._reject(Intake(source, examination, None, upload))
            return self._accept(Intake(source, examination, None, upload), examination.table, current, Path(folder))

    def _examine(self, source: Source, upload: Upload, current: TableSchema | None, folder: Path) -> Examination:
        if errors_among(upload.findings):
            return Examination(upload.findings)
        try:
            paths = download(upload.files, self.data_store, folder)
        except ArtifactNotFoundError:
            return Examination((error("not_found", "the uploaded object is gone"),))
        anew = upload.metadata.get("schema", "").strip().lower() == "replace"
        schema = None if anew or current is None else next_schema(current, self.spec)
        names = [file.name for file in upload.files]
        examination = examine(
            paths[0] if upload.folder is None else list(zip(names, paths, strict=True)),
            source.key,
            self.spec,
            upload.metadata,
            schema,
            history=self._history(source, current),
            bench=Bench(self.limits, folder),
        )
        for path in paths:
            path.unlink()
        return replace(examination, findings=(*upload.findings, *examination.findings))

    def _accept(self, intake: Intake, table: TypedTable, current: TableSchema | None, folder: Path) -> Intake:
        source, examination = intake.source, intake.examination
        first = 1 if current else self.registry.get_state(self.model).first_schema_version
        schema = numbered(table.schema, current, first)
        change = record_change(schema, current)
        table = replace(table, schema=schema)
        if current and change.kind == "incompatible":
            found = warning("new_schema", f"schema version {schema.version} starts here: {'; '.join(change.details)}")
            examination = replace(examination, findings=(*examination.findings, found))
        if len(table) > self.spec.max_training_rows:
            examination = replace(examination, findings=(*examination.findings, self._sampled(len(table))))
        examination = replace(examination, schema=schema, table=table)
        if change.kind != "none":
            self._change_schema(schema, change)
        identity = dataset_id(table)
        known, earlier = self._known(identity)
        if known and known.source != source:
            return self._renew(replace(intake, examination=examination), known)
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
        intake = replace(intake, examination=examination, dataset=dataset)
        if known is None:
            documents = self._documents(intake, dataset, table, earlier[-1:], folder)
            self._folder.store(dataset, intake.upload, examination, documents, earlier[-1:])
        self.registry.put_dataset(dataset)
        return intake

    def _renew(self, intake: Intake, known: DatasetRecord) -> Intake:
        """Let content that is a dataset already count as uploaded now; the dataset itself stays as it is."""
        found = warning("known_content", f"the same content was uploaded before, as {known.source.key!r}")
        examination = replace(intake.examination, findings=(*intake.examination.findings, found))
        self._folder.store_again(known, intake.source, intake.upload, examination)
        renewed = known.renewed(intake.source.uploaded_at)
        if renewed != known:
            self.registry.renew_dataset(self.model, known.dataset_id, intake.source.uploaded_at)
        return replace(intake, examination=examination, dataset=renewed)

    def _sampled(self, rows: int) -> Finding:
        message = (
            f"training reads a sample of at most {self.spec.max_training_rows:,} rows, always the same ones, and this "
            f"dataset has {rows:,}; the spec's max_training_rows says how many"
        )
        return warning("sampled_for_training", message, None, rows)

    @property
    def _folder(self) -> DatasetFolder:
        return DatasetFolder(self.model, self.run_id, self.data_store)

    def _known(self, identity: str) -> tuple[DatasetRecord | None, list[str]]:
        """Return the dataset of that content if there is one, and the ids of the datasets there are."""
        datasets = self.registry.list_datasets(self.model)
        known = next((dataset for dataset in datasets if dataset.dataset_id == identity), None)
        return known, [dataset.dataset_id for dataset in datasets]

    def _history(self, source: Source, current: TableSchema | None) -> History:
        """Return what the upload is compared with: the datasets before it, and what the model was asked about."""
        state = self.registry.get_state(self.model)
        known = [
            dataset
            for dataset in self.registry.list_datasets(self.model)
            if dataset.source != source and dataset.schema_version >= state.first_schema_version
        ]
        datasets = sorted(known, key=lambda dataset: dataset.uploaded_at)
        profile = {}
        if datasets:
            key = dataset_key(self.model, datasets[-1].dataset_id, "profile.json")
            with contextlib.suppress(ArtifactNotFoundError):
                profile = json.loads(self.data_store.get(key))
        captured = {}
        if current is not None and self.spec.checks.skew_threshold is not None:
            captured = profile_captures(self.data_store, self.model, current, self.now, since=state.begun_after)
        return History([dataset.rows for dataset in datasets], profile, self.now, captured)

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
        self, intake: Intake, dataset: DatasetRecord, table: TypedTable, parents: list[str], folder: Path
    ) -> dict[str, Document]:
        examination = intake.examination
        verdict = self._folder.verdict(intake.source, intake.upload, examination, dataset.dataset_id)
        record = folder / "data.parquet"
        write_record(table, record)
        documents: dict[str, Document] = {
            "data.parquet": record,
            "profile.json": json_bytes(examination.profile),
            "validation.json": verdict,
        }
        # The report tells what the manifest says of the other documents; the manifest kept says it of the report too.
        manifest = build_manifest(
            self.run_id, dataset, intake.upload, examination, documents=documents, parents=parents
        )
        return documents | {"report.html": dataset_report(self.model, self.spec, examination, verdict, manifest)}

    def _reject(self, intake: Intake) -> Intake:
        """Keep a copy of the upload beside the verdict, and tell the ledger."""
        source, examination, upload = intake.source, intake.examination, intake.upload
        identifier = upload_id(source)
        for file in upload.files:
            with contextlib.suppress(ArtifactNotFoundError):
                original = quarantine_key(self.model, identifier, f"original/{file.name}")
                self.data_store.copy(file.key, original, file.version_id)
        verdict_key = quarantine_key(self.model, identifier, "validation.json")
        verdict = self._folder.verdict(source, upload, examination)
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


def dataset_report(
    model: str, spec: ModelSpec, result: Examination, verdict: bytes, manifest: Mapping[str, Any] | None = None
) -> bytes:
    """Return ``report.html`` of an upload.

    Parameters
    ----------
    model : str
        The model's name.
    spec : ModelSpec
        Holds the sensitive columns, the split and the owner's statements.
    result : Examination
        The results of the checks.
    verdict : bytes
        The upload's ``validation.json``.
    manifest : mapping or None, default=None
        The dataset's; None when the upload was rejected.
    """
    document = {
        "model": model,
        "validation": json.loads(verdict),
        "profile": result.profile,
        "manifest": manifest,
        "schema": result.schema.to_dict() if result.schema else None,
        "quarantine": [row.to_dict() for row in result.quarantined[:SHOWN_QUARANTINED]],
        "split": spec.split.model_dump(),
        "datasheet": spec.datasheet.model_dump(),
        "sensitive": [name for name, column in spec.columns.items() if column.sensitive],
    }
    return render_dataset_report(document).encode()
