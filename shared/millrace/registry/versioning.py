"""Semantic versions of models, by what a caller notices of the step from one version to the next."""

from dataclasses import dataclass
from typing import Literal

from millrace.schema import ColumnRules, TableSchema

FIRST_VERSION = "1.0.0"

Change = Literal["major", "minor", "patch"]

#: A column may become the wider type on the right without a value being refused.
_WIDER = frozenset({("integer", "number"), ("category", "text")})


@dataclass(frozen=True, slots=True)
class Recipe:
    """The schema and the candidate that a version was trained with."""

    schema: TableSchema
    candidate: str


def next_semantic_version(present: str, before: Recipe, after: Recipe) -> str:
    """Return the semantic version that follows ``present``."""
    major, minor, patch = (int(part) for part in present.split("."))
    change = classify_change(before, after)
    if change == "major":
        return f"{major + 1}.0.0"
    return f"{major}.{minor + 1}.0" if change == "minor" else f"{major}.{minor}.{patch + 1}"


def classify_change(before: Recipe, after: Recipe) -> Change:
    """Return the step from one recipe to the other.

    ``major``: predictions are others, or a request that was valid may be refused. ``minor``: another candidate or other
    features. ``patch``: the same recipe on other data.
    """
    if _outputs_differ(before.schema, after.schema) or _requests_may_fail(before.schema, after.schema):
        return "major"
    if before.candidate != after.candidate or _features(before.schema) != _features(after.schema):
        return "minor"
    return "patch"


def _is_stricter(before: ColumnRules, after: ColumnRules) -> bool:
    """Return True when a request that passes the rules ``before`` may be refused by the rules ``after``."""
    if after.severity != "error":
        return False
    if before.severity != "error":
        before = ColumnRules()
    if after.nullable is False and before.nullable is not False:
        return True
    if after.minimum is not None and (before.minimum is None or after.minimum > before.minimum):
        return True
    if after.maximum is not None and (before.maximum is None or after.maximum < before.maximum):
        return True
    return bool(after.allowed) and not (before.allowed and set(before.allowed) <= set(after.allowed))


def _outputs_differ(before: TableSchema, after: TableSchema) -> bool:
    return (before.task, before.classes, before.target.name) != (after.task, after.classes, after.target.name)


def _requests_may_fail(before: TableSchema, after: TableSchema) -> bool:
    known = {column.name: column for column in before.features}
    for column in after.features:
        earlier = known.get(column.name)
        if not column.nullable and (earlier is None or earlier.nullable):
            return True
        if earlier and earlier.type != column.type and (earlier.type, column.type) not in _WIDER:
            return True
        if _is_stricter(earlier.rules if earlier else ColumnRules(), column.rules):
            return True
    return False


def _features(schema: TableSchema) -> list[tuple[str, str, bool]]:
    """Return name, type and need of the features; their categories and ranges are the data's, not the recipe's."""
    return sorted((column.name, column.type, not column.nullable) for column in schema.features)
