"""Typed JSON documents: one mechanism for reading and writing everything that is stored or replied as JSON.

A stored document is a :class:`Document`: a frozen record that knows the version of its own format and reads what
earlier versions wrote. Records inside it are structs or dataclasses, with numpy arrays where there are many numbers.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any, ClassVar, Self, TypeVar, get_args, get_origin

import msgspec
import numpy as np
import orjson

from millrace.errors import ArtifactIntegrityError

RecordT = TypeVar("RecordT")

_NATIVE = (bytes, datetime, np.ndarray)
_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS | orjson.OPT_PASSTHROUGH_DATETIME
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class Record(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A typed part of a document."""

    def __eq__(self, other: object) -> bool:
        """Compare by what is written: arrays have no single truth value."""
        return type(other) is type(self) and to_plain(self) == to_plain(other)

    def __ne__(self, other: object) -> bool:
        """Negate equality; a struct's own comparison would go by identity."""
        return not self == other

    __hash__ = None  # type: ignore[assignment]  # records may hold arrays and mappings


class Document(Record, frozen=True, kw_only=True, eq=False):
    """Base of every stored document.

    ``FORMAT_VERSION`` is written as ``format_version``; a document without it is of version 0.
    """

    FORMAT_VERSION: ClassVar[int] = 1

    @classmethod
    def upgrade(cls, stored: dict[str, Any], version: int) -> dict[str, Any]:  # noqa: ARG003 - overrides read it
        """Return a document of an earlier format as the present one; by default nothing differs."""
        return stored

    @classmethod
    def read(cls, data: bytes | str | Mapping[str, Any]) -> Self:
        """Read a document, of this format or an earlier one.

        Raises ``ArtifactIntegrityError`` when it is not JSON, of a later format, or a field is missing or of another
        type.
        """
        try:
            stored = dict(data) if isinstance(data, Mapping) else orjson.loads(data)
            version = stored.pop("format_version", 0)
            if version > cls.FORMAT_VERSION:
                raise ArtifactIntegrityError(
                    f"the {cls.__name__} has format version {version}, and this release reads up to "
                    f"{cls.FORMAT_VERSION}: deploy the release that wrote it, or a later one"
                )
            return from_plain(cls, stored if version == cls.FORMAT_VERSION else cls.upgrade(stored, version))
        except (orjson.JSONDecodeError, msgspec.ValidationError, AttributeError, KeyError, TypeError) as error:
            raise ArtifactIntegrityError(f"the {cls.__name__} cannot be read: {error}") from error

    def write(self, *, indent: bool = True) -> bytes:
        """Return the document as JSON, by default indented for people."""
        return dump({"format_version": self.FORMAT_VERSION} | _to_builtins(self), indent=indent)


def to_plain(value: Any) -> Any:
    """Return records, mappings, sequences, timestamps and numbers of any library as plain JSON values.

    Timestamps become ISO 8601 in UTC, numbers that are not finite become None, integers past 64 bits the nearest float,
    and lone surrogates, which UTF-8 has no bytes for, U+FFFD. Raises ``TypeError`` for a value that JSON cannot hold.
    """
    return orjson.loads(dump(value))


def from_plain(record_class: type[RecordT], plain: Any) -> RecordT:
    """Return a record from plain JSON values; fields that the record does not have are left out.

    Raises ``msgspec.ValidationError``, which names the field that is missing or of another type.
    """
    return msgspec.convert(plain, record_class, dec_hook=_decode)


def dump(value: Any, *, indent: bool = False) -> bytes:
    """Return a value as JSON text in UTF-8; see :func:`to_plain`."""
    builtins = _to_builtins(value)
    options = _OPTIONS | (orjson.OPT_INDENT_2 if indent else 0)
    try:
        return orjson.dumps(builtins, default=_encode, option=options)
    except TypeError:
        return orjson.dumps(_storable(builtins), default=_encode, option=options)


def _to_builtins(value: Any) -> Any:
    return msgspec.to_builtins(value, builtin_types=_NATIVE, enc_hook=_encode)


def _encode(value: Any) -> Any:
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(UTC).isoformat()
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def _storable(value: Any) -> Any:
    """Return plain values with what orjson refuses replaced: rare, so that it is looked for only after a refusal."""
    if isinstance(value, str):
        return _LONE_SURROGATE.sub("\N{REPLACEMENT CHARACTER}", value)
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return float(value)
    if isinstance(value, dict):
        return {_storable(key): _storable(element) for key, element in value.items()}
    if isinstance(value, list | tuple):
        return [_storable(element) for element in value]
    return value if value is None or isinstance(value, int | float) else _storable(_encode(value))


def _decode(hint: Any, plain: Any) -> Any:
    if (get_origin(hint) or hint) is np.ndarray:
        return np.asarray(plain, dtype=_dtype(hint))
    raise TypeError(f"{hint} is not read from JSON")


@cache
def _dtype(hint: Any) -> Any:
    """Return the element type of an annotation such as ``npt.NDArray[np.int64]``."""
    arguments = get_args(hint)
    return get_args(arguments[1])[0] if arguments else None


def parse_timestamp(text: str) -> datetime:
    """Return an ISO 8601 timestamp with its time zone, UTC if it has none; raises ``ValueError``."""
    timestamp = datetime.fromisoformat(text)
    return timestamp if timestamp.tzinfo else timestamp.replace(tzinfo=UTC)
