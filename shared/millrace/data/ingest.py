"""Ingest a run's uploads: validate each, store it as a dataset or in quarantine, and prepare the training data."""

import contextlib
import hashlib
import itertools
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from msgspec.structs import replace as replace_field

import millrace
from millrace.causes import REQUESTED_CAUSES
from millrace.contracts import ValidationVerdict
from millrace.data.captured import CapturedRows, find_captured_rows, unusable
from millrace.data.dataset import (
    HTML,
    JSON,
    Body,
    DatasetFolder,
    StoredTables,
    build_dataset_manifest,
    dataset_id,
    upload_id,
    upload_name,
    write_parquet,
)
from millrace.data.dataset_checks import DatasetHistory, profile_captures
from millrace.data.dataset_documents import DatasetManifest, DatasetProfile, PreparedManifest
from millrace.data.findings import error, errors_among, shorten, warning
from millrace.data.prepare import Contribution, DatasetSelection, PreparedData, choose_datasets, prepare
from millrace.data.read import DEFAULT_LIMITS, UploadLimits
from millrace.data.schema_changes import SchemaChange, load_schema, next_schema, numbered, record_change, store_schema
from millrace.data.typed_table import TypedTable
from millrace.data.uploads import NO_UPLOAD, Upload, download, find_upload
from millrace.data.validation import ValidationResult, count_types, validate_upload
from millrace.documents import from_plain, to_plain
from millrace.entities import DatasetRecord, LedgerEntry, Run, Source
from millrace.errors import ArtifactNotFoundError, MillraceError
from millrace.layout import dataset_key, prepared_key, quarantine_key
from millrace.names import make_cause_id
from millrace.ports import ObjectStore
from millrace.registry.store import VALIDATION_ACTOR, Registry
from millrace.reports import SHOWN_QUARANTINED, render_dataset_report
from millrace.schema import TableSchema
from millrace.spec import ModelSpec

MAX_RUN_REASONS = 20
MAX_VERDICT_REASONS = 5
MAX_VERDICT_REASON_LENGTH = 300


def validate_run(
    run: Run, *, registry: Registry, data_store: ObjectStore, now: datetime, limits: UploadLimits = DEFAULT_LIMITS
) -> ValidationVerdict:
    """Validate a run's uploads and prepare its training data; without sources it trains on the stored datasets.

    A rejected upload is an outcome, not an error: its validation is stored beside it, and the run goes on when another
    one was accepted. A run whose data the champion or the challenger has learned from already ends as skipped, unless
    it is forced. Validating the same run again gives the same result. A deleted model raises ``ModelDeletedError``.
    """
    registry.get_state(run.model).ensure_not_deleted(run.requested_at)
    started_at = run.started_at or now
    registry.update_run(run.model, run.run_id, status="running", started_at=started_at, **run.begin("validating", now))
    spec = registry.get_spec(run.model)
    ingestor = Ingestor(run.model, run.run_id, spec, registry, data_store, started_at, limits)
    results = []
    for source in sorted(run.sources, key=lambda source: source.uploaded_at):
        registry.update_run(run.model, run.run_id, validating=source.key)
        results.append(ingestor.ingest(source))
    registry.update_run(run.model, run.run_id, validating=None)
    reasons = [reason for result in results for reason in result.reasons]
    if run.sources and not any(result.dataset for result in results):
        return _reject_run(run, registry, reasons, now)
    combined = _combine(ingestor, results)
    if combined is None:
        message = "the model has no accepted dataset to train on: upload one"
        return _reject_run(run, registry, [*reasons, message], now)
    errors = [finding.message for finding in errors_among(combined.prepared.findings)]
    if errors:
        return _reject_run(run, registry, [*reasons, *errors], now)
    summary, fingerprint = _summarise(combined, results), combined.prepared.fingerprint(spec)
    forced = _is_forced(run, results, registry)
    version = None if forced else _find_version(run, fingerprint, registry, data_store)
    if version is not None:
        return _skip_run(
            ingestor, run, combined, [_nothing_new(version), *reasons], summary | {"unchanged_version": version}
        )
    _store_prepared(run, combined, ingestor, fingerprint)
    registry.update_run(
        run.model,
        run.run_id,
        dataset_ids=tuple(combined.dataset_ids),
        reasons=tuple(reasons[:MAX_RUN_REASONS]),
        summary={**run.summary, **summary, **({"forced": True} if forced else {})},
    )
    return ValidationVerdict(
        outcome="accepted",
        dataset_ids=combined.dataset_ids[-100:],
        rows=summary["rows"],
        reasons=_shorten_reasons(reasons),
    )


