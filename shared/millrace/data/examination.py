"""Examining one upload: bytes in, verdict out; whatever the bytes are, there is a verdict.

Nothing is read or written here beyond the arguments, so every kind of bad file can be tried on it.
"""

import errno
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from millrace.data.association import find_leakage
from millrace.data.bias import find_bias
from millrace.data.checks import CheckedTable, check_table, check_whole
from millrace.data.compare import NO_HISTORY, History, find_shift
from millrace.data.findings import Finding, error, errors_among, shorten, warning
from millrace.data.infer import infer_columns, infer_some
from millrace.data.prepare import observe
from millrace.data.profile import profile_table
from millrace.data.quarantine import Locate
from millrace.data.raw import QuarantinedRow, TableReader
from millrace.data.read import DEFAULT_LIMITS, BoundedReader, Limits, MultiFileReader, open_table
from millrace.data.row_store import to_values
from millrace.data.schema_changes import added_columns, declare_columns, extend_schema
from millrace.data.skew import check_skew
from millrace.data.target import choose_target, judge_target, small_classes, wanted_task
from millrace.data.typed_table import TypedTable, convert, missing_mask, read_types
from millrace.errors import MillraceError, PayloadTooLargeError
from millrace.schema import TableSchema
from millrace.spec import ModelSpec

#: Usable rows that a first upload must have.
MIN_ROWS = 20


@dataclass(frozen=True, slots=True)
class Examination:
    """What became of one upload.

    Parameters
    ----------
    findings : tuple of Finding
        Everything that was found; any error among them means rejected.
    schema : TableSchema or None
        What it was held to, once it came that far.
    table : TypedTable or None
        The accepted rows.
    rows : int
        Rows that the file holds, quarantined ones among them.
    quarantined : sequence of QuarantinedRow
        Rows that were set aside.
    description : mapping of str to str
        Format, encoding, delimiter, compression.
    profile : mapping
        Of the accepted rows.
    """

    findings: tuple[Finding, ...]
    schema: TableSchema | None = None
    table: TypedTable | None = None
    rows: int = 0
    quarantined: Sequence[QuarantinedRow] = ()
    description: Mapping[str, str] = field(default_factory=dict)
    profile: Mapping[str, Any] = field(default_factory=dict)

    @property
    def accepted(self) -> bool:
        """Whether nothing speaks against it."""
        return self.table is not None and not errors_among(self.findings)

    @property
    def reasons(self) -> list[str]:
        """Why it was rejected, in sentences."""
        return [finding.message for finding in errors_among(self.findings)]

    def verdict(self) -> dict[str, Any]:
        """Return the readable part of ``validation.json``."""
        schema = self.schema
        return {
            "outcome": "accepted" if self.accepted else "rejected",
            "reasons": self.reasons,
            "rows": self.rows,
            "usable_rows": len(self.table) if self.table is not None else 0,
            "quarantined_rows": len(self.quarantined),
            "format": dict(self.description),
            "target": schema.target.name if schema else None,
            "task": schema.task if schema else None,
            "classes": list(schema.classes) if schema else [],
            "schema": schema.to_dict() if schema else None,
            "columns": [
                {"name": column.name, "type": column.type, "role": column.role, "reason": column.reason}
                for column in (schema.columns if schema else ())
            ],
            "findings": [finding.to_dict() for finding in self.findings],
        }


@dataclass(frozen=True, slots=True)
class Bench:
    """Where an upload is examined, and how large it may be.

    Parameters
    ----------
    limits : Limits, default=DEFAULT_LIMITS
        What it may come to.
    folder : Path or None, default=None
        Where rows are written that do not fit into memory; it must outlive the examination.
    """

    limits: Limits = DEFAULT_LIMITS
    folder: Path | None = None


def examine(
    file: bytes | Path | Sequence[tuple[str, Path]],
    file_name: str,
    spec: ModelSpec,
    metadata: Mapping[str, str],
    schema: TableSchema | None,
    *,
    history: History = NO_HISTORY,
    bench: Bench = Bench(),
) -> Examination:
    """Judge one upload.

    Parameters
    ----------
    file : bytes, Path, or sequence of (str, Path)
        The file, or where it lies; or the files of a folder, by name.
    file_name : str
        Its name.
    spec : ModelSpec
        What the user said about the model.
    metadata : mapping of str to str
        What the upload said: ``target``, ``task``.
    schema : TableSchema or None
        The model's; None infers one.
    history : History, default=NO_HISTORY
        The earlier datasets, and the time.
    bench : Bench, default=Bench()
        Where it is examined, and how large it may be.
    """
    try:
        reader = BoundedReader(_open(file, file_name, spec, bench.limits), bench.limits)
        if schema is None:
            return _examine_first(reader, spec, metadata, history, bench)
        return _examine_later(reader, spec, metadata, schema, history, bench=bench)
    except PayloadTooLargeError as fault:
        return Examination((error("too_large", fault.message),))
    except MillraceError as fault:
        return Examination((error("unreadable", fault.message),))
    except Exception as fault:  # noqa: BLE001  # a parser may raise anything; the upload still gets its verdict
        if isinstance(fault, OSError) and fault.errno == errno.ENOSPC:
            return Examination(
                (error("too_large", bench.limits.refusal("the upload does not fit on the function's disk")),)
            )
        message = f"the file could not be understood ({type(fault).__name__}: {shorten(str(fault), 200)})"
        return Examination((error("unreadable", message),))


