"""Writing captured predictions: one line of JSON for the log, from which a subscription delivers it.

Every request for predictions has a line, also one that failed or is outside the sample: then it holds no rows.
Capturing costs the caller no more than printing the line. A line holds the rows of a request as columns, because they
are columns here; :mod:`millrace.captures.records` makes rows of them. Sensitive columns never reach a line. Rows that
do not fit into one log event are divided among several; a single row that is too large goes without its features. Of a
request with more rows than the rules allow, rows at equal distances are captured, with their probability of that.

The log is billed by the byte, so a line leaves out what its reader adds without loss (format 2): positions that are 0,
1, 2 ..., one row, a sampling rate of 1, the protocol MLflow, and decisions that are the labels. Predictions that
float32 holds exactly are written with the digits that tell them apart in float32.
"""

import zlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import orjson

from millrace.features import is_unicode
from millrace.json_text import write_json
from millrace.serving.array_column import ArrayColumn

if TYPE_CHECKING:
    # Readers of captured lines have no ONNX Runtime.
    from millrace.serving.model import LoadedModel
    from millrace.serving.scoring import Prediction

#: Mark by which the log subscription finds captured lines.
MARK = "millrace.capture"
FORMAT = 2

#: The level is the highest, and each line has a timestamp, because Lambda drops lines of lesser levels than the
#: function's, whatever they hold, and takes a line without a timestamp for one of level INFO.
BEGINNING: Mapping[str, Any] = {"level": "FATAL", "record": MARK, "format": FORMAT}
#: Protocol of a line that names none.
DEFAULT_PROTOCOL = "mlflow"

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
        self._places = [place for place, column in enumerate(schema.features) if not column.sensitive]
        self._written = [(i, each.type) for i, each in enumerate(features) if each.type in ("boolean", "datetime")]
        self._names = schema.classes
        self._categories = [
            (place, column.name, frozenset((*column.categories, "")))
            for place, column in enumerate(features)
            if column.type == "category" and column.categories
        ]
        identifier = schema.identifier
        self._identifier = identifier.name if identifier is not None and not identifier.sensitive else None
        constant: dict[str, Any] = {**BEGINNING, "model": loaded.model, "version": loaded.version}
        if schema.classes:
            constant["classes"] = list(schema.classes)
        constant["columns"] = [name for name, _ in self._features]
        self._head = write_json(constant).removesuffix("}")

    def lines(self, prediction: "Prediction", protocol: str, request_id: str, predicted_at: datetime) -> list[str]:
        """Return the lines to print; none for a request outside the sample."""
        if not self.samples(prediction.prediction_id):
            return []
        rate, most = self._rules.sampling_rate, self._rules.max_rows
        rows = prediction.rows.good_rows
        places: Sequence[int] = range(len(rows))
        if len(rows) > most:
            places = [place * len(rows) // most for place in range(most)]
            rate *= most / len(rows)
        if not places:
            return []
        lead = self.lead(predicted_at)
        named = name_request(prediction.prediction_id, protocol, request_id)
        if rate != 1.0:
            named["sampling_rate"] = rate
        n_rows = len(rows) + len(prediction.rows.bad_rows)
        if n_rows != 1:
            named["rows"] = n_rows
        return self._divide(prediction, lead, named, places, rows)

    def samples(self, prediction_id: str) -> bool:
        """Return whether a request is in the sample, which depends on its id alone."""
        rate = self._rules.sampling_rate
        return rate >= 1.0 or zlib.crc32(prediction_id.encode()) < rate * _CRC_RANGE

    def lead(self, predicted_at: datetime) -> str:
        """Return the beginning of a line, up to the first member that depends on its request."""
        return f'{self._head},"timestamp":"{write_timestamp(predicted_at)}",'

    def row_content(
        self, record: Mapping[str, Any], values: Sequence[Any], output: npt.NDArray[Any], decision: int | None
    ) -> dict[str, Any]:
        """Return what the line of a request of one row holds of it, as :meth:`lines` would.

        Values are typed, None where missing; ``decision`` is a class where it is not the label.
        """
        content: dict[str, Any] = {}
        if self._rules.sampling_rate != 1.0:
            content["sampling_rate"] = self._rules.sampling_rate
        if self._identifier is not None and self._identifier in record:
            content["row_ids"] = [write_row_id(record[self._identifier])]
        if self._written or len(self._places) != len(values):
            values = [values[place] for place in self._places]
            for place, column_type in self._written:
                if values[place] is not None:
                    (values[place],) = write_values(column_type, [values[place]], False)
        content["row"] = values
        name = "probabilities" if self._names else "values"
        if output.dtype == np.float32:
            content[name] = output
        else:
            content |= write_outputs(name, output.tolist())
        if decision is not None:
            content["decisions"] = [self._names[decision]]
        return content

    def line_of(self, predicted_at: datetime, members: Mapping[str, Any]) -> str:
        """Return the line with these members; raises ``ValueError`` for one that is too long."""
        line = self.lead(predicted_at) + write_json(members)[1:]
        if len(line) > MAX_LINE_BYTES:
            raise ValueError("the line is too long")
        return line

    def _divide(
        self, prediction: "Prediction", lead: str, named: dict[str, Any], places: Sequence[int], rows: Sequence[int]
    ) -> list[str]:
        """Return lines that are short enough, dividing the rows until they are."""
        line = lead + write_json(named | self._content(prediction, places, rows))[1:]
        if len(line) <= MAX_LINE_BYTES:
            return [line]
        if len(places) == 1:
            return [lead + write_json(named | self._content(prediction, places, rows, omit_features=True))[1:]]
        step = max(1, len(places) * MAX_LINE_BYTES * 9 // (len(line) * 10))
        parts = [places[start : start + step] for start in range(0, len(places), step)]
        return [line for part in parts for line in self._divide(prediction, lead, named, part, rows)]

    def _content(
        self, prediction: "Prediction", places: Sequence[int], rows: Sequence[int], omit_features: bool = False
    ) -> dict[str, Any]:
        """Return a line's content for the rows at ``places`` among the good ones, whose numbers are ``rows``."""
        whole = len(places) == len(rows)
        numbers = list(rows if whole else [rows[place] for place in places])
        table, scores = prediction.request.table, prediction.scores
        content: dict[str, Any] = {}
        if len(numbers) != len(scores):
            content["positions"] = numbers
        if self._identifier is not None and self._identifier in table.names:
            identifiers = table.column(self._identifier)
            content["row_ids"] = [write_row_id(identifiers[row]) for row in numbers]
        if omit_features:
            content["omitted"] = len(self._features)
        else:
            columns = self._columns(prediction, None if whole else places)
            if prediction.rows.n_unknown and (unknown := self._unknown(columns)):
                content["unknown"] = unknown
            if len(scores) == 1:
                content["row"] = [column[0] for column in columns]
            else:
                content["cells"] = columns
        scored = None if len(numbers) == len(scores) else numbers
        if scores.values is not None:
            return content | write_outputs("values", _take(scores.values, scored))
        content |= write_outputs("probabilities", _take(scores.probabilities, scored))
        if scores.decisions is scores.labels:
            return content
        labels, decisions = _take(scores.labels, scored), _take(scores.decisions, scored)
        # The label follows from the probabilities; decisions are written where they are not the label.
        if decisions != labels:
            content["decisions"] = [self._classes.get(decision) for decision in decisions]
        return content

    def _columns(self, prediction: "Prediction", places: Sequence[int] | None) -> list[Sequence[Any]]:
        """Return the features as they are stored: missing values are null, times are text."""
        columns: list[Sequence[Any]] = []
        for name, column_type in self._features:
            typed: Any = prediction.rows.values[name]
            if hasattr(typed, "tolist"):
                values = (typed if places is None else typed[places]).tolist()
            else:
                values = typed if places is None else [typed[place] for place in places]
            columns.append(write_values(column_type, values, prediction.rows.n_missing > 0))
        return columns

    def _unknown(self, columns: Sequence[Sequence[Any]]) -> dict[str, list[int]]:
        found = {
            name: [row for row, value in enumerate(columns[place]) if value is not None and value not in categories]
            for place, name, categories in self._categories
        }
        return {name: rows for name, rows in found.items() if rows}


def name_request(prediction_id: str, protocol: str, request_id: str) -> dict[str, Any]:
    """Return the members of a line that name its request."""
    named = {"prediction_id": prediction_id, "request_id": request_id}
    if protocol != DEFAULT_PROTOCOL:
        named["dialect"] = protocol
    return named


def write_values(column_type: str, values: Sequence[Any], may_be_missing: bool) -> Sequence[Any]:
    """Return typed values of a column as a line holds them."""
    if column_type == "datetime":
        return [None if value is None else f"{value.isoformat()}Z" for value in values]
    if column_type == "boolean":
        return [bool(value) if value == value else None for value in values]  # noqa: PLR0124 - only NaN differs so
    if not may_be_missing:
        return values
    if column_type in ("category", "text"):
        return [value or None for value in values]
    return [value if value == value else None for value in values]  # noqa: PLR0124 - as above


def write_outputs(name: str, outputs: Sequence[Any]) -> dict[str, Any]:
    """Return the members for a model's outputs: numbers, or rows of them; None where they are not finite.

    ``double`` says that float32 would not hold them.
    """
    if isinstance(outputs, ArrayColumn) and outputs.array.dtype == np.float32 and outputs.is_whole:
        return {name: outputs.array}
    known = [output for output in outputs if output is not None]
    exact = np.array(known)
    short = exact.astype(np.float32)
    if (short != exact).any():
        return {name: outputs, "double": 1}
    if len(known) == len(outputs):
        return {name: short}
    rest = iter(short)
    return {name: [None if output is None else next(rest) for output in outputs]}


def write_timestamp(timestamp: datetime) -> str:
    """Return a timestamp in UTC as ISO 8601, to the microsecond.

    ``isoformat`` prints each part with a format of C, a twentieth of all instructions of a request.
    """
    text = orjson.dumps(timestamp, option=orjson.OPT_UTC_Z).decode()[1:-1]
    return text if timestamp.microsecond else f"{text[:-1]}.000000Z"


def _take(values: Sequence[Any], rows: Sequence[int] | None) -> Sequence[Any]:
    if rows is None:
        return values
    return values.take(rows) if isinstance(values, ArrayColumn) else [values[row] for row in rows]


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
