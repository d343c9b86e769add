"""Changes of a model's schema: a revision leaves earlier data usable, a new version does not.

The stored form of values decides. After a new feature, another date format or another rule, earlier datasets can still
train a model together with the next one. After a date that becomes a category, another target, or a new column that
must not be missing, they cannot, and the next version of the schema starts with the next dataset.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from millrace.data.findings import Finding, error, listed, warning
from millrace.data.notation import stated_style
from millrace.documents import dump
from millrace.errors import ArtifactNotFoundError, SchemaNotFoundError
from millrace.layout import schema_key, schema_revision_key
from millrace.ports import ObjectStore
from millrace.quantities import PLAIN, NumberStyle
from millrace.registry.store import Registry
from millrace.schema import Column, ColumnRules, Role, TableSchema
from millrace.spec import ModelSpec
from millrace.spec.data import ColumnSpec

_NO_SPEC = ColumnSpec()


def declare_columns(columns: Sequence[Column], spec: ModelSpec) -> tuple[list[Column], list[Finding]]:
    """Apply a spec to inferred columns.

    A column that the spec requires and the table lacks is an error; one that it only describes, a warning.
    """
    declared = [declare_column(column, spec) for column in columns]
    return _with_one_identifier(declared, spec), _absent_columns([column.name for column in columns], spec)


def redeclare(schema: TableSchema, spec: ModelSpec) -> TableSchema:
    """Apply the present spec to a model's schema; types and roles that it no longer states stay."""
    columns = [declare_column(column, spec) for column in schema.columns]
    return replace(schema, columns=tuple(_with_one_identifier(columns, spec)))


def declare_column(column: Column, spec: ModelSpec) -> Column:
    """Apply a spec to one column; the target keeps its role."""
    said = spec.columns.get(column.name, _NO_SPEC)
    rules = rules_of(said)
    nullable = column.nullable if rules.nullable_override is None else rules.nullable_override
    missing = None if spec.read.null_values is None else tuple(sorted({"", *spec.read.null_values}))
    declared = replace(
        _retyped(column, said), rules=rules, sensitive=said.sensitive, nullable=nullable, null_values=missing
    )
    declared = replace(declared, notation=_notation(declared, said, spec))
    role = _role_of(column, said, spec)
    if role == declared.role:
        return declared
    if role == "feature" and declared.type == "text" and said.type != "text":
        declared = replace(declared, type="category")
    return replace(declared, role=role, reason="" if role in ("feature", "target") else "said by the spec")


def _notation(column: Column, said: ColumnSpec, spec: ModelSpec) -> NumberStyle | None:
    """Return the notation of a column's numbers: the spec's, else the column's own; None for the plain one."""
    if column.type not in ("integer", "number"):
        return None
    notation = column.notation or PLAIN
    if stated := stated_style(spec.read):
        notation = replace(notation, decimal=stated.decimal, thousands=stated.thousands)
    if said.unit is not None:
        notation = replace(notation, unit=said.unit)
    return None if notation == PLAIN else notation


def rules_of(said: ColumnSpec) -> ColumnRules:
    """Return the rules of a spec for a column's values."""
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
    """Return the columns of an upload that the spec adds to the schema."""
    known = {column.name for column in schema.columns}
    return [
        name for name in names if name not in known and name in spec.columns and spec.columns[name].role != "ignored"
    ]


def extend_schema(schema: TableSchema, inferred: Sequence[Column], spec: ModelSpec) -> TableSchema:
    """Add inferred columns that the spec adds; earlier data lacks them, so they may be missing."""
    added = [replace(declare_column(column, spec), nullable=True) for column in inferred]
    return replace(schema, columns=tuple(_with_one_identifier([*schema.columns, *added], spec)))


