"""Validate one upload: parse it, infer or apply the schema, check rows and the dataset, profile what is accepted.

Whatever the bytes are, there is a result. Nothing is read or written beyond the arguments.
"""

import errno
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from millrace.data.checks import CheckedTable, check_table
from millrace.data.dataset_checks import (
    NO_DATASET_HISTORY,
    DatasetHistory,
    check_whole,
    find_bias,
    find_shift,
    find_skew,
)
from millrace.data.dataset_documents import DatasetProfile, ValidationDocument
from millrace.data.doubts import TYPE_DOUBTS
from millrace.data.findings import Finding, error, errors_among, shorten, warning
from millrace.data.infer import infer_columns, infer_some
from millrace.data.leakage import find_leakage, find_row_numbers, leave_out_row_numbers
from millrace.data.prepare import observe_schema
from millrace.data.profile import profile_table
from millrace.data.quarantine import Locate
from millrace.data.raw import QuarantinedRow
from millrace.data.read import DEFAULT_LIMITS, LINES_A_FILE, UploadLimits, UploadReader
from millrace.data.schema_changes import added_columns, declare_columns, extend_schema
from millrace.data.target import choose_target, infer_target, small_classes, wanted_task
from millrace.data.typed_table import TypedTable, convert, read_types, to_values
from millrace.data.uploads import Upload
from millrace.entities import Source
from millrace.errors import MillraceError, PayloadTooLargeError
from millrace.features import missing_mask
from millrace.schema import TableSchema
from millrace.spec import ModelSpec

#: Usable rows that a first upload needs.
MIN_UPLOAD_ROWS = 20


@dataclass(frozen=True, slots=True)
class ValidationResult:
    """Result of the validation of one upload: any error among the findings means rejected.

    The table and the profile are of the accepted rows, ``rows`` counts quarantined ones too; the schema is None when
    the upload could not be read.
    """

    findings: tuple[Finding, ...]
    schema: TableSchema | None = None
    table: TypedTable | None = None
    rows: int = 0
    quarantined: Sequence[QuarantinedRow] = ()
    description: Mapping[str, str] = field(default_factory=dict)
    profile: DatasetProfile | None = None

    @property
    def accepted(self) -> bool:
        """True when there is a table and no error."""
        return self.table is not None and not errors_among(self.findings)

    @property
    def reasons(self) -> list[str]:
        """Messages of the errors."""
        return [finding.message for finding in errors_among(self.findings)]

    def document(self, source: Source, upload: Upload, run_id: str, identity: str | None = None) -> ValidationDocument:
        """Return ``validation.json``, whose dataset is None for a rejected upload."""
        schema = self.schema
        return ValidationDocument(
            file=source.key,
            version_id=source.version_id,
            folder=upload.folder,
            files=() if upload.folder is None else [file.name for file in upload.files],
            uploaded_at=source.uploaded_at,
            run_id=run_id,
            dataset_id=identity,
            outcome="accepted" if self.accepted else "rejected",
            reasons=self.reasons,
            rows=self.rows,
            usable_rows=len(self.table) if self.table is not None else 0,
            quarantined_rows=len(self.quarantined),
            format=self.description,
            target=schema.target.name if schema else None,
            task=schema.task if schema else None,
            classes=schema.class_names if schema else (),
            schema=schema.without_sensitive_values().to_dict() if schema else None,
            columns=[
                {"name": column.name, "type": column.type, "role": column.role, "reason": column.reason}
                for column in (schema.columns if schema else ())
            ],
            findings=[finding.to_dict() for finding in self.findings],
        )


def validate_upload(
    file: bytes | Path | Sequence[tuple[str, Path]],
    file_name: str,
    spec: ModelSpec,
    metadata: Mapping[str, str],
    schema: TableSchema | None,
    *,
    history: DatasetHistory = NO_DATASET_HISTORY,
    limits: UploadLimits = DEFAULT_LIMITS,
    folder: Path | None = None,
) -> ValidationResult:
    """Validate one upload: a file, its path, or the names and paths of a folder's files.

    The object's metadata may name ``target`` and ``task``; without a schema of the model, one is inferred. The folder,
    for rows beyond memory, must outlive the result.
    """
    try:
        files = [(file_name, file)] if isinstance(file, bytes | Path) else file
        reader = UploadReader(files, spec.read, limits, folder=not isinstance(file, bytes | Path))
        if schema is None:
            return _validate_first(reader, spec, metadata, history, folder)
        return _validate_later(reader, spec, metadata, schema, history, folder=folder)
    except PayloadTooLargeError as fault:
        return ValidationResult((error("too_large", fault.message),))
    except MillraceError as fault:
        return ValidationResult((error("unreadable", fault.message),))
    except Exception as fault:  # noqa: BLE001  # a parser may raise anything; the upload still gets its result
        if isinstance(fault, OSError) and fault.errno == errno.ENOSPC:
            message = limits.refusal("the upload does not fit on the function's disk")
            return ValidationResult((error("too_large", message),))
        message = f"the file could not be parsed ({type(fault).__name__}: {shorten(str(fault), 200)})"
        return ValidationResult((error("unreadable", message),))


