"""The record of a protocol, and the readers of the shapes that a table has in JSON and CSV.

The shapes are objects, rows of values, columns, and pandas' ``split``. A protocol's record holds everything that
serving, its metrics and its documentation know about it.
"""

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from http import HTTPStatus
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Literal

from millrace.errors import (
    FieldError,
    InvalidInputError,
    MillraceError,
    ModelNotReadyError,
    PayloadTooLargeError,
    UnsupportedMediaTypeError,
)
from millrace.json_text import read_json
from millrace.schema import DELIMITERS, Column, TableSchema
from millrace.serving.request import JSON, ColumnsTable, PredictionRequest, RecordsTable, Request, RequestTable
from millrace.serving.rows import json_type, read_numeric_text

if TYPE_CHECKING:
    # Who only needs the list of protocols, such as monitoring, has no ONNX Runtime.
    from millrace.serving.model import LoadedModel
    from millrace.serving.scoring import Scores

#: Errors that a reply lists.
LISTED_ERRORS = 100
#: Bad fields that a message names; it ends up in exceptions and logs.
NAMED_FIELDS = 20
#: Characters of a caller's own name that a reply repeats.
_SHOWN = 100


#: Operations that :mod:`millrace.serving.handler` implements once for all protocols.
Operation = Literal["predict", "check_readiness", "describe_model", "describe_openapi"]


@dataclass(frozen=True, slots=True)
class Fixed:
    """A reply that depends on nothing: a JSON document, or plain text."""

    body: Mapping[str, Any] | str


#: Operation or fixed reply by method and path; paths are written as in ``template.yaml``.
Routes = Mapping[tuple[str, str], Operation | Fixed]


@dataclass(frozen=True, slots=True)
class OpenApiPart:
    """A protocol's part of the OpenAPI document of one model: paths, and the schemas that they refer to."""

    paths: dict[str, Any]
    schemas: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Protocol:
    """A protocol in which requests may be sent.

    ``name`` is the value of the metrics' dimension ``dialect``, which captured rows store too, and ``title`` the name
    in ``docs/serving.md``. ``parse`` and ``openapi`` take the most rows that a request may hold. ``write_error``
    returns status and body, from an error and its document. ``prepare`` returns a request whose parameters name the
    model, or refuses it by path and headers alone. ``describe`` returns the protocol's metadata of a version.
    """

    name: str
    title: str
    routes: Routes
    parse: Callable[[Request, TableSchema, int], PredictionRequest]
    write: "Callable[[PredictionRequest, Scores, LoadedModel, str], dict[str, Any]]"
    write_error: Callable[[MillraceError, Mapping[str, Any]], tuple[int, Mapping[str, Any]]]
    openapi: "Callable[[LoadedModel, int], OpenApiPart]"
    content_types: tuple[str, ...] = (JSON,)
    prepare: Callable[[Request, Operation], Request] = lambda request, _operation: request
    describe: "Callable[[LoadedModel], dict[str, Any]] | None" = None

    def read(self, request: Request, schema: TableSchema, max_rows: int) -> PredictionRequest:
        """Read a request of at most ``max_rows`` rows, values not typed yet; raises for another media type or shape."""
        if request.media_type not in self.content_types:
            supported = " and ".join(map(repr, self.content_types))
            raise UnsupportedMediaTypeError(f"only {supported}, in UTF-8, can be read here")
        return self.parse(request, schema, max_rows)


def request_form(schema: TableSchema) -> tuple[Any, ...]:
    """Return the part of a schema that :meth:`Protocol.read` depends on: versions that agree in it share its result.

    Values that training saw are no part of it, so a version that was trained on other data is read alike.
    """
    features = tuple((column.name, column.type, column.notation, column.missing_strings) for column in schema.features)
    return schema.task == "regression", features, frozenset(column.name for column in schema.columns)


def read_object(request: Request) -> dict[str, Any]:
    """Read a body that is one JSON object without repeated keys; a ``NaN`` literal counts as null."""
    document = _parse(request.text)
    if not isinstance(document, dict):
        raise InvalidInputError(f"the request has to be a JSON object, not {json_type(document)}")
    return document


def refuse(message: str, errors: Iterable[tuple[str, str]]) -> None:
    """Raise ``InvalidInputError`` if there are errors, pairs of field and message; lists the first of them."""
    listed = [FieldError(field, text) for field, text in islice(errors, LISTED_ERRORS)]
    if listed:
        raise InvalidInputError(message, listed)