def _retyped(column: Column, said: ColumnSpec) -> Column:
    """Give a column the type of the spec; values seen under another type do not hold any more."""
    if said.type is None and said.unit is not None and column.type not in ("integer", "number"):
        said = said.model_copy(update={"type": "number"})
    if said.type == column.type == "text" and column.role == "ignored":
        return replace(column, role="feature", reason="")
    if said.type is None or said.type == column.type:
        return replace(column, formats=said.formats) if said.formats and column.type == "datetime" else column
    boolean_numbers = column.type in ("integer", "number") and said.type == "boolean"
    retyped = Column(
        column.name,
        said.type,
        column.role,
        nullable=column.nullable,
        formats=said.formats,
        true_values=("1",) if boolean_numbers else (),
        false_values=("0",) if boolean_numbers else (),
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
    """Keep the spec's identifier as the only one."""
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


Change = Literal["none", "compatible", "incompatible"]

#: What is compared of a column; the values seen are the data's, not the contract's.
_CONTRACT = ("type", "role", "formats", "true_values", "false_values", "sensitive", "null_values", "notation")
_STORED_FORMS = {"integer": "number", "number": "number", "category": "words", "text": "words"}


@dataclass(frozen=True, slots=True)
class SchemaChange:
    """The step from one schema to the next, incompatible details first: data of both cannot train one model."""

    kind: Change
    details: tuple[str, ...] = ()


def compare_schemas(before: TableSchema, after: TableSchema) -> SchemaChange:
    """Return the change from one schema to another."""
    breaking = list(_breaking_changes(before, after))
    others = list(_other_changes(before, after))
    if breaking:
        return SchemaChange("incompatible", (*breaking, *others))
    return SchemaChange("compatible", tuple(others)) if others else SchemaChange("none")


def next_schema(current: TableSchema, spec: ModelSpec) -> TableSchema | None:
    """Return the schema for the next upload; None when the spec requires a newly inferred one."""
    target = spec.target_name
    if target is not None and target.lower() != current.target.name.lower():
        return None
    if spec.task and spec.task != current.task and "regression" in (spec.task, current.task):
        return None
    following = redeclare(current, spec)
    return None if compare_schemas(current, following).kind == "incompatible" else following


def numbered(schema: TableSchema, current: TableSchema | None, first: int = 1) -> TableSchema:
    """Give a dataset's schema its version and revision, following the model's current ones; ``first`` without any."""
    if current is None:
        return schema.with_version(first)
    kind = compare_schemas(current, schema).kind
    if kind == "incompatible":
        return schema.with_version(current.version + 1)
    return schema.with_version(current.version, current.revision + (kind == "compatible"))


def record_change(schema: TableSchema, current: TableSchema | None) -> SchemaChange:
    """Return the change from the model's schema to a dataset's; the first one is a change too."""
    if current is None:
        return SchemaChange("compatible", ("the first schema of the model",))
    return compare_schemas(current, schema)


def compare_column_names(names: Sequence[str], schema: TableSchema) -> list[Finding]:
    """Report columns that an upload lacks, or has and the schema does not, each with a remedy."""
    findings = [_missing(column, names) for column in schema.columns if column.role != "ignored"]
    known = {column.name for column in schema.columns}
    findings.extend(
        warning(
            "new_column",
            f"the column {name!r} is not in the model's schema and is left out; to learn from it, add it to the "
            f"spec (columns: {{{name}: {{role: feature}}}}) and upload again",
            name,
        )
        for name in names
        if name not in known
    )
    return [finding for finding in findings if finding is not None]


def _missing(column: Column, names: Sequence[str]) -> Finding | None:
    if column.name in names:
        return None
    what = f"the {column.role} column {column.name!r} is missing"
    if column.rules.nullable and column.role == "feature":
        return warning(
            "missing_column", f"{what}: the spec says that it may be, so its values count as missing", column.name
        )
    alike = [name for name in names if name.lower() == column.name.lower()]
    if alike:
        return error("missing_column", f"{what}: rename {alike[0]!r}", column.name)
    spared = "or say in the spec that it may be missing (nullable: true) or is not needed (role: ignored), "
    hint = f"add it, {'' if column.role == 'target' else spared}or upload with metadata `schema` replace to start anew"
    return error("missing_column", f"{what}: {hint}", column.name)


def _breaking_changes(before: TableSchema, after: TableSchema) -> Iterator[str]:
    if before.target.name != after.target.name:
        yield f"the target was {before.target.name!r} and is {after.target.name!r}"
    if before.task != after.task:
        yield f"the task was {before.task} and is {after.task}"
    elif before.classes != after.classes:
        if before.target.sensitive or after.target.sensitive:
            yield "the classes are others"
        else:
            yield f"the classes were {', '.join(before.classes)} and are {', '.join(after.classes)}"
    later = {column.name: column for column in after.columns}
    for column in before.columns:
        following = later.pop(column.name, None)
        if following is None:
            yield f"the column {column.name!r} is gone"
        elif _stored_form(column) != _stored_form(following):
            yield f"the column {column.name!r} was {_described(column)} and is {_described(following)}"
    for column in later.values():
        if column.role == "feature" and not column.nullable:
            yield f"the new column {column.name!r} may not be missing, and earlier data lacks it"


def _other_changes(before: TableSchema, after: TableSchema) -> Iterator[str]:
    earlier = {column.name: column for column in before.columns}
    for column in after.columns:
        known = earlier.get(column.name)
        if known is None:
            yield f"the column {column.name!r} ({column.type}) is new, as {column.role}"
            continue
        for name in _CONTRACT:
            was, now = getattr(known, name), getattr(column, name)
            if was != now:
                yield f"{column.name!r}: {name} was {_written(was)} and is {_written(now)}"
        for field in fields(ColumnRules):
            was, now = getattr(known.rules, field.name), getattr(column.rules, field.name)
            if was != now:
                yield f"{column.name!r}: rule {field.name} was {_written(was)} and is {_written(now)}"


def _stored_form(column: Column) -> str:
    """Return the form of a column's values in a dataset's Parquet file."""
    return "words" if column.role == "identifier" else _STORED_FORMS.get(column.type, column.type)


def _described(column: Column) -> str:
    return f"an identifier ({column.type})" if column.role == "identifier" else column.type


def _written(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, NumberStyle):
        return value.example
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


_JSON = "application/json"


def load_schema(model: str, registry: Registry, data_store: ObjectStore) -> TableSchema | None:
    """Return the model's current schema, or None before the first accepted dataset."""
    version = registry.get_state(model).current_schema_version
    if not version:
        return None
    return TableSchema.from_dict(json.loads(data_store.get(schema_key(model, version))))


def store_schema(model: str, schema: TableSchema, registry: Registry, data_store: ObjectStore) -> None:
    """Store a numbered schema as the model's; idempotent."""
    body = dump(schema.to_dict(), indent=True)
    data_store.put(schema_revision_key(model, schema.version, schema.revision), body, _JSON)
    data_store.put(schema_key(model, schema.version), body, _JSON)
    if registry.get_state(model).schema_version < schema.version:
        registry.set_schema_version(model, schema.version)


def describe_schema(model: str, version: str | None, registry: Registry, data_store: ObjectStore) -> Mapping[str, Any]:
    """Return a model's schema as plain JSON, without values of sensitive columns.

    Raises ``ModelNotFoundError`` and ``SchemaNotFoundError``.

    The version is ``3`` for its newest revision, ``3.1`` for one revision, None for the current schema.
    """
    current = registry.get_state(model).current_schema_version
    if not current:
        raise SchemaNotFoundError(
            f"the model {model!r} has no schema yet: it is inferred from the first accepted upload"
        )
    numbers = (version or str(current)).split(".")
    if not all(number.isascii() and number.isdigit() for number in numbers) or len(numbers) > 2:  # noqa: PLR2004  # version and revision
        raise SchemaNotFoundError(f"{version!r} is no schema version: one looks like 2 or 2.1")
    key = schema_key(model, int(numbers[0])) if len(numbers) == 1 else schema_revision_key(model, *map(int, numbers))
    try:
        stored = data_store.get(key)
    except ArtifactNotFoundError as fault:
        raise SchemaNotFoundError(
            f"the model {model!r} has no schema version {version}; the current is {current}"
        ) from fault
    return TableSchema.from_dict(json.loads(stored)).without_sensitive_values().to_dict()
