"""MLflow's scoring protocol: ``dataframe_records`` and ``dataframe_split`` in, ``predictions`` out.

Clients of ``mlflow.deployments`` read ``predictions`` into a data frame: objects become its columns (``label``,
``probabilities``), bare numbers its only one. Other keys of the reply are kept and left alone by them.

Two liberties that MLflow's own clients need: a ``NaN`` literal, which they write for a missing value although it
is no JSON, counts as ``null``; ``params`` and a split's ``index`` are taken and not used.
"""

import json
from collections.abc import Sequence
from typing import Any

from millrace.errors import FieldError, InvalidInputError, PayloadTooLargeError, UnsupportedMediaTypeError
from millrace.serving.json_words import describe
from millrace.serving.scorer import Scores
from millrace.serving.table import ColumnsTable, RecordsTable, RequestTable

RECORDS = "dataframe_records"
SPLIT = "dataframe_split"

_SHAPES = (RECORDS, SPLIT)
_LISTED_FAULTS = 100


def read_request(body: bytes, content_type: str | None, max_rows: int) -> RequestTable:
    """Read a request's rows; their values are not looked at yet.

    Parameters
    ----------
    body : bytes
        JSON in UTF-8.
    content_type : str or None
        The request's header; none at all counts as JSON.
    max_rows : int
        Rows that one request may hold.

    Raises
    ------
    UnsupportedMediaTypeError
        When the content is declared as something other than JSON in UTF-8.
    InvalidInputError
        When it is no JSON, or JSON of another shape; names every fault.
    PayloadTooLargeError
        When there are more than ``max_rows`` rows.
    """
    _check_content_type(content_type)
    document = _parse_json(body)
    if not isinstance(document, dict):
        raise InvalidInputError(f"the request has to be a JSON object, not {describe(document)}")
    shapes = [key for key in _SHAPES if key in document]
    if len(shapes) != 1:
        both = "both are there" if shapes else "neither is there"
        raise InvalidInputError(f"the request has to hold either {RECORDS!r} or {SPLIT!r}: {both}")
    unknown = sorted(set(document) - {*_SHAPES, "params"})
    if unknown:
        faults = [FieldError(key[:100], "is not a part of a request") for key in unknown]
        raise InvalidInputError("the request holds unknown keys", faults[:_LISTED_FAULTS])
    (shape,) = shapes
    return (_read_records if shape == RECORDS else _read_split)(document[shape], max_rows)


def write_reply(scores: Scores, model: str, version: int, prediction_id: str) -> dict[str, Any]:
    """Return the reply's body.

    ``predictions`` holds, per row, ``label`` and ``probabilities`` by class, or a number for regression. Row
    ``i`` (from 0) is known to feedback as ``<prediction_id>-<i>``. ``warnings`` is there when something was
    scored that the model knows little of.
    """
    reply: dict[str, Any] = {
        "predictions": _predictions(scores),
        "model": model,
        "model_version": version,
        "prediction_id": prediction_id,
    }
    if scores.notices:
        reply["warnings"] = [{"field": notice.field, "message": notice.message} for notice in scores.notices]
    return reply


def _predictions(scores: Scores) -> list[Any]:
    if scores.values is not None:
        return scores.values
    return [
        {"label": label, "probabilities": None if row is None else dict(zip(scores.classes, row, strict=True))}
        for label, row in zip(scores.labels, scores.probabilities, strict=True)
    ]


def _check_content_type(content_type: str | None) -> None:
    if content_type is None or not content_type.strip():
        return
    media_type, *parameters = [part.strip().lower() for part in content_type.split(";")]
    charsets = [part.partition("=")[2].strip('" ') for part in parameters if part.startswith("charset=")]
    if media_type != "application/json" or any(charset not in ("utf-8", "utf8") for charset in charsets):
        raise UnsupportedMediaTypeError("only 'application/json' in UTF-8 is read here")


def _parse_json(body: bytes) -> Any:
    if not body.strip():
        raise InvalidInputError("the request has no body")
    try:
        return json.loads(body.decode("utf-8-sig"), object_pairs_hook=_unique_keys, parse_constant=_constant)
    except UnicodeDecodeError as error:
        raise InvalidInputError("the body is not text in UTF-8") from error
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
        seen: set[str] = set()
        repeated = {name for name, _ in pairs if name in seen or seen.add(name)}  # type: ignore[func-returns-value]  # add returns None
        faults = [FieldError(name[:100], "stands twice in the same object") for name in sorted(repeated)]
        raise InvalidInputError("an object of the request repeats a key", faults[:_LISTED_FAULTS])
    return members


def _read_records(records: Any, max_rows: int) -> RequestTable:
    _check_rows(RECORDS, records, max_rows)
    _refuse_other_than(dict, RECORDS, records, "an object")
    return RecordsTable(records)


def _read_split(split: Any, max_rows: int) -> RequestTable:
    if not isinstance(split, dict):
        raise _wrong(SPLIT, f"expects an object with 'columns' and 'data', got {describe(split)}")
    faults = [FieldError(f"{SPLIT}.{key}", "is missing") for key in ("columns", "data") if key not in split]
    faults += [
        FieldError(f"{SPLIT}.{key[:100]}", "is not a part of a split")
        for key in sorted(set(split) - {"columns", "data", "index"})
    ]
    if faults:
        raise InvalidInputError(f"{SPLIT!r} is not a split data frame", faults[:_LISTED_FAULTS])
    columns = split["columns"]
    _check_columns(columns)
    data = split["data"]
    _check_rows(f"{SPLIT}.data", data, max_rows)
    _refuse_other_than(list, f"{SPLIT}.data", data, "a list")
    ragged = [
        FieldError(f"row {row}", f"has {len(values)} values for {len(columns)} columns")
        for row, values in enumerate(data)
        if len(values) != len(columns)
    ]
    if ragged:
        raise InvalidInputError(
            f"{len(ragged)} rows of {SPLIT!r} have another number of values than there are columns",
            ragged[:_LISTED_FAULTS],
        )
    return ColumnsTable(dict(zip(columns, zip(*data, strict=True), strict=True)), len(data))


def _check_columns(columns: Any) -> None:
    field = f"{SPLIT}.columns"
    if not isinstance(columns, list) or not all(isinstance(name, str) for name in columns):
        raise _wrong(field, "expects a list of names")
    repeated = sorted({name for name in columns if columns.count(name) > 1}) if len(set(columns)) < len(columns) else []
    if repeated:
        faults = [FieldError(field, f"{name[:100]!r} stands there twice") for name in repeated]
        raise InvalidInputError("a column is named twice", faults[:_LISTED_FAULTS])


def _check_rows(field: str, rows: Any, max_rows: int) -> None:
    if not isinstance(rows, list):
        raise _wrong(field, f"expects a list of rows, got {describe(rows)}")
    if not rows:
        raise _wrong(field, "holds no rows")
    if len(rows) > max_rows:
        raise PayloadTooLargeError(f"the request holds {len(rows)} rows; one request may hold {max_rows}")


def _refuse_other_than(kind: type, field: str, rows: Sequence[Any], expected: str) -> None:
    faults = [
        FieldError(f"row {row}", f"expects {expected}, got {describe(value)}")
        for row, value in enumerate(rows)
        if not isinstance(value, kind)
    ]
    if faults:
        raise InvalidInputError(f"{len(faults)} rows of {field!r} are no rows", faults[:_LISTED_FAULTS])


def _wrong(field: str, message: str) -> InvalidInputError:
    return InvalidInputError(f"{field} {message}", [FieldError(field, message)])
