"""What is kept of a prediction: one line of JSON for the log, from which a subscription delivers it.

The caller waits for none of it but the printing. A line holds the rows of a request as columns, because that is how
they lie here; :mod:`millrace.captures.lines` makes rows of them. Sensitive columns never reach a line. A line that
would be larger than a log event may be becomes several; a single row that is too large goes without its features and
says how many it left out. Of a request with more rows than are to be captured, rows at equal distances are, and each
says what chance it had.
"""

import json
import math
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from millrace.schema import TableSchema
from millrace.serving.table import RequestTable

#: What the log subscription looks for.
MARK = "millrace.capture"
FORMAT = 1

#: A log event holds 256 KB on its way through Lambda; one that is larger is cut, and no JSON any more.
MAX_LINE_BYTES = 200_000
#: Longer values of the id column name nothing that feedback could name too.
MAX_ROW_ID_LENGTH = 256

_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode


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


class Scored(Protocol):
    """The part of :class:`millrace.serving.scorer.Scores` that is captured, over all rows of the request."""

    @property
    def labels(self) -> Sequence[Any]: ...  # noqa: D102 - named as there
    @property
    def probabilities(self) -> Sequence[Sequence[float] | None]: ...  # noqa: D102
    @property
    def decisions(self) -> Sequence[Any]: ...  # noqa: D102
    @property
    def values(self) -> Sequence[float | None] | None: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Served:
    """One answered request.

    Parameters
    ----------
    table : RequestTable
        The rows as they came.
    cells : mapping of str to sequence
        Every feature of the good rows, as :class:`millrace.serving.rows.TypedRows` has them.
    bad_rows : collection of int
        Rows of the request that were not scored.
    scores : Scored
        Of all rows, in the request's order.
    has_unknown : bool
        Whether any category was new to the model; then the rows are looked at for which.
    """

    table: RequestTable
    cells: Mapping[str, Any]
    bad_rows: Collection[int]
    scores: Scored
    has_unknown: bool
    prediction_id: str
    request_id: str
    dialect: str
    predicted_at: datetime


