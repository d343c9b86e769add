"""How a model's schema may change: what leaves the earlier data usable is a revision, what does not a new version.

What counts is how values are stored. A column that becomes a feature, another date format, a rule: the datasets
that there are can be learnt from together with the next one. A date that becomes a category, another target, a new
column that may not be missing: they cannot, and the schema's next version starts with the next dataset.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Literal

from millrace.data.declared import redeclare
from millrace.data.findings import Finding, error, warning
from millrace.schema import Column, ColumnRules, TableSchema
from millrace.spec import ModelSpec

Change = Literal["none", "compatible", "incompatible"]

#: What is compared of a column; the values seen are the data's, not the contract's.
_CONTRACT = ("type", "role", "formats", "true_values", "false_values", "sensitive")
_STORED_FORMS = {"integer": "number", "number": "number", "category": "words", "text": "words"}


@dataclass(frozen=True, slots=True)
class SchemaChange:
    """The step from one schema to the next.

    Parameters
    ----------
    kind : {'none', 'compatible', 'incompatible'}
        Whether data under the one can be learnt from under the other.
    details : tuple of str
        What differs, in sentences; first what is incompatible.
    """

    kind: Change
    details: tuple[str, ...] = ()


def compare_schemas(before: TableSchema, after: TableSchema) -> SchemaChange:
    """Tell what the step from one schema to another means."""
    breaking = list(_breaking_changes(before, after))
    others = list(_other_changes(before, after))
    if breaking:
        return SchemaChange("incompatible", (*breaking, *others))
    return SchemaChange("compatible", tuple(others)) if others else SchemaChange("none")


def next_schema(current: TableSchema, spec: ModelSpec) -> TableSchema | None:
    """Return what the next upload is held to; None when the spec asks for a schema inferred anew.

    Parameters
    ----------
    current : TableSchema
        The model's.
    spec : ModelSpec
        As it is now; it may have changed since ``current`` was made.
    """
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
    """Tell what is new about a dataset's schema against the model's; the first one is a change too."""
    if current is None:
        return SchemaChange("compatible", ("the first schema of the model",))
    return compare_schemas(current, schema)


def compare_columns(names: Sequence[str], schema: TableSchema) -> list[Finding]:
    """Look for columns that an upload lacks, or has and the schema does not; each finding says how to mend it."""
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
    """Tell in which form a column's values stand in a dataset's Parquet file."""
    return "words" if column.role == "identifier" else _STORED_FORMS.get(column.type, column.type)


def _described(column: Column) -> str:
    return f"an identifier ({column.type})" if column.role == "identifier" else column.type


def _written(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
