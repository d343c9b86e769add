"""Describe and replace a model's spec, with an entry in the ledger and the effect on the schema."""

import contextlib
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from pydantic import Field, ValidationError

from millrace.data.schema_changes import SchemaChange, compare_schemas, load_schema, next_schema
from millrace.documents import to_plain
from millrace.entities import LedgerEntry, SpecRecord
from millrace.errors import FieldError, InvalidInputError, ModelNotFoundError
from millrace.names import make_cause_id
from millrace.ports import ObjectStore, Schedules
from millrace.registry.model_schedules import follow_spec
from millrace.registry.store import Registry
from millrace.schema import TableSchema
from millrace.spec import ModelSpec, invalid_input
from millrace.spec.part import SpecPart

#: A DynamoDB item holds 400 KB.
MAX_SPEC_BYTES = 300_000
#: Changes that a ledger entry names.
MAX_CHANGES = 50

_ANEW = SchemaChange("incompatible", ("the schema is inferred anew from the next upload",))


class SpecRequest(SpecPart):
    """Body of ``PUT /models/{model}/spec``; fields left out of the spec have their defaults.

    ``expected_revision`` is the revision that the caller read; None replaces any.
    """

    spec: dict[str, Any]
    expected_revision: int | None = Field(default=None, ge=0)
    reason: str = Field(default="", max_length=1_000)


def describe_spec(model: str, registry: Registry) -> dict[str, Any]:
    """Return a model's spec with its revision; raises ``ModelNotFoundError``."""
    registry.get_state(model)
    return _described(registry.get_spec_record(model))


def replace_spec(
    model: str,
    body: object,
    *,
    registry: Registry,
    data_store: ObjectStore,
    schedules: Schedules,
    actor: str,
    now: datetime,
) -> dict[str, Any]:
    """Replace a model's spec, creating the model when it is new; the same spec again changes nothing.

    The model's schedules follow once the spec is stored; after a failure, the same spec again completes them. The
    result has the present spec, its ``changes``, the ``schedules`` that changed, and under ``schema`` the effect on the
    next upload: ``kind`` (``none``, ``compatible``, ``incompatible``; null while there is no schema) and ``details``.

    Raises
    ------
    InvalidInputError
        Names every bad field, as it is called in the spec.
    ConflictError
        When the revision is not the expected one.
    ModelDeletedError
        When the model is deleted meanwhile.
    """
    if not isinstance(body, Mapping):
        raise InvalidInputError("the body is no JSON object", [FieldError("body", "expects an object with `spec`")])
    try:
        request = SpecRequest.model_validate(dict(body))
    except ValidationError as error:
        raise invalid_input("the request is not valid", error) from error
    spec = ModelSpec.parse(request.spec)
    size = len(spec.model_dump_json().encode())
    if size > MAX_SPEC_BYTES:
        raise InvalidInputError(f"the spec has {size:,} bytes; at most {MAX_SPEC_BYTES:,} can be kept")
    present = registry.get_spec_record(model)
    changes = list(_differences(present.spec.model_dump(mode="json"), spec.model_dump(mode="json")))
    state = None
    with contextlib.suppress(ModelNotFoundError):
        state = registry.get_state(model)
    current = load_schema(model, registry, data_store) if state else None
    effect = _effect(current, spec)
    # The spec of a deleted model makes it again, with nothing of its past.
    if changes or not present.revision or (state and state.deleted_at):
        entry = _ledger_entry(model, present.revision + 1, changes, reason=request.reason, actor=actor, now=now)
        # Exactly the compared revision is replaced: a change in between is a conflict, not overwritten unseen.
        expected = present.revision if request.expected_revision is None else request.expected_revision
        registry.put_spec(model, spec, entry, expected)
    followed = follow_spec(model, registry, schedules)
    registry.get_state(model).ensure_not_deleted()
    return {
        **_described(registry.get_spec_record(model)),
        "changes": changes,
        "schema": {"kind": effect.kind if current else None, "details": list(effect.details)},
        "schedules": followed,
    }


def _ledger_entry(
    model: str, revision: int, changes: list[str], *, reason: str, actor: str, now: datetime
) -> LedgerEntry:
    shown = changes[:MAX_CHANGES]
    return LedgerEntry(
        model=model,
        entry_id=make_cause_id("spec_changed", model, str(revision))[:12],
        occurred_at=now,
        actor=actor,
        action="spec_changed",
        reason=reason or f"{len(changes)} fields changed",
        details={"revision": revision, "changes": shown, "changes_not_listed": len(changes) - len(shown)},
    )


def _effect(current: TableSchema | None, spec: ModelSpec) -> SchemaChange:
    if current is None:
        return SchemaChange("none")
    following = next_schema(current, spec)
    return _ANEW if following is None else compare_schemas(current, following)


def _described(record: SpecRecord) -> dict[str, Any]:
    document: dict[str, Any] = to_plain(
        {"model": record.model, "revision": record.revision, "changed_at": record.changed_at}
    )
    return document | {"changed_by": record.changed_by, "spec": record.spec.model_dump(mode="json")}


def _differences(before: Any, after: Any, path: str = "") -> Iterator[str]:
    """Yield the differences of two documents, field by field, with long values shortened."""
    if isinstance(before, dict) and isinstance(after, dict):
        for name in sorted({*before, *after}):
            yield from _differences(before.get(name), after.get(name), f"{path}.{name}" if path else name)
    elif before != after:
        yield f"{path}: {_short(before)} -> {_short(after)}"


def _short(value: Any) -> str:
    text = str(to_plain(value))
    return text if len(text) <= 80 else text[:77] + "..."  # noqa: PLR2004  # a line
