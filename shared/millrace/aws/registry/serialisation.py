"""Entities to DynamoDB items and back.

Every field is an attribute of its own, so that one field can be changed or stand in a condition without reading
the rest. Text, whole numbers and moments are stored as they are; a field that is missing is left out; anything
else (a fraction, a mapping, nested entities) is one JSON text, because DynamoDB's numbers are decimals that change
a float, and nothing is ever asked of the inside of these.
"""

import json
import types
from collections.abc import Hashable, Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from functools import cache
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

if TYPE_CHECKING:
    from mypy_boto3_dynamodb.type_defs import AttributeValueTypeDef

Item = dict[str, "AttributeValueTypeDef"]
EntityT = TypeVar("EntityT")


def encode_value(value: Any) -> "AttributeValueTypeDef":
    """Return one field as an attribute value; None has none."""
    plain = _to_plain(value)
    if isinstance(plain, str):
        return {"S": plain}
    if isinstance(plain, int) and not isinstance(plain, bool):
        return {"N": str(plain)}
    return {"S": json.dumps(plain, separators=(",", ":"))}


def _to_plain(value: Any) -> Any:
    """Turn a field into plain JSON values; infinities and NaN stay, because a record must be read as it was written."""
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, Real):
        return int(value) if isinstance(value, Integral) else float(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, Mapping):
        return {str(key): _to_plain(element) for key, element in value.items()}
    if isinstance(value, list | tuple):
        return [_to_plain(element) for element in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _to_plain(getattr(value, field.name)) for field in fields(value)}
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def encode(entity: Any) -> Item:
    """Return an entity's fields as attributes, without those that are None."""
    return {
        field.name: encode_value(value)
        for field in fields(entity)
        if (value := getattr(entity, field.name)) is not None
    }


def decode(entity_class: type[EntityT], item: Mapping[str, Any]) -> EntityT:
    """Read what :func:`encode` wrote; a field that the item lacks has its default, or None."""
    values: dict[str, Any] = {}
    for name, hint in _hints(entity_class).items():
        if name in item:
            values[name] = _decode_value(_without_none(hint), item[name])
    return entity_class(**values)


def _decode_value(hint: Any, attribute: Mapping[str, Any]) -> Any:
    if "N" in attribute:
        return hint(attribute["N"])
    if hint in (str, datetime) or get_origin(hint) is Literal:
        return _from_plain(hint, attribute["S"])
    return _from_plain(hint, json.loads(attribute["S"]))


def _from_plain(hint: Any, plain: Any) -> Any:
    """Give JSON back the types that ``hint`` names."""
    hint = _without_none(hint)
    if plain is None:
        return None
    if hint is datetime:
        return datetime.fromisoformat(plain)
    if get_origin(hint) is tuple:
        return tuple(_from_plain(get_args(hint)[0], element) for element in plain)
    if is_dataclass(hint):
        hints = _hints(hint)
        return hint(**{name: _from_plain(hints[name], value) for name, value in plain.items()})  # type: ignore[operator]  # it is a class, not an instance
    return plain


def _hints(entity_class: Any) -> dict[str, Any]:
    return _read_hints(entity_class)


@cache
def _read_hints(entity_class: Hashable) -> dict[str, Any]:
    return get_type_hints(entity_class)


def _without_none(hint: Any) -> Any:
    if get_origin(hint) in (Union, types.UnionType):
        return next(part for part in get_args(hint) if part is not types.NoneType)
    return hint
