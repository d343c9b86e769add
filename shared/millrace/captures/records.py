"""Captured rows, counted requests and feedback: records, each stored as one line of JSON.

A captured row is never rewritten, and neither is feedback: a correction is a later record of the same prediction.
"""

import re
import struct
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Self, TypedDict

import msgspec
import orjson

from millrace.errors import InvalidNameError
from millrace.features import FLOAT32_MAX
from millrace.json_text import write_json
from millrace.names import validate_model_name
from millrace.serving.capture import DEFAULT_PROTOCOL, MARK
from millrace.serving.capture import FORMAT as CAPTURE_FORMAT

#: Grows when a reader of the old form would misread the new one.
FORMAT = 1

#: Numbers as requests and reports may hold them, within float32; a stored line with another one is malformed.
Number = Annotated[float, msgspec.Meta(ge=-FLOAT32_MAX, le=FLOAT32_MAX)]
FeatureValue = Number | str | bool | None
Outcome = str | Number
Timestamp = Annotated[datetime, msgspec.Meta(tz=True)]


#: Format of the lines of earlier releases, which may still be on their way.
_FIRST_FORMAT = 1
#: Members of the object that Lambda wraps text in; lines of the logger have others.
_WRAPPER = frozenset({"timestamp", "level", "message", "requestId"})
#: Beginning of a captured line, alone or wrapped.
_BEGINNING = re.compile(
    r'(?:\{(?:"[a-zA-Z]+": ?"[^"\\]*", ?)*"message": ?")?'
    r'\{\\?"level\\?": ?\\?"FATAL\\?", ?\\?"record\\?": ?\\?"millrace\.capture\\?"'
)


class _StoredLine(msgspec.Struct, frozen=True):
    """A record that is stored as one line of JSON in ASCII."""

    #: Fields that a line lacks where they have their defaults.
    _optional: ClassVar[frozenset[str]] = frozenset()

    def to_line(self) -> str:
        """Return the record as a line, without its end."""
        return write_json({"format": FORMAT, **self._plain()})

    def _plain(self) -> dict[str, Any]:
        fields = zip(self.__struct_encode_fields__, msgspec.structs.astuple(self), strict=True)
        return {
            name: format_timestamp(each) if isinstance(each, datetime) else each
            for name, each in fields
            if each or name not in self._optional
        }

    @classmethod
    def from_line(cls, line: str | bytes) -> Self:
        """Read a record.

        Raises ``ValueError`` for another line, one of a later format than :data:`FORMAT`, or one that no table could
        hold: with text that UTF-8 has no bytes for, or a number beyond float32.
        """
        document = orjson.loads(line)
        if not isinstance(document, dict):
            raise ValueError("a line holds one object")  # noqa: TRY004 - callers catch one kind of error
        if document.get("format") != FORMAT:
            raise ValueError(f"a line of format {document.get('format')!r} is not known here")
        return msgspec.convert(document, cls)


class RowPrediction(TypedDict, total=False):
    """``value`` of regression, or the others; classes as the schema writes them, None for a number not finite."""

    value: float | None
    label: str | None
    probabilities: dict[str, float | None] | None
    decision: str | None


class CapturedRow(_StoredLine, frozen=True):
    """One row as it was scored.

    ``prediction_id`` is of this row alone: ``<the reply's prediction_id>-<position of the row, from 0>``; if
    ``request_rows`` is 1, feedback may leave out the position. ``request_id`` is the gateway's. ``row_id`` is the id
    column as text, unless left out or sensitive. The row represents ``1 / sampling_rate`` rows.

    ``features`` are typed; None is missing, dates are ISO 8601 in UTC, sensitive columns are left out. ``unknown``
    names those with a value that training had not seen; ``omitted`` counts those left out of a line that was too long.
    During a release, ``arm`` is the one that the request was assigned to; ``version`` scored it, whatever it was.
    """

    _optional: ClassVar[frozenset[str]] = frozenset({"release", "arm"})

    prediction_id: str
    request_id: str
    request_rows: int
    predicted_at: Timestamp
    model: str
    version: int
    row_id: str | None
    sampling_rate: float
    features: dict[str, FeatureValue]
    unknown: tuple[str, ...]
    omitted: int
    prediction: RowPrediction
    protocol: str = msgspec.field(name="dialect")
    release: str = ""
    arm: str = ""

    @property
    def missing(self) -> tuple[str, ...]:
        """Features that were scored as missing."""
        return tuple(name for name, value in self.features.items() if value is None)

    def to_line(self) -> str:
        """Return the row as a line, without its end."""
        return write_json({"format": FORMAT, **self._plain(), "missing": self.missing})


