"""Writing captured predictions: one line of JSON for the log, from which a subscription delivers it.

Every request for predictions has a line, also one that failed or is outside the sample: then it holds no rows.
Capturing costs the caller no more than printing the line. A line holds the rows of a request as columns, because they
are columns here; :mod:`millrace.captures.records` makes rows of them. Sensitive columns never reach a line. Rows that
do not fit into one log event are divided among several; a single row that is too large goes without its features. Of a
request with more rows than the rules allow, rows at equal distances are captured, with their probability of that.
"""

import zlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from millrace.features import is_unicode
from millrace.json_text import write_json

if TYPE_CHECKING:
    # Readers of captured lines have no ONNX Runtime.
    from millrace.serving.model import LoadedModel
    from millrace.serving.scoring import Prediction

#: Mark by which the log subscription finds captured lines.
MARK = "millrace.capture"
FORMAT = 1

#: The level is the highest, and each line has a timestamp, because Lambda drops lines of lesser levels than the
#: function's, whatever they hold, and takes a line without a timestamp for one of level INFO.
BEGINNING: Mapping[str, Any] = {"level": "FATAL", "record": MARK, "format": FORMAT}

#: A log event holds 256 KB on its way through Lambda; a larger one is cut, and no longer JSON.
MAX_LINE_BYTES = 200_000
#: Longer values of the id column are no row ids.
MAX_ROW_ID_LENGTH = 256

_CRC_RANGE = 2**32
_LARGEST_INTEGER = 2**63


class CaptureWriter:
    """Writes the lines of one version; built once for it, since most of a line is the same for every request.

    The columns of a request go to the encoder as they are. Work that can wait until a line is read is left to the
    reader.
    """

    def __init__(self, loaded: "LoadedModel") -> None:
        schema = loaded.schema
        self._rules = loaded.capture
        self._classes = {schema.label(index): name for index, name in enumerate(schema.classes)}
        features = [column for column in schema.features if not column.sensitive]
        self._features = [(column.name, column.type) for column in features]
        self._categories = [
            (place, column.name, frozenset((*column.categories, "")))
            for place, column in enumerate(features)
            if column.type == "category" and column.categories
        ]
        identifier = schema.identifier
        self._identifier = identifier.name if identifier is not None and not identifier.sensitive else None
        constant = {
            **BEGINNING,
            "model": loaded.model,
            "version": loaded.version,
            "classes": list(schema.classes),
            "columns": self._features,
        }
        self._head = write_json(constant).removesuffix("}")

    def lines(self, prediction: "Prediction", protocol: str, request_id: str, predicted_at: datetime) -> list[str]:
        """Return the lines to print; none for a request outside the sample."""
        rate, most = self._rules.sampling_rate, self._rules.max_rows
        if rate < 1.0 and zlib.crc32(prediction.prediction_id.encode()) >= rate * _CRC_RANGE:
            return []
        rows = prediction.rows.good_rows
        places: Sequence[int] = range(len(rows))
        if len(rows) > most:
            places = [place * len(rows) // most for place in range(most)]
            rate *= most / len(rows)
        if not places:
            return []
        lead = (
            f'{self._head},"timestamp":"{write_timestamp(predicted_at)}","prediction_id":"{prediction.prediction_id}","request_id":'
            f'{write_json(request_id)},"dialect":"{protocol}","sampling_rate":{rate!r},'
            f'"rows":{len(rows) + len(prediction.rows.bad_rows)},'
        )
        return self._divide(prediction, lead, places, rows)

    def _divide(self, prediction: "Prediction", lead: str, places: Sequence[int], rows: Sequence[int]) -> list[str]:
        """Return lines that are short enough, dividing the rows until they are."""
        line = lead + write_json(self._content(prediction, places, rows))[1:]
        if len(line) <= MAX_LINE_BYTES:
            return [line]
        if len(places) == 1:
            return [lead + write_json(self._content(prediction, places, rows, omit_features=True))[1:]]
        step = max(1, len(places) * MAX_LINE_BYTES * 9 // (len(line) * 10))
        parts = [places[start : start + step] for start in range(0, len(places), step)]
        return [line for part in parts for line in self._divide(prediction, lead, part, rows)]

    def _content(
        self, prediction: "Prediction", places: Sequence[int], rows: Sequence[int], omit_features: bool = False
    ) -> dict[str, Any]:
        """Return a line's content for the rows at ``places`` among the good ones, whose numbers are ``rows``."""
        whole = len(places) == len(rows)
        numbers = list(rows if whole else [rows[place] for place in places])
        content: dict[str, Any] = {"positions": numbers}
        table, scores = prediction.request.table, prediction.scores
        if self._identifier is not None and self._identifier in table.names:
            identifiers = table.column(self._identifier)
            content["row_ids"] = [write_row_id(identifiers[row]) for row in numbers]
        if omit_features:
            content["omitted"] = len(self._features)
        else:
            content["cells"] = columns = self._columns(prediction, None if whole else places)
            if prediction.rows.n_unknown:
                content["unknown"] = self._unknown(columns)
        scored = None if len(numbers) == len(scores) else numbers
        if scores.values is not None:
            content["values"] = _take(scores.values, scored)
            return content
        # The label follows from the probabilities; decisions are written where they are not the label.
        content["probabilities"] = _take(scores.probabilities, scored)
        if scores.decisions is not scores.labels:
            content["decisions"] = [self._classes.get(decision) for decision in _take(scores.decisions, scored)]
        return content

    def _columns(self, prediction: "Prediction", places: Sequence[int] | None) -> list[Sequence[Any]]:
        columns: list[Sequence[Any]] = []
        for name, column_type in self._features:
            typed: Any = prediction.rows.values[name]
            values = typed.tolist() if hasattr(typed, "tolist") else typed
            if places is not None:
                values = [values[place] for place in places]
            if column_type == "datetime":
                values = [None if value is None else f"{value.isoformat()}Z" for value in values]
            elif column_type not in ("category", "text") and prediction.rows.n_missing:
                values = [None if value != value else value for value in values]  # noqa: PLR0124 - only NaN differs so
            columns.append(values)
        return columns

    def _unknown(self, columns: Sequence[Sequence[Any]]) -> dict[str, list[int]]:
        found = {
            name: [row for row, value in enumerate(columns[place]) if value not in categories]
            for place, name, categories in self._categories
        }
        return {name: rows for name, rows in found.items() if rows}


def write_timestamp(timestamp: datetime) -> str:
    """Return a timestamp in UTC as ISO 8601, to the microsecond."""
    return timestamp.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _take(values: Sequence[Any], rows: Sequence[int] | None) -> Sequence[Any]:
    return values if rows is None else [values[row] for row in rows]


def write_row_id(value: Any) -> str | None:
    """Return a value of the model's id column as the text that feedback is matched by; None if it names no row.

    A whole number is the same row whether it was sent as 7, 7.0 or "7". A number past 64 bits names none: it was read
    as the nearest float, which may be another row's. Neither does text that UTF-8 has no bytes for: no table holds it.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    if not isinstance(value, str):
        if not abs(value) < _LARGEST_INTEGER:
            return None
        value = int(value) if isinstance(value, float) and value.is_integer() else value
    text = str(value).strip().rstrip("\0")  # training's strings end before their trailing NULs
    return text if text and len(text) <= MAX_ROW_ID_LENGTH and is_unicode(text) else None