@dataclass(frozen=True, slots=True)
class IngestResult:
    """Validation of one source, and its dataset when it was accepted."""

    source: Source
    validation: ValidationResult
    dataset: DatasetRecord | None = None
    upload: Upload = NO_UPLOAD

    @property
    def reasons(self) -> list[str]:
        """Reasons for a rejection, each sentence beginning with the file."""
        name = upload_name(self.source, self.upload)
        return [f"{name}: {reason}" for reason in self.validation.reasons]


@dataclass(frozen=True, slots=True)
class Ingestor:
    """Ingests a model's uploads for one run."""

    model: str
    run_id: str
    spec: ModelSpec
    registry: Registry
    data_store: ObjectStore
    now: datetime
    limits: UploadLimits = DEFAULT_LIMITS

    def ingest(self, source: Source) -> IngestResult:
        """Validate one source and store the result; faults of the upload are findings, and a retry gives the same."""
        current = load_schema(self.model, self.registry, self.data_store)
        # For the upload itself, and whatever of it does not fit into memory.
        with tempfile.TemporaryDirectory(prefix="millrace-") as folder:
            upload = find_upload(source, self.data_store, self.limits)
            validation = self._validate(source, upload, current, Path(folder))
            result = IngestResult(source, validation, None, upload)
            if not validation.accepted or validation.table is None:
                return self._reject(result)
            return self._accept(result, validation.table, current, Path(folder))

    def _validate(self, source: Source, upload: Upload, current: TableSchema | None, folder: Path) -> ValidationResult:
        if errors_among(upload.findings):
            return ValidationResult(upload.findings)
        try:
            paths = download(upload.files, self.data_store, folder)
        except ArtifactNotFoundError:
            return ValidationResult((error("not_found", "the uploaded object is gone"),))
        anew = upload.metadata.get("schema", "").strip().lower() == "replace"
        schema = None if anew or current is None else next_schema(current, self.spec)
        names = [file.name for file in upload.files]
        validation = validate_upload(
            paths[0] if upload.folder is None else list(zip(names, paths, strict=True)),
            source.key,
            self.spec,
            upload.metadata,
            schema,
            history=self._history(source, current),
            limits=self.limits,
            folder=folder,
        )
        for path in paths:
            path.unlink()
        return replace(validation, findings=(*upload.findings, *validation.findings))

    def _accept(
        self, result: IngestResult, table: TypedTable, current: TableSchema | None, folder: Path
    ) -> IngestResult:
        first = 1 if current else self.registry.get_state(self.model).first_schema_version
        schema = numbered(table.schema, current, first)
        change = record_change(schema, current)
        table = replace(table, schema=schema)
        findings = list(result.validation.findings)
        if current and change.kind == "incompatible":
            message = f"schema version {schema.version} starts here: {'; '.join(change.details)}"
            findings.append(warning("new_schema", message))
        if len(table) > self.spec.max_training_rows:
            message = (
                f"training reads a sample of at most {self.spec.max_training_rows:,} rows, always the same ones, and "
                f"this dataset has {len(table):,}; max_training_rows in the spec sets the limit"
            )
            findings.append(warning("sampled_for_training", message, None, len(table)))
        validation = replace(result.validation, schema=schema, table=table, findings=tuple(findings))
        if change.kind != "none":
            self._change_schema(schema, change)
        identity = dataset_id(table)
        datasets = self.registry.list_datasets(self.model)
        known = next((dataset for dataset in datasets if dataset.dataset_id == identity), None)
        if known and known.source != result.source:
            return self._renew(replace(result, validation=validation), known)
        dataset = DatasetRecord(
            model=self.model,
            dataset_id=identity,
            rows=len(table),
            columns=len(schema.columns),
            quarantined_rows=len(validation.quarantined),
            schema_version=schema.version,
            schema_revision=schema.revision,
            source=result.source,
            accepted_at=self.now,
            warnings=sum(finding.severity == "warning" for finding in findings),
            code_version=millrace.__version__,
        )
        result = replace(result, validation=validation, dataset=dataset)
        if known is None:
            self._store(result, dataset, table, [other.dataset_id for other in datasets][-1:], folder)
        self.registry.put_dataset(dataset)
        return result

    def _renew(self, result: IngestResult, known: DatasetRecord) -> IngestResult:
        """Count content that is a dataset already as uploaded now; the dataset itself stays as it is."""
        found = warning("known_content", f"the same content was uploaded before, as {known.source.key!r}")
        validation = replace(result.validation, findings=(*result.validation.findings, found))
        self._folder.store_again(known, result.source, result.upload, validation)
        renewed = known.renewed(result.source.uploaded_at)
        if renewed != known:
            self.registry.renew_dataset(self.model, known.dataset_id, result.source.uploaded_at)
        return replace(result, validation=validation, dataset=renewed)

    @property
    def _folder(self) -> DatasetFolder:
        return DatasetFolder(self.model, self.run_id, self.data_store)

    def _history(self, source: Source, current: TableSchema | None) -> DatasetHistory:
        """Return the earlier datasets and the recent predictions that the upload is compared with."""
        state = self.registry.get_state(self.model)
        known = [
            dataset
            for dataset in self.registry.list_datasets(self.model)
            if dataset.source != source and dataset.schema_version >= state.first_schema_version
        ]
        datasets = sorted(known, key=lambda dataset: dataset.uploaded_at)
        profile = captured = None
        if datasets:
            key = dataset_key(self.model, datasets[-1].dataset_id, "profile.json")
            with contextlib.suppress(ArtifactNotFoundError):
                profile = DatasetProfile.read(self.data_store.get(key))
        if current is not None and self.spec.checks.skew_threshold is not None:
            captured = self._profile_captures(current, state.begun_after)
        return DatasetHistory([dataset.rows for dataset in datasets], profile, self.now, captured)

    def _profile_captures(self, schema: TableSchema, since: datetime | None) -> DatasetProfile | None:
        try:
            return profile_captures(self.data_store, self.model, schema, self.now, since=since)
        except MillraceError:
            raise
        except Exception:  # noqa: BLE001 - callers of the API wrote the captures; they must not stop an upload
            return None

    def _change_schema(self, schema: TableSchema, change: SchemaChange) -> None:
        """Make a schema the model's, with an entry in the ledger."""
        store_schema(self.model, schema, self.registry, self.data_store)
        number = f"{schema.version}.{schema.revision}"
        entry_id = make_cause_id("schema_changed", self.model, number)[:12]
        details = {"version": schema.version, "revision": schema.revision, "kind": change.kind}
        self.note("schema_changed", entry_id, "; ".join(change.details), details)

    def _store(
        self, result: IngestResult, dataset: DatasetRecord, table: TypedTable, parents: list[str], folder: Path
    ) -> None:
        validation, parquet = result.validation, folder / "data.parquet"
        write_parquet(table, parquet)
        body = validation.document(result.source, result.upload, self.run_id, dataset.dataset_id).write()
        documents: dict[str, Body] = {"data.parquet": parquet, "validation.json": body}
        if validation.profile is not None:
            documents["profile.json"] = validation.profile.write()
        manifest = build_dataset_manifest(
            self.run_id, dataset, result.upload, validation, documents=documents, parents=parents
        )
        # The report shows the hashes of the other documents; the stored manifest has the report's hash too.
        report = dataset_report(self.model, self.spec, validation, body, manifest)
        sha256 = {**manifest.sha256, "report.html": hashlib.sha256(report).hexdigest()}
        self._folder.store(replace_field(manifest, sha256=sha256), documents | {"report.html": report}, validation)

    def _reject(self, result: IngestResult) -> IngestResult:
        """Copy the upload to quarantine, with its validation and report and an entry in the ledger."""
        source, validation, upload = result.source, result.validation, result.upload
        identifier = upload_id(source)
        for file in upload.files:
            with contextlib.suppress(ArtifactNotFoundError):
                original = quarantine_key(self.model, identifier, f"original/{file.name}")
                self.data_store.copy(file.key, original, file.version_id)
        document_key = quarantine_key(self.model, identifier, "validation.json")
        body = validation.document(source, upload, self.run_id).write()
        self.data_store.put(document_key, body, JSON)
        report_key = quarantine_key(self.model, identifier, "report.html")
        self.data_store.put(report_key, dataset_report(self.model, self.spec, validation, body), HTML)
        self._folder.store_rows(identifier, validation)
        entry_id = make_cause_id("dataset_rejected", self.run_id, identifier)[:12]
        details = {"key": source.key, "version_id": source.version_id, "verdict": document_key}
        self.note("dataset_rejected", entry_id, "; ".join(result.reasons), details)
        return result

    def note(self, action: str, entry_id: str, reason: str, details: dict[str, Any]) -> None:
        """Leave an entry for the model's ledger."""
        self.registry.note(
            LedgerEntry(
                model=self.model,
                entry_id=entry_id,
                occurred_at=self.now,
                actor=VALIDATION_ACTOR,
                action=action,
                reason=shorten(reason, 1_000),
                details=details,
            )
        )