class CountedRequest(_StoredLine, frozen=True):
    """One request for predictions, failed ones too, among the captured rows of its hour; readers of rows skip it.

    ``status`` is that of HTTP; ``refused_rows`` of the ``rows`` were left out as invalid. During a ``release``,
    ``stage`` and ``arm`` are those that the request was assigned to, ``fallback`` is the reason why the champion
    answered for the candidate, ``not_finite`` is True where the champion itself predicted no finite number, and
    ``unloaded`` where the environment had not loaded every candidate. ``key`` is the mark of a sampled routing key, and
    ``group`` the group of the key of a candidate's request, 0 where it is not known.
    """

    _optional: ClassVar[frozenset[str]] = frozenset(
        {"release", "stage", "arm", "fallback", "not_finite", "unloaded", "key", "group"}
    )

    request: str
    version: int
    status: int
    latency_ms: float
    rows: int
    refused_rows: int
    cold_start: bool
    release: str = ""
    stage: int = 0
    arm: str = ""
    fallback: str = ""
    not_finite: bool = False
    unloaded: bool = False
    key: str = ""
    group: int = 0


#: Beginning of the lines of counted requests.
COUNTED_REQUEST = b'{"format":1,"request":'


class FeedbackRecord(_StoredLine, frozen=True):
    """Ground truth for one prediction, as reported; ``outcome`` is a class as the schema writes it, or a number.

    ``feedback_id`` is a hash of the report and its caller: sent again, it has the same id. ``row_id`` is the value of
    the id column. ``caller`` is the ARN that signed the request or the id of its API key, empty in records of older
    releases; ``position`` is that of the report in its request.
    """

    feedback_id: str
    model: str
    prediction_id: str | None
    row_id: str | None
    outcome: Outcome
    observed_at: Timestamp
    received_at: Timestamp
    caller: str = ""
    position: int = 0

    @property
    def order(self) -> tuple[datetime, datetime, int, str]:
        """Sort key: of two reports about one prediction the greater one counts, in whatever order they are read."""
        return self.observed_at, self.received_at, self.position, self.feedback_id


def format_timestamp(timestamp: datetime) -> str:
    """Return a timestamp as ISO 8601 in UTC, to the microsecond."""
    return timestamp.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def find_line(message: str) -> Mapping[str, Any] | None:
    """Return the captured line in a log event, or None for any other event, whatever it quotes.

    Raises ``ValueError`` when it begins as a captured line does and cannot be read.
    """
    if MARK not in message:
        return None
    document = _parse_line(message)
    if isinstance(document, dict) and document.get("record") != MARK and document.keys() <= _WRAPPER:
        # Lambda wraps text that it does not recognise as the function's own JSON.
        inner = document.get("message")
        document = _parse_line(inner) if isinstance(inner, str) else inner
    if not isinstance(document, dict) or document.get("record") != MARK:
        return None
    if document.get("format") == _FIRST_FORMAT:
        return document
    if document.get("format") != CAPTURE_FORMAT:
        raise ValueError(f"a captured line of format {document.get('format')!r} is not known here")
    return _complete(document)


