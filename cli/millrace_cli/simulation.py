"""Simulated traffic: rows of a model's newest dataset with known shifts, sent at a fixed rate, with ground truth.

Shifts are written ``age:+2sd``, ``age:*1.5``, ``plan:basic=0.9``, ``age:missing=0.3`` or ``label:flip=0.2``.
"""

import io
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Lock
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
from millrace.layout import dataset_key

from millrace_cli.api import ApiClient
from millrace_cli.errors import ApiError, RefusedError
from millrace_cli.target import Target, read_object

Column = npt.NDArray[np.object_]
Columns = Mapping[str, Column]

#: Name of the target in shifts.
LABEL = "label"
#: Rows read from the dataset; traffic samples them with replacement.
MAX_ROWS = 20_000
#: Requests per second that a stack on one machine handles easily; at higher rates a request has several rows.
REQUESTS_PER_SECOND = 10

_WORKERS = 4
_MOVE = re.compile(r"([+-]\d+(?:\.\d+)?)sd\Z")
_SCALE = re.compile(r"\*(\d+(?:\.\d+)?)\Z")
_SHARE = re.compile(r"(.+)=(0(?:\.\d+)?|1(?:\.0+)?)\Z")
_EXAMPLES = "write age:+2sd, age:*1.5, plan:basic=0.9, age:missing=0.3 or label:flip=0.2"


def read_newest_dataset(model: str, api: ApiClient, target: Target) -> tuple[dict[str, Column], str]:
    """Return the request columns and the target of a model's newest dataset as JSON values, and the target's name.

    Raises
    ------
    RefusedError
        When the model has no dataset.
    """
    datasets = api.get(f"/models/{model}/datasets", {"limit": "1"})["datasets"]
    if not datasets:
        raise RefusedError(f"the model {model} has no dataset", f"upload one: millrace train {model} FILE")
    schema = api.get(f"/models/{model}/schema")
    roles = {column["name"]: column["role"] for column in schema["columns"]}
    wanted = [name for name, role in roles.items() if role in ("feature", "identifier", "target")]
    key = dataset_key(model, datasets[0]["dataset_id"], "data.parquet")
    body = read_object(target, target.output("DataBucketName"), key)
    table = pq.read_table(io.BytesIO(body)).slice(0, MAX_ROWS)
    columns = {name: _as_json(table.column(name).to_pylist()) for name in wanted if name in table.column_names}
    target_name = next(name for name, role in roles.items() if role == "target")
    if target_name not in {column["name"] for column in schema["columns"] if column.get("sensitive")}:
        columns[target_name] = _as_labels(columns[target_name], schema["classes"])
    return columns, target_name


def _as_labels(values: Column, classes: Sequence[str]) -> Column:
    """Convert booleans to the class names of responses, of which the false one comes first."""
    labels = values.copy()
    labels[:] = [classes[value] if isinstance(value, bool) and classes else value for value in values.tolist()]
    return labels


def _as_json(values: list[Any]) -> Column:
    array = np.empty(len(values), dtype=object)
    array[:] = [_json_value(value) for value in values]
    return array


def _json_value(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return None if isinstance(value, float) and np.isnan(value) else value


@dataclass(frozen=True, slots=True)
class Shift:
    """Change of one column.

    Parameters
    ----------
    text : str
        The shift as written.
    column : str
        Name of the column; :data:`LABEL` for the target.
    change : callable
        Function of the column's values and a random generator that returns the changed values.
    """

    text: str
    column: str
    change: Callable[[Column, np.random.Generator], Column]


def parse_shift(text: str) -> Shift:
    """Parse a shift.

    Raises
    ------
    RefusedError
        When the text is not a shift.
    """
    column, colon, change = text.rpartition(":")
    if not colon or not column or not change:
        raise RefusedError(f"{text!r} is not a shift", _EXAMPLES)
    if move := _MOVE.match(change):
        return Shift(text, column, lambda values, _: _moved(values, float(move[1]), column))
    if scale := _SCALE.match(change):
        return Shift(text, column, lambda values, _: _scaled(values, float(scale[1]), column))
    if share := _SHARE.match(change):
        value, part = share[1], float(share[2])
        if value == "flip":
            if column != LABEL:
                raise RefusedError("only the label can be flipped", _EXAMPLES)
            return Shift(text, column, lambda values, random: _flipped(values, part, random))
        replacement = None if value == "missing" else value
        return Shift(text, column, lambda values, random: _replaced(values, replacement, part, random))
    raise RefusedError(f"{text!r} is not a shift", _EXAMPLES)


def apply_shifts(columns: Columns, shifts: list[Shift], target: str, random: np.random.Generator) -> dict[str, Column]:
    """Apply shifts to columns, in order.

    Raises
    ------
    RefusedError
        When a column does not exist or has the wrong type.
    """
    changed = dict(columns)
    for shift in shifts:
        name = target if shift.column == LABEL else shift.column
        if name not in changed:
            raise RefusedError(f"{shift.text!r}: there is no column {name!r}", f"name one of: {', '.join(columns)}")
        changed[name] = shift.change(changed[name], random)
    return changed


def _numbers(values: Column, name: str) -> npt.NDArray[np.float64]:
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in values if value is not None):
        raise RefusedError(f"the column {name!r} is not numeric", _EXAMPLES)
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def _moved(values: Column, deviations: float, name: str) -> Column:
    numbers = _numbers(values, name)
    return _like(values, numbers + deviations * float(np.nanstd(numbers)))


