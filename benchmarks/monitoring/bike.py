"""Hourly bike rentals as a model in production: real hours, weekdays and seasons, of which nothing changes.

The table is ``hour.csv`` of the bike sharing dataset (Fanaee-T and Gama 2014, *Progress in Artificial Intelligence* 2:
113-127): 17,379 hours of 2011 and 2012.
"""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from millrace.data.infer import infer_some
from millrace.data.prepare import observe_schema
from millrace.data.read import open_table
from millrace.data.reference import describe_reference
from millrace.data.typed_table import TypedTable
from millrace.evaluation.analysis import profile_predictions
from millrace.histograms.tables import Reference
from millrace.monitoring.context import MonitoredVersion
from millrace.schema import Column, TableSchema
from sklearn.ensemble import HistGradientBoostingRegressor

TARGET = "cnt"
#: The row's number, and parts of the target.
LEFT_OUT = ("instant", "casual", "registered", TARGET)
#: In a year of the streams, the days from which rows are drawn in the annual stream: this far before and after.
NEAR_DAYS = 10
#: Day of the year, from 0, on which streams begin.
FIRST_DAY = 4
TRAINING_ROWS = 12_000
StreamName = Literal["weekly", "annual", "shift"]


@dataclass(frozen=True)
class Bike:
    """The real rows: typed columns, target, and the clock of each row."""

    columns: dict[str, np.ndarray]
    target: np.ndarray
    hour: np.ndarray
    weekday: np.ndarray  # Monday is 0
    day_of_year: np.ndarray
    year: np.ndarray
    kinds: tuple[Column, ...]


def read_bike(path: Path) -> Bike:
    """Read the table, with the types that an upload would have."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if name not in LEFT_OUT]
    kinds = tuple(infer_some(open_table(path, path.name), names))
    dates = np.array([row["dteday"] for row in rows], dtype="datetime64[D]")
    columns = {
        kind.name: dates.astype("datetime64[us]")
        if kind.type == "datetime"
        else np.array([float(row[kind.name]) for row in rows])
        for kind in kinds
    }
    return Bike(
        columns=columns,
        target=np.array([float(row[TARGET]) for row in rows]),
        hour=columns["hr"].astype(np.int64),
        weekday=(dates.astype(np.int64) + 3) % 7,
        day_of_year=(dates - dates.astype("datetime64[Y]")).astype(np.int64),
        year=dates.astype("datetime64[Y]").astype(np.int64) + 1970,
        kinds=kinds,
    )


@dataclass(frozen=True)
class BikeModel:
    """A version trained on some of the rows, and its predictions of all of them."""

    schema: TableSchema
    monitored: MonitoredVersion
    predictions: np.ndarray


def train(bike: Bike, stream: StreamName, seed: int) -> BikeModel:
    """Train on 12,000 hours of both years, or on seven tenths of 2011; the rest of these is the holdout."""
    known = np.flatnonzero(bike.year == bike.year.min()) if stream == "shift" else np.arange(len(bike.target))
    shuffled = np.random.default_rng((seed, 1)).permutation(known)
    cut = len(known) * 7 // 10 if stream == "shift" else TRAINING_ROWS
    rows, holdout = shuffled[:cut], shuffled[cut:]
    numbers = [kind.name for kind in bike.kinds if kind.type != "datetime"]
    matrix = np.stack([bike.columns[name] for name in numbers], axis=1)
    model = HistGradientBoostingRegressor(max_iter=300, learning_rate=0.1, max_leaf_nodes=15, random_state=seed)
    predictions = model.fit(matrix[rows], bike.target[rows]).predict(matrix)
    target = Column(TARGET, "integer", role="target")
    schema = TableSchema(columns=(*bike.kinds, target), task="regression")
    # In the order of time, as an upload would be.
    ordered = np.sort(rows)
    typed = {name: values[ordered] for name, values in bike.columns.items()} | {TARGET: bike.target[ordered]}
    schema = observe_schema(schema, [TypedTable(schema, typed, len(rows))])
    reference = Reference.build(describe_reference(schema, typed, bike.target[ordered]), schema)
    profile = profile_predictions(
        schema,
        predictions[holdout],
        bike.target[holdout],
        train_target=bike.target[ordered],
        threshold=None,
        groups={},
        columns={name: values[holdout] for name, values in bike.columns.items()},
    )
    monitored = MonitoredVersion("regression", (), reference, profile, "rmse")
    return BikeModel(schema, monitored, predictions)


class Hours:
    """Draws the rows of each hour of a stream; nothing changes, except in ``shift``, which is all of 2012."""

    def __init__(self, bike: Bike, stream: StreamName, seed: int) -> None:
        self._bike, self._stream, self._seed = bike, stream, seed
        slots = bike.weekday * 24 + bike.hour
        served = bike.year == bike.year.max() if stream == "shift" else np.ones(len(slots), dtype=bool)
        self._slots = [np.flatnonzero(served & (slots == slot)) for slot in range(7 * 24)]

    def rows(self, start_day: int, hour: int, rate: int) -> np.ndarray:
        """Return the positions of the rows of an hour; ``start_day`` counts from a Monday, the 5th of January."""
        day = start_day + hour // 24
        rows = self._slots[day % 7 * 24 + hour % 24]
        if self._stream != "weekly":
            away = np.abs(self._bike.day_of_year[rows] - (day + FIRST_DAY) % 365)
            rows = rows[np.minimum(away, 365 - away) <= NEAR_DAYS]
        return np.random.default_rng((self._seed, 2, hour)).choice(rows, rate)