@dataclass(frozen=True, slots=True)
class _Combined:
    """The datasets that a run trains on, prepared."""

    selection: DatasetSelection
    prepared: PreparedData
    captured: CapturedRows

    @property
    def datasets(self) -> tuple[DatasetRecord, ...]:
        return self.selection.chosen

    @property
    def dataset_ids(self) -> list[str]:
        return [dataset.dataset_id for dataset in self.datasets]

    @property
    def contributions(self) -> tuple[Contribution, ...]:
        return self.prepared.contributions[-len(self.datasets) :]

    def describe_captured(self) -> dict[str, Any]:
        """Return the counts of captured rows, or the obstacle to using them."""
        of_captured = self.prepared.contributions[: -len(self.datasets)]
        return {
            **self.captured.counts,
            **({"obstacle": self.captured.obstacle} if self.captured.obstacle else {}),
            **({"trained_on": of_captured[0].used} if of_captured else {}),
        }


def _combine(ingestor: Ingestor, results: Sequence[IngestResult]) -> _Combined | None:
    """Combine the model's datasets; one that was uploaded again counts as uploaded then."""
    schema = load_schema(ingestor.model, ingestor.registry, ingestor.data_store)
    if schema is None:
        return None
    # A retry must see what the first attempt saw, also where a later upload renewed a dataset meanwhile.
    known = {result.dataset.dataset_id: result.dataset for result in results if result.dataset}
    datasets = [known.get(dataset.dataset_id, dataset) for dataset in ingestor.registry.list_datasets(ingestor.model)]
    selection = choose_datasets(datasets, ingestor.spec, schema.version, ingestor.now)
    if not selection.chosen:
        return None
    with tempfile.TemporaryDirectory(prefix="millrace-") as folder:
        since = ingestor.registry.get_state(ingestor.model).begun_after
        captured = find_captured_rows(
            ingestor.model, schema, ingestor.spec, ingestor.data_store, ingestor.now, since=since
        )

        def combine(captured: CapturedRows) -> _Combined:
            before = [captured.table] if captured.table else []
            tables = StoredTables(ingestor.model, selection.chosen, schema, ingestor.data_store, Path(folder), before)
            return _Combined(selection, prepare(schema, tables, ingestor.spec, ingestor.limits), captured)

        try:
            return combine(captured)
        except Exception as error:
            if isinstance(error, MillraceError) or captured.table is None:
                raise
            return combine(unusable(error))