def _open(
    file: bytes | Path | Sequence[tuple[str, Path]], file_name: str, spec: ModelSpec, limits: Limits
) -> TableReader | MultiFileReader:
    if isinstance(file, bytes | Path):
        return open_table(file, file_name, spec.read, limits.max_bytes)
    return MultiFileReader(file, spec.read, limits.max_bytes)


def _examine_first(
    reader: BoundedReader, spec: ModelSpec, metadata: Mapping[str, str], history: History, bench: Bench
) -> Examination:
    """Infer a schema, hold the upload to it, and see whether there is something to learn."""
    target = choose_target(reader.names, spec, metadata)
    inferred, findings = infer_columns(reader, target, spec.identifier_name, spec.read.date_order)
    columns, declared = declare_columns(inferred, spec)
    position = reader.names.index(target)
    wanted = read_types([columns[position]])
    values = [to_values(convert(columns[position], batch).stored) for batch in reader.batches(wanted)]
    outcome = judge_target(columns[position], np.concatenate(values), wanted_task(spec, metadata))
    columns[position] = outcome.column
    schema = TableSchema(tuple(columns), outcome.task, outcome.classes)
    checked = _check(reader, schema, spec, bench)
    found = [*reader.findings, *findings, *declared, *outcome.findings, *checked.findings, *_learnable(schema, checked)]
    return _conclude(reader, observe(schema, [checked.table]), checked, found, spec=spec, history=history)


def _examine_later(
    reader: BoundedReader,
    spec: ModelSpec,
    metadata: Mapping[str, str],
    schema: TableSchema,
    history: History,
    *,
    bench: Bench,
) -> Examination:
    """Hold the upload to the model's schema, and to the columns that the spec asks for beside."""
    added = infer_some(reader, added_columns(schema, reader.names, spec), spec.read.date_order)
    schema = extend_schema(schema, added, spec)
    checked = _check(reader, schema, spec, bench)
    found = [*reader.findings, *_contradictions(schema, metadata), *checked.findings]
    if not len(checked.table) and not errors_among(checked.findings):
        found.append(error("too_few_rows", "no row of the file is usable"))
    return _conclude(reader, schema, checked, found, spec=spec, history=history)


def _check(reader: BoundedReader, schema: TableSchema, spec: ModelSpec, bench: Bench) -> CheckedTable:
    expressions = spec.checks.expressions
    return check_table(
        reader, schema, spec.max_quarantined_share, expressions, folder=bench.folder, locate=reader.locate
    )


def _conclude(
    reader: BoundedReader,
    schema: TableSchema,
    checked: CheckedTable,
    findings: list[Finding],
    *,
    spec: ModelSpec,
    history: History,
) -> Examination:
    table = replace(checked.table, schema=schema)
    findings = [*findings, *check_whole(table, checked.lines, spec.checks, history)]
    profile: Mapping[str, Any] = {}
    if not errors_among(findings):
        sensitive = [column.name for column in schema.columns if column.sensitive]
        profile = profile_table(table, sensitive)
        findings.extend(find_leakage(table, profile, spec.checks.leakage_threshold))
        findings.extend(find_shift(history.profile, profile, spec.checks.shift_threshold))
        findings.extend(check_skew(profile, history, spec.checks.skew_threshold))
        findings.extend(find_bias(table, spec.sensitive_groups, spec.checks))
    return Examination(
        findings=tuple(dict.fromkeys(_located(finding, reader.locate) for finding in findings)),
        schema=schema,
        table=table,
        rows=checked.rows,
        quarantined=checked.quarantined,
        description=reader.description,
        profile={} if errors_among(findings) else profile,
    )


def _located(finding: Finding, locate: Locate | None) -> Finding:
    """Say of each example row which file it is in, when there are several."""
    if locate is None or not finding.rows:
        return finding
    places = [locate(line) for line, _ in finding.rows]
    rows = tuple((line, value) for (_, line), (_, value) in zip(places, finding.rows, strict=True))
    return replace(finding, rows=rows, files=tuple(file for file, _ in places))


def _learnable(schema: TableSchema, checked: CheckedTable) -> list[Finding]:
    findings = []
    if len(checked.table) < MIN_ROWS:
        message = f"{len(checked.table):,} rows are usable; at least {MIN_ROWS} are needed to learn from"
        findings.append(error("too_few_rows", message, None, len(checked.table)))
    if not schema.features:
        reasons = Counter(f"{column.name!r}: {column.reason}" for column in schema.columns if column.role != "target")
        told = "; ".join(list(reasons)[:5])
        findings.append(error("no_features", f"no column can be learnt from ({told})"))
    if schema.classes:
        values = checked.table.columns[schema.target.name]
        known = values[~missing_mask(values)]
        if len(known):
            findings.extend(small_classes(schema.target, schema.classes, known))
    return findings


def _contradictions(schema: TableSchema, metadata: Mapping[str, str]) -> list[Finding]:
    """Metadata that say otherwise than the schema: the upload meant something else."""
    findings = []
    target = metadata.get("target", "").strip()
    if target and target.lower() != schema.target.name.lower():
        findings.append(
            error(
                "target",
                f"the model predicts {schema.target.name!r}, not {target!r}; upload with metadata `schema` replace to "
                "change that",
                target,
            )
        )
    task = metadata.get("task", "").strip().lower()
    if task and task != schema.task:
        findings.append(warning("task", f"the model's task stays {schema.task}, not {task!r}"))
    return findings


def count_types(schema: TableSchema) -> dict[str, int]:
    """Count the features of each type."""
    return dict(Counter(column.type for column in schema.features))
