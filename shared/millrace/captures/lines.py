"""The lines that ``predict`` prints, taken apart into rows; :mod:`millrace.serving.capture` writes them."""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from millrace.captures.records import CapturedRow, Value, read_moment
from millrace.errors import InvalidNameError
from millrace.names import validate_model_name
from millrace.serving.capture import FORMAT, MARK


def find_line(message: str) -> Mapping[str, Any] | None:
    """Return the captured line that a log event holds, or None when it holds something else.

    Raises
    ------
    ValueError
        When it looks like one and cannot be read.
    """
    if MARK not in message:
        return None
    document = _parse(message)
    if (
        isinstance(document, dict)
        and document.get("record") != MARK
        and isinstance(document.get("message"), str | dict)
    ):
        # Lambda wraps plain text when it does not take it for JSON of the function's own.
        inner = document["message"]
        document = _parse(inner) if isinstance(inner, str) else inner
    if not isinstance(document, dict) or document.get("record") != MARK:
        return None
    if document.get("format") != FORMAT:
        raise ValueError(f"a captured line of format {document.get('format')!r} is not known here")
    return document


def expand_line(line: Mapping[str, Any]) -> list[CapturedRow]:
    """Return the rows of a line.

    Raises
    ------
    ValueError
        When it is not as :mod:`millrace.serving.capture` writes it.
    """
    try:
        model = validate_model_name(str(line["model"]))
        positions = line["positions"]
        features = _features(line, len(positions))
        row_ids = line.get("row_ids") or [None] * len(positions)
        unknown = {name: frozenset(places) for name, places in line.get("unknown", {}).items()}
        predictions = _predictions(line)
        predicted_at = read_moment(line["timestamp"])
        return [
            CapturedRow(
                prediction_id=f"{line['prediction_id']}-{position}",
                request_id=str(line["request_id"]),
                request_rows=int(line["rows"]),
                predicted_at=predicted_at,
                model=model,
                version=int(line["version"]),
                dialect=str(line["dialect"]),
                row_id=row_id,
                sampling_rate=float(line["sampling_rate"]),
                features=values,
                unknown=tuple(name for name, places in unknown.items() if place in places),
                omitted=int(line.get("omitted", 0)),
                prediction=prediction,
            )
            for place, (position, row_id, values, prediction) in enumerate(
                zip(positions, row_ids, features, predictions, strict=True)
            )
        ]
    except (KeyError, TypeError, IndexError, AttributeError, InvalidNameError) as error:
        raise ValueError(f"a captured line lacks something: {type(error).__name__}: {error}") from error


def _features(line: Mapping[str, Any], n_rows: int) -> list[dict[str, Value]]:
    """Return the features of each row; none where they were left out."""
    if line.get("omitted"):
        return [{} for _ in range(n_rows)]
    names = [name for name, _ in line["columns"]]
    columns = [
        _READERS.get(kind, list)(values) for (_, kind), values in zip(line["columns"], line["cells"], strict=True)
    ]
    if any(len(values) != n_rows for values in columns):
        raise ValueError("a captured line's columns are not as long as each other")
    return (
        [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)] if columns else [{}] * n_rows
    )


def _read_booleans(values: Sequence[float | None]) -> list[Value]:
    return [None if value is None else bool(value) for value in values]


def _read_words(values: Sequence[str | None]) -> list[Value]:
    return [value or None for value in values]


#: How columns lie in a line where it is not as they lie in a row: a boolean is the number that it is scored as, and a
#: missing word is empty.
_READERS: Mapping[str, Callable[[Any], list[Value]]] = {
    "boolean": _read_booleans,
    "category": _read_words,
    "text": _read_words,
}


def _predictions(line: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return each row's prediction; the label is the likeliest class, the first of equals, as in scoring."""
    if "values" in line:
        return [{"value": value} for value in line["values"]]
    classes = line["classes"]
    probabilities = [None if row is None else dict(zip(classes, row, strict=True)) for row in line["probabilities"]]
    labels = [None if row is None else max(row, key=row.__getitem__) for row in probabilities]
    return [
        {"label": label, "probabilities": row, "decision": decision}
        for label, row, decision in zip(labels, probabilities, line.get("decisions", labels), strict=True)
    ]


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("a captured line is nested too deeply") from error
