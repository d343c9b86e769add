"""What is kept of a prediction: one line of JSON for the log, from which a subscription delivers it.

The caller waits for none of it but the printing. A line holds the rows of a request as columns, because that is how
they lie here; :mod:`millrace.captures.records` makes rows of them. Sensitive columns never reach a line. A line that
would be larger than a log event may be becomes several; a single row that is too large goes without its features and
says how many it left out. Of a request with more rows than are to be captured, rows at equal distances are, and each
says what chance it had.
"""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from millrace.json_text import write_json
from millrace.schema import TableSchema

if TYPE_CHECKING:
    from millrace.serving.routes import Prediction
    from millrace.serving.scorer import Scores

#: What the log subscription looks for.
MARK = "millrace.capture"
FORMAT = 1

#: A log event holds 256 KB on its way through Lambda; one that is larger is cut, and no JSON any more.
MAX_LINE_BYTES = 200_000
#: Longer values of the id column name nothing that feedback could name too.
MAX_ROW_ID_LENGTH = 256


@dataclass(frozen=True, slots=True)
class CaptureRules:
    """How much of a model's traffic is captured.

    Parameters
    ----------
    sampling_rate : float, default=1.0
        Share of the requests.
    max_rows : int, default=1000
        Rows of one request.
    """

    sampling_rate: float = 1.0
    max_rows: int = 1_000

    @classmethod
    def from_dict(cls, document: Mapping[str, Any] | None) -> "CaptureRules":
        """Read what a signature says; one without a word about it captures everything."""
        known = document or {}
        return cls(float(known.get("sampling_rate", 1.0)), int(known.get("max_rows", 1_000)))

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return {"sampling_rate": self.sampling_rate, "max_rows": self.max_rows}