def _complete(line: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a line with the members that a writer of format 2 leaves out."""
    found = {"dialect": DEFAULT_PROTOCOL, "sampling_rate": 1.0, **line}
    name = "values" if "values" in line else "probabilities"
    if name in line:
        outputs = line[name]
        found.setdefault("rows", 1)
        found.setdefault("positions", range(len(outputs)))
        found[name] = outputs if "double" in line else _read_float32(outputs)
    return found


def _read_float32(outputs: Sequence[Any]) -> list[Any]:
    """Return numbers, or rows of them, as float32 holds them; some are None."""
    if outputs and isinstance(outputs[0], list | None) and any(isinstance(row, list) for row in outputs):
        return [row and _read_float32(row) for row in outputs]
    known = [output for output in outputs if output is not None]
    form = f"<{len(known)}f"
    try:
        rest = iter(struct.unpack(form, struct.pack(form, *known)))
    except (struct.error, OverflowError) as error:
        raise ValueError(f"a captured line is malformed: {error}") from error
    return [None if output is None else next(rest) for output in outputs]


def _parse_line(text: str) -> Any:
    """Parse a log event; None for one that is not JSON, unless it is the torn beginning of a captured line."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        if _BEGINNING.match(text.lstrip()):
            raise
        return None


def expand_line(line: Mapping[str, Any]) -> list[CapturedRow]:
    """Return the rows of a line, none if it only counts a request.

    Raises ``ValueError`` for one that :mod:`millrace.serving.capture` did not write.
    """
    if "positions" not in line and "latency_ms" in line:
        return []
    try:
        model = validate_model_name(str(line["model"]))
        positions = line["positions"]
        features = _features(line, len(positions))
        row_ids = line.get("row_ids") or [None] * len(positions)
        unknown = {name: frozenset(places) for name, places in line.get("unknown", {}).items()}
        predictions = _predictions(line)
        predicted_at = msgspec.convert(line["timestamp"], Timestamp)
        return [
            CapturedRow(
                prediction_id=f"{line['prediction_id']}-{position}",
                request_id=str(line["request_id"]),
                request_rows=int(line["rows"]),
                predicted_at=predicted_at,
                model=model,
                version=int(line["version"]),
                protocol=str(line["dialect"]),
                row_id=row_id,
                sampling_rate=float(line["sampling_rate"]),
                features=values,
                unknown=tuple(name for name, places in unknown.items() if place in places),
                omitted=int(line.get("omitted", 0)),
                prediction=prediction,
                release=str(line.get("release", "")),
                arm=str(line.get("arm", "")),
            )
            for place, (position, row_id, values, prediction) in enumerate(
                zip(positions, row_ids, features, predictions, strict=True)
            )
        ]
    except (KeyError, TypeError, IndexError, AttributeError, InvalidNameError) as error:
        raise ValueError(f"a captured line is malformed: {type(error).__name__}: {error}") from error


def find_request(line: Mapping[str, Any]) -> tuple[str | None, datetime, CountedRequest] | None:
    """Return the model, if it is known, the time and the counts of a line's request.

    None for a line that counts none: one of an earlier release, or a further one of a large request. Raises
    ``ValueError`` as :func:`expand_line` does.
    """
    if "latency_ms" not in line:
        return None
    try:
        model = validate_model_name(line["model"]) if "model" in line else None
        counted = CountedRequest(
            request=str(line["prediction_id"]),
            version=int(line.get("version", 0)),
            status=int(line.get("status", 200)),
            latency_ms=float(line["latency_ms"]),
            rows=int(line.get("rows", 0)),
            refused_rows=int(line.get("refused_rows", 0)),
            cold_start=bool(line.get("cold_start", False)),
            release=str(line.get("release", "")),
            stage=int(line.get("stage", 0)),
            arm=str(line.get("arm", "")),
            fallback=str(line.get("fallback", "")),
            not_finite=bool(line.get("not_finite", False)),
            unloaded=bool(line.get("unloaded", False)),
            key=str(line.get("key", "")),
            group=int(line.get("group", 0)),
        )
        return model, msgspec.convert(line["timestamp"], Timestamp), counted
    except (KeyError, TypeError, AttributeError, InvalidNameError) as error:
        raise ValueError(f"a line of a request is malformed: {type(error).__name__}: {error}") from error


def _features(line: Mapping[str, Any], n_rows: int) -> list[dict[str, FeatureValue]]:
    """Return the features of each row; none if they were omitted."""
    if line.get("omitted"):
        return [{} for _ in range(n_rows)]
    if line.get("format") != _FIRST_FORMAT:
        names = line["columns"]
        columns = [[value] for value in line["row"]] if "row" in line else line["cells"]
        if len(columns) != len(names):
            raise ValueError("a captured line has not as many columns as names")
    else:
        names = [name for name, _ in line["columns"]]
        columns = _read_first_format(line)
    if any(len(values) != n_rows for values in columns):
        raise ValueError("a captured line's columns differ in length")
    if not columns:
        return [{}] * n_rows
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def _read_first_format(line: Mapping[str, Any]) -> list[list[FeatureValue]]:
    return [
        _READERS.get(column_type, list)(values)
        for (_, column_type), values in zip(line["columns"], line["cells"], strict=True)
    ]


#: Readers of columns of format 1 that differ from a row's: booleans were the numbers that models take, and missing
#: strings empty ones.
_READERS: Mapping[str, Callable[[Any], list[FeatureValue]]] = {
    "boolean": lambda values: [None if value is None else bool(value) for value in values],
    **dict.fromkeys(("category", "text"), lambda values: [value or None for value in values]),
}


def _predictions(line: Mapping[str, Any]) -> list[RowPrediction]:
    """Return each row's prediction; the label is the most probable class, the first of equals, as in scoring."""
    if "values" in line:
        return [{"value": value} for value in line["values"]]
    classes = line["classes"]
    probabilities = [None if row is None else dict(zip(classes, row, strict=True)) for row in line["probabilities"]]
    labels = [None if row is None else max(row, key=row.__getitem__) for row in probabilities]
    return [
        {"label": label, "probabilities": row, "decision": decision}
        for label, row, decision in zip(labels, probabilities, line.get("decisions", labels), strict=True)
    ]