def _validate_first(
    reader: UploadReader, spec: ModelSpec, metadata: Mapping[str, str], history: DatasetHistory, folder: Path | None
) -> ValidationResult:
    """Infer a schema and check the upload against it."""
    target = choose_target(reader.names, spec, metadata)
    inferred, findings = infer_columns(reader, target, spec.identifier_name, spec.read)
    columns, declared = declare_columns(inferred, spec)
    decided = {name for name, column in spec.columns.items() if column.type or column.unit or column.role == "ignored"}
    findings = [one for one in findings if one.check not in TYPE_DOUBTS or one.column not in decided]
    position = reader.names.index(target)
    wanted = read_types([columns[position]])
    values = [to_values(convert(columns[position], batch).stored) for batch in reader.batches(wanted)]
    outcome = infer_target(columns[position], np.concatenate(values), wanted_task(spec, metadata))
    columns[position] = outcome.column
    schema = TableSchema(tuple(columns), outcome.task, outcome.classes)
    checked = _check(reader, schema, spec, folder)
    schema, numbering = leave_out_row_numbers(checked.table, checked.lines // LINES_A_FILE, spec.columns)
    # Where no row could be read, that is the cause, and everything else its consequence.
    read_any = any(map(len, values)) or not errors_among(checked.findings)
    learnable = [*outcome.findings, *_check_learnable(schema, checked)] if read_any else []
    found = [*reader.findings, *findings, *declared, *checked.findings, *numbering, *learnable]
    return _conclude(reader, observe_schema(schema, [checked.table]), checked, found, spec=spec, history=history)


def _validate_later(
    reader: UploadReader,
    spec: ModelSpec,
    metadata: Mapping[str, str],
    schema: TableSchema,
    history: DatasetHistory,
    *,
    folder: Path | None,
) -> ValidationResult:
    """Check the upload against the model's schema, extended by the columns that the spec adds."""
    added = infer_some(reader, added_columns(schema, reader.names, spec), spec.read)
    schema = extend_schema(schema, added, spec)
    checked = _check(reader, schema, spec, folder)
    found = [*reader.findings, *_contradictions(schema, metadata), *checked.findings]
    found.extend(find_row_numbers(checked.table, checked.lines // LINES_A_FILE, spec.columns))
    if not len(checked.table) and not errors_among(checked.findings):
        found.append(error("too_few_rows", "no row of the file is usable"))
    return _conclude(reader, schema, checked, found, spec=spec, history=history)


def _check(reader: UploadReader, schema: TableSchema, spec: ModelSpec, folder: Path | None) -> CheckedTable:
    expressions = spec.checks.expressions
    return check_table(reader, schema, spec.max_quarantined_share, expressions, folder=folder, locate=reader.locate)


def _conclude(
    reader: UploadReader,
    schema: TableSchema,
    checked: CheckedTable,
    findings: list[Finding],
    *,
    spec: ModelSpec,
    history: DatasetHistory,
) -> ValidationResult:
    table = replace(checked.table, schema=schema)
    findings = [*findings, *check_whole(table, checked.lines, spec.checks, history)]
    profile: DatasetProfile | None = None
    if not errors_among(findings):
        profile = profile_table(table, [column.name for column in schema.columns if column.sensitive])
        findings.extend(find_leakage(table, spec.checks.leakage_threshold, spec.columns))
        going_on = frozenset(column.name for column in schema.columns if column.type == "datetime" or column.ascends)
        findings.extend(find_shift(history, profile, spec.checks.shift_threshold, going_on))
        findings.extend(find_skew(history, profile, spec.checks.skew_threshold, going_on))
        findings.extend(find_bias(table, spec.sensitive_groups, spec.checks))
    return ValidationResult(
        findings=tuple(dict.fromkeys(_locate_rows(finding, reader.locate) for finding in findings)),
        schema=schema,
        table=table,
        rows=checked.rows,
        quarantined=checked.quarantined,
        description=reader.description,
        profile=None if errors_among(findings) else profile,
    )


def _locate_rows(finding: Finding, locate: Locate | None) -> Finding:
    """Name the file of each example row, when there are several files."""
    if locate is None or not finding.rows:
        return finding
    places = [locate(line) for line, _ in finding.rows]
    rows = tuple((line, value) for (_, line), (_, value) in zip(places, finding.rows, strict=True))
    return replace(finding, rows=rows, files=tuple(file for file, _ in places))


def _check_learnable(schema: TableSchema, checked: CheckedTable) -> list[Finding]:
    findings = []
    if len(checked.table) < MIN_UPLOAD_ROWS:
        message = f"{len(checked.table):,} rows are usable; at least {MIN_UPLOAD_ROWS} are needed to train a model"
        findings.append(error("too_few_rows", message, None, len(checked.table)))
    if not schema.features:
        reasons = Counter(f"{column.name!r}: {column.reason}" for column in schema.columns if column.role != "target")
        findings.append(error("no_features", f"no column can be a feature ({'; '.join(list(reasons)[:5])})"))
    if schema.classes:
        values = checked.table.columns[schema.target.name]
        known = values[~missing_mask(values)]
        if len(known):
            findings.extend(small_classes(schema.target, schema.classes, known))
    return findings


def _contradictions(schema: TableSchema, metadata: Mapping[str, str]) -> list[Finding]:
    """Return findings on metadata that contradict the schema."""
    findings = []
    target = metadata.get("target", "").strip()
    if target and target.lower() != schema.target.name.lower():
        message = (
            f"the model predicts {schema.target.name!r}, not {target!r}; upload with metadata `schema` replace to "
            "change that"
        )
        findings.append(error("target", message, target))
    task = metadata.get("task", "").strip().lower()
    if task and task != schema.task:
        findings.append(warning("task", f"the model's task stays {schema.task}, not {task!r}"))
    return findings


def count_types(schema: TableSchema) -> dict[str, int]:
    """Count the features of each type."""
    return dict(Counter(column.type for column in schema.features))