def refuse_unknown_keys(document: Mapping[str, Any], known: AbstractSet[str]) -> None:
    """Refuse an object that holds other keys than ``known``."""
    unknown = document.keys() - known
    if unknown:
        errors = ((key[:_SHOWN], "is not a part of a request") for key in sorted(unknown))
        refuse("the request holds unknown keys", errors)


def read_parameters(document: Mapping[str, Any], field: str) -> Mapping[str, Any]:
    """Return the options of a request; empty where it has none."""
    parameters = document.get(field)
    if not isinstance(parameters, dict | None):
        raise field_error(field, f"expects an object, got {json_type(parameters)}")
    return parameters or {}


def field_error(field: str, message: str) -> InvalidInputError:
    """Return the error of one field."""
    return InvalidInputError(f"{field} {message}", [FieldError(field, message)])


def _parse(text: str) -> Any:
    if not text.strip():
        raise InvalidInputError("the request has no body")
    try:
        return read_json(text, _DECODER.decode)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise InvalidInputError(f"the body is not JSON: {error.msg} at {place}") from error
    except ValueError as error:  # an integer of thousands of digits
        raise InvalidInputError("the body holds a number that is too long to read") from error
    except RecursionError as error:
        raise InvalidInputError("the body is nested too deeply") from error


def _constant(literal: str) -> float | None:
    return None if literal == "NaN" else float(literal)


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        repeated = _repeated([name for name, _ in pairs])
        errors = ((name[:_SHOWN], "is repeated in the same object") for name in repeated)
        refuse("an object of the request repeats a key", errors)
    return members


_DECODER = json.JSONDecoder(object_pairs_hook=_unique_keys, parse_constant=_constant)


def _repeated(names: Sequence[str]) -> list[str]:
    return sorted(name for name, count in Counter(names).items() if count > 1)


def plain_error(error: MillraceError, document: Mapping[str, Any]) -> tuple[int, Mapping[str, Any]]:
    """Return status and body of an error as one sentence; ``document`` is what a caller may know of it."""
    fields, message = document.get("fields", []), document["message"]
    named = "; ".join(f"{bad['field']} {bad['message']}" for bad in fields[:NAMED_FIELDS])
    if named and named != message:  # a single bad field may be the whole message already
        rest = f"; and {len(fields) - NAMED_FIELDS} more" if len(fields) > NAMED_FIELDS else ""
        message = f"{message}: {named}{rest}"
    status = HTTPStatus.SERVICE_UNAVAILABLE if isinstance(error, ModelNotReadyError) else error.http_status
    return int(status), {"error": message}


def read_records(field: str, records: Any, max_rows: int) -> RequestTable:
    """Read a list of objects, one a row."""
    _check_rows(field, records, max_rows)
    _refuse_other_types(dict, field, records, "an object")
    return RecordsTable(records)


def read_split(field: str, split: Any, max_rows: int) -> RequestTable:
    """Read ``{"columns": names, "data": rows}``; an ``index`` is ignored."""
    if not isinstance(split, dict):
        raise field_error(field, f"expects an object with 'columns' and 'data', got {json_type(split)}")
    required, known = {"columns", "data"}, {"columns", "data", "index"}
    if not required <= split.keys() <= known:
        missing = ((f"{field}.{key}", "is missing") for key in sorted(required - split.keys()))
        unknown = ((f"{field}.{key[:_SHOWN]}", "is not a part of a split") for key in sorted(split.keys() - known))
        refuse(f"{field!r} is not a split data frame", chain(missing, unknown))
    columns = split["columns"]
    if not isinstance(columns, list) or not all(isinstance(name, str) for name in columns):
        raise field_error(f"{field}.columns", "expects a list of names")
    check_distinct(f"{field}.columns", columns)
    return read_rows(f"{field}.data", columns, split["data"], max_rows)


def read_rows(field: str, names: Sequence[str], rows: Any, max_rows: int) -> RequestTable:
    """Read rows of values under ``names``, which are distinct."""
    _check_rows(field, rows, max_rows)
    _refuse_other_types(list, field, rows, "a list")
    if set(map(len, rows)) != {len(names)}:
        lengths = enumerate(map(len, rows))
        refuse(
            f"some rows of {field!r} have another number of values than there are columns",
            ((f"row {row}", f"has {n} values for {len(names)} columns") for row, n in lengths if n != len(names)),
        )
    values, width = list(chain.from_iterable(rows)), len(names)
    return ColumnsTable({name: values[place::width] for place, name in enumerate(names)}, len(rows))