class CaptureWriter:
    """Writes the lines of one version; built once for it, since it keeps what never changes at hand.

    What is known of the version is text already; of a request, the columns are handed to the encoder as they lie
    here. Anything that can wait until a line is taken apart again is left to that.

    Parameters
    ----------
    model, version : str, int
        Of the version.
    schema : TableSchema
        That it was trained under; its sensitive columns are left out.
    rules : CaptureRules
        How much is captured.
    """

    def __init__(self, model: str, version: int, schema: TableSchema, rules: CaptureRules) -> None:
        self._rules = rules
        self._class_of = {schema.label(index): name for index, name in enumerate(schema.classes)}
        features = [column for column in schema.features if not column.sensitive]
        self._features = [(column.name, column.type) for column in features]
        self._categories = [
            (place, column.name, frozenset((*column.categories, "")))
            for place, column in enumerate(features)
            if column.type == "category" and column.categories
        ]
        identifier = schema.identifier
        self._identifier = identifier.name if identifier is not None and not identifier.sensitive else None
        known = {
            # The level is the highest, and each line has a timestamp, because Lambda drops lines of lesser levels than
            # the function's, whatever they hold, and takes a line without a timestamp for one of level INFO.
            "level": "FATAL",
            "record": MARK,
            "format": FORMAT,
            "model": model,
            "version": version,
            "classes": list(schema.classes),
            "columns": self._features,
        }
        self._head = write_json(known).removesuffix("}")

    def lines(self, prediction: "Prediction", dialect: str, request_id: str, predicted_at: datetime) -> list[str]:
        """Return what is to be printed; nothing for a request that the sample leaves out."""
        rate, most = self._rules.sampling_rate, self._rules.max_rows
        if rate < 1.0 and zlib.crc32(prediction.prediction_id.encode()) >= rate * _CRC_RANGE:
            return []
        bad_rows, total = prediction.rows.bad_rows, prediction.rows.n_rows + len(prediction.rows.bad_rows)
        rows = [row for row in range(total) if row not in bad_rows] if bad_rows else range(total)
        places: Sequence[int] = range(len(rows))
        if len(rows) > most:
            places = [place * len(rows) // most for place in range(most)]
            rate *= most / len(rows)
        if not places:
            return []
        moment = predicted_at.isoformat(timespec="microseconds").replace("+00:00", "Z")
        lead = (
            f'{self._head},"timestamp":"{moment}","prediction_id":"{prediction.prediction_id}","request_id":'
            f'{write_json(request_id)},"dialect":"{dialect}","sampling_rate":{rate!r},"rows":{total},'
        )
        return self._fitting(prediction, lead, places, rows)

    def _fitting(self, prediction: "Prediction", lead: str, places: Sequence[int], rows: Sequence[int]) -> list[str]:
        """Return lines that are short enough: rows are divided until they are."""
        line = lead + write_json(self._content(prediction, places, rows))[1:]
        if len(line) <= MAX_LINE_BYTES:
            return [line]
        if len(places) == 1:
            return [lead + write_json(self._content(prediction, places, rows, bare=True))[1:]]
        step = max(1, len(places) * MAX_LINE_BYTES * 9 // (len(line) * 10))
        parts = [places[start : start + step] for start in range(0, len(places), step)]
        return [line for part in parts for line in self._fitting(prediction, lead, part, rows)]

    def _content(
        self, prediction: "Prediction", places: Sequence[int], rows: Sequence[int], bare: bool = False
    ) -> dict[str, Any]:
        """Return what a line says of rows: those at ``places`` among the good ones, which stood at ``rows``."""
        whole = len(places) == len(rows)
        taken = list(rows if whole else [rows[place] for place in places])
        content: dict[str, Any] = {"positions": taken}
        if self._identifier is not None and self._identifier in prediction.asked.table.names:
            values = prediction.asked.table.column(self._identifier)
            content["row_ids"] = [write_row_id(values[row]) for row in taken]
        if bare:
            content["omitted"] = len(self._features)
        else:
            content["cells"] = cells = self._cells(prediction, None if whole else places)
            if prediction.rows.n_unknown:
                content["unknown"] = self._unknown(cells)
        self._add_scores(content, prediction.scores, None if len(taken) == _n_scored(prediction.scores) else taken)
        return content

    def _cells(self, prediction: "Prediction", places: Sequence[int] | None) -> list[Sequence[Any]]:
        columns: list[Sequence[Any]] = []
        for name, kind in self._features:
            cells: Any = prediction.rows.cells[name]
            values = cells.tolist() if hasattr(cells, "tolist") else cells
            if places is not None:
                values = [values[place] for place in places]
            if kind == "datetime":
                values = [None if value is None else f"{value.isoformat()}Z" for value in values]
            elif kind not in ("category", "text") and prediction.rows.n_missing:
                values = [None if value != value else value for value in values]  # noqa: PLR0124 - only NaN differs so
            columns.append(values)
        return columns

    def _unknown(self, cells: Sequence[Sequence[Any]]) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for place, name, categories in self._categories:
            rows = [row for row, word in enumerate(cells[place]) if word not in categories]
            if rows:
                found[name] = rows
        return found

    def _add_scores(self, content: dict[str, Any], scores: "Scores", rows: Sequence[int] | None) -> None:
        """Add values, or probabilities, from which the label follows, and decisions where they are not the label."""
        if scores.values is not None:
            content["values"] = _taken(scores.values, rows)
            return
        content["probabilities"] = _taken(scores.probabilities, rows)
        if scores.decisions is not scores.labels:
            content["decisions"] = [self._class_of.get(decision) for decision in _taken(scores.decisions, rows)]


def _n_scored(scores: "Scores") -> int:
    return len(scores.labels if scores.values is None else scores.values)


def _taken(values: Sequence[Any], rows: Sequence[int] | None) -> Sequence[Any]:
    return values if rows is None else [values[row] for row in rows]


def write_row_id(value: Any) -> str | None:
    """Return a value of the model's id column as the text that feedback is matched by; None names no row.

    A whole number is the same row whether it was sent as 7, 7.0 or "7". A number past 64 bits names none: it was read
    as the nearest float, which may be another row's.
    """
    if isinstance(value, float):
        if not abs(value) < _LARGEST_INTEGER:
            return None
        value = int(value) if value.is_integer() else value
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    text = str(value).strip()
    return text if text and len(text) <= MAX_ROW_ID_LENGTH else None


_CRC_RANGE = 2**32
_LARGEST_INTEGER = 2**63