def _is_forced(run: Run, results: Sequence[IngestResult], registry: Registry) -> bool:
    """Return whether somebody requests a new version of the same data: by an upload's metadata, or by hand."""
    if any(result.upload.metadata.get("force", "").strip().lower() == "true" for result in results):
        return True
    return any(registry.get_cause(run.model, cause_id).cause.kind in REQUESTED_CAUSES for cause_id in run.cause_ids)


def _find_version(run: Run, fingerprint: str, registry: Registry, data_store: ObjectStore) -> int | None:
    """Return the champion or challenger that was trained on the same data."""
    for version in sorted(set(registry.get_state(run.model).aliases.values())):
        other = registry.get_version(run.model, version).run_id
        with contextlib.suppress(ArtifactNotFoundError):
            manifest = PreparedManifest.read(data_store.get(prepared_key(run.model, other, "manifest.json")))
            if other != run.run_id and manifest.fingerprint == fingerprint:
                return version
    return None


def _nothing_new(version: int) -> str:
    return f"nothing new to learn: version {version} stays (--force)"


def _skip_run(
    ingestor: Ingestor, run: Run, combined: _Combined, reasons: list[str], summary: dict[str, Any]
) -> ValidationVerdict:
    """End a run that has nothing new to learn; the first reason says so, the others are of rejected uploads."""
    entry_id = make_cause_id("training_skipped", run.run_id)[:12]
    details = {"run_id": run.run_id, "version": summary["unchanged_version"]}
    ingestor.note("training_skipped", entry_id, reasons[0], details)
    ingestor.registry.update_run(
        run.model,
        run.run_id,
        status="skipped",
        stage="finished",
        finished_at=ingestor.now,
        dataset_ids=tuple(combined.dataset_ids),
        reasons=tuple(reasons[:MAX_RUN_REASONS]),
        summary={**run.summary, **summary},
    )
    return ValidationVerdict(
        outcome="unchanged", dataset_ids=combined.dataset_ids[-100:], reasons=_shorten_reasons(reasons)
    )


