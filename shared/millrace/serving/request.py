"""One HTTP request, whoever delivered it, and what a dialect makes of it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, Protocol
from urllib.parse import unquote

from millrace.errors import FieldError, InvalidInputError, UnsupportedMediaTypeError, VersionNotFoundError
from millrace.names import CHAMPION, validate_model_name


class _Absent:
    """What stands where a row says nothing about a column; a null is a value, silence is not."""

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT: Final = _Absent()


class RequestTable(Protocol):
    """Rows to score, whatever shape they came in."""

    @property
    def n_rows(self) -> int:
        """How many rows there are."""
        ...

    @property
    def names(self) -> frozenset[str]:
        """The columns that at least one row speaks of."""
        ...

    def column(self, name: str) -> Sequence[Any]:
        """Return one column's values, :data:`ABSENT` where a row is silent; ``name`` is one of ``names``."""
        ...


@dataclass(frozen=True)
class RecordsTable:
    """Rows given as objects.

    Columns are collected on demand, so that rows with thousands of made-up names cost no more than their bytes.
    """

    records: Sequence[Mapping[str, Any]]

    @property
    def n_rows(self) -> int:
        """How many rows there are."""
        return len(self.records)

    @cached_property
    def names(self) -> frozenset[str]:
        """The names that at least one row has."""
        return frozenset().union(*self.records)

    def column(self, name: str) -> Sequence[Any]:
        """Return one column's values."""
        return [record.get(name, ABSENT) for record in self.records]


@dataclass(frozen=True)
class ColumnsTable:
    """Rows given as columns."""

    columns: Mapping[str, Sequence[Any]]
    n_rows: int

    @cached_property
    def names(self) -> frozenset[str]:
        """The columns' names."""
        return frozenset(self.columns)

    def column(self, name: str) -> Sequence[Any]:
        """Return one column's values."""
        return self.columns[name]


JSON = "application/json"

_VERSION = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}\Z")


@dataclass(frozen=True)
class Request:
    """A request as it came.

    Parameters
    ----------
    body : bytes
        Unpacked.
    headers : mapping of str to str
        Names in lower case.
    parameters : mapping of str to str
        What stands for the placeholders of the route's path.
    query : mapping of str to str
        What stands behind the path's question mark.
    """

    body: bytes
    headers: Mapping[str, str]
    parameters: Mapping[str, str]
    query: Mapping[str, str] = field(default_factory=dict)

    @property
    def model(self) -> str:
        """The model's name; raises ``InvalidNameError`` when none can be called that."""
        return validate_model_name(unquote(self.parameters.get("model") or ""))

    @property
    def version(self) -> str:
        """The version's number or an alias, the champion where the path names none.

        Raises
        ------
        VersionNotFoundError
            When no version and no alias can be called that.
        """
        version = unquote(self.parameters.get("version") or CHAMPION)
        if not _VERSION.match(version):
            raise VersionNotFoundError("a version is a whole number or an alias of letters, digits, '-' and '_'")
        return version

    @cached_property
    def media_type(self) -> str:
        """What the body is said to be, without parameters and in lower case; JSON where nothing is said.

        Raises
        ------
        UnsupportedMediaTypeError
            When it is said to be text in anything but UTF-8.
        """
        media_type, *parameters = (self.headers.get("content-type") or JSON).lower().split(";")
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name.strip() == "charset" and value.strip('" ') not in ("utf-8", "utf8"):
                raise UnsupportedMediaTypeError("text is read in UTF-8 only")
        return media_type.strip() or JSON

    @property
    def text(self) -> str:
        """The body as text, without a byte order mark; raises ``InvalidInputError`` when it is not UTF-8."""
        try:
            return self.body.decode().removeprefix("\ufeff")
        except UnicodeDecodeError as error:
            raise InvalidInputError("the body is not text in UTF-8") from error


@dataclass(frozen=True, slots=True)
class PredictionRequest:
    """What a caller asks for.

    Parameters
    ----------
    table : RequestTable
        The rows, not typed yet.
    request_id : str or None, default=None
        What the caller calls the request, in dialects that have such a name.
    outputs : tuple of str, default=()
        The only outputs that are wanted; empty for all.
    parameters : mapping
        What the body says about how it is to be answered, under the dialect's own name for it.
    """

    table: RequestTable
    request_id: str | None = None
    outputs: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)


def answers_partially(request: Request, asked: PredictionRequest) -> bool:
    """Tell whether good rows are to be answered although others are bad; the query goes before the body.

    Raises
    ------
    InvalidInputError
        When ``on_error`` is neither ``refuse`` nor ``partial``.
    """
    on_error = request.query.get("on_error", asked.parameters.get("on_error", "refuse"))
    if on_error not in ("refuse", "partial"):
        message = "expects 'refuse' or 'partial'"
        raise InvalidInputError(f"on_error {message}", [FieldError("on_error", message)])
    return bool(on_error == "partial")


def wants_explanations(request: Request, asked: PredictionRequest) -> bool:
    """Tell whether predictions are to be explained; the query goes before the body.

    Raises
    ------
    InvalidInputError
        When ``explain`` is neither true nor false.
    """
    explain = request.query.get("explain", asked.parameters.get("explain", False))
    wanted = {"true": True, "false": False}.get(explain.lower()) if isinstance(explain, str) else explain
    if not isinstance(wanted, bool):
        raise InvalidInputError("explain expects true or false", [FieldError("explain", "expects true or false")])
    return wanted
