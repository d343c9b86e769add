"""What the spec says about columns, laid over what was inferred: what is said wins, what is not said stays."""

from collections.abc import Sequence
from dataclasses import replace

from millrace.data.findings import Finding, error, listed, warning
from millrace.schema import Column, ColumnRules, Role, TableSchema
from millrace.spec import ModelSpec
from millrace.spec.data import ColumnSpec

_NO_SPEC = ColumnSpec()


def declare_columns(columns: Sequence[Column], spec: ModelSpec) -> tuple[list[Column], list[Finding]]:
    """Lay a spec over columns that were inferred.

    Returns
    -------
    tuple of list of Column, list of Finding
        A column that the spec counts on and the table lacks is an error; one that it only describes, a warning.
    """
    declared = [declare_column(column, spec) for column in columns]
    return _with_one_identifier(declared, spec), _absent_columns([column.name for column in columns], spec)


def redeclare(schema: TableSchema, spec: ModelSpec) -> TableSchema:
    """Lay the present spec over a model's schema; types and roles that it no longer speaks of stay."""
    columns = [declare_column(column, spec) for column in schema.columns]
    return replace(schema, columns=tuple(_with_one_identifier(columns, spec)))


def declare_column(column: Column, spec: ModelSpec) -> Column:
    """Lay a spec over one column; the target keeps its role."""
    said = spec.columns.get(column.name, _NO_SPEC)
    rules = rules_of(said)
    nullable = column.nullable if rules.settled_nullable is None else rules.settled_nullable
    declared = replace(_retyped(column, said), rules=rules, sensitive=said.sensitive, nullable=nullable)
    role = _role_of(column, said, spec)
    if role == declared.role:
        return declared
    if role == "feature" and declared.type == "text" and said.type != "text":
        declared = replace(declared, type="category")
    return replace(declared, role=role, reason="" if role in ("feature", "target") else "said by the spec")


def rules_of(said: ColumnSpec) -> ColumnRules:
    """Return what a spec demands of a column's values."""
    return ColumnRules(
        nullable=said.nullable,
        minimum=said.minimum,
        maximum=said.maximum,
        allowed=said.allowed or (),
        pattern=said.pattern,
        unique=said.unique,
        max_null_share=said.max_null_share,
        severity=said.severity,
    )


def added_columns(schema: TableSchema, names: Sequence[str], spec: ModelSpec) -> list[str]:
    """Return the columns of an upload that the schema lacks and the spec asks for."""
    known = {column.name for column in schema.columns}
    return [
        name for name in names if name not in known and name in spec.columns and spec.columns[name].role != "ignored"
    ]


def extend_schema(schema: TableSchema, inferred: Sequence[Column], spec: ModelSpec) -> TableSchema:
    """Add inferred columns that the spec asks for; earlier data lacks them, so they may be missing."""
    added = [replace(declare_column(column, spec), nullable=True) for column in inferred]
    return replace(schema, columns=tuple(_with_one_identifier([*schema.columns, *added], spec)))


def _retyped(column: Column, said: ColumnSpec) -> Column:
    """Give a column the type it is said to have; what was seen under another type does not hold any more."""
    if said.type == column.type == "text" and column.role == "ignored":
        return replace(column, role="feature", reason="")
    if said.type is None or said.type == column.type:
        return replace(column, formats=said.formats) if said.formats and column.type == "datetime" else column
    words = column.type in ("integer", "number") and said.type == "boolean"
    retyped = Column(
        column.name,
        said.type,
        column.role,
        nullable=column.nullable,
        formats=said.formats,
        true_values=("1",) if words else (),
        false_values=("0",) if words else (),
        reason=column.reason,
    )
    if column.role == "ignored" and column.type == "text":
        return replace(retyped, role="feature", reason="")
    return retyped


def _role_of(column: Column, said: ColumnSpec, spec: ModelSpec) -> Role:
    if column.role == "target":
        return "target"
    if column.name == spec.identifier_name:
        return "identifier"
    if said.role is not None:
        return said.role
    return _retyped(column, said).role


def _with_one_identifier(columns: Sequence[Column], spec: ModelSpec) -> list[Column]:
    """Where the spec names the identifier, no other column is one."""
    kept = spec.identifier_name
    if kept is None or kept not in {column.name for column in columns}:
        return list(columns)
    reason = f"identifies rows, as {kept!r} does already"
    return [
        replace(column, role="ignored", reason=reason)
        if column.role == "identifier" and column.name != kept
        else column
        for column in columns
    ]


def _absent_columns(names: Sequence[str], spec: ModelSpec) -> list[Finding]:
    counted_on = {name for name, said in spec.columns.items() if said.role in ("feature", "identifier")}
    counted_on |= {name for name in (spec.id_column, spec.split.column) if name}
    findings = [
        error(
            "missing_column",
            f"the spec counts on the column {name!r}, which the file does not have: add it, or take it out of the "
            f"spec; the columns are {listed(names)}",
            name,
        )
        for name in sorted(counted_on - set(names))
    ]
    mentioned = set(spec.columns) - counted_on - set(names) - {spec.target_name}
    findings.extend(
        warning("missing_column", f"the spec describes the column {name!r}, which the file does not have", name)
        for name in sorted(mentioned)
        if spec.columns[name].role != "ignored"
    )
    return findings
