"""Entities as plain JSON: what callers over HTTP read."""

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from numbers import Integral, Real
from typing import Any


def to_plain(value: Any) -> Any:
    """Turn entities, tuples, mappings, moments and numbers of any library into what ``json`` can write.

    Moments become ISO 8601 in UTC. Numbers stay what they are, infinities and NaN included.

    Raises
    ------
    TypeError
        For anything else.
    """
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, Real):
        return int(value) if isinstance(value, Integral) else float(value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, Mapping):
        return {str(key): to_plain(element) for key, element in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(element) for element in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in fields(value)}
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def to_json(value: Any) -> Any:
    """Turn entities into strict JSON: as :func:`to_plain`, but a number that is none becomes null."""
    return _finite(to_plain(value))


def _finite(plain: Any) -> Any:
    if isinstance(plain, float) and not math.isfinite(plain):
        return None
    if isinstance(plain, dict):
        return {key: _finite(value) for key, value in plain.items()}
    if isinstance(plain, list):
        return [_finite(value) for value in plain]
    return plain