def _scaled(values: Column, factor: float, name: str) -> Column:
    return _like(values, _numbers(values, name) * factor)


def _like(values: Column, numbers: npt.NDArray[np.float64]) -> Column:
    """Convert numbers to JSON values: integers for an integer column, None for missing values."""
    whole = all(isinstance(value, int) for value in values if value is not None)
    changed = np.empty(len(values), dtype=object)
    changed[:] = [
        None if np.isnan(number) else round(number) if whole else float(number) for number in numbers.tolist()
    ]
    return changed


def _replaced(values: Column, replacement: Any, share: float, random: np.random.Generator) -> Column:
    changed = values.copy()
    changed[random.random(len(values)) < share] = replacement
    return changed


def _flipped(values: Column, share: float, random: np.random.Generator) -> Column:
    """Replace the class of a share of the rows by another; permute the values of a numeric target."""
    changed = values.copy()
    chosen = np.flatnonzero(random.random(len(values)) < share)
    classes = sorted({value for value in values.tolist() if value is not None}, key=str)
    if len(classes) > max(20, len(values) // 2):
        changed[chosen] = values[random.permutation(chosen)]
        return changed
    for row in chosen.tolist():
        others = [value for value in classes if value != values[row]]
        changed[row] = others[random.integers(len(others))] if others else values[row]
    return changed


class Api(Protocol):
    """Client of a stack's API."""

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Send a document and return the response."""
        ...


@dataclass(slots=True)
class TrafficStats:
    """Counts of the traffic so far.

    Parameters
    ----------
    rows, correct, feedback : int
        Predicted rows, correctly predicted rows, reported outcomes.
    refused : int
        Requests that the API rejected.
    versions : set of int
        Versions that predicted.
    """

    rows: int = 0
    correct: int = 0
    feedback: int = 0
    refused: int = 0
    last_error: str = ""
    versions: set[int] = field(default_factory=set)
    lock: Lock = field(default_factory=Lock)

    def summary(self, model: str) -> str:
        """Return the counts in one line."""
        versions = ", ".join(map(str, sorted(self.versions))) or "no version"
        line = f"{model}: {self.rows:,} rows predicted by version {versions}, {self.feedback:,} outcomes reported"
        if self.rows and self.feedback:
            line += f", {self.correct / self.rows:.1%} correct"
        return f"{line}, {self.refused:,} requests rejected ({self.last_error})" if self.refused else line


@dataclass(frozen=True, slots=True)
class Traffic:
    """Sender of rows that are sampled from a table.

    Parameters
    ----------
    columns : mapping of str to object array
        The table as JSON values, with the target.
    target : str
        Column that is not sent but reported as the outcome.
    with_labels : bool
        Report outcomes.
    """

    api: Api
    model: str
    columns: Columns
    target: str
    with_labels: bool
    random: np.random.Generator
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic

    def send(self, rate: float, seconds: float) -> Iterator[TrafficStats]:
        """Send ``rate`` rows per second; yields the counts about once per second and at the end."""
        sent = TrafficStats()
        size = max(1, round(rate / REQUESTS_PER_SECOND))
        started = self.clock()
        due = 0
        with ThreadPoolExecutor(_WORKERS) as pool:
            while self.clock() - started < seconds:
                waiting = []
                while due < rate * (self.clock() - started + 1.0) and due < rate * seconds:
                    waiting.append(pool.submit(self._exchange, self._sample(size), sent))
                    due += size
                for future in waiting:
                    future.result()
                yield sent
                self.sleep(max(0.0, min(1.0, due / rate - (self.clock() - started))))
        yield sent

    def _sample(self, size: int) -> list[dict[str, Any]]:
        positions = self.random.integers(len(self.columns[self.target]), size=size)
        return [{name: values[position] for name, values in self.columns.items()} for position in positions.tolist()]

    def _exchange(self, rows: list[dict[str, Any]], sent: TrafficStats) -> None:
        """Request predictions and report outcomes; counts a rejected request and continues."""
        features = [{name: value for name, value in row.items() if name != self.target} for row in rows]
        outcomes = [row[self.target] for row in rows]
        try:
            response = self.api.post(f"/models/{self.model}/invocations", {"dataframe_records": features})
            known = [position for position, outcome in enumerate(outcomes) if outcome is not None]
            if self.with_labels and known:
                reports = [
                    {"prediction_id": f"{response['prediction_id']}-{position}", "outcome": outcomes[position]}
                    for position in known
                ]
                self.api.post(f"/models/{self.model}/feedback", {"feedback": reports})
        except ApiError as error:
            with sent.lock:
                sent.refused += 1
                sent.last_error = error.message
            return
        labels = [
            prediction.get("label") if isinstance(prediction, dict) else None for prediction in response["predictions"]
        ]
        with sent.lock:
            sent.rows += len(rows)
            sent.correct += sum(label == outcome for label, outcome in zip(labels, outcomes, strict=True))
            sent.feedback += len(known) if self.with_labels else 0
            sent.versions.add(int(response["model_version"]))
