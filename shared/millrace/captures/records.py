"""What is kept of a prediction and of its outcome: two records, each one JSON line.

A captured row is never rewritten, and neither is feedback: a correction is a later record of the same prediction.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

from millrace.errors import InvalidNameError
from millrace.names import validate_model_name
from millrace.serving.capture import FORMAT as CAPTURE_FORMAT
from millrace.serving.capture import MARK

#: Grows when a reader of the old form would misread the new one.
FORMAT = 1

Value = float | str | bool | None
Outcome = str | float

_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


@dataclass(frozen=True, slots=True)
class CapturedRow:
    """One row as it was scored.

    Parameters
    ----------
    prediction_id : str
        Of this row, and no other: ``<the reply's prediction_id>-<position of the row, from 0>``.
    request_id : str
        The gateway's, which the logs have too.
    request_rows : int
        Rows that the request held. Where it was one, feedback may leave out the position.
    predicted_at : datetime
        UTC.
    model, version, dialect
        What answered, and how it was asked.
    row_id : str or None
        The model's id column as text, where the caller sent it and it is not sensitive.
    sampling_rate : float
        The chance that this row had of being captured; one row stands for ``1 / sampling_rate``.
    features : mapping of str to float, bool, str or None
        After typing; None is missing, dates are ISO 8601 in UTC. Sensitive columns are left out.
    unknown : tuple of str
        Features whose value training had not seen.
    omitted : int
        Features left out because the row was too large to be written down.
    prediction : mapping
        ``label`` and ``probabilities`` by class, and ``decision`` where the model has a threshold; or ``value``.
        Classes are text, as the schema writes them. What was not finite is None.
    """

    prediction_id: str
    request_id: str
    request_rows: int
    predicted_at: datetime
    model: str
    version: int
    dialect: str
    row_id: str | None
    sampling_rate: float
    features: Mapping[str, Value]
    unknown: tuple[str, ...]
    omitted: int
    prediction: Mapping[str, Any]

    @property
    def missing(self) -> tuple[str, ...]:
        """Features that were scored as missing."""
        return tuple(name for name, value in self.features.items() if value is None)

    def to_line(self) -> str:
        """Return the row as one line of JSON in ASCII, without a line's end."""
        return _encode(
            {
                "format": FORMAT,
                "prediction_id": self.prediction_id,
                "request_id": self.request_id,
                "request_rows": self.request_rows,
                "predicted_at": write_moment(self.predicted_at),
                "model": self.model,
                "version": self.version,
                "dialect": self.dialect,
                "row_id": self.row_id,
                "sampling_rate": self.sampling_rate,
                "features": self.features,
                "unknown": self.unknown,
                "missing": self.missing,
                "omitted": self.omitted,
                "prediction": self.prediction,
            }
        )

    @classmethod
    def from_line(cls, line: str | bytes) -> Self:
        """Read what :meth:`to_line` wrote.

        Raises
        ------
        ValueError
            When it is no such line, or of a later form than :data:`FORMAT`.
        """
        document = read_line(line)
        try:
            return cls(
                prediction_id=str(document["prediction_id"]),
                request_id=str(document["request_id"]),
                request_rows=int(document["request_rows"]),
                predicted_at=read_moment(document["predicted_at"]),
                model=str(document["model"]),
                version=int(document["version"]),
                dialect=str(document["dialect"]),
                row_id=document["row_id"],
                sampling_rate=float(document["sampling_rate"]),
                features=dict(document["features"]),
                unknown=tuple(document["unknown"]),
                omitted=int(document["omitted"]),
                prediction=dict(document["prediction"]),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"a captured row is no {type(error).__name__}: {error}") from error


@dataclass(frozen=True, slots=True)
class FeedbackRecord:
    """What became true of one prediction, as somebody reported it.

    Parameters
    ----------
    feedback_id : str
        A hash of what was said: the same report has the same id however often it is sent.
    prediction_id : str or None
        The row it is about.
    row_id : str or None
        Or the value of the model's id column.
    outcome : str or float
        The class as the schema writes it; a number for regression.
    observed_at : datetime
        When it was so; when it was received, where the caller did not say.
    received_at : datetime
        When it was taken in.
    """

    feedback_id: str
    model: str
    prediction_id: str | None
    row_id: str | None
    outcome: Outcome
    observed_at: datetime
    received_at: datetime

    @property
    def order(self) -> tuple[datetime, datetime]:
        """Of two reports about one prediction, the one that is greater here holds."""
        return self.observed_at, self.received_at

    def to_line(self) -> str:
        """Return the record as one line of JSON in ASCII, without a line's end."""
        return _encode(
            {
                "format": FORMAT,
                "feedback_id": self.feedback_id,
                "model": self.model,
                "prediction_id": self.prediction_id,
                "row_id": self.row_id,
                "outcome": self.outcome,
                "observed_at": write_moment(self.observed_at),
                "received_at": write_moment(self.received_at),
            }
        )

    @classmethod
    def from_line(cls, line: str | bytes) -> Self:
        """Read what :meth:`to_line` wrote; raises ``ValueError`` as :meth:`CapturedRow.from_line`."""
        document = read_line(line)
        try:
            return cls(
                feedback_id=str(document["feedback_id"]),
                model=str(document["model"]),
                prediction_id=document["prediction_id"],
                row_id=document["row_id"],
                outcome=_read_outcome(document["outcome"]),
                observed_at=read_moment(document["observed_at"]),
                received_at=read_moment(document["received_at"]),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"feedback is no {type(error).__name__}: {error}") from error


def _read_outcome(value: Any) -> Outcome:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise TypeError("an outcome is text or a number")
    return value if isinstance(value, str) else float(value)


def write_moment(moment: datetime) -> str:
    """Return a moment as ISO 8601 in UTC, to the microsecond."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def read_moment(text: Any) -> datetime:
    """Read a moment with its offset; raises ``ValueError``."""
    if not isinstance(text, str):
        raise ValueError("a moment is text")  # noqa: TRY004 - callers catch one kind of error for all that is malformed
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a moment needs an offset")
    return moment.astimezone(UTC)


def read_line(line: str | bytes) -> dict[str, Any]:
    """Read one line of a form that is known; raises ``ValueError``."""
    document = json.loads(line)
    if not isinstance(document, dict):
        raise ValueError("a line holds one object")  # noqa: TRY004 - as above
    if document.get("format") != FORMAT:
        raise ValueError(f"a line of format {document.get('format')!r} is not known here")
    return document


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
    if document.get("format") != CAPTURE_FORMAT:
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