class CaptureWriter:
    """Writes the lines of one version; built once for it, since it keeps what never changes at hand.

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
        self._classes = list(schema.classes)
        self._class_of = {schema.label(index): name for index, name in enumerate(schema.classes)}
        self._features = [(column.name, _GROUPS[column.type]) for column in schema.features if not column.sensitive]
        self._categories = {
            column.name: frozenset((*column.categories, ""))
            for column in schema.features
            if column.type == "category" and column.categories and not column.sensitive
        }
        identifier = schema.identifier
        self._identifier = identifier.name if identifier is not None and not identifier.sensitive else None
        # The level is the highest, and the timestamp is there, because Lambda drops lines of lesser levels than the
        # function's, whatever they hold, and takes a line without a timestamp for one of level INFO.
        head = _encode({"level": "FATAL", "record": MARK, "format": FORMAT, "model": model, "version": version})
        self._head = head.removesuffix("}") + ","

    def lines(self, served: Served) -> list[str]:
        """Return what is to be printed; nothing for a request that the sample leaves out."""
        rate = self._rules.sampling_rate
        if rate < 1.0 and zlib.crc32(served.prediction_id.encode()) >= rate * _CRC_RANGE:
            return []
        scores = served.scores
        total = len(scores.labels if scores.values is None else scores.values)
        positions: Sequence[int] = range(total)
        if served.bad_rows:
            positions = [row for row in positions if row not in served.bad_rows]
        good, most = len(positions), self._rules.max_rows
        places: Sequence[int] = range(good)
        if good > most:
            places = [place * good // most for place in range(most)]
            rate *= most / good
        request = {
            "timestamp": served.predicted_at.isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "prediction_id": served.prediction_id,
            "request_id": served.request_id,
            "dialect": served.dialect,
            "sampling_rate": rate,
            "rows": total,
        }
        return self._fitting(served, request, places, positions) if good else []

    def _fitting(
        self, served: Served, request: Mapping[str, Any], places: Sequence[int], positions: Sequence[int]
    ) -> list[str]:
        """Return lines that are short enough: rows are divided until they are."""
        line = self._line(served, request, places, positions)
        if len(line) <= MAX_LINE_BYTES:
            return [line]
        if len(places) == 1:
            return [self._line(served, request, places, positions, bare=True)]
        step = max(1, len(places) * MAX_LINE_BYTES * 9 // (len(line) * 10))
        parts = [places[start : start + step] for start in range(0, len(places), step)]
        return [line for part in parts for line in self._fitting(served, request, part, positions)]

    def _line(
        self,
        served: Served,
        request: Mapping[str, Any],
        places: Sequence[int],
        positions: Sequence[int],
        bare: bool = False,
    ) -> str:
        rows = [positions[place] for place in places]
        whole = len(places) == len(positions)
        document: dict[str, Any] = {
            **request,
            "positions": rows,
            "row_ids": self._row_ids(served.table, rows),
            "numbers": {},
            "booleans": {},
            "dates": {},
            "words": {},
            "unknown": {},
            "omitted": len(self._features) if bare else 0,
        }
        for name, group in () if bare else self._features:
            cells = served.cells[name]
            values = cells.tolist() if hasattr(cells, "tolist") else cells
            document[group][name] = _WRITERS[group](values if whole else [values[place] for place in places])
        if served.has_unknown and not bare:
            document["unknown"] = self._unknown(document["words"])
        self._add_scores(document, served.scores, rows)
        return self._head + _encode(document)[1:]

    def _unknown(self, words: Mapping[str, Sequence[str | None]]) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for name, categories in self._categories.items():
            places = [place for place, word in enumerate(words[name]) if (word or "") not in categories]
            if places:
                found[name] = places
        return found

    def _add_scores(self, document: dict[str, Any], scores: Scored, rows: Sequence[int]) -> None:
        if scores.values is not None:
            document["values"] = [scores.values[row] for row in rows]
            return
        document["classes"] = self._classes
        document["labels"] = [self._class_of.get(scores.labels[row]) for row in rows]
        document["probabilities"] = [scores.probabilities[row] for row in rows]
        document["decisions"] = [self._class_of.get(scores.decisions[row]) for row in rows]

    def _row_ids(self, table: RequestTable, rows: Sequence[int]) -> list[str | None] | None:
        if self._identifier is None or self._identifier not in table.names:
            return None
        values = table.column(self._identifier)
        return [write_row_id(values[row]) for row in rows]


def write_row_id(value: Any) -> str | None:
    """Return a value of the model's id column as the text that feedback is matched by; None names no row.

    A whole number is the same row whether it was sent as 7, 7.0 or "7".
    """
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        value = int(value) if value.is_integer() else value
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    text = str(value).strip()
    return text if text and len(text) <= MAX_ROW_ID_LENGTH else None


def _write_numbers(values: Sequence[float]) -> list[float | None]:
    return [None if value != value else value for value in values]  # noqa: PLR0124 - only NaN differs from itself


def _write_words(values: Sequence[str]) -> list[str | None]:
    return [value or None for value in values]


def _write_moments(values: Sequence[datetime | None]) -> list[str | None]:
    return [None if value is None else f"{value.isoformat(timespec='microseconds')}Z" for value in values]


_CRC_RANGE = 2**32
_GROUPS = {
    "integer": "numbers",
    "number": "numbers",
    "boolean": "booleans",
    "datetime": "dates",
    "category": "words",
    "text": "words",
}
_WRITERS: Mapping[str, Callable[[Any], list[Any]]] = {
    "numbers": _write_numbers,
    "booleans": _write_numbers,
    "dates": _write_moments,
    "words": _write_words,
}
