"""One HTTP request, and the rows that a protocol reads from it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final
from urllib.parse import unquote

from millrace.conformal import MAX_LEVEL, MIN_LEVEL
from millrace.errors import FieldError, InvalidInputError, UnsupportedMediaTypeError, VersionNotFoundError
from millrace.names import CHAMPION, validate_model_name

JSON = "application/json"

#: A number has one form: a path that names a version in another would pass by a policy that names the first.
_VERSION = re.compile(r"^(?!0\d*\Z)[A-Za-z0-9][A-Za-z0-9_-]{0,62}\Z")
_DECIMAL = re.compile(r"[0-9]{0,20}\.?[0-9]{1,20}")
_PERCENT = 100


class _Absent:
    """The value of a column that a row does not mention; a null is a value, absence is not."""


ABSENT: Final = _Absent()


@dataclass(frozen=True)
class RecordsTable:
    """Rows given as objects.

    Columns are collected on demand, so that rows with thousands of made-up names cost no more than their bytes.
    """

    records: Sequence[Mapping[str, Any]]

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(self.records)

    @cached_property
    def names(self) -> frozenset[str]:
        """Columns that at least one row mentions."""
        return frozenset().union(*self.records)

    def column(self, name: str) -> Sequence[Any]:
        """Return a column's values, :data:`ABSENT` where a row lacks it; ``name`` is one of ``names``."""
        return [record.get(name, ABSENT) for record in self.records]

    def common_value(self, name: str) -> Any:
        """Return the value that every row has in a column; :data:`ABSENT` where they differ."""
        first = self.records[0].get(name, ABSENT)
        # Mostly they differ, and a comparison of two shows it.
        if self.records[-1].get(name, ABSENT) != first:
            return ABSENT
        return first if all(record.get(name, ABSENT) == first for record in self.records[1:-1]) else ABSENT

    def select(self, rows: Sequence[int]) -> "RecordsTable":
        """Return some of the rows."""
        return RecordsTable([self.records[row] for row in rows])


@dataclass(frozen=True)
class ColumnsTable:
    """Rows given as columns."""

    columns: Mapping[str, Sequence[Any]]
    n_rows: int

    @cached_property
    def names(self) -> frozenset[str]:
        """Names of the columns."""
        return frozenset(self.columns)

    def column(self, name: str) -> Sequence[Any]:
        """Return a column's values."""
        return self.columns[name]

    def common_value(self, name: str) -> Any:
        """Return the value that every row has in a column; :data:`ABSENT` where they differ."""
        values = self.columns.get(name)
        if values is None or values[0] != values[-1]:
            return ABSENT
        return values[0] if self.n_rows == 1 or values[1:] == values[:-1] else ABSENT

    def select(self, rows: Sequence[int]) -> "ColumnsTable":
        """Return some of the rows."""
        columns = {name: [values[row] for row in rows] for name, values in self.columns.items()}
        return ColumnsTable(columns, len(rows))


RequestTable = RecordsTable | ColumnsTable


@dataclass(frozen=True)
class Request:
    """A request: decompressed body, headers by lower-case name, and parameters of the path and the query string.

    ``key_id`` is that of the API key which the gateway let in; None for a signed request.
    """

    body: bytes
    headers: Mapping[str, str]
    parameters: Mapping[str, str]
    query: Mapping[str, str] = field(default_factory=dict)
    key_id: str | None = None

    @property
    def model(self) -> str:
        """Name of the model; raises ``InvalidNameError`` when no model can have it."""
        return validate_model_name(unquote(self.parameters.get("model") or ""))

    @property
    def version(self) -> str:
        """Number or alias of the version, by default the champion; ``VersionNotFoundError`` when none can have it."""
        version = unquote(self.parameters.get("version") or CHAMPION)
        if not _VERSION.match(version):
            raise VersionNotFoundError("a version is a whole number or an alias of letters, digits, '-' and '_'")
        return version

    @cached_property
    def media_type(self) -> str:
        """Content type in lower case, by default JSON; ``UnsupportedMediaTypeError`` when it is not in UTF-8."""
        media_type, *parameters = (self.headers.get("content-type") or JSON).lower().split(";")
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name.strip() == "charset" and value.strip('" ') not in ("utf-8", "utf8"):
                raise UnsupportedMediaTypeError("the only supported character set is UTF-8")
        return media_type.strip() or JSON

    @property
    def text(self) -> str:
        """Body as text, without a byte order mark; raises ``InvalidInputError`` when it is not UTF-8."""
        try:
            return self.body.decode().removeprefix("\ufeff")
        except UnicodeDecodeError as error:
            raise InvalidInputError("the body is not text in UTF-8") from error


@dataclass(frozen=True, slots=True)
class PredictionRequest:
    """Contents of a request for predictions: rows, the caller's own id, names of outputs (empty for all), options."""

    table: RequestTable
    request_id: str | None = None
    outputs: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def allows_bad_rows(self, query: Mapping[str, str]) -> bool:
        """Return the option ``on_error`` as a boolean; the query string overrides the body."""
        on_error = query.get("on_error", self.parameters.get("on_error", "refuse"))
        if on_error not in ("refuse", "partial"):
            message = "expects 'refuse' or 'partial'"
            raise InvalidInputError(f"on_error {message}", [FieldError("on_error", message)])
        return bool(on_error == "partial")

    def wants_explanations(self, query: Mapping[str, str]) -> bool:
        """Return the option ``explain``; the query string overrides the body."""
        explain = query.get("explain", self.parameters.get("explain", False))
        wanted = {"true": True, "false": False}.get(explain.lower()) if isinstance(explain, str) else explain
        if not isinstance(wanted, bool):
            raise InvalidInputError("explain expects true or false", [FieldError("explain", "expects true or false")])
        return wanted

    def interval_level(self, query: Mapping[str, str]) -> float | None:
        """Return the option ``interval``, the level of intervals and sets; the query string overrides the body."""
        level = query.get("interval", self.parameters.get("interval", ABSENT))
        return None if level is ABSENT else read_level(level)


def read_level(level: Any) -> float:
    """Read the option ``interval``; raises ``InvalidInputError`` for what is no level."""
    if isinstance(level, str) and _DECIMAL.fullmatch(level):
        level = float(level)
    message = f"expects a number from {MIN_LEVEL} to {MAX_LEVEL}, such as 0.9"
    if type(level) in (int, float):
        if MIN_LEVEL <= level <= MAX_LEVEL:
            return float(level)
        if MIN_LEVEL * _PERCENT <= level <= MAX_LEVEL * _PERCENT:
            message += f": {level:g} % is {level / _PERCENT:g}"
    raise InvalidInputError(f"interval {message}", [FieldError("interval", message)])
