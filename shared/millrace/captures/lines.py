"""The lines that ``predict`` prints, taken apart into rows; :mod:`millrace.serving.capture` writes them."""

import json
from collections.abc import Mapping
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
        columns = _columns(line)
        predicted_at = read_moment(line["timestamp"])
        unknown = {name: frozenset(places) for name, places in line["unknown"].items()}
        row_ids = line["row_ids"]
        return [
            CapturedRow(
                prediction_id=f"{line['prediction_id']}-{position}",
                request_id=str(line["request_id"]),
                request_rows=int(line["rows"]),
                predicted_at=predicted_at,
                model=model,
                version=int(line["version"]),
                dialect=str(line["dialect"]),
                row_id=None if row_ids is None else row_ids[place],
                sampling_rate=float(line["sampling_rate"]),
                features={name: values[place] for name, values in columns.items()},
                unknown=tuple(name for name, places in unknown.items() if place in places),
                omitted=int(line["omitted"]),
                prediction=_prediction(line, place),
            )
            for place, position in enumerate(line["positions"])
        ]
    except (KeyError, TypeError, IndexError, AttributeError, InvalidNameError) as error:
        raise ValueError(f"a captured line lacks something: {type(error).__name__}: {error}") from error


def _columns(line: Mapping[str, Any]) -> dict[str, list[Value]]:
    """Return the features by name; a boolean travels as the number that it is scored as."""
    booleans = {
        name: [None if value is None else bool(value) for value in values] for name, values in line["booleans"].items()
    }
    return {**line["numbers"], **booleans, **line["dates"], **line["words"]}


def _prediction(line: Mapping[str, Any], place: int) -> dict[str, Any]:
    if "values" in line:
        return {"value": line["values"][place]}
    probabilities = line["probabilities"][place]
    return {
        "label": line["labels"][place],
        "probabilities": None if probabilities is None else dict(zip(line["classes"], probabilities, strict=True)),
        "decision": line["decisions"][place],
    }


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("a captured line is nested too deeply") from error