def _store_prepared(run: Run, combined: _Combined, ingestor: Ingestor, fingerprint: str) -> None:
    documents, spec = combined.prepared.documents(), ingestor.spec
    fields = {
        "model": run.model,
        "run_id": run.run_id,
        "prepared_at": ingestor.now,
        "code_version": millrace.__version__,
        "combine": spec.combine,
        "window_days": spec.window_days,
        "max_training_rows": spec.max_training_rows,
        "seed": spec.seed,
        "dataset_ids": combined.dataset_ids,
        "datasets": [
            {
                "dataset_id": dataset.dataset_id,
                "uploaded_at": dataset.uploaded_at.isoformat(),
                "schema_revision": dataset.schema_revision,
                "quarantined_rows": dataset.quarantined_rows,
                **contribution.to_dict(),
            }
            for dataset, contribution in zip(combined.datasets, combined.contributions, strict=True)
        ],
        "datasets_left_out": [
            {"dataset_id": dataset.dataset_id, "rows": dataset.rows, "reason": reason}
            for dataset, reason in combined.selection.left_out
        ],
        "captured_rows": combined.describe_captured(),
        "sha256": {name: hashlib.sha256(body).hexdigest() for name, body in documents.items()},
        "fingerprint": fingerprint,
    }
    documents["manifest.json"] = from_plain(PreparedManifest, fields | combined.prepared.summary()).write()
    for name, body in documents.items():
        content_type = JSON if name.endswith(".json") else "application/octet-stream"
        ingestor.data_store.put(prepared_key(run.model, run.run_id, name), body, content_type)


def _summarise(combined: _Combined, results: Sequence[IngestResult]) -> dict[str, Any]:
    schema, splits = combined.prepared.schema, combined.prepared.splits
    sample, captured = combined.prepared.sample(), combined.describe_captured()
    return {
        "rows": sum(len(split) for split in splits.values()),
        "rows_by_split": {name: len(split) for name, split in splits.items()},
        **({"sample": sample} if sample else {}),
        **({"captured_rows": captured} if captured else {}),
        "columns": len(schema.columns),
        "quarantined_rows": sum(dataset.quarantined_rows for dataset in combined.datasets),
        "rejected_files": sum(result.dataset is None for result in results),
        "task": schema.task,
        "target": schema.target.name,
        "features": count_types(schema),
    }


def _reject_run(run: Run, registry: Registry, reasons: Sequence[str], now: datetime) -> ValidationVerdict:
    registry.update_run(
        run.model,
        run.run_id,
        status="rejected",
        stage="finished",
        finished_at=now,
        reasons=tuple(shorten(reason, 1_000) for reason in reasons[:MAX_RUN_REASONS]),
    )
    return ValidationVerdict(outcome="rejected", reasons=_shorten_reasons(reasons))


def _shorten_reasons(reasons: Sequence[str]) -> list[str]:
    return [shorten(reason, MAX_VERDICT_REASON_LENGTH) for reason in itertools.islice(reasons, MAX_VERDICT_REASONS)]


def dataset_report(
    model: str, spec: ModelSpec, validation: ValidationResult, document: bytes, manifest: DatasetManifest | None = None
) -> bytes:
    """Return ``report.html`` of an upload from its ``validation.json``; a rejected one has no manifest."""
    return render_dataset_report(
        {
            "model": model,
            "validation": json.loads(document),
            "profile": to_plain(validation.profile),
            "manifest": to_plain(manifest),
            "schema": validation.schema.without_sensitive_values().to_dict() if validation.schema else None,
            "quarantine": [row.to_dict() for row in validation.quarantined[:SHOWN_QUARANTINED]],
            "split": spec.split.model_dump(),
            "datasheet": spec.datasheet.model_dump(),
            "sensitive": [name for name, column in spec.columns.items() if column.sensitive],
        }
    ).encode()
