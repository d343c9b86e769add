"""Entities to the registry's items and back.

Every field is an attribute of its own, so that one field can be changed or stand in a condition without reading
the rest. Text, whole numbers and timestamps are stored as they are; a field that is missing is left out; anything
else (a fraction, a mapping, nested entities) is one JSON text, because DynamoDB's numbers are decimals that change
a float. Infinities and NaN are kept, because a record must be read as it was written.
"""

import json
import types
from collections.abc import Hashable, Mapping
from dataclasses import fields
from datetime import UTC, datetime
from functools import cache
from numbers import Integral, Real
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import msgspec

from millrace.ports import Item

EntityT = TypeVar("EntityT")


def encode_value(value: Any) -> str | int:
    """Return one field as an attribute's value."""
    plain = msgspec.to_builtins(value, builtin_types=(datetime,), str_keys=True, enc_hook=_encode_other)
    if isinstance(plain, datetime):
        return _encode_timestamp(plain)
    if isinstance(plain, str) or (isinstance(plain, int) and not isinstance(plain, bool)):
        return plain
    return json.dumps(plain, separators=(",", ":"), default=_encode_timestamp)


def encode(entity: Any) -> dict[str, Any]:
    """Return an entity's fields as attributes, without those that are None."""
    values = {field.name: getattr(entity, field.name) for field in fields(entity)}
    return {name: encode_value(value) for name, value in values.items() if value is not None}


def decode(entity_class: type[EntityT], item: Item) -> EntityT:
    """Read what :func:`encode` wrote; a field that the item lacks has its default, or None."""
    values = {
        name: json.loads(item[name]) if is_json and isinstance(item[name], str) else item[name]
        for name, is_json in _fields(cast(Hashable, entity_class)).items()
        if name in item
    }
    return msgspec.convert(values, entity_class)


def _encode_timestamp(timestamp: datetime) -> str:
    return timestamp.astimezone(UTC).isoformat()


def _encode_other(value: Any) -> Any:
    """Return numpy's numbers and other mappings as built-in types."""
    if isinstance(value, Real):
        return int(value) if isinstance(value, Integral) else float(value)
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no form in JSON")


@cache
def _fields(entity_class: Hashable) -> dict[str, bool]:
    """Return which fields are JSON where they are stored as text."""
    return {name: not _is_text(hint) for name, hint in get_type_hints(entity_class).items()}


def _is_text(hint: Any) -> bool:
    if get_origin(hint) in (Union, types.UnionType):
        hint = next(part for part in get_args(hint) if part is not types.NoneType)
    return hint in (str, datetime) or get_origin(hint) is Literal