def read_columns(field: str, columns: dict[str, Any], names: Sequence[str], max_rows: int) -> RequestTable:
    """Read an object of columns, lists of equal length; where no column in ``names`` is a list, it is one row."""
    if not columns:
        raise field_error(field, "holds no columns")
    if not any(isinstance(columns.get(name), list) for name in names):
        return RecordsTable([columns])
    refuse(
        f"some columns of {field!r} are no lists",
        (
            (f"{field}.{name[:_SHOWN]}", f"expects a list of values, got {json_type(values)}")
            for name, values in columns.items()
            if not isinstance(values, list)
        ),
    )
    # MLflow's own client sends a column as a matrix of one column when it was one.
    flat = {name: _without_inner_lists(values) for name, values in columns.items()}
    n_rows = max(map(len, flat.values()))
    refuse(
        f"the columns of {field!r} are not equally long",
        (
            (f"{field}.{name[:_SHOWN]}", f"has {len(values)} values where others have {n_rows}")
            for name, values in flat.items()
            if len(values) != n_rows
        ),
    )
    check_row_count(field, n_rows, max_rows)
    return ColumnsTable(flat, n_rows)


def read_array(field: str, rows: Any, names: Sequence[str], max_rows: int) -> RequestTable:
    """Read a list of rows: objects, or values in the order of ``names``; plain values are rows of one each."""
    _check_rows(field, rows, max_rows)
    if isinstance(rows[0], dict):
        return read_records(field, rows, max_rows)
    if len(names) == 1 and not any(isinstance(row, list) for row in rows):
        return ColumnsTable({names[0]: rows}, len(rows))
    return read_rows(field, names, rows, max_rows)


def check_distinct(field: str, names: Sequence[str]) -> None:
    """Refuse a repeated name."""
    if len(set(names)) < len(names):
        refuse("a column is named twice", ((field, f"repeats {name[:_SHOWN]!r}") for name in _repeated(names)))


def _check_rows(field: str, rows: Any, max_rows: int) -> None:
    if not isinstance(rows, list):
        raise field_error(field, f"expects a list of rows, got {json_type(rows)}")
    check_row_count(field, len(rows), max_rows)


def check_row_count(field: str, n_rows: int, max_rows: int) -> None:
    """Refuse no rows, and more than a request may hold."""
    if not n_rows:
        raise field_error(field, "holds no rows")
    if n_rows > max_rows:
        raise PayloadTooLargeError(
            f"the request holds {n_rows} rows; one request may hold {max_rows}: send the rows in batches"
        )


def _without_inner_lists(values: list[Any]) -> list[Any]:
    inner = all(isinstance(value, list) and len(value) == 1 for value in values)
    return [value[0] for value in values] if inner else values


def _refuse_other_types(expected: type, field: str, rows: Sequence[Any], name: str) -> None:
    if not set(map(type, rows)) <= {expected}:
        others = ((row, value) for row, value in enumerate(rows) if not isinstance(value, expected))
        message = f"some rows of {field!r} have another type"
        refuse(message, ((f"row {row}", f"expects {name}, got {json_type(value)}") for row, value in others))


def read_csv(request: Request, schema: TableSchema, max_rows: int) -> RequestTable:
    """Read rows from CSV in UTF-8: double quotes, names in the first line, a delimiter that training reads as well."""
    text = request.text
    if not text.strip():
        raise InvalidInputError("the request has no body")
    lines, delimiter = io.StringIO(text, newline=""), _find_delimiter(text, schema)
    try:
        names, *rows = [row for row in csv.reader(lines, strict=True, delimiter=delimiter) if row]
    except csv.Error as error:
        raise InvalidInputError(f"the body is not CSV: {error}") from error
    names = [name.strip() for name in names]
    check_distinct("the first line", names)
    table = read_rows("the CSV table", names, rows, max_rows)
    columns: dict[str, Any] = {name: table.column(name) for name in table.names}
    for column in schema.features:
        if column.type in ("integer", "number") and column.name in columns:
            columns[column.name] = [_read_number(value, column) for value in columns[column.name]]
    return ColumnsTable(columns, table.n_rows)


def _find_delimiter(text: str, schema: TableSchema) -> str:
    """Return the delimiter that makes names of the schema out of the first line; a comma where none does."""
    first_line = text.lstrip("\ufeff\r\n ").partition("\n")[0]
    known = {column.name for column in schema.columns}
    for delimiter in DELIMITERS:
        if known & {name.strip().strip('"') for name in first_line.split(delimiter)}:
            return delimiter
    return ","


def _read_number(value: str, column: Column) -> float | str | None:
    """Read a number; anything else stays text, and is refused with every other bad field."""
    try:
        return read_numeric_text(value, column)
    except ValueError:
        return value
